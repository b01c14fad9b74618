"""wkspctl's commands on partitions and roots: taken, found, cleared and freed by hand."""

import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from clilib import fails, hand, keys, looks
from daemon import Daemon, binary


class Demo(Daemon):
    """A daemon with a workspace demo of 8 MiB."""

    def __enter__(self):
        super().__enter__()
        self.ok("create", "demo", "--size", "8M", "--page", "4k", "--seed", "5")
        return self

    def alloc(self, *args):
        """A partition, as printed."""
        return self.ok("alloc", "demo", *args).strip()

    def parts(self):
        """What query lists, as {place: (size, tag, kind)}."""
        return {f"demo:{part['gaddr']}": (part["size"], part["tag"], part["kind"])
                for part in self.json("query", "demo")["partitions"]}


@tap.test
def alloc():
    """alloc prints a partition of the size, alignment and tag that were asked for"""
    with Demo() as d:
        one = d.alloc("--size", "100")
        tap.true(re.fullmatch(r"demo:0x[1-9a-f][0-9a-f]*", one), one)
        two = d.json("alloc", "demo", "--size", "64K", "--align", "64K", "--tag", "0xffffffffffffffff")
        keys(two, "partition name gaddr size")
        tap.eq((two["name"], two["size"], int(two["gaddr"], 0) % 65536), ("demo", 65536, 0))
        tap.eq(d.parts(), {one: (128, "0x1", "user"), two["partition"]: (65536, "0xffffffffffffffff", "user")})
        tap.eq(fails(d, 1, ["alloc", "demo", "--size", "1", "--align", "3"], "3"), "WKSP_E_INVAL")
        tap.eq(fails(d, 1, ["alloc", "demo", "--size", "1G"], "1073741824"), "WKSP_E_NOMEM")
        tap.eq(fails(d, 1, ["alloc", "demo", "--size", str(2**64 - 1)]), "WKSP_E_NOMEM")
        with open("/dev/full", "wb") as full:
            tap.eq(d.popen(binary("cli/wkspctl"), "alloc", "demo", "--size", "1", stdout=full).wait(60), 1)
        tap.eq(len(d.parts()), 2, "what could not be printed was freed")


@tap.test
def free():
    """free frees the partition around an address, once, and nothing that an fd_alloc has"""
    with Demo() as d:
        one, two = d.alloc("--size", "4096"), d.alloc("--size", "4096")
        looks(d.ok("free", f"demo:{int(one.split(':')[1], 0) + 4095}"), "freed demo:<gaddr>")
        tap.eq(list(d.parts()), [two])
        tap.eq(fails(d, 1, ["free", one], "not allocated"), "WKSP_E_NOTFOUND")
        tap.eq(d.json("free", two), {"freed": two})
        for gaddr in (1, 2**64 - 1):
            tap.eq(fails(d, 1, ["free", f"demo:{gaddr}"], "outside"), "WKSP_E_NOTFOUND")
        heap = d.ok("heap", "new", "demo", "--tag", "7").strip()
        large = d.ok("heap", "malloc", heap, "--size", "100000").strip()
        tap.eq(fails(d, 1, ["free", large], "fd_alloc"), "WKSP_E_NOTFOUND")


@tap.test
def info():
    """info gives the lowest partition of a tag and its size, or - 0"""
    with Demo() as d:
        looks(d.ok("info", "demo", "--tag", "7"), "- 0")
        tap.eq(d.json("info", "demo", "--tag", "7"),
               {"partition": None, "gaddr": None, "size": 0, "tag": "0x7", "kind": None})
        places = [d.alloc("--size", str(size), "--tag", "7") for size in (100, 5000, 64)]
        first = min(places, key=lambda place: int(place.split(":")[1], 0))
        size = d.parts()[first][0]
        looks(d.ok("info", "demo", "--tag", "0x7"), f"{first} {size}")
        tap.eq(d.json("info", "demo", "--tag", "7"), {"partition": first, "gaddr": first.split(":")[1], "size": size,
                                                      "tag": "0x7", "kind": "user"})


@tap.test
def tag_query():
    """tag-query gives the tag at an address, 0x0 where nothing is"""
    with Demo() as d:
        place = d.alloc("--size", "4096", "--tag", "0xab")
        looks(d.ok("tag-query", place), "0xab")
        looks(d.ok("tag-query", f"demo:{int(place.split(':')[1], 0) + 4095}"), "0xab")
        tap.eq(d.json("tag-query", place), {"place": place, "tag": "0xab"})
        d.ok("free", place)
        for at in (place, "demo:1", f"demo:{2**64 - 1}"):
            looks(d.ok("tag-query", at), "0x0")


@tap.test
def tag_free():
    """tag-free frees the partitions of its tags and says how many; not under an fd_alloc"""
    with Demo() as d:
        keep = d.alloc("--size", "64", "--tag", "9")
        for tag in ("7", "7", "8"):
            d.alloc("--size", "64", "--tag", tag)
        looks(d.ok("tag-free", "demo", "--tag", "8"), "freed 1 partition of demo")
        looks(d.ok("tag-free", "demo", "--tag", "8"), "freed 0 partitions of demo")
        tap.eq(d.json("tag-free", "demo", "--tag", "7", "--tag", "8"), {"name": "demo", "freed_cnt": 2})
        tap.eq(list(d.parts()), [keep])
        heap = d.ok("heap", "new", "demo", "--tag", "9").strip()
        tap.eq(fails(d, 1, ["tag-free", "demo", "--tag", "9"], "1 fd_alloc"), "WKSP_E_BUSY")
        tap.eq(set(d.parts()), {keep, heap})


@tap.test
def memset():
    """memset sets a partition; what is free, or is an fd_alloc, is refused"""
    with Demo() as d:
        place = d.alloc("--size", "4096")
        looks(d.ok("memset", place, "0xff"), f"set the partition at {place} to 0xff")
        tap.eq(d.json("memset", place, "7"), {"set": place, "byte": 7})
        tap.eq(d.ctl("verify", "demo").rc, 0)
        heap = d.ok("heap", "new", "demo", "--tag", "9").strip()
        tap.eq(fails(d, 1, ["memset", heap, "0"], "fd_alloc"), "WKSP_E_BUSY")
        d.ok("free", place)
        tap.eq(fails(d, 1, ["memset", place, "0"], "not allocated"), "WKSP_E_NOTFOUND")
        tap.eq(d.ctl("heap", "query", heap).rc, 0)


@tap.test
def reset():
    """reset leaves an empty workspace; the seed stays unless one is given; fd_allocs come first"""
    with Demo() as d:
        place = d.alloc("--size", "4096")
        d.ok("root", "set", "demo", "r", place)
        heap = d.ok("heap", "new", "demo", "--tag", "9").strip()
        before = d.json("query", "demo")
        tap.eq(fails(d, 1, ["reset", "demo"], "1 fd_alloc"), "WKSP_E_BUSY")
        tap.eq(d.json("query", "demo"), before)
        d.ok("heap", "rm", heap)
        looks(d.ok("reset", "demo"), "reset demo, seed 5")
        after = d.json("query", "demo")
        tap.eq((after["partitions"], after["roots"]), ([], []))
        tap.eq(after["usage"]["free_size"], after["usage"]["total_size"])
        tap.eq(d.json("reset", "demo", "--seed", "4294967295"), {"reset": "demo", "seed": 4294967295})
        looks(d.ok("reset", "demo"), "reset demo, seed 4294967295")
        tap.eq(d.ctl("verify", "demo").rc, 0)


@tap.test
def roots():
    """root set binds and rebinds, ls lists, rm unbinds; odd names come escaped"""
    with Demo() as d:
        looks(d.ok("root", "ls", "demo"), "no roots in demo; make one with wkspctl root set")
        tap.eq(d.json("root", "ls", "demo"), {"name": "demo", "roots": []})
        one, two = d.alloc("--size", "64", "--tag", "3"), d.alloc("--size", "64", "--tag", "4")
        gaddr = [place.split(":")[1] for place in (one, two)]
        looks(d.ok("root", "set", "demo", "words", one), f"bound words to {one}")
        tap.eq(d.json("root", "set", "demo", "more", gaddr[1], "--tag", "0"), {"bound": "more"})
        looks(d.ok("root", "ls", "demo"), f"ROOT GADDR TAG\nwords {gaddr[0]} 0x3\nmore {gaddr[1]} 0x0")
        d.ok("root", "set", "demo", "words", str(int(gaddr[1], 0)))
        hand(d, "root", "demo", b"\x1b\xff".hex(), gaddr[0], 5)
        tap.eq(d.json("root", "ls", "demo")["roots"],
               [{"name": "words", "gaddr": gaddr[1], "tag": "0x4"}, {"name": "more", "gaddr": gaddr[1], "tag": "0x0"},
                {"name": "\\x1b\\xff", "gaddr": gaddr[0], "tag": "0x5", "name_hex": "1bff"}])
        tap.contains(d.ok("root", "ls", "demo"), "\\x1b\\xff")
        looks(d.ok("root", "rm", "demo", "words"), "unbound words")
        tap.eq(d.json("root", "rm", "demo", "more"), {"unbound": "more"})
        tap.eq(fails(d, 1, ["root", "rm", "demo", "words"], "words"), "WKSP_E_NOTFOUND")
        tap.eq(set(d.parts()), {one, two})
        for bad in ("1", "0", str(2**64 - 1)):
            tap.eq(fails(d, 1, ["root", "set", "demo", "r", bad], "outside"), "WKSP_E_INVAL")
        for name in ("", "x" * 64):
            tap.eq(fails(d, 1, ["root", "set", "demo", name, gaddr[0]]), "WKSP_E_INVAL")


tap.run()
