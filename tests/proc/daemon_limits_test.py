"""What one user can take from another, or from the daemon: a bounded part, and it is said who did it."""

import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
import users
import wire
from daemon import Daemon, binary
from users import ALICE, BOB

WAIT_S = 60
HASTY = {"WKSPD_TEST_HALF_FRAME_MS": "300"}
FRAME_MAX = 4 << 20


class Public(Daemon):
    """A private daemon whose socket others can reach."""

    def __init__(self, **kw):
        super().__init__(**kw)
        os.chmod(self.dir, 0o755)


def create(c, name):
    return c.call("Workspaces", "Create", {1: name, 2: 1 << 20, 3: 4096})


def clients(c):
    """What Clients tells: dicts by field number."""
    return [wire.decode(raw) for raw in c.call("Host", "Clients", {}).fields[1]]


def flood(path, until_fd):
    """Requests without an end, sixty at a time on each of many connections, until until_fd closes; how many were
    answered."""
    conns = [wire.Wire(path) for _ in range(24)]
    answered = 0
    for c in conns:
        for _ in range(30):
            c.start("Workspaces", "Get", {1: "nobody"})
    while not select.select([until_fd], [], [], 0)[0]:
        for c in conns:
            for _ in range(30):
                c.frame()
                c.start("Workspaces", "Get", {1: "nobody"})
                answered += 1
    return answered


@tap.test
def a_flood():
    """while one user floods from many connections another is served, request after request, and the flood too"""
    users.need_root()
    with Public() as d:
        ours, theirs = os.pipe()

        def alice():
            os.close(theirs)
            return flood(d.socket, ours)

        flooder = users.start(ALICE, alice)
        os.close(ours)
        try:
            with wire.Wire(d.socket) as c:
                begun = c.call("Host", "Stats", {}).fields[10][0]
                tap.until(lambda: c.call("Host", "Stats", {}).fields[10][0] > begun + 2000, WAIT_S,
                          "the flood has begun")

            def bob():
                with wire.Wire(d.socket) as c:
                    return [c.call("Host", "Version", {}).code for _ in range(200)]

            tap.eq(users.run(BOB, bob), [0] * 200)
        finally:
            os.close(theirs)
            answered = users.finish(flooder)
        tap.diag(f"the flood had {answered} answers")
        tap.true(answered > 1000, "the flood was not one")


@tap.test
def slow_readers():
    """who does not read his answers is closed after a while, counted, and named in the log with uid and pid"""
    users.need_root()
    with Public(env=HASTY) as d:
        with wire.Wire(d.socket) as c:
            for i in range(60):
                tap.eq(create(c, f"w{i}").code, 0)
                tap.eq(c.call("Workspaces", "Get", {1: f"w{i}"}).code, 0)
        broken = wire.violations(d.socket)

        def bob():
            with wire.Wire(d.socket) as c:
                c.sock.setblocking(False)
                sent = 0
                poll = select.poll()
                poll.register(c.sock, select.POLLOUT)
                while True:  # an answer has some 2 KB: the features
                    for _, events in poll.poll(WAIT_S * 1000) or [(0, select.POLLNVAL)]:
                        if events & (select.POLLHUP | select.POLLERR):
                            return sent
                        if events & select.POLLNVAL:
                            raise AssertionError(f"not closed after {sent} requests")
                    try:
                        c.stream += 2
                        c.sock.send(wire.request(c.stream, "Host", "Version", {}))
                        sent += 1
                    except BlockingIOError:
                        continue
                    except (BrokenPipeError, ConnectionResetError):
                        return sent

        child = users.start(BOB, bob)
        pid = child[0]
        tap.diag(f"closed after {users.finish(child)} requests")
        tap.until(lambda: wire.violations(d.socket) == broken + 1, WAIT_S, "a violation is counted")
        line = [text for text in d.log().splitlines() if "does not read its answers" in text]
        tap.true(line and f"uid={BOB.uid}" in line[0] and f"pid={pid}" in line[0], f"the log: {line}")


@tap.test
def bytes_of_a_user():
    """what all connections of a user make the daemon keep is bounded; another user's frames still fit"""
    users.need_root()
    with Public() as d:
        half = struct.pack(">IIBB", FRAME_MAX, 1, wire.REQUEST, 0) + bytes(FRAME_MAX - 1)

        def alice():
            conns, closed = [], 0
            for _ in range(24):
                c = wire.Wire(d.socket)
                try:
                    c.send(half)
                    conns.append(c)
                except (wire.Broken, ConnectionResetError):
                    closed += 1
            return closed, len(conns)

        def bob():
            with wire.Wire(d.socket) as c:
                c.send(wire.frame(1, bytes(FRAME_MAX)))
                return c.reply(c.frame()).code

        ours, theirs = os.pipe()

        def alice_stays():
            os.close(theirs)
            found = alice()
            os.write(told, b"x")
            os.read(ours, 1)
            return found

        hear, told = os.pipe()
        child = users.start(ALICE, alice_stays)
        os.close(ours)
        os.close(told)
        os.read(hear, 1)
        tap.eq(users.run(BOB, bob), wire.INVALID_ARGUMENT, "what four million zeroes are answered")
        os.close(theirs)
        closed, held = users.finish(child)
        os.close(hear)
        tap.diag(f"{held} half frames were kept, {closed} connections closed")
        tap.until(lambda: "its user are at their limit" in d.log(), WAIT_S, "the log says so")
        tap.contains(d.log(), f"uid={ALICE.uid}")
        tap.until(lambda: wire.stats(d.socket)["connections"] == 1, WAIT_S, "all are gone")


@tap.test
def refusals_are_logged():
    """each refusal for want of rights has a line with uid and pid, also where the user is told nothing; a thousand do
    not have a thousand lines, nor hide another's"""
    users.need_root()
    with Public() as d:
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", {1: "secret", 2: 1 << 20, 3: 4096, 4: 0o600}).code, 0)

        def tries(cnt):
            with wire.Wire(d.socket) as c:
                return {c.call("Workspaces", "Open", {1: "secret"}).code for _ in range(cnt)}, os.getpid()

        codes, _ = users.run(ALICE, lambda: [sorted(x) if isinstance(x, set) else x for x in tries(1000)])
        tap.eq(codes, [wire.NOT_FOUND])
        codes, pid = users.run(BOB, lambda: [sorted(x) if isinstance(x, set) else x for x in tries(1)])
        lines = [text for text in d.log().splitlines() if " refused " in text]
        mine = [text for text in lines if f"uid={BOB.uid} pid={pid}" in text]
        tap.eq(len(mine), 1, "lines of the second")
        tap.contains(mine[0], "hidden=1")
        tap.contains(mine[0], "secret")
        tap.true(len(lines) < 500, f"{len(lines)} lines")


@tap.test
def who_holds_what():
    """Clients names processes with what they hold: all for root, one's own for others; a lease outlives the connection
    and ends with the process"""
    users.need_root()
    with Public() as d:
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", {1: "w", 2: 1 << 20, 3: 4096, 4: 0o666}).code, 0)
        ours, theirs = os.pipe()
        hear, told = os.pipe()

        def alice():
            os.close(theirs)
            with wire.Wire(d.socket) as c:
                c.call("Workspaces", "Open", {1: "w", 2: 1})
                seen = [(client[1][0], client[2][0]) for client in clients(c)]
            os.write(told, b"x")
            os.read(ours, 1)
            return seen, os.getpid()

        child = users.start(ALICE, alice)
        os.close(ours)
        os.close(told)
        os.read(hear, 1)
        os.close(hear)
        pid = child[0]

        def held(c):
            return [client for client in clients(c) if client[12]]

        with wire.Wire(d.socket) as c:
            tap.until(lambda: not [x for x in clients(c) if x[1][0] == pid and x[7]], WAIT_S, "it has hung up")
            found = held(c)
            tap.eq([(x[1][0], x[2][0], x[11]) for x in found], [(pid, ALICE.uid, [])])
            tap.true(found[0][4][0].startswith(b"python") or found[0][4][0], f"its name: {found[0][4]}")
            lease = wire.decode(found[0][12][0])
            tap.eq((lease[1], lease[3]), ([b"w"], [1]), "what it holds")
            tap.eq(users.run(BOB, lambda: len(held(wire.Wire(d.socket)))), 0, "what another is told")
            os.kill(pid, signal.SIGKILL)
            tap.until(lambda: not held(c), WAIT_S, "the lease has ended with it")
        os.close(theirs)
        os.close(child[1])
        os.waitpid(pid, 0)


@tap.test
def out_of_descriptors():
    """without descriptors opens and creates are refused with an error, nothing is lost, and all goes on once there are
    some again"""
    with Daemon() as d:
        c = wire.Wire(d.socket)
        tap.eq(create(c, "kept").code, 0)
        before = wire.stats(d.socket)
        was = resource.prlimit(d.proc.pid, resource.RLIMIT_NOFILE)
        highest = max(int(fd) for fd in os.listdir(f"/proc/{d.proc.pid}/fd"))
        resource.prlimit(d.proc.pid, resource.RLIMIT_NOFILE, (highest + 1, was[1]))
        for i in range(5):
            for reply in (c.call("Workspaces", "Open", {1: "kept"}), create(c, f"w{i}")):
                tap.true(reply.code and reply.message, f"{reply}")
                for fd in reply.fds:
                    os.close(fd)
        tap.eq(c.call("Workspaces", "Get", {1: "kept"}).code, 0)
        waits = wire.Wire(d.socket)  # in the backlog
        resource.prlimit(d.proc.pid, resource.RLIMIT_NOFILE, was)
        tap.eq(waits.call("Workspaces", "Get", {1: "kept"}).code, 0)
        waits.close()
        reply = c.call("Workspaces", "Open", {1: "kept"})
        tap.eq((reply.code, len(reply.fds)), (0, 2))
        for fd in reply.fds:
            os.close(fd)
        tap.eq(create(c, "w0").code, 0)
        tap.eq(c.call("Workspaces", "Delete", {1: "w0"}).code, 0)
        c.close()
        seen = {}

        def same():
            seen.update(wire.stats(d.socket))
            return ({**seen, "connections": 0, "fds": seen["fds"] + 1} ==
                    {**before, "connections": 0, "fds": before["fds"]})

        tap.until(same, WAIT_S, f"all as before: {before}")


def configured(text):
    """A daemon with that configuration."""
    d = Daemon()
    path = os.path.join(d.dir, "wkspd.conf")
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    d.args[:] = ["--config", path]
    return d


def next_line(proc, says):
    """The next line of a watch that says so; others are of what others do to this machine's pools."""
    while True:
        line = proc.stdout.readline().decode()
        tap.true(line, "the watch has ended")
        if says in line:
            return line


@tap.test
def pressure():
    """watch --pressure tells when nine tenths of a quota are used, first of all if they are already, and when less than
    eight are; as a line and as JSON"""
    uid = os.getuid()
    with configured(f"[quota]\nuid{uid}.4k.workspaces = 2\n") as d:
        for args in ((), ("--json",)):
            for name in ("a", "b"):
                d.ok("create", name, "--size", "1M", "--page", "4k")
            proc = d.popen(binary("cli/wkspctl"), "watch", "--pressure", *args, stdout=subprocess.PIPE)
            high = next_line(proc, "quota of workspaces")
            for name in ("a", "b"):
                d.ok("rm", name)
            low = next_line(proc, "quota of workspaces")
            proc.terminate()
            proc.communicate(timeout=WAIT_S)
            if not args:
                tap.contains(high, " pressure high: quota of workspaces of ", "line")
                tap.contains(high, ", pages of 4 KiB: 2 of 2", "line")
                tap.contains(low, " pressure low: quota of workspaces of ", "line")
                continue
            high, low = json.loads(high), json.loads(low)
            tap.eq((high["event"], high["name"]), ("pressure", None))
            tap.eq(high["pressure"], {"what": "quota of workspaces", "high": True, "used": 2, "limit": 2, "uid": uid,
                                      "tag": None, "page_size": 4096, "node": None})
            tap.eq((low["pressure"]["high"], low["pressure"]["used"] < 2), (False, True))


@tap.test
def leases_of_the_dead():
    """the lease of a process that is killed ends, and Watch tells it; how long that took from its death is noted"""
    took = []
    with Daemon() as d, wire.Wire(d.socket) as watch:
        d.ok("create", "w", "--size", "1M", "--page", "4k")
        watch.start("Workspaces", "Watch", {1: "w"})
        for _ in range(11):
            hear, told = os.pipe()
            pid = os.fork()
            if not pid:
                with wire.Wire(d.socket) as c:
                    c.call("Workspaces", "Open", {1: "w"})
                    os.write(told, b"x")
                    signal.pause()
                os._exit(1)
            os.read(hear, 1)
            os.close(hear)
            os.close(told)
            pidfd = os.pidfd_open(pid)
            os.kill(pid, signal.SIGKILL)
            select.select([pidfd], [], [])
            since = time.monotonic()
            while wire.decode(watch.frame().data)[1][0] != 4:  # detached
                pass
            took.append((time.monotonic() - since) * 1000)
            os.close(pidfd)
            os.waitpid(pid, 0)
        tap.until(lambda: wire.stats(d.socket)["leases"] == 0, WAIT_S, "no lease is left")
    took.sort()
    tap.diag(f"a lease ended {took[len(took) // 2]:.2f} ms after its process (median of 11), {took[-1]:.2f} ms at most")


tap.run()
