"""Two memory nodes: every placement is looked at by move_pages and numa_maps, and what cannot be placed gives all
back. wkspd is the installed service: a user of its own, without capabilities, behind its system call filter."""

import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import lab
import pages
import tap

lab.bed("guest", lab.debs)

M = 1 << 20
NAMES = {4096: "4k", 2 * M: "2M", 1024 * M: "1G"}
KERNEL = {2 * M: "hugepages-2048kB", 1024 * M: "hugepages-1048576kB"}


def pool(what="free", page=2 * M):
    """{node: huge pages}"""
    found = {}
    for node in (0, 1):
        with open(f"/sys/devices/system/node/node{node}/hugepages/{KERNEL[page]}/{what}_hugepages",
                  encoding="ascii") as f:
            found[node] = int(f.read())
    return found


def install():
    """wkspd as packages, unless a test before has done that."""
    if not shutil.which("wkspd"):
        lab.ok("dpkg", "-i", *lab.deb_files("libwksp1", "wkspd"), timeout_s=300)
    lab.serving()


def untouched():
    """The pool when what tests before have removed has gone."""
    install()
    return tap.until(lambda: pool() == {0: 128, 1: 128} and pool(), lab.READY_S, "all huge pages are free")


def split(cnt, *nodes):
    """The node of each of cnt pages in contiguous parts, as even as possible."""
    out = []
    for i, node in enumerate(nodes):
        out += [node] * (cnt // len(nodes) + (i < cnt % len(nodes)))
    return out


def in_turn(cnt, *nodes, unit=1):
    """The node of each of cnt pages, unit after unit in turn."""
    return [nodes[i // unit % len(nodes)] for i in range(cnt)]


def check(name, size, page, want, what):
    """Every page of it is where want has it, says the kernel in two ways; and wkspd says the same."""
    with pages.Mapped(name, size, page) as mapped:
        tap.eq(mapped.nodes(), want, f"{what}: move_pages")
        counts = {node: want.count(node) for node in sorted(set(want))}
        if page > 4096:
            tap.eq(mapped.numa_maps(), counts, f"{what}: numa_maps")
    placed = lab.ctl("show", name)["placement"]
    tap.eq({n["node"]: (n["wanted"], n["got"]) for n in placed["nodes"]}, {k: (v, v) for k, v in counts.items()},
           f"{what}: show")
    tap.eq(placed["elsewhere"], 0, f"{what}: elsewhere")
    at, seen = 0, []
    for run in placed["runs"]:
        tap.eq(run["first"], at, f"{what}: a run")
        seen += [run["node"]] * run["cnt"]
        at += run["cnt"]
    tap.eq(seen, want, f"{what}: runs")


@tap.test(timeout=600)
def policies():
    """each policy, in pages of 2 MiB and of 4 KiB, puts every page where it says, and all go back"""
    before = untouched()
    for numa, cpu, shares in (("0", 0, split), ("1", 0, split), ("local", 1, split), ("0,1", 0, in_turn),
                              ("1,0", 0, in_turn), ("split:0,1,1", 0, split), ("split:1,0,1,0", 0, split),
                              ("cpu:1", 0, split), ("cpu:0-1,1", 0, split)):
        nodes = {"0": (0,), "1": (1,), "local": (1,), "0,1": (0, 1), "1,0": (1, 0), "split:0,1,1": (0, 1, 1),
                 "split:1,0,1,0": (1, 0, 1, 0), "cpu:1": (1,), "cpu:0-1,1": (0, 1, 1)}[numa]
        small = ((4096, 2 * 512 * len(nodes)),) if numa in ("1", "0,1", "split:0,1,1") else ()
        for page, cnt in ((2 * M, 41), *small):
            what = f"{numa}, {NAMES[page]}"
            lab.ok("taskset", "-c", cpu, "wkspctl", "create", "w", "--size", cnt * page, "--page", NAMES[page],
                   "--numa", numa)
            unit = 512 if page == 4096 else 1
            want = in_turn(cnt, *nodes, unit=unit) if shares is in_turn else split(cnt, *nodes)
            check("w", cnt * page, page, want, what)
            if page > 4096:
                tap.eq(pool(), {n: before[n] - want.count(n) for n in (0, 1)}, f"{what}: free huge pages")
            lab.ok("wkspctl", "rm", "w")
            tap.until(lambda: pool() == before, lab.READY_S, "all huge pages are free again")


@tap.test(timeout=400)
def growth():
    """what a workspace grows by is placed as the rest, and a restart of the daemon in between does not matter"""
    lab.ok("wkspctl", "create", "g", "--size", 10 * 2 * M, "--max-size", 60 * 2 * M, "--page", "2M", "--numa",
           "split:0,1")
    check("g", 10 * 2 * M, 2 * M, split(60, 0, 1)[:10], "before")
    old = lab.serving()
    lab.ok("systemctl", "restart", "wkspd")
    lab.serving(old)
    lab.ok("wkspctl", "resize", "g", "--size", 50 * 2 * M)
    check("g", 50 * 2 * M, 2 * M, split(60, 0, 1)[:50], "grown")
    lab.ok("wkspctl", "resize", "g", "--size", 4 * 2 * M)
    check("g", 4 * 2 * M, 2 * M, split(60, 0, 1)[:4], "shrunk")
    lab.ok("wkspctl", "rm", "g")


@tap.test(timeout=400)
def shortage():
    """a node that has too few pages is an error with node and figures before any is taken; with --preferred the rest
    comes from elsewhere and is counted"""
    before = pool()
    code, out, err = lab.run("wkspctl", "create", "s", "--size", 150 * 2 * M, "--page", "2M", "--numa", "1")
    tap.eq((code, out), (1, ""), "create on node 1")
    for part in ("150 huge pages of 2 MiB are wanted on node 1", "128 are free", "--node 1"):
        tap.contains(err, part, "error")
    tap.eq(pool(), before, "free huge pages")
    made = lab.ctl("create", "s", "--size", 150 * 2 * M, "--page", "2M", "--numa", "1", "--preferred")
    tap.contains(made["note"], "22 of 150 pages are on other nodes than wanted", "note")
    placed = lab.ctl("show", "s")["placement"]
    tap.eq({n["node"]: (n["wanted"], n["got"]) for n in placed["nodes"]}, {0: (0, 22), 1: (150, 128)}, "show")
    tap.eq(placed["elsewhere"], 22, "elsewhere")
    plan = lab.run("wkspctl", "--json", "plan", "--size", 150 * 2 * M, "--page", "2M", "--numa", "1")
    tap.eq(plan[0], 1, "exit status of plan")
    tap.contains(plan[1], "150 huge pages of 2 MiB are wanted on node 1, 0 are free", "plan")
    lab.ok("wkspctl", "rm", "s")
    tap.until(lambda: pool() == before, lab.READY_S, "all huge pages are free again")


@tap.test(timeout=600)
def restored():
    """a checkpoint taken on node 0 in pages of 2 MiB is restored split over both nodes in pages of 4 KiB, and back:
    every page where it is wanted, and what was in it"""
    before = pool()
    lab.serving()
    lab.ok("wkspctl", "create", "r", "--size", 8 * 2 * M, "--page", "2M", "--numa", "0")
    place = lab.ok("wkspctl", "alloc", "r", "--size", "8M", "--tag", "7").strip()
    lab.ok("wkspctl", "memset", place, "5")
    check("r", 8 * 2 * M, 2 * M, [0] * 8, "before")
    lab.ok("wkspctl", "checkpoint", "r", "--wait", timeout_s=200)
    was = lab.ctl("query", "r")["partitions"]
    lab.ok("wkspctl", "rm", "r")
    lab.ok("wkspctl", "restore", "r", "--page", "4k", "--numa", "split:0,1", timeout_s=200)
    check("r", 16 * M, 4096, split(4096, 0, 1), "restored in small pages")
    tap.eq(lab.ctl("query", "r")["partitions"], was, "partitions")
    tap.contains(lab.ok("wkspctl", "verify", "r"), "sound")
    with pages.Mapped("r", 16 * M, 4096) as mapped:
        at = int(place.split(":")[1], 16)
        tap.true(mapped.map[at:at + 8 * M] == b"\5" * (8 * M), "bytes")
    tap.until(lambda: lab.run("wkspctl", "restore", "r", "--in-place", "--page", "2M", "--numa", "1")[0] == 0,
              lab.READY_S, "nobody is attached")
    check("r", 8 * 2 * M, 2 * M, [1] * 8, "in place on node 1")
    tap.eq(lab.ctl("query", "r")["partitions"], was, "partitions")
    lab.ok("wkspctl", "rm", "r")
    tap.until(lambda: pool() == before, lab.READY_S, "all huge pages are free again")


OVERCOMMIT = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages"
HOG = """
import sys
hog = bytearray(int(sys.argv[1]))
hog[::4096] = b"1" * len(hog[::4096])
print("full", flush=True)
sys.stdin.read()
"""


def node_free(node):
    """Bytes of ordinary memory that a node has free."""
    with open(f"/sys/devices/system/node/node{node}/meminfo", encoding="ascii") as f:
        return int(re.search(r"MemFree: *(\d+) kB", f.read())[1]) * 1024


@tap.test(timeout=600)
def dry():
    """a node that runs dry in the middle, since surplus pages were promised that it has no memory for: an error with
    node and figures, and every page back, surplus ones too; a workspace that cannot grow stays as it is"""
    before, wanted = pool(), 250
    hog = subprocess.Popen(["numactl", "--membind=1", "python3", "-c", HOG, str(max(node_free(1) - 100 * M, M))],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        tap.eq(hog.stdout.readline(), "full\n", "the memory of node 1")
        with open(OVERCOMMIT, "w", encoding="ascii") as f:
            f.write("200")
        for number, args in enumerate((("create", "d", "--size", wanted * 2 * M, "--page", "2M", "--numa", "1"),
                                       ("resize", "d", "--size", wanted * 2 * M))):
            if number:
                lab.ok("wkspctl", "create", "d", "--size", 10 * 2 * M, "--max-size", wanted * 2 * M, "--page", "2M",
                       "--numa", "1")
            code, out, err = lab.run("wkspctl", *args, "--timeout", "100s")
            tap.diag(err.strip())
            tap.eq((code, out), (1, ""), f"{args[0]} on node 1")
            found = re.search(r"(\d+) huge pages of 2 MiB are wanted on node 1, (\d+) are free", err)
            tap.true(found and int(found[1]) == wanted - 10 * number, f"figures in {err}")
            tap.true(100 < int(found[2]) < wanted, f"that could be had: {err}")
            left = {0: before[0], 1: before[1] - 10 * number}
            tap.until(lambda: pool() == left and pool("surplus") == {0: 0, 1: 0}, lab.READY_S, "all pages are back")
        tap.eq(lab.ctl("show", "d")["size"], 20 * M, "size")
        check("d", 20 * M, 2 * M, [1] * 10, "after it")
        lab.ok("wkspctl", "rm", "d")
    finally:
        with open(OVERCOMMIT, "w", encoding="ascii") as f:
            f.write("0")
        hog.communicate(timeout=60)
    tap.until(lambda: pool() == before, lab.READY_S, "all huge pages are free again")


@tap.test(timeout=600)
def giant():
    """pages of 1 GiB are placed as well, auto takes them where they fit, and none is left when there are too few"""
    page, before = 1024 * M, pool(page=1024 * M)
    if before != {0: 1, 1: 1}:
        tap.skip(f"a page of 1 GiB on each node ({before})")
    made = lab.ctl("create", "b", "--size", 2 * page, "--numa", "split:1,0", "--timeout", "100s")
    tap.eq(made["page_size"], page, "page size")
    check("b", 2 * page, page, [1, 0], "1G")
    tap.eq(pool(page=page), {0: 0, 1: 0}, "free")
    code, _, err = lab.run("wkspctl", "create", "c", "--size", "1G", "--page", "1G", "--numa", "0")
    tap.eq(code, 1, "exit status")
    tap.contains(err, "1 huge pages of 1 GiB are wanted on node 0, 0 are free", "error")
    lab.ok("wkspctl", "rm", "b")
    tap.until(lambda: pool(page=page) == before, lab.READY_S, "they are free again")


@tap.test(timeout=400)
def hidden():
    """a daemon that may use one node only, by its unit, and in a container with a cpuset (namespaces of its own for
    processes, mounts, control groups and the rest), names it in its errors, counts its pages alone and places on it"""
    for inside in ((), CONTAINER):
        hidden_from(*inside)


CONTAINER = ("unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--mount", "--cgroup", "--ipc", "--uts",
             "--net")


@tap.test(timeout=400)
def blind():
    """a daemon in a container that shows no nodes at all, and whose cpuset has one, takes that one's pages; what they
    do not suffice for is an error before anything is taken"""
    before = untouched()
    lab.ok("systemd-run", "--unit", "blind", "-p", "AllowedMemoryNodes=1", "-q", *CONTAINER, "sh", "-c",
           "mount -t tmpfs none /sys/devices/system/node && "
           "exec wkspd --socket /run/blind.sock --state-dir /run/blind")
    try:
        ctl = ("wkspctl", "--socket", "/run/blind.sock")
        tap.until(lambda: lab.run(*ctl, "status")[0] == 0, lab.READY_S, "it serves")
        code, out, err = lab.run(*ctl, "create", "b", "--size", 130 * 2 * M, "--page", "2M")
        tap.eq((code, out), (1, ""), "create of more than the node has")
        tap.contains(err, "130 huge pages of 2 MiB are wanted", "error")
        tap.eq(pool(), before, "free huge pages")
        lab.ok(*ctl, "create", "b", "--size", 40 * M, "--page", "2M")
        with pages.Mapped("b", 40 * M, 2 * M) as mapped:
            tap.eq(mapped.nodes(), [1] * 20, "where they are")
        del mapped  # which holds them
        lab.ok(*ctl, "rm", "b")
    finally:
        lab.run("systemctl", "stop", "blind")
        lab.run("systemctl", "reset-failed", "blind")
    tap.until(lambda: pool() == before, lab.READY_S, "all huge pages are free again")


def hidden_from(*inside):
    lab.ok("systemd-run", "--unit", "hidden", "-p", "AllowedMemoryNodes=0", "-q", *inside, "wkspd", "--socket",
           "/run/hidden.sock", "--state-dir", "/run/hidden")
    try:
        ctl = ("wkspctl", "--socket", "/run/hidden.sock")
        tap.until(lambda: lab.run(*ctl, "status")[0] == 0, lab.READY_S, "it serves")
        code, _, err = lab.run(*ctl, "create", "h", "--size", "8M", "--page", "2M", "--numa", "0,1")
        tap.eq(code, 1, "exit status")
        for part in ("node 1 is not among those that the daemon may use", "choose of the nodes 0"):
            tap.contains(err, part, "error")
        code, _, err = lab.run(*ctl, "create", "h", "--size", 130 * 2 * M, "--page", "2M")
        tap.contains(err, "130 huge pages of 2 MiB are wanted, 128 are free", "error")
        lab.ok("taskset", "-c", "1", *ctl, "create", "h", "--size", 40 * M, "--page", "2M", "--numa", "local")
        with pages.Mapped("h", 40 * M, 2 * M) as mapped:
            tap.eq(mapped.nodes(), [0] * 20, "local of a cpu whose node is hidden")
        lab.ok(*ctl, "rm", "h")
    finally:
        lab.run("systemctl", "stop", "hidden")
        lab.run("systemctl", "reset-failed", "hidden")


NEAR = """
import ctypes, re, sys
lib = ctypes.CDLL("libwksp.so.1")
lib.fd_wksp_new_anon_near.restype = ctypes.c_void_p
lib.wksp_last_error.restype = ctypes.c_char_p
page, cnts, cpus = int(sys.argv[1]), *([int(n) for n in a.split(",")] for a in sys.argv[2:])
words = ctypes.c_ulong * len(cnts)
at = lib.fd_wksp_new_anon_near(b"near", ctypes.c_ulong(page), ctypes.c_ulong(len(cnts)), words(*cnts), words(*cpus), 1,
                               ctypes.c_ulong(0))
if not at:
    sys.exit(lib.wksp_last_error().decode())
size = page * sum(cnts)
for offset in range(size - size // 4, size, page):
    ctypes.c_char.from_address(at + offset).value
found = (ctypes.c_void_p * sum(cnts))(*(at + i * page for i in range(sum(cnts))))
status = (ctypes.c_int * sum(cnts))()
ctypes.CDLL(None).syscall(279, 0, ctypes.c_ulong(sum(cnts)), found, None, status, 0)
print(" ".join(map(str, status)))
"""


@tap.test(timeout=400)
def without_daemon():
    """the parts of a workspace without a daemon lie on the nodes of the cpus that were named, all their huge pages and
    what is touched of ordinary ones; what a node lacks is an error, and all pages go back; a cpu that is offline
    has its memory all the same, but wkspd does not take it for a place"""
    before = untouched()
    said = lab.ok("python3", "-c", NEAR, 2 * M, "3,0,4,2", "1,77,0,1").split()
    tap.eq(said, ["1"] * 3 + ["0"] * 4 + ["1"] * 2, "nodes of huge pages")
    tap.eq(pool(), before, "free huge pages")
    said = lab.ok("python3", "-c", NEAR, 4096, "1024,1024", "1,0").split()
    tap.eq((said[0], said[-1], set(said)), ("1", "0", {"0", "1", "-2"}), "nodes of ordinary pages")
    tap.true("0" not in said[:1024] and "1" not in said[1024:], f"nodes of ordinary pages {said}")
    code, out, err = lab.run("python3", "-c", NEAR, 2 * M, "10,140", "0,1")
    tap.eq((code, out), (1, ""), "more than the node has")
    tap.contains(err, "140 pages of 2097152 bytes are wanted on node 1 and not to be had there", "error")
    tap.eq(pool(), before, "free huge pages")
    online = "/sys/devices/system/cpu/cpu1/online"
    with open(online, "w", encoding="ascii") as f:
        f.write("0")
    try:
        tap.eq(lab.ok("python3", "-c", NEAR, 2 * M, "1", "1"), "1\n", "near a cpu that is offline")
        err = lab.run("wkspctl", "create", "o", "--size", "4M", "--page", "2M", "--numa", "cpu:1")[2]
        tap.contains(err, "cpu 1 is not there or is offline", "a cpu that is offline")
        lab.ok("wkspctl", "create", "o", "--size", "4M", "--page", "2M", "--numa", "1")  # its memory is there
        check("o", 4 * M, 2 * M, [1, 1], "of a node whose cpus are offline")
        lab.ok("wkspctl", "rm", "o")
    finally:
        with open(online, "w", encoding="ascii") as f:
            f.write("1")
    tap.until(lambda: pool() == before, lab.READY_S, "all huge pages are free again")


SHMEM_HUGE = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"


@tap.test(timeout=400)
def kernel_made_huge():
    """where the kernel makes huge pages of shared memory by itself, what it adds behind an end is no excess, a restart
    finds the workspace sound, and what a program touches further behind is given back, then ends in quarantine"""

    def held():
        return os.stat(pages.memfd("t")).st_blocks * 512

    def touch(at):
        with open(pages.memfd("t"), "r+b") as f:
            f.seek(at)
            f.write(b"x")

    def shown():
        lab.run("wkspctl", "query", "t")  # which has the daemon look
        return lab.ctl("show", "t")

    install()
    with open(SHMEM_HUGE, "w", encoding="ascii") as f:
        f.write("always")
    try:
        lab.ok("wkspctl", "create", "t", "--size", "7M", "--max-size", "48M", "--page", "4k", "--numa", "0")
        tap.true(7 * M <= held() <= 8 * M, f"{held()} bytes held")
        old = lab.serving()
        lab.ok("systemctl", "restart", "wkspd")
        lab.serving(old)
        touch(8 * M - 1)
        tap.eq(held(), 8 * M, "bytes held")
        for _ in range(5):
            now = shown()
            tap.eq((now["quarantined"], now["excess"], now["size"]), (False, 0, 7 * M), "a restart, and a huge page")
        touch(20 * M)
        tap.true(held() > 8 * M, "bytes held")
        tap.until(lambda: not shown()["excess"] and held() <= 8 * M, lab.READY_S, "what was too much is given back")
        tap.eq(shown()["quarantined"], False, "quarantined")
        touch(20 * M)
        tap.until(lambda: shown()["quarantined"], lab.READY_S, "it is quarantined")
        lab.ok("wkspctl", "rm", "t")
    finally:
        with open(SHMEM_HUGE, "w", encoding="ascii") as f:
            f.write("never")


@tap.test(timeout=400)
def killed():
    """a daemon that is killed while it takes pages leaves none taken"""
    before = pool()
    for after in range(3):
        proc = subprocess.Popen(["wkspctl", "create", "k", "--size", str(200 * 2 * M), "--page", "2M", "--numa", "0,1",
                                 "--timeout", "20s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        tap.until(lambda: pool() != before, lab.READY_S, "pages are being taken")
        lab.ok("systemctl", "kill", "-s", "KILL", "wkspd")
        proc.wait(60)
        if lab.run("wkspctl", "show", "k")[0] == 0:  # made again, or already made
            lab.ok("wkspctl", "rm", "k")
        tap.until(lambda: pool() == before, lab.READY_S, f"all huge pages are free again ({after})")


tap.run()
