"""What one user may do to another's workspaces, and what he may know of them, tried by real processes."""

import ctypes
import errno
import mmap
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
import users
import wire
from daemon import Daemon
from users import ADMIN, ALICE, BOB, CAROL

SIZE = 2 << 20
DENIED = 7
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
MADV_REMOVE = 9
F_ADD_SEALS, F_SEAL_SHRINK = 1033, 2
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]


class Public(Daemon):
    """A private daemon whose socket others can reach, with an administrators' group."""

    def __init__(self):
        super().__init__()
        config = os.path.join(self.dir, "wkspd.conf")
        with open(config, "w", encoding="ascii") as f:
            f.write(f"[wkspd]\nadmin_group = {users.ADMIN_GID}\n")
        self.args = ["--config", config]
        os.chmod(self.dir, 0o755)


def call(d, service, method, message):
    """The code of one call by whoever this process is."""
    with wire.Wire(d.socket) as c:
        return c.call(service, method, message).code


def create(d, name, mode, page=4096):
    return call(d, "Workspaces", "Create", {1: name, 2: SIZE, 3: page, 4: mode})


def names(d, all_=0):
    with wire.Wire(d.socket) as c:
        return [wire.decode(w)[1][0].decode() for w in c.call("Workspaces", "List", {3: all_}).fields[1]]


@tap.test
def who_may_what():
    """owner, group, others and administrators get what the mode says, by any of their groups"""
    users.need_root()
    with Public() as d:
        for name, mode in (("own", 0o600), ("read", 0o640), ("both", 0o660), ("all", 0o604)):
            tap.eq(users.run(ALICE, lambda n=name, m=mode: create(d, n, m)), 0, name)

        def tries(name):
            got = [call(d, "Workspaces", "Open", {1: name, 2: 1}), call(d, "Workspaces", "Open", {1: name}),
                   call(d, "Workspaces", "Query", {1: name}), call(d, "Workspaces", "Compact", {1: name}),
                   call(d, "Workspaces", "Delete", {1: name})]
            return got

        missing, read_only = [wire.NOT_FOUND] * 5, [0, DENIED, 0, DENIED, DENIED]
        for user, name, want in ((BOB, "own", missing), (BOB, "read", missing), (BOB, "both", missing),
                                 (BOB, "all", read_only), (CAROL, "own", missing), (CAROL, "read", read_only),
                                 (CAROL, "both", [0, 0, 0, 0, DENIED]), (CAROL, "all", missing)):
            tap.eq(users.run(user, lambda n=name: tries(n)), want, f"uid {user.uid} and \"{name}\"")
        for name in ("own", "read", "both", "all"):
            tap.until(lambda: wire.stats(d.socket)["leases"] == 0, 60, "no lease is left")
            got = users.run(ADMIN, lambda n=name: tries(n)[:4])
            tap.eq(got, [0] * 4, f"an administrator and \"{name}\"")
        tap.until(lambda: wire.stats(d.socket)["leases"] == 0, 60, "no lease is left")
        tap.eq(users.run(ADMIN, lambda: call(d, "Workspaces", "Delete", {1: "own"})), 0)
        tap.eq(users.run(ALICE, lambda: call(d, "Workspaces", "Delete", {1: "read"})), 0)


@tap.test
def who_administers():
    """root and the administrators' group have the configuration read again; others do not, whoever owns what"""
    users.need_root()
    with Public() as d:
        for user, code in ((ALICE, DENIED), (ADMIN, 0)):
            tap.eq(users.run(user, lambda: call(d, "Host", "Reload", {})), code, f"uid {user.uid}")
        tap.eq(call(d, "Host", "Reload", {}), 0, "root")


@tap.test
def names_unknown():
    """lists, answers and errors say nothing of what a user may not read; a taken name is only taken"""
    users.need_root()
    with Public() as d:
        tap.eq(users.run(ALICE, lambda: create(d, "secret", 0o660)), 0)
        tap.eq(users.run(ALICE, lambda: create(d, "open", 0o664)), 0)
        tap.eq(users.run(BOB, lambda: names(d, 1)), ["open"])
        tap.eq(users.run(ALICE, lambda: names(d)), ["open", "secret"])
        tap.eq(users.run(CAROL, lambda: names(d)), ["open", "secret"])
        tap.eq(users.run(ADMIN, lambda: names(d)), ["open", "secret"])

        def told(method, name):
            with wire.Wire(d.socket) as c:
                reply = c.call("Workspaces", method, {1: name, 2: SIZE} if method == "Resize" else {1: name})
                text = repr((reply.code, reply.message, sorted(reply.detail.items())))
                return text.replace(name, "NAME").replace(repr(name.encode()), "NAME")

        for method in ("Get", "Open", "Query", "Compact", "Placement", "Delete", "Resize"):
            there = users.run(BOB, lambda m=method: told(m, "secret"))
            tap.eq(there, users.run(BOB, lambda m=method: told(m, "sekret")), method)
            tap.contains(there, f"({wire.NOT_FOUND}, ")
        tap.eq(users.run(BOB, lambda: create(d, "secret", 0)), wire.ALREADY_EXISTS)


def refused(what, wanted, function):
    """Fails unless function is refused with one of the errors wanted."""
    try:
        function()
    except OSError as why:
        tap.true(why.errno in wanted, f"{what}: {errno.errorcode.get(why.errno)}")
        return
    raise AssertionError(f"{what} was done")


def sys_call(name, *args):
    """A function of libc that fails by -1 and errno."""
    result = getattr(libc, name)(*args)
    if result in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), name)
    return result


def attack(d, name):
    """Everything that a reader may try to change what he reads; he sees what stays."""
    with wire.Wire(d.socket) as c:
        reply = c.call("Workspaces", "Open", {1: name, 2: 1})
    tap.eq((reply.code, len(reply.fds)), (0, 2), "the open")
    fd, size = reply.fds[0], reply.fields[3][0]
    shared = mmap.MAP_SHARED
    link = f"/proc/self/fd/{fd}"
    refused("mmap for writing", {errno.EACCES}, lambda: mmap.mmap(fd, size, shared, mmap.PROT_READ | mmap.PROT_WRITE))
    at = sys_call("mmap", None, size, mmap.PROT_READ, shared, fd, 0)
    before = ctypes.string_at(at, size)
    refused("mprotect", {errno.EACCES}, lambda: sys_call("mprotect", ctypes.c_void_p(at), size, 3))
    refused("madvise(REMOVE)", {errno.EACCES, errno.EINVAL},
            lambda: sys_call("madvise", ctypes.c_void_p(at), size, MADV_REMOVE))
    for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC, os.O_RDONLY | os.O_TRUNC):
        refused(f"reopening with {flags:#o}", {errno.EACCES, errno.EPERM}, lambda f=flags: os.open(link, f))
    punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    for mode, what in ((punch, "punching a hole"), (0, "allocating"), (16, "zeroing")):
        refused(what, {errno.EBADF, errno.EOPNOTSUPP},
                lambda m=mode: sys_call("fallocate", fd, m, 0, size))
    refused("ftruncate", {errno.EINVAL, errno.EBADF}, lambda: os.ftruncate(fd, 0))
    refused("truncate", {errno.EACCES, errno.EPERM}, lambda: os.truncate(link, 0))
    refused("pwrite", {errno.EBADF}, lambda: os.pwrite(fd, b"x", 0))
    refused("fchmod", {errno.EPERM}, lambda: os.fchmod(fd, 0o666))
    refused("chmod", {errno.EPERM}, lambda: os.chmod(link, 0o666))
    refused("fchown", {errno.EPERM}, lambda: os.fchown(fd, os.getuid(), -1))
    refused("sealing", {errno.EPERM}, lambda: sys_call("fcntl", fd, F_ADD_SEALS, F_SEAL_SHRINK))
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        refused("writing through /proc/self/mem", {errno.EIO, errno.EFAULT},
                lambda: os.pwrite(memory.fileno(), b"x", at))
    own = mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    own[0:8] = b"scribble"  # a copy of his own
    return ctypes.string_at(at, size) == before


def read_only(page):
    users.need_root()
    with Public() as d:
        code = users.run(ALICE, lambda: create(d, "w", 0o644, page))
        if code == wire.RESOURCE_EXHAUSTED and page != 4096:
            tap.skip("free huge pages of 2 MiB")
        tap.eq(code, 0, "the create")
        with wire.Wire(d.socket) as c:
            ours = c.call("Workspaces", "Open", {1: "w"})
        with mmap.mmap(ours.fds[0], SIZE) as mem:
            mem[SIZE // 2:SIZE // 2 + 4] = b"data"
            before = mem[:]
            tap.true(users.run(BOB, lambda: attack(d, "w")), "the reader saw a change")
            tap.true(mem[:] == before, "the memory has changed")
        for fd in ours.fds:
            os.close(fd)


@tap.test
def hard_read_only():
    """another user who opens read-only cannot write, map for writing, protect, reopen, punch, resize or chmod the
    memory"""
    read_only(4096)


@tap.test
def hard_read_only_huge():
    """and neither where its pages are huge"""
    read_only(2 << 20)


tap.run()
