"""The daemon among clients that do anything: conversations that are valid, half valid or cut off; and clients that are
killed, stopped and continued while descriptors and the disk run out. Afterwards it holds what it held before.

What is random comes from the seed; which client is where when it is hit is the scheduler's choice.
"""

import mmap
import os
import random
import resource
import select
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import talk
import tap
import wire
from daemon import Daemon

CLIENTS = 16
TALKS = 3000 if tap.full() else 250
CHAOS_S = 600 if tap.full() else 8
NAMES = ["a", "b", "c", "d"]
HASTY = {"WKSPD_TEST_HALF_FRAME_MS": "500"}


def message(rng):
    """A method and what it takes, mostly as it should be."""
    name = rng.choice(NAMES)
    size = rng.choice([1 << 20, 2 << 20])
    method, fields = rng.choice([
        ("Create", {1: name, 2: size, 3: 4096, 7: 4 << 20}), ("Create", {1: name, 2: size, 3: 4096}),
        ("Open", {1: name}), ("Open", {1: name, 2: 1}), ("Get", {1: name}), ("List", {1: rng.randrange(4)}),
        ("Query", {1: name, 4: rng.randrange(1, 9)}), ("Compact", {1: name}),
        ("Delete", {1: name, 2: rng.randrange(2)}),
        ("Resize", {1: name, 2: rng.choice([1 << 20, 3 << 20])}), ("Stats", {}), ("Clients", {1: rng.randrange(4)}),
        ("Version", {})])
    if rng.random() < 0.2:  # half valid
        number = rng.choice([1, 2, 3, 4, 7, 8, 99])
        fields[number] = rng.choice([0, 1, rng.getrandbits(64), rng.randbytes(rng.randrange(20)), "x" * 80, [1, 2, 3]])
    return "Host" if method in ("Stats", "Clients", "Version") else "Workspaces", method, fields


class Talker:
    """A client that says random things, and holds what it was given for a while."""

    def __init__(self, path, rng):
        self.path, self.rng, self.held, self.answers = path, rng, [], 0

    def drop(self, all_=False):
        while self.held and (all_ or len(self.held) > 6):
            for fd in self.held.pop(self.rng.randrange(len(self.held))):
                os.close(fd)

    def take(self, reply):
        """Keeps the descriptors of an open; now and then writes into the memory."""
        if not reply.fds:
            return
        if self.rng.random() < 0.2:
            try:
                with mmap.mmap(reply.fds[0], 1 << 20) as mem:
                    at = self.rng.randrange(len(mem) - 64)
                    mem[at:at + 64] = self.rng.randbytes(64)
            except (PermissionError, ValueError):
                pass  # opened read-only
        self.held.append(reply.fds)
        self.drop()

    def one(self):
        """A conversation: some requests together, of which the last may be cut or changed; some answers."""
        rng = self.rng
        with wire.Wire(self.path) as c:
            data, cnt = b"", rng.randrange(1, 6)
            for i in range(cnt):
                timeout = rng.choice([0, 0, 1, 10_000_000])
                data += wire.request(2 * i + 1, *message(rng), timeout_ns=timeout)
            if rng.random() < 0.15:
                data += wire.request(2 * cnt + 1, "Workspaces", "Watch", {}, flags=1)
            ending = rng.random()
            if ending < 0.15:
                data = data[:rng.randrange(len(data))]
            elif ending < 0.3:
                data = bytearray(data)
                for _ in range(rng.randrange(1, 4)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
            c.sock.settimeout(0.1 if ending < 0.3 else 5)
            try:
                c.send(bytes(data))
                for _ in range(rng.randrange(cnt + 1) if ending < 0.45 else cnt):
                    got = c.frame()
                    if got.type == wire.RESPONSE:
                        self.take(c.reply(got))
                        self.answers += 1
            except (wire.Broken, TimeoutError):
                pass
            for fd in c.fds:
                os.close(fd)


def remove_all(d):
    """Removes all workspaces but "kept"; a changed byte may have made one of any name."""
    with wire.Wire(d.socket) as c:
        for raw in c.call("Workspaces", "List", {}).fields[1]:
            name = wire.decode(raw)[1][0]
            if name != b"kept":
                c.call("Workspaces", "Delete", {1: name, 2: 1})


def as_fresh(d, fresh):
    """Waits until all that clients made is removed and the daemon holds what it held before."""
    talk.as_at_first(d, fresh, "after all that", lambda: remove_all(d))


@tap.test(timeout=TALKS // 2 + 120)
def conversations():
    """valid, half valid and cut conversations, with garbage in the memory too: each ends, and nothing is left"""
    rng = random.Random(tap.seed())
    with Daemon(env=HASTY) as d:
        fresh = wire.stats(d.socket)
        talker = Talker(d.socket, rng)
        for _ in range(TALKS):
            talker.one()
        tap.diag(f"{TALKS} conversations, {talker.answers} answers")
        tap.true(talker.answers > TALKS / 2, "hardly anything was answered")
        talker.drop(all_=True)
        as_fresh(d, fresh)


class Disk:
    """A small file system for the state folder; where none can be mounted, the folder as it is."""

    def __init__(self, path):
        self.path, self.filler = path, os.path.join(path, "filler")
        os.makedirs(path, mode=0o700, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", path]
        self.small = not subprocess.run(mount, check=False, capture_output=True).returncode
        if not self.small:
            tap.diag("no small tmpfs could be mounted: the disk does not fill up")

    def fill(self, full):
        if not self.small:
            return
        if not full:
            if os.path.exists(self.filler):
                os.unlink(self.filler)
            return
        with open(self.filler, "wb", buffering=0) as f:
            try:
                while f.write(bytes(4096)):
                    continue
            except OSError:
                pass

    def close(self):
        if self.small:
            subprocess.run(["umount", "-l", self.path], check=False)


def client(path, seed):
    """Talks until it is killed; a daemon that takes nobody for a moment is tried again."""
    talker = Talker(path, random.Random(seed))
    while True:
        try:
            talker.one()
        except OSError:
            continue


class Herd:
    """Processes that talk, and what happens to them."""

    def __init__(self, path, rng):
        self.path, self.rng = path, rng
        self.pids = [self.start() for _ in range(CLIENTS)]
        self.killed = self.stopped = 0

    def start(self):
        seed = self.rng.getrandbits(31)
        pid = os.fork()
        if pid:
            return pid
        try:
            client(self.path, seed)
        finally:
            os._exit(1)

    def hit(self):
        at = self.rng.randrange(CLIENTS)
        how = self.rng.choice([signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT, signal.SIGCONT])
        os.kill(self.pids[at], how)
        if how == signal.SIGKILL:
            os.waitpid(self.pids[at], 0)
            self.pids[at] = self.start()
        self.killed += how == signal.SIGKILL
        self.stopped += how == signal.SIGSTOP

    def end(self):
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self.pids:
            os.waitpid(pid, 0)
        self.pids = []


def descriptors(d, few):
    """Leaves the daemon a few more descriptors than it has, or as many as it had."""
    was = resource.prlimit(d.proc.pid, resource.RLIMIT_NOFILE)
    cnt = was[1]
    if few:
        cnt = min(max(int(fd) for fd in os.listdir(f"/proc/{d.proc.pid}/fd")) + 3, was[1])
    resource.prlimit(d.proc.pid, resource.RLIMIT_NOFILE, (cnt, was[1]))


@tap.test(timeout=CHAOS_S + 180)
def chaos():
    """16 clients that are killed, stopped and continued while descriptors and disk run out leave nothing behind, and a
    workspace that nobody of them has stays whole"""
    rng = random.Random(tap.seed())
    d = Daemon(env=HASTY)
    disk = Disk(d.state_dir)
    herd = None
    try:
        with d:
            d.ok("create", "kept", "--size", "4M", "--page", "4k")
            fresh = wire.stats(d.socket)
            herd = Herd(d.socket, rng)
            end = time.monotonic() + CHAOS_S
            hits = 0
            while time.monotonic() < end:
                hits += 1
                herd.hit()
                if hits % 40 == 0:
                    disk.fill(hits % 80 == 0)
                if hits % 60 == 0:
                    descriptors(d, hits % 120 == 0)
                select.select([], [], [], 0.02)
            disk.fill(False)
            descriptors(d, False)
            tap.diag(f"{herd.killed} killed, {herd.stopped} stopped")
            herd.end()
            as_fresh(d, fresh)
            d.ok("verify", "kept")
            tap.eq(d.ok("ls").count("\n"), 2, "lines of ls: its head and one workspace")
            d.ok("create", "after", "--size", "4M", "--page", "4k")
            d.ok("verify", "after")
    finally:
        if herd:
            herd.end()
        disk.close()


tap.run()
