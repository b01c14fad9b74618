"""Six processes allocate and free in one fd_alloc while they are SIGKILLed and SIGSTOPped: nothing is lost that
the allocator does not know of, and nobody waits for the dead or the stopped.

alloc_kill.c does the killing and the checking; this file says for how long, and what is enough.
"""

import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import binary, sanitized


@tap.test(timeout=250)
def killed_and_stopped():
    """of six processes that malloc and free each other's blocks, through words in the workspace too, one is killed, or
    stopped for a while, every 10 ms for 10 s: every block is as it was written, the others go on within 200 ms, each
    kill loses at most one block, which is known, and in the end all is given back"""
    seed, program = tap.seed(), binary("tests/proc/alloc_kill")
    seconds = 120 if tap.full() else 5 if sanitized("tests/proc/alloc_kill") else 10
    done = subprocess.run([program, str(seconds), str(seed)], capture_output=True, text=True, check=False)
    tap.eq(done.returncode, 0, f"exit status of alloc_kill: {done.stdout}{done.stderr}")
    tap.diag(done.stdout.strip())
    figures = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", done.stdout)}
    # On a machine that is busy with other things there are fewer than 60 in a second, and it goes on for longer.
    tap.true(figures["kills"] >= 150, f"only {figures['kills']} kills")
    tap.true(figures["stops"] > 3, f"only {figures['stops']} stops in {seconds} s")
    tap.true(figures["inside"] > 3, f"only {figures['inside']} kills hit a call")
    # What the kernel does not tell of (a processor taken from the whole machine) may delay a few; whoever has to
    # wait for a dead one is late each time.
    tap.true(figures["late"] <= 1 + figures["kills"] // 50,
             f"{figures['late']} calls took longer than 200 ms, the longest {figures['slowest_us'] / 1000:.0f} ms")


tap.run()
