"""What a client may send, and what it gets: an answer or a closed connection, and nothing else changes.

"As before" means the figures of Stats that say what the daemon holds.
"""

import mmap
import os
import random
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
import wire
from daemon import Daemon

SIZE = 2 << 20
WAIT_S = 60
HALF_FRAME = {"WKSPD_TEST_HALF_FRAME_MS": "200"}


def create(name, size=SIZE, page=4096):
    return {1: name, 2: size, 3: page}


def as_before(d, before, what):
    """Fails unless the daemon comes to hold what it held before."""
    seen = {}

    def same():
        seen.update(wire.stats(d.socket))
        return seen == before

    try:
        tap.until(same, WAIT_S, what)
    except AssertionError as why:
        raise AssertionError(f"{why}: {seen}, before {before}") from why


@tap.test
def features():
    """Version lists every method that is served, and each of them is known; others are not"""
    with Daemon() as d, wire.Wire(d.socket) as c:
        listed = [name.decode() for name in c.call("Host", "Version", {}).fields[4]]
        tap.true("wkspd.v1.Workspaces.Watch" in listed and "wkspd.v1.Host.Stats" in listed, listed)
        tap.true("request-id" in listed, listed)
        for name in listed:
            if name == "request-id":
                continue
            service, method = name.rsplit(".", 2)[1:]
            if method != "Watch":
                tap.true(c.call(service, method, {}).code != wire.UNIMPLEMENTED, name)
        tap.eq(c.call("Workspaces", "Rename", {}).code, wire.UNIMPLEMENTED)


@tap.test
def garbage():
    """random bytes, and random changes of a good conversation, change nothing"""
    rng = random.Random(tap.seed())
    with Daemon(env=HALF_FRAME) as d:
        before = wire.stats(d.socket)
        good = wire.request(1, "Workspaces", "Get", {1: "nobody"}) + wire.request(3, "Host", "Version", {})
        for i in range(300):
            data = bytearray(rng.randbytes(rng.randrange(1, 400)) if i % 2 else good)
            for _ in range(rng.randrange(1, 6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            with wire.Wire(d.socket) as c:
                try:
                    c.send(bytes(data))
                except wire.Broken:
                    pass
        as_before(d, before, "all as before")


@tap.test
def half_frames():
    """half a frame and silence closes the connection; a whole one and silence does not"""
    with Daemon(env=HALF_FRAME) as d:
        before, broken = wire.stats(d.socket), wire.violations(d.socket)
        whole = wire.request(1, "Host", "Version", {})
        idle = wire.Wire(d.socket)
        tap.eq(idle.call("Host", "Version", {}).code, 0)
        cuts = [1, 9, 10, 11, len(whole) - 1]
        conns = [wire.Wire(d.socket) for _ in cuts]
        for c, cut in zip(conns, cuts):
            c.send(whole[:cut])
        for c in conns:
            tap.eq(c.closed(), [], "frames before the end")
            c.close()
        tap.eq(wire.violations(d.socket), broken + len(cuts), "violations")
        tap.eq(idle.call("Host", "Version", {}).code, 0, "the idle connection")
        idle.close()
        as_before(d, before, "all as before")


@tap.test
def hangup_at_every_byte():
    """a client that hangs up at any byte of a Create, sending or receiving, leaves nothing but perhaps the workspace"""
    with Daemon() as d:
        before = wire.stats(d.socket)
        whole = wire.request(1, "Workspaces", "Create", create("w", 1 << 20))
        for cut in range(len(whole) + 1):
            with wire.Wire(d.socket) as c:
                c.send(whole[:cut])
        with wire.Wire(d.socket) as c:
            # whether the last of them was made is the daemon's choice, and it may still be at it
            tap.until(lambda: c.call("Workspaces", "Delete", {1: "w"}).code in (0, wire.NOT_FOUND)
                      and wire.stats(d.socket)["bytes"] == 0 and
                      c.call("Workspaces", "Create", create("w", 1 << 20)).code == 0, WAIT_S, "to be made and deleted")
            tap.eq(c.call("Workspaces", "Delete", {1: "w"}).code, 0)
            reply = len(c.call("Workspaces", "Create", create("w", 1 << 20)).fields[1][0]) + 16
            tap.eq(c.call("Workspaces", "Delete", {1: "w"}).code, 0)
        for cut in range(1, reply, 4):
            with wire.Wire(d.socket) as c:
                c.send(whole)
                while len(c.buffer) < cut:
                    c.buffer += c.sock.recv(cut - len(c.buffer))
            with wire.Wire(d.socket) as c:
                tap.eq(c.call("Workspaces", "Delete", {1: "w"}).code, 0, "a created workspace")
        as_before(d, before, "all as before")


@tap.test
def hangup_in_open():
    """a client that hangs up at any byte of an Open holds no lease"""
    with Daemon() as d:
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
        before = wire.stats(d.socket)
        whole = wire.request(1, "Workspaces", "Open", {1: "w"})
        for cut in list(range(len(whole) + 1)) + [len(whole)] * 20:
            with wire.Wire(d.socket) as c:
                c.send(whole[:cut])
        for cut in range(1, 100, 9):
            with wire.Wire(d.socket) as c:
                c.send(whole)
                c.sock.recv(cut)  # and with it the descriptors, which recv drops
        as_before(d, before, "no lease is left")


@tap.test
def stream_ids():
    """stream ids that are even or do not rise are refused on that id, and the connection goes on"""
    with Daemon() as d, wire.Wire(d.socket) as c:
        for stream, ok in ((1, True), (2, False), (1, False), (0, False), (7, True), (5, False), (9, True),
                           (0xFFFFFFFF, True), (0xFFFFFFFF, False)):
            c.send(wire.request(stream, "Host", "Version", {}))
            got = c.frame()
            tap.eq(got.stream, stream, "the answer's stream")
            tap.eq(c.reply(got).code, 0 if ok else wire.INVALID_ARGUMENT, f"code on stream {stream}")


@tap.test
def not_understood():
    """unknown services and methods are UNIMPLEMENTED, undecodable requests INVALID_ARGUMENT; after too many of the
    latter the connection is closed"""
    with Daemon() as d:
        with wire.Wire(d.socket) as c:
            for service, method in (("Workspaces", "Frob"), ("Frob", "Create"), ("", ""), ("Host", "version")):
                reply = c.call(service, method, {})
                tap.eq(reply.code, wire.UNIMPLEMENTED)
                tap.contains(reply.message, method)
            for stream in range(101, 105, 2):
                c.send(wire.frame(stream, b"\xff\xff\xff"))
                tap.eq(c.reply(c.frame()).code, wire.INVALID_ARGUMENT)
            c.send(wire.frame(201, wire.encode({1: "wkspd.v1.Host", 2: "Version", 3: b"\x0a\xff"})))
            tap.eq(c.reply(c.frame()).code, wire.INVALID_ARGUMENT)
            c.send(wire.request(203, "Host", "Version", {}, flags=2))
            tap.eq(c.reply(c.frame()).code, wire.INVALID_ARGUMENT, "a stream of requests")
            c.send(wire.frame(301, b"x", kind=wire.DATA) + wire.frame(303, b"x", kind=77))
            c.send(wire.request(305, "Host", "Version", {}))
            tap.eq(c.frame().stream, 305, "frames of other types are ignored")
        broken = wire.violations(d.socket)
        with wire.Wire(d.socket) as c:
            c.send(b"".join(wire.frame(2 * i + 1, b"\xff") for i in range(100)))
            answers = c.closed()
            tap.true(0 < len(answers) < 100, f"{len(answers)} answers before the connection was closed")
        tap.eq(wire.violations(d.socket), broken + 1)


@tap.test
def too_large():
    """a request over 4 MiB is answered RESOURCE_EXHAUSTED and the next is served; an absurd one closes"""
    with Daemon() as d:
        with wire.Wire(d.socket) as c:
            c.send(wire.frame(1, bytes((4 << 20) + 1)))
            reply = c.reply(c.frame())
            tap.eq(reply.code, wire.RESOURCE_EXHAUSTED)
            tap.contains(reply.message, str((4 << 20) + 1))
            c.stream = 1
            tap.eq(c.call("Host", "Version", {}).code, 0)
        with wire.Wire(d.socket) as c:
            c.send(struct.pack(">IIBB", 0xFFFFFFFF, 1, wire.REQUEST, 0))
            tap.eq(c.closed(), [])


@tap.test
def reader_that_does_not():
    """a client that sends requests and never reads answers is closed; others are served meanwhile"""
    with Daemon() as d:
        with wire.Wire(d.socket) as c:
            for i in range(150):
                tap.eq(c.call("Workspaces", "Create", create(f"w{i}", 1 << 20)).code, 0)
        before = wire.stats(d.socket)
        c = wire.Wire(d.socket)
        c.sock.settimeout(0.5)
        sent = 0
        try:
            while sent < 5000:  # 5,000 answers of 20 KB each would be 100 MB
                c.start("Workspaces", "List", {})
                sent += 1
        except (wire.Broken, socket.timeout):
            pass
        tap.true(sent < 5000, "the daemon took everything")
        with open(f"/proc/{d.proc.pid}/status", encoding="ascii") as f:
            rss = [int(line.split()[1]) for line in f if line.startswith("VmHWM")][0]
        tap.diag(f"{sent} requests were taken, the daemon's memory reached {rss} KiB")
        tap.eq(wire.stats(d.socket)["workspaces"], 150)
        c.close()
        as_before(d, before, "all as before")


@tap.test
def descriptors_from_clients():
    """descriptors that a client sends are dropped"""
    with Daemon() as d:
        before = wire.stats(d.socket)
        with wire.Wire(d.socket) as c:
            for stream in range(1, 41, 2):
                socket.send_fds(c.sock, [wire.request(stream, "Host", "Version", {})], [0, 1, 2])
                tap.eq(c.reply(c.frame()).code, 0)
        as_before(d, before, "no descriptor was kept")


@tap.test
def pipelined():
    """many requests sent at once are all answered, each on its stream"""
    with Daemon() as d, wire.Wire(d.socket) as c:
        streams = {c.start("Host", "Version", {}) for _ in range(60)}
        got = [c.frame() for _ in range(60)]
        tap.eq({f.stream for f in got}, streams)
        tap.eq({c.reply(f).code for f in got}, {0})


@tap.test
def descriptors_of_an_open():
    """descriptors are those of the open that they come with, whatever is answered together with it"""
    with Daemon() as d, wire.Wire(d.socket) as c:
        tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
        held = c.call("Workspaces", "Open", {1: "w"}).fds
        for stream in range(101, 181, 4):
            c.send(wire.request(stream, "Host", "Stats", {}) + wire.request(stream + 2, "Workspaces", "Open", {1: "w"}))
            tap.eq(len(c.reply(c.frame()).fds), 0, "descriptors of figures")
            reply = c.reply(c.frame())
            tap.eq(len(reply.fds), 2, "descriptors of an open")
            mmap.mmap(reply.fds[0], SIZE).close()
            for fd in reply.fds:
                os.close(fd)
        for fd in held:
            os.close(fd)


@tap.test
def open_gives_memory():
    """an open comes with the memory and a lifeline; the lease ends with the lifeline and not with the connection"""
    with Daemon() as d:
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
            reply = c.call("Workspaces", "Open", {1: "w"})
        tap.eq((reply.code, len(reply.fds)), (0, 2))
        memory, lifeline = reply.fds
        tap.eq(os.fstat(memory).st_size, reply.fields[3][0], "map_size")
        with mmap.mmap(memory, reply.fields[3][0]) as mem:
            tap.eq(mem[:8], b"wfdkwsp1", "the magic")
            mem[-1] = 7
        for change in (lambda: os.ftruncate(memory, 0), lambda: os.ftruncate(memory, SIZE * 2)):
            try:
                change()
            except PermissionError:
                continue
            raise AssertionError("the memory could be resized")
        tap.eq(wire.stats(d.socket)["leases"], 1, "leases after the connection has gone")
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Delete", {1: "w"}).code, wire.FAILED_PRECONDITION)
        os.close(lifeline)
        tap.until(lambda: wire.stats(d.socket)["leases"] == 0, WAIT_S, "the lease ended")
        os.close(memory)
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Delete", {1: "w"}).code, 0)


@tap.test
def open_read_only():
    """a read-only open comes with a descriptor that cannot be written or mapped writable"""
    with Daemon() as d, wire.Wire(d.socket) as c:
        tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
        reply = c.call("Workspaces", "Open", {1: "w", 2: 1})
        tap.eq((reply.code, len(reply.fds)), (0, 2))
        memory, lifeline = reply.fds
        mmap.mmap(memory, SIZE, prot=mmap.PROT_READ).close()
        try:
            mmap.mmap(memory, SIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            raise AssertionError("mapped writable")
        except PermissionError:
            pass
        try:
            os.pwrite(memory, b"x", 0)
            raise AssertionError("written")
        except OSError:
            pass
        os.close(memory)
        os.close(lifeline)


@tap.test
def forced_delete():
    """a forced delete takes the name at once and the memory when the last lease ends"""
    with Daemon() as d:
        before = wire.stats(d.socket)
        c = wire.Wire(d.socket)
        tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
        reply = c.call("Workspaces", "Open", {1: "w"})
        gone = c.call("Workspaces", "Delete", {1: "w", 2: 1})
        tap.eq((gone.code, gone.fields[1]), (0, [1]), "deferred")
        tap.eq(c.call("Workspaces", "Get", {1: "w"}).code, wire.NOT_FOUND)
        tap.eq(c.call("Workspaces", "Open", {1: "w"}).code, wire.NOT_FOUND)
        tap.eq(wire.stats(d.socket)["bytes"], SIZE, "bytes held for the lease")
        tap.eq(c.call("Workspaces", "Create", create("w")).code, 0, "the name is free")
        tap.eq(c.call("Workspaces", "Delete", {1: "w"}).code, 0)
        with mmap.mmap(reply.fds[0], SIZE) as mem:
            mem[-1] = 1
        for fd in reply.fds:
            os.close(fd)
        c.close()
        as_before(d, before, "the memory is gone")


@tap.test
def watch():
    """a watch tells what happens, in order; it ends with its time, or with its connection"""
    with Daemon() as d, wire.Wire(d.socket) as c, wire.Wire(d.socket) as other:
        before = wire.stats(d.socket)
        with wire.Wire(d.socket) as watcher:
            stream = watcher.start("Workspaces", "Watch", {}, flags=1)
            tap.eq(watcher.call("Host", "Version", {}).code, 0)  # the watch has begun
            tap.eq(other.call("Workspaces", "Create", create("w")).code, 0)
            reply = other.call("Workspaces", "Open", {1: "w"})
            for fd in reply.fds:
                os.close(fd)

            def told():
                got = watcher.frame()
                tap.eq((got.stream, got.type), (stream, wire.DATA))
                event = wire.decode(got.data)
                tap.eq(event[2], [b"w"])
                return event[1][0]

            tap.eq([told() for _ in range(3)], [1, 3, 4], "created, attached, detached")
            tap.eq(other.call("Workspaces", "Delete", {1: "w"}).code, 0)
            tap.eq(told(), 2, "removed")
        # However slow this machine is: the end comes, and nothing before it.
        stream = c.start("Workspaces", "Watch", {}, timeout_ns=50_000_000, flags=1)
        end = c.frame()
        tap.eq((end.stream, c.reply(end).code), (stream, wire.DEADLINE_EXCEEDED))
        as_before(d, before, "all as before")


@tap.test
def bad_values():
    """values out of range are INVALID_ARGUMENT or RESOURCE_EXHAUSTED, with the value or figures, and change nothing"""
    with Daemon() as d:
        before = wire.stats(d.socket)
        c = wire.Wire(d.socket)
        for message, codes in (
                ({1: "", 2: SIZE}, {3}), ({1: "-w", 2: SIZE}, {3}), ({1: "x" * 40, 2: SIZE}, {3}),
                ({1: "a/b", 2: SIZE}, {3}), ({1: "w", 2: 0}, {3}), ({1: "w", 2: 1 << 63}, {3}),
                ({1: "w", 2: (1 << 64) - 1}, {3}), ({1: "w", 2: (1 << 46) + 1}, {3}), ({1: "w", 2: 1 << 46}, {8}),
                ({1: "w", 2: 1}, {3}), ({1: "w", 2: SIZE, 3: 8192}, {3}), ({1: "w", 2: SIZE, 4: 0o1000}, {3}),
                ({1: "w", 2: SIZE, 4: 0xFFFFFFFF}, {3}), ({1: "w", 2: SIZE, 6: 3}, {3}),
                ({1: "w", 2: SIZE, 6: 1 << 40}, {3}), ({1: "w", 2: SIZE, 3: 4096, 6: 1 << 30}, {3}),
                ({1: "w", 2: 1 << 45, 3: 2 << 20}, {8})):
            reply = c.call("Workspaces", "Create", message)
            tap.true(reply.code in codes, f"{message}: code {reply.code} {reply.message!r}")
            tap.true(reply.message and reply.detail[1], f"{message}: {reply}")
        tap.eq(c.call("Workspaces", "Query", {1: "nobody"}).code, wire.NOT_FOUND)
        c.close()
        as_before(d, before, "all as before")


@tap.test
def paged_list():
    """pages of a list follow one another in the order of names and end"""
    with Daemon() as d, wire.Wire(d.socket) as c:
        names = [f"w{i:02}" for i in range(25)]
        for name in random.Random(1).sample(names, len(names)):
            tap.eq(c.call("Workspaces", "Create", create(name, 1 << 20)).code, 0)
        seen, token = [], b""
        while True:
            reply = c.call("Workspaces", "List", {1: 7, 2: token})
            seen += [wire.decode(w)[1][0].decode() for w in reply.fields[1]]
            token = b"".join(reply.fields[2])
            if not token:
                break
        tap.eq(seen, names)


tap.run()
