"""images: workspaces of released layouts, kept as files, and what must be found in them.

    NAME.img.gz   the whole memory of one workspace of 4 KiB pages
    NAME.spec     its specification, as the daemon had it in its state folder
    NAME.json     what is in it, and how far a daemon of another layout serves it: none, ro or full

`scripts/layout-image` makes one of the present layout; it is called after the layout version and the geometry.
"""

import ctypes
import fcntl
import glob
import gzip
import json
import os

import tap

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "images")

# What every image holds: partitions by tag, named roots, and blocks of a heap, each full of one byte.
PARTITIONS = {101: 4096, 102: 70000, 103: 1}
ROOTS = {"first": 101, "second": 102}
HEAP_TAG, BLOCKS = 200, (16, 100, 3000, 60000)
FILL = 0xA5

F_ADD_SEALS, SEALS = 1033, 0x1 | 0x2 | 0x4


def names():
    """Of all images."""
    return sorted(os.path.basename(path)[:-5] for path in glob.glob(os.path.join(FOLDER, "*.json")))


def read(name):
    """(facts, spec, memory) of an image."""
    path = os.path.join(FOLDER, name)
    with open(path + ".json", encoding="ascii") as f:
        facts = json.load(f)
    with open(path + ".spec", encoding="ascii") as f:
        spec = f.read()
    with gzip.open(path + ".img.gz") as f:
        return facts, spec, f.read()


def write(name, facts, spec, memory):
    os.makedirs(FOLDER, exist_ok=True)
    path = os.path.join(FOLDER, name)
    with open(path + ".json", "w", encoding="ascii") as f:
        json.dump(facts, f, indent=1, sort_keys=True)
        f.write("\n")
    with open(path + ".spec", "w", encoding="ascii") as f:
        f.write(spec)
    with open(path + ".img.gz", "wb") as raw, gzip.GzipFile("", "wb", 9, raw, 0) as f:
        f.write(memory)


def memfd(memory):
    """Memory as a daemon made it, to be handed to another."""
    fd = os.memfd_create("image", os.MFD_ALLOW_SEALING)
    os.fchmod(fd, 0o600)
    os.ftruncate(fd, len(memory))
    for at in range(0, len(memory), 4096):
        page = memory[at:at + 4096]
        if page.count(0) != len(page):
            os.pwrite(fd, page, at)
    ctypes.CDLL(None).posix_fallocate(fd, ctypes.c_long(0), ctypes.c_long(len(memory)))
    fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
    return fd


def fields(spec):
    """A specification's lines."""
    return dict(line.split("=", 1) for line in spec.splitlines())


def make(d, wire):
    """(facts, spec, memory) of a new workspace of daemon d, with all that an image holds."""
    d.ok("create", "image", "--size", "2M", "--page", "4k", "--mode", "0644")
    places = {}
    for tag, size in PARTITIONS.items():
        places[tag] = d.ok("alloc", "image", "--size", str(size), "--tag", str(tag)).strip()
        d.ok("memset", places[tag], str(FILL))
    for root, tag in ROOTS.items():
        d.ok("root", "set", "image", root, places[tag].split(":")[1])
    heap = d.ok("heap", "new", "image", "--tag", str(HEAP_TAG)).strip()
    blocks = [d.ok("heap", "malloc", heap, "--size", str(size)).split()[0] for size in BLOCKS]
    tap.until(lambda: d.status()["lease_cnt"] == 0, 60, "nobody is in it")
    with wire.Wire(d.socket) as c:
        fds = c.call("Workspaces", "Open", {1: "image", 2: 1}).fds
    memory = os.pread(fds[0], os.fstat(fds[0]).st_size, 0)
    for fd in fds:
        os.close(fd)
    (path,) = glob.glob(os.path.join(d.state_dir, "specs", "*.spec"))
    with open(path, encoding="ascii") as f:
        spec = f.read()
    got = fields(spec)
    facts = {"layout": int(got["layout"]), "geometry": got["geometry"], "version": d.json("version")["daemon"],
             "places": {str(tag): place.split(":")[1] for tag, place in places.items()},
             "heap": heap.split(":")[1], "blocks": [block.split(":")[1] for block in blocks],
             "serves_when_older": "none"}
    return facts, spec, memory
