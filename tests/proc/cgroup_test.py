"""Control groups that limit what the daemon may take: real ones of this machine, version 1 or 2, made for the test and
taken away again. A create beyond the limit of the daemon's group, or of one above it, is an error with figures, and
takes no page.

Every test has a daemon, socket and state folder of its own.
"""

import contextlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import Daemon

M = 1 << 20
PAGE = 2 * M
ROOT = "/sys/fs/cgroup"
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"
WANTED = 16  # pages of 2 MiB
WAIT_S = 60


def read(*path):
    with open(os.path.join(*path), encoding="ascii") as f:
        return f.read().strip()


def write(text, *path):
    with open(os.path.join(*path), "w", encoding="ascii") as f:
        f.write(str(text))


def own(controller):
    """The path of this process's group in the tree of version 1 that has the controller; None: there is none."""
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return None


class Groups:
    """A group and one within it, for a controller; removed at the end, when nobody is in them."""

    def __init__(self, controller):
        self.controller, self.added = controller, False
        path = own(controller)
        self.version = 2 if path is None else 1
        if self.version == 1:
            self.top = f"{ROOT}/{controller}{path}"
        else:
            tops = [t for t in (ROOT, f"{ROOT}/unified") if os.path.exists(f"{t}/cgroup.controllers")]
            tops = [t for t in tops if controller in read(t, "cgroup.controllers").split()]
            self.top = tops[0] if tops else None
        if not self.top or not os.access(self.top, os.W_OK):
            tap.skip(f"a tree of control groups with the controller {controller}, and the right to add to it")
        self.outer = f"{self.top}/wksp-test-{os.getpid()}"
        self.inner = f"{self.outer}/inner"

    def __enter__(self):
        if self.version == 2 and self.controller not in read(self.top, "cgroup.subtree_control").split():
            write(f"+{self.controller}", self.top, "cgroup.subtree_control")
            self.added = True
        try:
            os.mkdir(self.outer)
            if self.version == 2:
                write(f"+{self.controller}", self.outer, "cgroup.subtree_control")
            os.mkdir(self.inner)
        except OSError as why:
            self.__exit__()
            tap.skip(f"control groups that can be made ({why})")
        return self

    def __exit__(self, *_):
        for folder in (self.inner, self.outer):
            tap.until(lambda folder=folder: self._gone(folder), WAIT_S, f"{folder} can be removed")
        if self.added:
            with contextlib.suppress(OSError):  # another group may have come to want it
                write(f"-{self.controller}", self.top, "cgroup.subtree_control")

    @staticmethod
    def _gone(folder):
        with contextlib.suppress(OSError):  # its last process is on its way out
            os.rmdir(folder)
        return not os.path.exists(folder)

    def limit(self, folder, what, size):
        """size None: no limit."""
        none = -1 if self.version == 1 else "max"
        write(none if size is None else size, folder, what + (".limit_in_bytes" if self.version == 1 else ".max"))

    def used(self, what):
        """Bytes that the outer group is charged with."""
        return int(read(self.outer, what + (".usage_in_bytes" if self.version == 1 else ".current")))


@contextlib.contextmanager
def pages(cnt):
    """That many huge pages more than there were."""
    had = int(read(POOL, "nr_hugepages")) if os.access(f"{POOL}/nr_hugepages", os.W_OK) else None
    if had is None:
        tap.skip("the right to reserve huge pages of 2 MiB")
    try:
        write(had + cnt, POOL, "nr_hugepages")
        if int(read(POOL, "free_hugepages")) < cnt:
            tap.skip(f"{cnt} free huge pages of 2 MiB")
        yield
    finally:
        write(had, POOL, "nr_hugepages")


def there():
    """Skips if somebody else has taken pages away meanwhile."""
    if int(read(POOL, "free_hugepages")) < WANTED:
        tap.skip("huge pages that nobody else takes")


@tap.test
def huge_pages():
    """of huge pages: the group's own limit and that of one above it are told with figures and the file to change, no
    page stays taken, and what is within them is made"""
    with Groups("hugetlb") as groups, pages(WANTED + 4), Daemon() as d:
        write(d.status()["pid"], groups.inner, "cgroup.procs")
        for folder, cnt in ((groups.inner, 8), (groups.outer, 5)):
            groups.limit(folder, "hugetlb.2MB", cnt * PAGE)
            for command in (("create", "w"), ("plan",)):
                done = d.ctl(*command, "--size", WANTED * PAGE, "--page", "2M")
                there()
                tap.eq(done.rc, 1, f"exit status of {command[0]}")
                for part in (f"{WANTED} huge pages of 2 MiB are wanted, {cnt} can be taken", "control group",
                             "hugetlb.2MB.max"):
                    tap.contains(done.err + done.out, part, f"{command[0]} within {cnt} pages")
            tap.eq(groups.used("hugetlb.2MB"), 0, "bytes of the groups after it")
            tap.eq(d.json("ls"), {"workspaces": []}, "workspaces")
        there()
        made = d.json("create", "w", "--size", 5 * PAGE, "--page", "2M")
        tap.eq(made["size"], 5 * PAGE, "size")
        tap.eq(groups.used("hugetlb.2MB"), 5 * PAGE, "bytes of the groups")
        tap.eq(d.ctl("create", "v", "--size", PAGE, "--page", "2M").rc, 1, "exit status with nothing left")
        d.ok("rm", "w")
        tap.until(lambda: groups.used("hugetlb.2MB") == 0, WAIT_S, "its pages are given back")


@tap.test
def memory():
    """of ordinary pages: a create that its group's limit, or that of one above it, has no room for is refused before
    a page is taken, and the daemon is not killed for it"""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # What is kept in reserve is a part of the machine's memory.
    limit = total // 64 // M * M + 200 * M
    with Groups("memory") as groups, Daemon() as d:
        pid = d.status()["pid"]
        write(pid, groups.inner, "cgroup.procs")
        for folder in (groups.inner, groups.outer):
            groups.limit(folder, "memory", limit)
            before = groups.used("memory")
            done = d.ctl("create", "w", "--size", 400 * M, "--page", "4k")
            tap.eq(done.rc, 1, "exit status")
            tap.contains(done.err, f"{400 * M // 4096} pages of 4 KiB are wanted", "error")
            tap.contains(done.err, "can be had", "error")
            tap.true(groups.used("memory") < before + 100 * M, "the group is charged with none of it")
            tap.eq((d.json("ls"), d.status()["pid"]), ({"workspaces": []}, pid), "workspaces and the daemon")
            d.ok("create", "w", "--size", 32 * M, "--page", "4k")
            d.ok("rm", "w")
            groups.limit(folder, "memory", None)


tap.run()
