"""wkspctl's heap commands: an fd_alloc made, used, looked at and removed by hand."""

import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from clilib import fails, hand, keys, looks
from daemon import Daemon, binary

STAT = ("heap tag aligned small_cnt small_size large_cnt large_size span_size span_free_size heap_cnt heap_left_cnt "
        "suspect_cnt bad_free_cnt")


class Demo(Daemon):
    """A daemon with a workspace demo of 32 MiB, and a heap of tag 7 in it."""

    def __enter__(self):
        super().__enter__()
        self.ok("create", "demo", "--size", "32M", "--page", "4k")
        self.heap = self.ok("heap", "new", "demo", "--tag", "7").strip()
        return self

    def malloc(self, *args):
        """A block of the heap, as printed."""
        return self.ok("heap", "malloc", self.heap, *args).strip()


@tap.test
def new():
    """heap new prints NAME:GADDR of a partition with the tag that was asked for"""
    with Demo() as d:
        tap.true(re.fullmatch(r"demo:0x[1-9a-f][0-9a-f]*", d.heap), d.heap)
        gaddr = d.heap.split(":")[1]
        part = next(part for part in d.json("query", "demo")["partitions"] if part["gaddr"] == gaddr)
        tap.eq((part["size"], part["tag"], part["kind"]), (8192, "0x7", "user"))
        made = d.json("heap", "new", "demo", "--tag", "0xffffffffffffffff")
        keys(made, "heap name gaddr size")
        tap.eq((made["name"], made["size"], made["heap"]), ("demo", 8192, "demo:" + made["gaddr"]))
        tap.eq(d.json("heap", "query", made["heap"])["tag"], "0xffffffffffffffff")


@tap.test
def malloc():
    """heap malloc prints a block that is aligned and large enough, and stays when wkspctl has ended"""
    with Demo() as d:
        one = d.malloc("--size", "100")
        tap.true(re.fullmatch(r"demo:0x[1-9a-f][0-9a-f]*", one), one)
        two = d.json("heap", "malloc", d.heap, "--size", "100", "--align", "4K", "--cgroup", "15")
        keys(two, "block name gaddr size")
        tap.true(two["size"] >= 100 and int(two["gaddr"], 0) % 4096 == 0, f"{two}")
        large = d.json("heap", "malloc", d.heap, "--size", "1M")
        tap.true(large["size"] >= 1 << 20, f"{large}")
        live = d.json("heap", "query", d.heap)
        keys(live, STAT)
        tap.eq((live["small_cnt"], live["large_cnt"], live["suspect_cnt"]), (2, 1, 0))
        tap.true(one != two["block"] != large["block"], "one block twice")
        fails(d, 1, ["heap", "malloc", d.heap, "--size", "1", "--align", "3"], "3")
        tap.eq(fails(d, 1, ["heap", "malloc", d.heap, "--size", "1G"]), "WKSP_E_NOMEM")


@tap.test
def aligned():
    """heap new --aligned makes a heap each of whose blocks is aligned to the next power of two of its size"""
    with Demo() as d:
        tap.eq(d.json("heap", "query", d.heap)["aligned"], False)
        heap = d.ok("heap", "new", "demo", "--tag", "8", "--aligned").strip()
        tap.eq(d.json("heap", "query", heap)["aligned"], True)
        tap.contains(d.ok("heap", "query", heap), "aligned to the next power of two")
        for size, unit in ((300, 512), (1000, 1024), (9000, 16384), (100000, 131072)):
            gaddr = d.json("heap", "malloc", heap, "--size", size)["gaddr"]
            tap.eq(int(gaddr, 0) % unit, 0, f"{gaddr} of {size} bytes")


@tap.test
def free():
    """heap free frees a block once; anything else is refused and counted"""
    with Demo() as d:
        block, other = d.malloc("--size", "100"), d.malloc("--size", "20000")
        looks(d.ok("heap", "free", d.heap, block), f"freed {block}")
        fails(d, 1, ["heap", "free", d.heap, block])
        tap.eq(d.json("heap", "free", d.heap, other), {"freed": other})
        fails(d, 1, ["heap", "free", d.heap, other])
        fails(d, 1, ["heap", "free", d.heap, "demo:0x7fffffffffff"])
        fails(d, 1, ["heap", "free", d.heap, "demo:1"])
        fails(d, 1, ["heap", "free", d.heap, d.heap])
        tap.true(d.json("heap", "query", d.heap)["bad_free_cnt"] > 0, "refused frees are not counted")
        tap.eq(d.json("heap", "leaks", d.heap)["live_cnt"], 0)


@tap.test
def decimal():
    """Addresses are taken in decimal too"""
    with Demo() as d:
        name, gaddr = d.malloc("--size", "64").split(":")
        heap = f"demo:{int(d.heap.split(':')[1], 0)}"
        d.ok("heap", "free", heap, f"{name}:{int(gaddr, 0)}")


@tap.test
def leaks():
    """heap leaks lists live blocks with size and kind and exits with 4; with none, with 0"""
    with Demo() as d:
        looks(d.ok("heap", "leaks", d.heap), f"{d.heap}: 0 live blocks of 0 bytes, 0 of them suspect")
        tap.eq(d.json("heap", "leaks", d.heap),
               {"heap": d.heap, "live_cnt": 0, "live_size": 0, "suspect_cnt": 0, "blocks": []})
        small, large = d.malloc("--size", "100"), d.malloc("--size", "100000")
        result = d.ctl("heap", "leaks", d.heap)
        tap.eq((result.rc, result.err), (4, ""))
        order = sorted([(small, "small"), (large, "large")], key=lambda row: int(row[0].split(":")[1], 0))
        looks(result.out, f"{d.heap}: 2 live blocks of <exact>, 0 of them suspect\n\nBLOCK BYTES KIND CLASS TAG\n"
              + "\n".join(f"{block} <n> {kind} {'<n>' if kind == 'small' else '-'} 0x7" for block, kind in order))
        result = d.ctl("--json", "heap", "leaks", d.heap)
        tap.eq(result.rc, 4)
        answer = json.loads(result.out)
        tap.eq([(f"demo:{block['gaddr']}", block["kind"]) for block in answer["blocks"]], order)
        for block in answer["blocks"]:
            keys(block, "gaddr size kind class tag")
            tap.eq(block["tag"], "0x7")
            tap.eq(type(block["class"]), int if block["kind"] == "small" else type(None))
        tap.eq(answer["live_size"], sum(block["size"] for block in answer["blocks"]))


@tap.test
def leaks_limit():
    """--limit lists that many blocks, counts all, and says how many are missing"""
    with Demo() as d:
        for _ in range(4):
            d.malloc("--size", "16")
        result = d.ctl("heap", "leaks", d.heap, "--limit", "3")
        tap.eq(result.rc, 4)
        tap.eq(result.out.count(" small"), 3)
        tap.contains(result.out, ": 4 live blocks")
        tap.contains(result.out, "and 1 more; --limit 0 lists all")
        answer = json.loads(d.ctl("--json", "heap", "leaks", d.heap, "--limit", "3").out)
        tap.eq((answer["live_cnt"], len(answer["blocks"])), (4, 3))
        tap.eq(len(json.loads(d.ctl("--json", "heap", "leaks", d.heap, "--limit", "0").out)["blocks"]), 4)


@tap.test
def leaks_of_the_dead():
    """A block whose owner was killed is listed until it is freed by hand"""
    with Demo() as d:
        result = d.run(binary("tests/cli/hand"), "kill", "demo", d.heap.split(":")[1], 100)
        tap.eq(result.rc, -9)
        block = "demo:" + result.out.strip()
        tap.contains(d.ctl("heap", "leaks", d.heap).out, block)
        d.ok("heap", "free", d.heap, block)
        tap.eq(d.ctl("heap", "leaks", d.heap).rc, 0)


@tap.test
def compact():
    """heap compact gives back what the heap holds without need, and says how much"""
    with Demo() as d:
        d.ok("heap", "free", d.heap, d.malloc("--size", "100"))
        before = d.json("usage", "demo")["usage"]["free_size"]
        answer = d.json("heap", "compact", d.heap)
        keys(answer, "compacted freed_size skipped_cnt skipped_pid skipped_tid")
        tap.eq((answer["compacted"], answer["skipped_cnt"]), (d.heap, 0))
        tap.true(answer["freed_size"] > 0, "nothing was given back")
        tap.eq(d.json("usage", "demo")["usage"]["free_size"] - before, answer["freed_size"])
        looks(d.ok("heap", "compact", d.heap), f"compacted {d.heap}: <exact> given back")


@tap.test
def query():
    """heap query gives the figures of a heap"""
    with Demo() as d:
        d.malloc("--size", "100")
        looks(d.ok("heap", "query", d.heap), f"""
heap {d.heap}
tag 0x7
small blocks 1, <exact>
large blocks 0, 0 bytes
spans <exact>, of that <size> without a live block
thread heaps <n>, of them <n> left behind
suspects 0 blocks in flight when their thread was killed
bad frees 0 refused""")
        figures = d.json("heap", "query", d.heap)
        keys(figures, STAT)
        tap.eq((figures["heap"], figures["tag"], figures["small_cnt"]), (d.heap, "0x7", 1))


@tap.test
def query_what():
    """heap query --what asks one thing: whether it is a heap, its tag, its blocks, or all"""
    with Demo() as d:
        tap.eq(d.ok("heap", "query", d.heap, "--what", "test"), "")
        tap.eq(d.json("heap", "query", d.heap, "--what", "test"), {"heap": d.heap, "joined": True})
        tap.eq(d.ok("heap", "query", d.heap, "--what", "tag"), "0x7\n")
        tap.eq(d.json("heap", "query", d.heap, "--what", "tag"), {"heap": d.heap, "tag": "0x7"})
        tap.eq(d.ok("heap", "query", d.heap, "--what", "leak"), d.ok("heap", "leaks", d.heap))
        tap.eq(d.json("heap", "query", d.heap, "--what", "full")["blocks"], [])
        for _ in range(3):
            d.malloc("--size", "100")
        for mode in ([], ["--json"]):
            leak = d.ctl(*mode, "heap", "query", d.heap, "--what", "leak", "--limit", "2")
            tap.eq((leak.rc, leak.err), (4, ""))
            tap.eq(leak.out, d.ctl(*mode, "heap", "leaks", d.heap, "--limit", "2").out)
        full = d.ok("heap", "query", d.heap, "--what", "full")
        tap.true(full.startswith(d.ok("heap", "query", d.heap)), full)
        tap.eq(full.count(" small "), 3)
        answer = d.json("heap", "query", d.heap, "--what", "full")
        keys(answer, STAT + " blocks")
        tap.eq(len(answer["blocks"]), 3)
        fails(d, 1, ["heap", "query", "demo:0x1", "--what", "test"])
        fails(d, 2, ["heap", "query", d.heap, "--what", "all"], "all")


@tap.test
def rm_levels():
    """heap rm --level leave keeps live blocks as partitions of the tag, tag drops all partitions of it"""
    with Demo() as d:
        block, other = d.malloc("--size", "100"), d.ok("heap", "new", "demo", "--tag", "9").strip()
        d.ok("heap", "rm", d.heap, "--level", "leave")
        left = d.json("query", "demo")["partitions"]
        tap.eq([(part["kind"], part["tag"]) for part in left if part["tag"] == "0x7"], [("user", "0x7")])
        at, spans = int(block.split(":")[1], 0), next(part for part in left if part["tag"] == "0x7")
        tap.true(0 <= at - int(spans["gaddr"], 0) < spans["size"], f"{block} is not in {spans}")
        d.ok("heap", "malloc", other, "--size", "100")
        part = hand(d, "part", "demo", 9, 65536)
        looks(d.ok("heap", "rm", other, "--level", "tag"), f"removed {other}")
        tap.eq([part["tag"] for part in d.json("query", "demo")["partitions"]], ["0x7"])
        tap.true(part, "the partition was made")
        d.ok("tag-free", "demo", "--tag", "7")
        tap.eq(d.json("query", "demo")["partitions"], [])
        fails(d, 2, ["heap", "rm", other, "--level", "all"], "all")
        tap.eq(d.ctl("verify", "demo").rc, 0)


@tap.test
def rm():
    """heap rm gives back all that the heap held, live blocks too, and the heap is no more"""
    with Demo() as d:
        tap.eq(d.json("heap", "rm", d.ok("heap", "new", "demo", "--tag", "9").strip())["removed"][:7], "demo:0x")
        for size in ("100", "5000", "100000"):
            d.malloc("--size", size)
        looks(d.ok("heap", "rm", d.heap), f"removed {d.heap}")
        answer = d.json("query", "demo")
        tap.eq(answer["partitions"], [])
        tap.eq(answer["usage"]["free_size"], answer["usage"]["total_size"])
        fails(d, 1, ["heap", "query", d.heap], d.heap)


@tap.test
def not_a_heap():
    """An address where no heap begins is refused by every heap command, and nothing is changed"""
    with Demo() as d:
        gaddr = int(d.heap.split(":")[1], 0)
        block = int(d.malloc("--size", "100").split(":")[1], 0)
        large = int(d.malloc("--size", "100000").split(":")[1], 0)
        part = int(hand(d, "part", "demo", 5, 65536), 0)
        tiny = int(hand(d, "part", "demo", 5, 64), 0)
        before = d.json("query", "demo")
        for at in (1, gaddr + 1, gaddr + 4096, block, large, part, tiny, 0x7fffffff0000, 2**64 - 1):
            place = f"demo:{at:#x}"
            for line in (["query", place], ["leaks", place], ["compact", place], ["rm", place],
                         ["malloc", place, "--size", "8"], ["free", place, f"demo:{block:#x}"]):
                fails(d, 1, ["heap", *line])
        tap.eq(d.json("query", "demo"), before)
        tap.eq(d.ctl("verify", "demo").rc, 0)


@tap.test
def no_such_workspace():
    """Heap commands in a workspace that is not there say so"""
    with Daemon() as d:
        for line in (["new", "none", "--tag", "1"], ["query", "none:0x1000"], ["malloc", "none:1", "--size", "8"]):
            tap.eq(fails(d, 1, ["heap", *line], "none"), "WKSP_E_NOTFOUND")


@tap.test
def nothing_is_lost():
    """A heap or block whose address could not be printed is freed again"""
    with Demo() as d:
        before = d.json("query", "demo")["partitions"]
        for line in (["heap", "new", "demo", "--tag", "8"], ["--json", "heap", "malloc", d.heap, "--size", "100000"]):
            with open("/dev/full", "wb") as full:
                proc = d.popen(binary("cli/wkspctl"), *line, stdout=full)
                tap.eq(proc.wait(60), 1)
        d.ok("heap", "compact", d.heap)
        tap.eq([part for part in d.json("query", "demo")["partitions"] if part["kind"] in ("user", "large")],
               [part for part in before if part["kind"] in ("user", "large")])
        tap.eq(d.ctl("heap", "leaks", d.heap).rc, 0)


tap.run()
