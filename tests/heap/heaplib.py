"""heaplib: programs with another malloc.

Refuses to: pass a variable of the caller's on to the heap under test.
"""

import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

from daemon import bin_dir

OURS = os.path.join(bin_dir(), "lib/heap/libwksp_malloc.so")
RUN = os.path.join(bin_dir(), "cli/wksp-run")


def environment(library, **more):
    """An environment in which programs have this malloc; None: the C library's."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("WKSP_MALLOC", "MALLOC", "LD_PRELOAD"))}
    if library:
        env["LD_PRELOAD"] = library
    env.update(more)
    return env


def run(library, *command, limit=None, timeout=100, **more):
    """Runs it to its end. limit: called in the child first. more: environment."""
    return subprocess.run(command, env=environment(library, **more), capture_output=True, timeout=timeout,
                          preexec_fn=limit, check=False)


def peer(name):
    """The path of a Debian allocator's library, or None."""
    for folder in ("/usr/lib/" + os.uname().machine + "-linux-gnu", "/usr/lib"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            return path
    return None


def program(name):
    """The path of a program, or None. Not a wrapper of somebody's home."""
    return shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
