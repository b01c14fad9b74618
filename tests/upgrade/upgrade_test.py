"""Workspaces of other layouts: a daemon serves them in full, read-only, or keeps them and says why not.

Every test has a daemon, socket and state folder of its own; the memory comes to it as it does from a service manager.
"""

import contextlib
import json
import os
import struct
import sys
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../lib"), os.path.join(HERE, "../proc"), HERE]

import images
import tap
import wire
from daemon import Daemon
from manager import EXIT_S, exec_with_fds, wait_ready

# Of the header (lib/core/layout.h).
LAYOUT, COMPAT, RO_COMPAT, INCOMPAT = 8, 24, 32, 40

NONE, RO, FULL = "none", "ro", "full"


@contextlib.contextmanager
def found(spec, memory):
    """A daemon that finds this at its start."""
    d = Daemon()
    os.makedirs(os.path.join(d.state_dir, "specs"), mode=0o700)
    ws_id = images.fields(spec)["id"]
    with open(os.path.join(d.state_dir, "specs", ws_id + ".spec"), "w", encoding="ascii") as f:
        f.write(spec)
    fd = images.memfd(memory)
    proc = exec_with_fds([f"w{ws_id}"], [fd], d)
    os.close(fd)
    try:
        wait_ready(proc)
        yield d
        proc.terminate()
        tap.eq(proc.wait(EXIT_S), 0)
    finally:
        proc.kill()
        proc.wait()
        proc.stderr.close()
        d.cleanup()


def filled(d, facts):
    """Each partition holds what was written into it."""
    with wire.Wire(d.socket) as c:
        fds = c.call("Workspaces", "Open", {1: "image", 2: 1}).fds
    for tag, size in images.PARTITIONS.items():
        tap.true(os.pread(fds[0], size, int(facts["places"][str(tag)], 16)) == bytes([images.FILL]) * size,
                 f"bytes of partition {tag}")
    for fd in fds:
        os.close(fd)


def serves(d, how, facts, says=""):
    """That the daemon serves the image so."""
    info = d.json("show", "image")
    tap.eq((info["quarantined"], info["read_only"]), (how == NONE, how == RO), f"{how}: {info['reason']}")
    if says:
        tap.contains(info["reason"], says)
    with wire.Wire(d.socket) as c:
        for mode, allowed in ((0, how == FULL), (1, how != NONE)):
            reply = c.call("Workspaces", "Open", {1: "image", 2: mode})
            tap.eq(reply.code, 0 if allowed else wire.FAILED_PRECONDITION, f"opening in mode {mode}: {reply.message}")
            for fd in reply.fds:
                os.close(fd)
    if how == NONE:
        return
    filled(d, facts)
    query = d.json("query", "image")
    said = json.dumps(query)
    for word in [facts["places"][str(tag)] for tag in images.PARTITIONS] + list(images.ROOTS):
        tap.contains(said, f'"{word}"')


def works(d, facts):
    """What one does with a workspace that is served in full."""
    tap.contains(d.ok("verify", "image"), "is sound")
    for block in facts["blocks"]:
        d.ok("heap", "free", f"image:{facts['heap']}", f"image:{block}")
    d.ok("heap", "malloc", f"image:{facts['heap']}", "--size", "1000")
    for place in facts["places"].values():
        d.ok("free", f"image:{place}")
    d.ok("compact", "image")
    d.ok("alloc", "image", "--size", "100000")
    tap.contains(d.ok("verify", "image"), "is sound")


def fresh():
    with Daemon() as d:
        return images.make(d, wire)


def patched(memory, at, value):
    return memory[:at] + value + memory[at + len(value):]


def respec(spec, **changes):
    """The specification with other values, and the checksum that belongs to it."""
    lines = [f"{key}={changes.get(key, value)}" for key, value in images.fields(spec).items() if key != "crc"]
    body = "".join(line + "\n" for line in lines)
    return body + f"crc={zlib.crc32(body.encode()):08x}\n"


@tap.test
def own_layout():
    """a workspace of the daemon's own layout that it has not made itself is served in full"""
    facts, spec, memory = fresh()
    with found(spec, memory) as d:
        serves(d, FULL, facts)
        works(d, facts)


@tap.test
def features():
    """a feature that is not known takes away nothing, writing, or everything, by its kind; the reason names it"""
    facts, spec, memory = fresh()
    bit = struct.pack("<Q", 1 << 40)
    for at, how, says in ((COMPAT, FULL, ""), (RO_COMPAT, RO, "0x10000000000"), (INCOMPAT, NONE, "0x10000000000")):
        with found(spec, patched(memory, at, bit)) as d:
            serves(d, how, facts, says)
            if how == FULL:
                works(d, facts)
            else:
                tap.eq(d.ctl("compact", "image").rc, 1, "status of a compact")
                tap.eq(d.ctl("resize", "image", "--size", "2M").rc, 1, "status of a resize")


@tap.test
def other_layouts():
    """a layout or geometry that is not known is kept, not served, and the reason names both; so it is with a spec of
    an earlier version"""
    facts, spec, memory = fresh()
    own = images.fields(spec)
    ways = (({"layout": int(own["layout"]) + 1}, LAYOUT, struct.pack("<I", int(own["layout"]) + 1)),
            ({"geometry": "00000000deadbeef"}, LAYOUT + 8, struct.pack("<Q", 0xDEADBEEF)))
    for changes, at, value in ways:
        with found(respec(spec, **changes), patched(memory, at, value)) as d:
            serves(d, NONE, facts, f"this daemon knows layout {own['layout']}, geometry {own['geometry']}")
            for what in changes.values():
                tap.contains(d.json("show", "image")["reason"], str(what))
    added = {2: ("max_size",), 3: ("removed_ns", "done"), 4: ("numa", "nodes", "strict")}
    for version in (1, 2, 3):
        later = {"crc"}.union(*(keys for when, keys in added.items() if when > version))
        older = {"wkspd-spec": version, **{key: own[key] for key in list(own)[1:] if key not in later}}
        body = "".join(f"{key}={value}\n" for key, value in older.items())
        with found(body + f"crc={zlib.crc32(body.encode()):08x}\n", memory) as d:
            serves(d, FULL, facts)
            works(d, facts)


@tap.test
def kept_images():
    """each image that is kept is served as its facts say: in full by a daemon of its layout"""
    _, spec, _ = fresh()
    own = images.fields(spec)
    seen = 0
    for name in images.names():
        facts, old_spec, memory = images.read(name)
        same = (str(facts["layout"]), facts["geometry"]) == (own["layout"], own["geometry"])
        how = FULL if same else facts["serves_when_older"]
        seen += same
        tap.diag(f"{name}, made by {facts['version']}: {how}")
        with found(old_spec, memory) as d:
            serves(d, how, facts)
            if how == FULL:
                works(d, facts)
    if not seen:
        tap.diag(f"none of the present layout {own['layout']}, geometry {own['geometry']}: scripts/layout-image makes "
                 "one, which is to be kept before this layout is released")


tap.run()
