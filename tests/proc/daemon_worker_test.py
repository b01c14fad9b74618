"""The daemon's workers: what they answer, and that nothing in shared memory hurts the daemon.

Every test has a daemon, socket and state folder of its own.
"""

import ctypes
import mmap
import os
import random
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
import wire
from daemon import Daemon

SIZE = 4 << 20
WAIT_S = 60
ANSWERS = (0, wire.DATA_LOSS, wire.UNAVAILABLE, wire.DEADLINE_EXCEEDED)


def create(name):
    return {1: name, 2: SIZE, 3: 4096, 7: 2 * SIZE}


class Mapped:
    """A workspace opened by hand."""

    def __init__(self, d, name):
        with wire.Wire(d.socket) as c:
            reply = c.call("Workspaces", "Open", {1: name})
        tap.eq(reply.code, 0)
        self.fds = reply.fds
        self.mem = mmap.mmap(self.fds[0], 2 * SIZE)

    def close(self):
        self.mem.close()
        for fd in self.fds:
            os.close(fd)


def limit(d, what):
    """What is in use of that limit."""
    with wire.Wire(d.socket) as c:
        for one in map(wire.decode, c.call("Host", "Stats", {}).fields[41]):
            if one[1] == [what.encode()]:
                return (one[2] or [0])[0]
    return None


@tap.test
def empty():
    """a query of an empty workspace has its figures and no partitions; compacting it gives nothing back"""
    with Daemon() as d, wire.Wire(d.socket) as c:
        tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
        reply = c.call("Workspaces", "Query", {1: "w"})
        tap.eq(reply.code, 0, reply.message)
        usage = wire.decode(reply.fields[1][0])
        tap.true(SIZE // 2 < usage[3][0] < SIZE, f"total_size {usage[3]}")
        tap.eq(usage[5], usage[3], "free bytes")
        tap.eq((reply.fields[2], reply.fields[3], reply.fields[4]), ([], [], []))
        reply = c.call("Workspaces", "Compact", {1: "w"})
        tap.eq((reply.code, reply.fields[1]), (0, []), reply.message)
        tap.until(lambda: wire.stats(d.socket)["jobs"] == 0, WAIT_S, "no worker is left")


def removed(c, name):
    """Whether it is gone; a resize whose request had no time left may still be at it."""
    code = c.call("Workspaces", "Delete", {1: name, 2: 1}).code
    tap.true(code in (0, wire.UNAVAILABLE), f"the answer to its removal: {code}")
    return not code


@tap.test
def garbage_in_memory():
    """whatever a writer leaves in a workspace, query, compact and resize answer in time and the daemon serves others"""
    rng = random.Random(tap.seed())
    with Daemon() as d, wire.Wire(d.socket) as c:
        tap.eq(c.call("Workspaces", "Create", create("good")).code, 0)
        codes = {}
        for i in range(30):
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
            m = Mapped(d, "w")
            # tables at the front are what matters: all of them, a page, or some words
            kind = i % 3
            if kind == 0:
                m.mem[4096:1 << 17] = rng.randbytes((1 << 17) - 4096)
            elif kind == 1:
                at = 4096 * rng.randrange(0, 32)
                m.mem[at:at + 4096] = rng.choice([b"\xff" * 4096, bytes(4096), rng.randbytes(4096)])
            else:
                for _ in range(200):
                    at = 8 * rng.randrange(0, (1 << 17) // 8)
                    m.mem[at:at + 8] = rng.choice([b"\xff" * 8, bytes(8), rng.randbytes(8)])
            for method in ("Query", "Compact", "Resize"):
                ask = {1: "w", 2: rng.randrange(SIZE // 2, 2 * SIZE)} if method == "Resize" else {1: "w"}
                timeout = 500_000_000 if method == "Resize" else 3_000_000_000
                reply = c.call("Workspaces", method, ask, timeout_ns=timeout)
                codes[reply.code] = codes.get(reply.code, 0) + 1
                answers = ANSWERS + (wire.FAILED_PRECONDITION, wire.RESOURCE_EXHAUSTED) * (method == "Resize")
                tap.true(reply.code in answers, f"{method}: {reply.code} {reply.message}")
                tap.true(not reply.code or reply.message, f"{method}: an error without a sentence")
                tap.eq(c.call("Workspaces", "Get", {1: "good"}).code, 0)
            m.close()
            tap.until(lambda: removed(c, "w"), WAIT_S, "it is removed, once no resize is at it any more")
        tap.diag(f"answers by code: {codes}")
        tap.true(codes.get(wire.DATA_LOSS, 0) > 0, "no damage was found at all")
        tap.eq(c.call("Workspaces", "Query", {1: "good"}).code, 0)
        tap.until(lambda: wire.stats(d.socket)["jobs"] == 0, 60, "no worker is left")
        tap.until(lambda: wire.stats(d.socket)["workspaces"] == 1, 60, "the others are gone")


@tap.test
def header_gone():
    """a workspace without its header is DATA_LOSS for query and compact, with a sentence"""
    with Daemon() as d, wire.Wire(d.socket) as c:
        tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
        m = Mapped(d, "w")
        m.mem[:4096] = bytes(4096)
        for method in ("Query", "Compact"):
            reply = c.call("Workspaces", method, {1: "w"})
            tap.eq(reply.code, wire.DATA_LOSS, reply.message)
            tap.contains(reply.message, "w")
        m.close()


def punch(fd, at, length):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    tap.eq(libc.fallocate(fd, 1 | 2, at, length), 0, "fallocate(PUNCH_HOLE)")  # its size stays


def state(c):
    """(damaged, reason) of w"""
    of = wire.decode(c.call("Workspaces", "Get", {1: "w"}).fields[1][0])
    return bool(of[24] and of[24][0]), b"".join(of[16]).decode()


@tap.test
def marked():
    """a hole under a workspace marks it; it is served all the same, and a verify that finds it mended ends that"""
    with Daemon() as d, wire.Wire(d.socket) as c, wire.Wire(d.socket) as watch:
        tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
        tap.eq(c.call("Workspaces", "Verify", {1: "w"}).code, 0)
        watch.start("Workspaces", "Watch", {1: "w"})
        tap.until(lambda: limit(d, "watches") == 1, WAIT_S, "the watch is on")
        m = Mapped(d, "w")
        front = m.mem[:1 << 17]
        punch(m.fds[0], 0, 1 << 17)
        tap.eq(c.call("Workspaces", "Query", {1: "w"}).code, wire.DATA_LOSS)
        tap.eq(state(c)[0], True, "damaged")
        tap.true(state(c)[1], "no reason")
        tap.eq(wire.stats(d.socket)["damaged"], 1, "status counts it")
        tap.eq(c.call("Workspaces", "Verify", {1: "w"}).code, wire.DATA_LOSS)
        Mapped(d, "w").close()
        m.mem[:1 << 17] = front
        tap.eq(c.call("Workspaces", "Query", {1: "w"}).code, 0)
        tap.eq(state(c)[0], True, "damaged after a query that went well")
        reply = c.call("Workspaces", "Verify", {1: "w"})
        tap.eq((reply.code, state(c)), (0, (False, "")), reply.message)
        m.close()
        kinds = []
        while 13 not in kinds:
            kinds.append(wire.decode(watch.frame().data)[1][0])
        tap.eq([kind for kind in kinds if kind in (12, 13)], [12, 13], "events: damaged, sound")


@tap.test
def stop_with_workers():
    """SIGTERM while workers run ends the daemon with status 0 and leaves no process"""
    with Daemon() as d:
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
            for _ in range(40):
                c.start("Workspaces", "Query", {1: "w"}, wire.WORKER_NS["Query"])
            c.frame()
            d.proc.send_signal(signal.SIGTERM)
            codes = {c.reply(f).code for f in c.closed()}
        tap.true(codes <= {0, wire.UNAVAILABLE}, f"codes {codes}")


tap.run()
