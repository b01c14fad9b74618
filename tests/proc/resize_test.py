"""Workspaces that grow and shrink while clients run: what those see, what the memory holds, and what a kill of
the daemon in the middle leaves.

Every test has a daemon, socket and state folder of its own. With --pool there are those alone that want most of
the machine's pool of huge pages, and compare with what it has: they run beside no other test. With --no-pool
the rest.
"""

import mmap
import os
import random
import re
import select
import time
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
import wire
from daemon import Daemon, binary

MIB = 1 << 20
WAIT_S = 60
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB/"


def pool_test(function):
    """Registers a test that wants the pool for itself, unless --no-pool is given."""
    return function if "--no-pool" in sys.argv else tap.test(function)


def plain_test(function=None, **kw):
    """Registers any other, unless --pool is given."""
    if function is None:
        return lambda fn: plain_test(fn, **kw)
    return function if "--pool" in sys.argv else tap.test(function, **kw)


class Filler:
    """A running fill: one attach for all its life."""

    def __init__(self, d, name, size, most=100000):
        self.proc = d.popen(binary("tests/proc/fill"), name, size, most, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.cnt = 0
        self.address = None

    def full(self):
        """Waits until it has no room; how many partitions it has. It has never moved."""
        line = self.proc.stdout.readline().decode().strip()
        m = re.fullmatch(r"full (\d+) (0x[0-9a-f]+)", line)
        tap.true(m, f"fill says {line!r}")
        tap.true(self.address in (None, m.group(2)), f"it was at {self.address}, now at {m.group(2)}")
        self.cnt, self.address = int(m.group(1)), m.group(2)
        return self.cnt

    def free(self):
        """Lets it free all but the first; it takes nothing any more then."""
        self.proc.stdin.write(b"f")
        self.proc.stdin.flush()
        while (line := self.proc.stdout.readline().decode().strip()) != "freed":
            tap.true(line.startswith("full "), f"fill says {line!r}")

    def end(self):
        """It finds all its bytes as they were."""
        self.proc.stdin.close()
        tap.eq(self.proc.wait(WAIT_S), 0, "exit status of fill")
        self.proc.stdout.close()


class Held:
    """The memory of a workspace, opened for reading by hand: how many bytes of pages it holds."""

    def __init__(self, d, name):
        with wire.Wire(d.socket) as c:
            reply = c.call("Workspaces", "Open", {1: name, 2: 1})
        tap.eq(reply.code, 0, reply.message)
        self.fds = reply.fds

    def __enter__(self):
        return lambda: os.fstat(self.fds[0]).st_blocks * 512

    def __exit__(self, kind, value, trace):
        for fd in self.fds:
            os.close(fd)


class Resizing:
    """A resize that nobody makes again when its daemon is lost."""

    def __init__(self, d, name, size):
        self.wire = wire.Wire(d.socket)
        self.wire.start("Workspaces", "Resize", {1: name, 2: size}, wire.WORKER_NS["Resize"])

    def ended(self):
        return bool(select.select([self.wire.sock], [], [], 0)[0])

    def close(self):
        self.wire.close()


def sound(d, name):
    """Clients may change the workspace faster than a slow build can walk it: verify says so, and is asked again."""
    deadline = time.monotonic() + 60
    while True:
        result = d.ctl("verify", name)
        if "try again" not in result.err or time.monotonic() > deadline:
            break
    tap.eq(result.rc, 0, f"exit status of wkspctl verify {name} ({result.err.strip()})")
    tap.contains(result.out, "is sound")


def size_of(d, name):
    return d.json("show", name)["size"]


def grows_and_shrinks(page, block):
    """The whole life of one workspace, 8 MiB of at most 64 MiB."""
    with Daemon() as d:
        d.ok("create", "w", "--size", "8M", "--max-size", "64M", "--page", page)
        with Held(d, "w") as held:
            tap.eq(held(), 8 * MIB, "bytes held")
            filler = Filler(d, "w", block)
            before = filler.full()
            tap.true(0 < before * block < 8 * MIB, f"{before} blocks in 8 MiB")
            for size in (16, 48, 64):
                info = d.json("resize", "w", "--size", f"{size}M")
                tap.eq((info["size"], info["max_size"]), (size * MIB, 64 * MIB))
                cnt = filler.full()
                tap.true(before * block < cnt * block < size * MIB, f"{cnt} blocks in {size} MiB, {before} before")
                tap.eq(held(), size * MIB, "bytes held")
                before = cnt
            sound(d, "w")
            # what is in use stays, and is named
            result = d.ctl("resize", "w", "--size", "8M")
            tap.eq(result.rc, 1, result.err)
            tap.contains(result.err, "is in the way")
            filler.free()
            d.ok("resize", "w", "--size", "8M")
            tap.eq((held(), size_of(d, "w")), (8 * MIB, 8 * MIB), "bytes held, size")
            d.ok("resize", "w", "--size", "16M")
            sound(d, "w")
            filler.end()
            tap.eq(d.json("usage", "w")["usage"]["used_cnt"], 0)


@plain_test
def small_pages():
    """a client that is attached and full goes on in the room that a resize gives, without mapping anew; a shrink
    gives the pages back"""
    grows_and_shrinks("4k", 100000)


@pool_test
def huge_pages():
    """the same with pages of 2 MiB, of which only those of the present size are taken or reserved"""
    with open(POOL + "free_hugepages", encoding="ascii") as f:
        if int(f.read()) < 32:
            tap.skip("32 free huge pages of 2 MiB")
    grows_and_shrinks("2M", 100000)


@pool_test
def huge_pages_short():
    """huge pages that are not there: a resize is refused with figures, and what it had got is given back"""
    def pool(what):
        with open(POOL + what, encoding="ascii") as f:
            return int(f.read())

    if pool("free_hugepages") - pool("resv_hugepages") < 4:
        tap.skip("4 free huge pages of 2 MiB")
    with Daemon() as d:
        much = (pool("free_hugepages") + pool("nr_overcommit_hugepages") + 8) * 2
        first = 4 + 2 * (much // 256)  # the tables are those of max-size
        d.ok("create", "w", "--size", f"{first}M", "--max-size", f"{much}M", "--page", "2M", "--timeout", "60s")
        with Held(d, "w") as held:
            result = d.ctl("--json", "resize", "w", "--size", f"{much}M")
            tap.eq(result.rc, 1, result.err)
            tap.contains(result.err, "WKSP_E_LIMIT")
            tap.contains(result.err, "huge pages")
            tap.eq((held(), size_of(d, "w")), (first * MIB, first * MIB), "bytes held, size")
        d.ok("resize", "w", "--size", f"{first + 2}M")
        sound(d, "w")


@plain_test
def many_writers():
    """partitions are taken and freed by several processes while the size goes up and down; the table stays sound"""
    rng = random.Random(tap.seed())
    with Daemon() as d:
        d.ok("create", "w", "--size", "4M", "--max-size", "32M", "--page", "4k")
        fillers = [Filler(d, "w", 32768 * (i + 1), 200) for i in range(3)]
        for i in range(12):
            size = rng.randrange(4, 33)
            result = d.ctl("resize", "w", "--size", f"{size}M")
            if result.rc:
                tap.contains(result.err, "is in the way")
            got = size_of(d, "w")
            tap.true(got == size * MIB or (result.rc and got > size * MIB), f"{size} MiB came to {got}: {result.err}")
        sound(d, "w")
        for filler in fillers:
            filler.free()
            filler.end()
        d.ok("resize", "w", "--size", "4M")
        with Held(d, "w") as held:
            tap.eq(held(), 4 * MIB, "bytes held")
        sound(d, "w")


def mended(d, held, to):
    """After a kill: nothing is lost, the size is one of the two, and the next resize leaves all as it should be."""
    sound(d, "w")
    with wire.Wire(d.socket) as c:
        tap.eq(c.call("Workspaces", "Query", {1: "w"}).code, 0)
    tap.true(held() >= size_of(d, "w"), "what the spec says has its pages")
    d.ok("resize", "w", "--size", f"{to}")
    tap.eq((held(), size_of(d, "w")), (to, to), "bytes held, size")


@plain_test(timeout=200)
def killed_in_growth():
    """the daemon is killed while a workspace grows, at many moments: clients go on, and the next resize mends it"""
    with Daemon(supervise=True) as d:
        d.ok("create", "w", "--size", "8M", "--max-size", "256M", "--page", "4k")
        with Held(d, "w") as held:
            filler = Filler(d, "w", 100000)
            filler.full()
            seen = set()
            for share in (0, 1, 20, 50, 80, 98, 100, None, None, None):
                size, goal = 8 * MIB, 128 * MIB
                resizing = Resizing(d, "w", goal)
                if share is None:
                    filler.full()  # the end has moved: what is left is to write it down
                else:
                    # It has taken so many pages. The end of it is the end of this wait, too.
                    tap.until(lambda: held() >= size + (goal - size) * share // 100 or resizing.ended(), WAIT_S,
                              "pages are taken")
                old = d.kill_child()
                resizing.close()
                d.wait_restart(old)
                seen.add(size_of(d, "w"))
                mended(d, held, goal)
                if share is not None:
                    filler.full()
                # back to where it began: all that the filler has goes
                filler.free()
                filler.end()
                d.ok("resize", "w", "--size", "8M")
                tap.eq(held(), 8 * MIB, "bytes held")
                filler = Filler(d, "w", 100000)
                filler.full()
            tap.diag(f"sizes after the kills: {sorted(seen)}")
            tap.true(seen <= {8 * MIB, 128 * MIB}, f"sizes {seen}")
            filler.end()


@plain_test(timeout=200)
def killed_in_shrinking():
    """the daemon is killed while a workspace shrinks: what the spec says is there, and the next resize mends it"""
    with Daemon(supervise=True) as d:
        d.ok("create", "w", "--size", "8M", "--max-size", "256M", "--page", "4k")
        with Held(d, "w") as held:
            for share in (0, 0, 1, 30, 90, 100):
                d.ok("resize", "w", "--size", "128M")
                resizing = Resizing(d, "w", 8 * MIB)
                tap.until(lambda: held() <= 128 * MIB - 120 * MIB * share // 100 or resizing.ended(), WAIT_S,
                          "pages go")
                old = d.kill_child()
                resizing.close()
                d.wait_restart(old)
                tap.true(size_of(d, "w") in (8 * MIB, 128 * MIB), "size")
                mended(d, held, 64 * MIB if share else 8 * MIB)


@plain_test
def restart_keeps():
    """size and max-size outlive the daemon, and what was attached before sees the room that it gives after"""
    with Daemon(supervise=True) as d:
        d.ok("create", "w", "--size", "8M", "--max-size", "64M", "--page", "4k")
        d.ok("resize", "w", "--size", "12M")
        filler = Filler(d, "w", 100000)
        before = filler.full()
        d.wait_restart(d.kill_child())
        info = d.json("show", "w")
        tap.eq((info["size"], info["max_size"]), (12 * MIB, 64 * MIB))
        d.ok("resize", "w", "--size", "64M")
        tap.true(filler.full() > before, "it has more")
        filler.end()
        sound(d, "w")


@plain_test
def rebuilt_beyond():
    """a rebuild that finds no end of the data lets clients use all of max-size, and the daemon is not told: its next
    resize takes the pages of what is in use before it says that it is there, and no byte of it goes"""
    with Daemon() as d:
        d.ok("create", "w", "--size", "8M", "--max-size", "64M", "--page", "4k")
        with wire.Wire(d.socket) as c:
            fds = c.call("Workspaces", "Open", {1: "w"}).fds
        with mmap.mmap(fds[0], 64 * MIB) as mem:
            beyond = struct.pack("<Q", 8 * MIB | 9)  # the entry of what is beyond the end
            places = [at for at in range(0, MIB, 8) if mem[at:at + 8] == beyond]
            tap.eq(len(places), 1, "entries of what is beyond")
            mem[places[0]:places[0] + 8] = bytes(8)
            d.ok("rebuild", "w")
            gaddr = int(d.ok("alloc", "w", "--size", "30M").split(":")[1].split()[0], 0)
            mem[gaddr + 20 * MIB] = 0x5a
            tap.contains(d.ctl("resize", "w", "--size", "16M").err, "is in the way")
            tap.eq(mem[gaddr + 20 * MIB], 0x5a, "the byte that was written")
            size = size_of(d, "w")
            tap.true(size >= gaddr + 30 * MIB, f"{size} bytes are said to be there")
            tap.true(os.fstat(fds[0]).st_blocks * 512 >= size, "what the spec says has its pages")
        sound(d, "w")
        for fd in fds:
            os.close(fd)


@plain_test
def refused():
    """over max-size, too little for the tables, nothing there: told with what would be right"""
    with Daemon() as d:
        d.ok("create", "w", "--size", "8M", "--max-size", "16M", "--page", "4k")
        for size, part in (("17M", "at most 16777216"), ("1", "at least")):
            result = d.ctl("resize", "w", "--size", size)
            tap.eq(result.rc, 1, result.err)
            tap.contains(result.err, part)
        tap.eq(d.ctl("resize", "none", "--size", "8M").rc, 1)
        result = d.ctl("create", "x", "--size", "4k", "--max-size", "1G", "--page", "4k")
        tap.eq(result.rc, 1, result.err)
        tap.contains(result.err, "ask for at least")
        tap.eq(size_of(d, "w"), 8 * MIB)


tap.run()
