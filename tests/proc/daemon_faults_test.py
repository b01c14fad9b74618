"""Each call that the daemon makes of the system or for memory fails once: whoever asked has an error that says so,
nothing stays behind, and the daemon goes on, or, where memory is short, ends in order and the next one takes over.

tests/proc/faults.c says which function fails, and when. The long form lets each call of each function fail; the short
one some of each, chosen by the seed.
"""

import mmap
import os
import random
import select
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
import talk
import wire
from daemon import Daemon

WAIT_S = 60
SHORT_TALKS = 6
SHORT_STARTS = 8
# Without memory the daemon may give up, in order: what it was at is in its state folder, for the next.
MEMORY = ["malloc", "calloc", "realloc", "reallocarray", "strdup"]


class Faults:
    """The page of tests/proc/faults.h."""

    ENTRY = struct.Struct("24sQ")
    HEAD = struct.Struct("iiqQ")
    CNT = 80

    def __init__(self, path):
        self.path = path
        size = self.HEAD.size + self.CNT * self.ENTRY.size
        with open(path, "w+b") as f:
            f.truncate(size)
            self.page = mmap.mmap(f.fileno(), size)
        os.mkfifo(path + ".go")
        self.disarm()

    def disarm(self):
        # Not by pack_into, which writes zeroes first: the daemon looks meanwhile.
        self.page[:4] = struct.pack("i", -1)

    def arm(self, at, left, waits=False):
        """The call of that function fails that comes after so many others; or waits until go."""
        self.disarm()
        self.page[4:24] = struct.pack("=iqQ", waits, left, 0)
        self.page[:4] = struct.pack("i", at)

    def go(self):
        with open(self.path + ".go", "r+b", buffering=0) as f:
            f.write(b"!")

    def hits(self):
        return self.HEAD.unpack_from(self.page, 0)[3]

    def calls(self):
        """{number of the function: (name, how often it was called)}"""
        found = {}
        for i in range(self.CNT):
            name, calls = self.ENTRY.unpack_from(self.page, self.HEAD.size + i * self.ENTRY.size)
            if name.strip(b"\0"):
                found[i] = (name.strip(b"\0").decode(), calls)
        return found


class Spoilt(Daemon):
    """A private daemon in which calls fail."""

    program = "tests/proc/wkspd_faults"

    def __init__(self):
        super().__init__(env={"WKSPD_TEST_HALF_FRAME_MS": "500"})
        self.faults = Faults(os.path.join(self.dir, "faults"))
        self.env["WKSPD_TEST_FAULTS"] = self.faults.path

    def ended(self):
        return self.proc.poll() is not None


def ended_well(d, name, what):
    """Takes the end of a daemon that gave up, and starts the next."""
    status = d.proc.wait(WAIT_S)
    said = d.log()[-3000:]
    tap.eq(status, 1, f"{what}: exit status\n{said}")
    tap.contains(said, "error broken", f"{what}: the log")
    tap.true(name in MEMORY, f"{what}: the daemon gave up\n{said}")
    d.faults.disarm()
    d.start()


def one_fault(d, at, name, nth, fresh):
    """That call of that function fails during a talk. 1: it came to that."""
    what = f"call {nth} of {name}"
    d.faults.arm(at, nth)
    failed = talk.whole(d)
    hits = d.faults.hits()
    d.faults.disarm()
    if d.ended():
        ended_well(d, name, what)
    try:
        talk.clean_up(d)
    except (wire.Broken, OSError):
        ended_well(d, name, what)
        talk.clean_up(d)
    talk.as_at_first(d, fresh, f"{what} ({failed})")
    return hits


def counted(d):
    """{number: (name, calls)} of one talk in which nothing fails; twice, since the first may open what stays."""
    for _ in range(2):
        before = d.faults.calls()
        tap.eq(talk.whole(d), [], "what fails when nothing does")
        talk.clean_up(d)
        after = d.faults.calls()
    return {at: (name, cnt - before[at][1]) for at, (name, cnt) in after.items() if cnt > before[at][1]}


@tap.test(timeout=3000 if tap.full() else 240)
def while_serving():
    """whichever call fails while it serves, who asked is told, and the daemon holds what it held before"""
    rng = random.Random(tap.seed())
    with Spoilt() as d:
        calls = counted(d)
        fresh = wire.stats(d.socket)
        chosen = [(at, name, nth) for at, (name, cnt) in calls.items() for nth in range(cnt)]
        if not tap.full():
            chosen = [(at, calls[at][0], rng.randrange(calls[at][1])) for at in rng.sample(sorted(calls), SHORT_TALKS)]
        hit = sum(one_fault(d, *one, fresh) for one in chosen)
        tap.diag(f"{len(calls)} functions, {len(chosen)} calls chosen, {hit} failed")
        tap.true(hit > 0, "calls failed")


def serves(d):
    """Whether it answers; not by wkspctl, which would be patient with a daemon that has just ended."""
    try:
        with wire.Wire(d.socket, WAIT_S) as c:
            return c.call("Host", "Version", {}).code == 0
    except (wire.Broken, OSError):
        return False


def start_fails(d, at, name, nth):
    """A start in which that call fails: it serves all the same, or ends and has said why. 1: it came to that."""
    what = f"call {nth} of {name} of a start"
    said = len(d.log())
    d.faults.arm(at, nth)
    d.start(ready=False)
    tap.until(lambda: d.ended() or serves(d), WAIT_S, f"{what}: it serves or has ended")
    hits = d.faults.hits()
    d.faults.disarm()
    if d.ended():
        said = d.log()[said:]
        tap.eq(d.proc.wait(), 1, f"{what}: exit status\n{said}")
        tap.contains(said, "error", f"{what}: what it said at its end")
        d.proc = None
    else:
        d.stop()
    return hits


@tap.test(timeout=3000 if tap.full() else 240)
def while_starting():
    """whichever call fails at its start, the daemon serves or says why not, and the next start finds all there was"""
    rng = random.Random(tap.seed())
    with Spoilt() as d:
        d.ok("create", "f", "--size", "1M", "--page", "4k")
        d.ok("checkpoint", "f", "--wait")
        d.ok("schedule", "f", "--every", "1h")
        d.stop()
        kept = sorted(os.listdir(os.path.join(d.state_dir, "schedules")))
        tap.true(kept, "a schedule is kept")
        before = d.faults.calls()
        d.start()
        d.stop()
        calls = [(at, name, nth) for at, (name, cnt) in d.faults.calls().items() for nth in range(cnt - before[at][1])]
        chosen = calls if tap.full() else rng.sample(calls, SHORT_STARTS)
        hit = sum(start_fails(d, *one) for one in chosen)
        tap.diag(f"{len(calls)} calls from start to stop, {len(chosen)} chosen, {hit} failed")
        d.start()
        tap.eq(len(d.json("checkpoints")["checkpoints"]), 1, "checkpoints")
        tap.eq(sorted(os.listdir(os.path.join(d.state_dir, "schedules"))), kept, "schedules")


@tap.test
def pidfds_of_its_own():
    """where the kernel keeps no pidfd with a connection the daemon does, for as long as there is the connection"""
    with Spoilt() as d:
        at = next(at for at, (name, _) in d.faults.calls().items() if name == "getsockopt")
        d.stop()
        d.faults.arm(at, 0)  # the first is the question whether the kernel does
        d.start()
        tap.eq(d.faults.hits(), 1, "calls that failed")
        before = wire.stats(d.socket)["fds"]
        some = [wire.Wire(d.socket) for _ in range(5)]
        for c in some:
            tap.eq(c.call("Host", "Version", {}).code, 0)
        tap.eq(wire.stats(d.socket)["fds"] - before, 10, "descriptors of five connections")
        clients = map(wire.decode, some[0].call("Host", "Clients", {}).fields[1])
        mine = [one for one in clients if one[1] == [os.getpid()]]
        with open("/proc/self/comm", "rb") as f:
            tap.eq([one[4] for one in mine], [[f.read().strip()]], "the name of this process")
        for c in some:
            c.close()
        tap.until(lambda: wire.stats(d.socket)["fds"] == before, WAIT_S, "they are closed")


def waits(d, name, service, method, message):
    """That request comes to a call of that function, which takes its time; meanwhile others are answered."""
    at = next(at for at, (one, _) in d.faults.calls().items() if one == name)
    with wire.Wire(d.socket) as slow, wire.Wire(d.socket) as other:
        tap.eq(other.call("Workspaces", "Get", {1: "w"}).code, 0)
        d.faults.arm(at, 0, waits=True)
        slow.start(service, method, message)
        tap.until(lambda: d.faults.hits() == 1, WAIT_S, f"{method} comes to {name}")
        d.faults.disarm()
        for _ in range(3):
            tap.eq(other.call("Workspaces", "Get", {1: "w"}).code, 0, f"Get while {name} takes its time")
        tap.eq(select.select([slow.sock], [], [], 0)[0], [], f"{method} is answered before {name} is done")
        d.faults.go()
        reply = slow.reply(slow.frame())
        tap.eq(reply.code, 0, f"{method}: {reply.message}")
        for fd in reply.fds:
            os.close(fd)


@tap.test
def nobody_waits_for_the_disk():
    """what one request waits for, a write or a look at the machine, no other does; and it is not answered before"""
    with Spoilt() as d:
        d.ok("create", "w", "--size", "1M", "--page", "4k")
        waits(d, "fsync", "Workspaces", "Open", {1: "w"})  # the first: numbers of leases are reserved
        waits(d, "fsync", "Workspaces", "Create", {1: "v", 2: 1 << 20, 3: 4096})
        waits(d, "open64", "Workspaces", "Plan", {2: 1 << 20, 3: 4096})


tap.run()
