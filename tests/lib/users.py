"""users: what another user of this machine can do, tried by being it.

    users.need_root()
    code = users.run(users.ALICE, lambda: Wire(path).call("Host", "Version", {}).code)

The function runs in a child that has given up root for good; what it returns comes back through a pipe, as
JSON, and what it raises is raised here. The ids have no names and nothing on this machine is theirs.

Refuses to: keep a process behind.
"""

import collections
import ctypes
import json
import os
import traceback

import tap

User = collections.namedtuple("User", "uid gid groups")

PR_SET_DUMPABLE = 4

ALICE = User(61101, 61101, [])
BOB = User(61102, 61102, [])
CAROL = User(61103, 61103, [61101])  # of Alice's group as well
ADMIN = User(61104, 61104, [61199])
ADMIN_GID = 61199


def need_root():
    """Skips the test unless this process may become another user."""
    if os.geteuid() != 0:
        tap.skip("root, to become other users")


def become(user):
    """This process is that user from now on."""
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    # As if it had been executed so: else its own /proc would be root's, and would refuse it for that alone.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def start(user, function):
    """A child that runs function as that user: its id, and a descriptor for finish()."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid:
        os.close(theirs)
        return pid, ours
    os.close(ours)
    try:
        become(user)
        said = {"value": function()}
    except BaseException:  # the child must end here, whatever it was
        said = {"error": traceback.format_exc()}
    with os.fdopen(theirs, "w", encoding="utf-8") as f:
        json.dump(said, f)
    os._exit(0)


def finish(child):
    """What the child's function returned."""
    pid, ours = child
    with os.fdopen(ours, encoding="utf-8") as f:
        text = f.read()
    os.waitpid(pid, 0)
    said = json.loads(text) if text else {"error": "it ended without a word"}
    if "error" in said:
        raise AssertionError(f"as another user:\n{said['error']}")
    return said["value"]


def run(user, function):
    """What function returns, run as that user."""
    return finish(start(user, function))
