"""Nodes and pools of huge pages, as wkspctl shows and sets them, against what sysfs says. Sets pools of this
machine by a few pages, as root, and puts the old numbers back; so it runs beside no other test."""

import contextlib
import glob
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from clilib import keys, looks, valid
from daemon import Daemon, Result, binary, sanitizer_check

NODES = "/sys/devices/system/node"
POOLS = "/sys/kernel/mm/hugepages"
NOBODY = 65534
SETTLE_S = 60  # others on this machine may change what is compared; some moment is quiet
MIB = 1 << 20


def ctl(*args, program=None, **kw):
    """Runs wkspctl where no daemon is."""
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run([program or binary("cli/wkspctl"), *map(str, args)], capture_output=True, text=True,
                              timeout=60, check=False, stdin=subprocess.DEVNULL,
                              env=dict(os.environ, WKSPD_SOCKET=os.path.join(empty, "none")), **kw)
    sanitizer_check(done.stderr, " ".join(map(str, args)))
    return Result(done.returncode, done.stdout, done.stderr)


def ok(*args):
    """wkspctl --json, which must succeed and print what its schema says."""
    done = ctl("--json", *args)
    tap.eq(done.rc, 0, f"exit status of {args} ({done.err})")
    value = json.loads(done.out)
    valid("-".join(itertools.takewhile(lambda word: word[0] != "-", args)), value)
    return value


def number(path):
    with open(path, encoding="ascii") as f:
        return int(f.read())


def spread(text):
    """{0, 1, 2, 5} of "0-2,5"."""
    found = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def listed(path):
    """What a file of a list names, sorted."""
    with open(path, encoding="ascii") as f:
        return sorted(spread(f.read()))


def nodes():
    """The online nodes; those that sysfs has folders of."""
    if not os.path.exists(NODES):
        tap.skip("a kernel with NUMA")
    return listed(f"{NODES}/online")


def pool(folder):
    return {name: number(f"{folder}/{name}_hugepages") for name in ("nr", "free", "surplus")}


def by_sysfs():
    """{page size: (reserved, overcommit, the machine's pool, {node: its pool})}"""
    found = {}
    for folder in glob.glob(f"{POOLS}/hugepages-*kB"):
        size = int(re.search(r"-(\d+)kB$", folder)[1]) << 10
        each = {node: pool(f"{NODES}/node{node}/hugepages/{os.path.basename(folder)}") for node in nodes()
                if os.path.exists(f"{NODES}/node{node}/hugepages")}
        found[size] = (number(f"{folder}/resv_hugepages"), number(f"{folder}/nr_overcommit_hugepages"), pool(folder),
                       each)
    return found


def by_wkspctl(answer):
    """The same of wkspctl's JSON."""
    def figures(entry):
        return {"nr": entry["total"], "free": entry["free"], "surplus": entry["surplus"]}

    return {entry["page_size"]: (entry["reserved"], entry["overcommit"], figures(entry),
                                 {node["node"]: figures(node) for node in entry["nodes"]})
            for entry in answer["pools"]}


def kept(node, size=2 * MIB):
    """Pages that the node keeps."""
    found = by_sysfs().get(size)
    if not found:
        tap.skip(f"huge pages of {size} bytes")
    return found[3][node]["nr"] - found[3][node]["surplus"]


def first_pooled():
    """The first node that can have huge pages."""
    for node in nodes():
        if os.path.exists(f"{NODES}/node{node}/hugepages"):
            return node
    raise AssertionError("no node has pools")


@contextlib.contextmanager
def old_count(node):
    """Puts the node's number of 2M pages back; skips where it cannot be set."""
    path = f"{NODES}/node{node}/hugepages/hugepages-2048kB/nr_hugepages"
    if os.geteuid():
        tap.skip("root, to set pools of huge pages")
    was = kept(node)
    if not os.access(path, os.W_OK):
        tap.skip("a sysfs that can be written")
    try:
        yield was
    finally:
        with open(path, "w", encoding="ascii") as f:
            f.write(str(was))


@tap.test
def hugepages_figures():
    """hugepages has the figures of sysfs for each size, all nodes together and each, and says that without a daemon
    it does not know what is ours"""
    def same():
        before = by_sysfs()
        answer = ok("hugepages")
        return answer if by_sysfs() == before == by_wkspctl(answer) else None

    answer = tap.until(same, SETTLE_S, "what wkspctl says is what sysfs says")
    with open("/proc/self/status", encoding="ascii") as f:
        allowed = spread(re.search(r"^Mems_allowed_list:\s+(\S+)", f.read(), re.MULTILINE)[1])
    keys(answer, "pools workspaces not_known")
    tap.eq(answer["workspaces"], None)
    tap.contains(answer["not_known"], "/none")
    for entry in answer["pools"]:
        keys(entry, "page_size total free surplus reserved overcommit ours nodes")
        tap.eq(entry["ours"], None)
        for node in entry["nodes"]:
            keys(node, "node allowed total free surplus ours")
            tap.eq((node["ours"], node["allowed"]), (None, node["node"] in allowed))


@tap.test
def hugepages_ours():
    """with a daemon hugepages tells which workspaces hold how many, and the table says the same"""
    node = first_pooled()
    with old_count(node) as was, Daemon() as d:
        ctl("hugepages", "reserve", "--node", node, "--size", "2M", "--count", was + 8)
        if kept(node) < was + 8:
            tap.skip("16 MiB of free memory for huge pages")
        d.ok("create", "small", "--size", "4M", "--page", "4k")
        d.ok("create", "huge", "--size", "6M", "--page", "2M")
        answer = d.json("hugepages")
        tap.eq(answer["not_known"], None)
        keys(answer["workspaces"][0], "name page_size pages nodes")
        tap.eq([(w["name"], w["page_size"], w["pages"]) for w in answer["workspaces"]], [("huge", 2 * MIB, 3)])
        tap.eq(sum(node["pages"] for node in answer["workspaces"][0]["nodes"]), 3, "pages on all nodes")
        sizes = {entry["page_size"]: entry for entry in answer["pools"]}
        tap.eq({size: entry["ours"] for size, entry in sizes.items()},
               {size: 3 if size == 2 * MIB else 0 for size in sizes})
        text = d.ok("hugepages").split("\n\n")
        tap.eq(text[0].split("\n")[0].split(), "NODE PAGE TOTAL FREE RESERVED SURPLUS OURS".split())
        row = [line.split() for line in text[0].splitlines() if line.split()[:3] == ["all", "2", "MiB"]][0]
        tap.eq(row[-1], "3", "ours of all nodes")
        looks(text[1], "WORKSPACE PAGE PAGES NODE:PAGES\nhuge 2 MiB 3 <any>")
        tap.eq(sum(n["ours"] for n in sizes[2 * MIB]["nodes"]), 3, "ours of each node")
        d.ok("rm", "huge")
        tap.eq(d.json("hugepages")["workspaces"], [])


@tap.test
def reserves():
    """hugepages reserve sets a node's pool up and down and says how many there were and are"""
    node = first_pooled()
    with old_count(node) as was:
        answer = ok("hugepages", "reserve", "--node", node, "--size", "2M", "--count", was + 3)
        keys(answer, "pools")
        keys(answer["pools"][0], "node page_size wanted had got surplus demoted why")
        tap.eq([(p["node"], p["wanted"], p["had"], p["got"], p["why"]) for p in answer["pools"]],
               [(node, was + 3, was, was + 3, None)])
        tap.eq(kept(node), was + 3, "pages by sysfs")
        text = ctl("hugepages", "reserve", "--node", node, "--size", "2M", "--count", was)
        looks(text.out, f"node {node} has {was} of {was} pages of 2 MiB, had {was + 3}")
        tap.eq((text.rc, kept(node)), (0, was))


@tap.test
def reserve_refused():
    """a node, a size or a number that this machine does not have is refused with what it has, and so is who is not
    root; no pool changes"""
    node = first_pooled()
    was = kept(node)
    line = ["hugepages", "reserve", "--node", node, "--size", "2M", "--count", was]
    for args, parts in (([*line[:3], 1023, *line[4:]], ("node 1023",)), ([*line[:5], "3M", *line[6:]], ("3M", "2M")),
                        ([*line[:7], 10**12], ("MiB", "such pages"))):
        done = ctl(*args)
        tap.eq((done.rc, done.out), (1, ""), f"{args}: {done.err}")
        for part in parts:
            tap.contains(done.err, part)
        tap.eq(json.loads(ctl("--json", *args).err)["error"], "WKSP_E_INVAL")
    if os.geteuid():
        tap.skip("root, to become somebody else")
    if not os.access(f"{NODES}/node{node}/hugepages/hugepages-2048kB/nr_hugepages", os.W_OK):
        tap.skip("a sysfs that can be written")
    with tempfile.TemporaryDirectory() as there:
        os.chmod(there, 0o755)
        program = shutil.copy(binary("cli/wkspctl"), there)
        done = ctl(*line[:7], was + 1, program=program, user=NOBODY, group=NOBODY, extra_groups=[])
    tap.eq((done.rc, done.out), (1, ""), f"as nobody: {done.err}")
    for part in ("nr_hugepages", "root"):
        tap.contains(done.err, part)
    tap.eq(kept(node), was, "pages by sysfs")


@tap.test
def applies():
    """hugepages apply sets what the file says, and nothing if the file has a mistake, which is told with file, line
    and value"""
    node = first_pooled()
    with old_count(node) as was, tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "hugepages.conf")

        def write(text):
            with open(path, "w", encoding="ascii") as f:
                f.write(text)

        write(f"; pools\n[node {node}]\n2M = {was + 2}\n")
        answer = ok("hugepages", "apply", "--file", path)
        tap.eq([(p["node"], p["page_size"], p["got"]) for p in answer["pools"]], [(node, 2 * MIB, was + 2)])
        tap.eq(kept(node), was + 2, "pages by sysfs")
        for text, parts in ((f"[node {node}]\n2M = {was}\n2M = 1\n", (":3:", "twice")),
                            (f"[node {node}]\n2M = {was}\n2M\n", (":3:",)),
                            (f"[node {node}]\n2M = {was}\n[node 1023]\n2M = 0\n", (":4:", "1023")),
                            (f"[node {node}]\n2M = -1\n", (":2:", "'-1'", "negative"))):
            write(text)
            done = ctl("hugepages", "apply", "--file", path)
            tap.eq((done.rc, done.out), (1, ""), f"{text!r}: {done.err}")
            for part in (path, *parts):
                tap.contains(done.err, part)
            tap.eq(kept(node), was + 2, "pages by sysfs")
    done = ctl("hugepages", "apply", "--file", path)
    tap.eq(done.rc, 1)
    tap.contains(done.err, path)


@tap.test
def topology():
    """topology has the nodes, cpus, memory and distances of sysfs, and what this process may use"""
    def memory():
        found = {}
        for node in nodes():
            with open(f"{NODES}/node{node}/meminfo", encoding="ascii") as f:
                found[node] = int(re.search(r"MemTotal:\s+(\d+) kB", f.read())[1]) << 10
        return found

    def same():
        before = memory()
        answer = ok("topology")
        return answer if memory() == before == {n["node"]: n["memory"] for n in answer["nodes"]} else None

    # A machine may be given memory, or find it, while it runs.
    answer = tap.until(same, SETTLE_S, "the memory of each node is what sysfs says")
    keys(answer, "numa nodes cpus offline_nodes allowed_nodes allowed_cpus")
    tap.eq(answer["numa"], True)
    tap.eq([node["node"] for node in answer["nodes"]], nodes())
    where = {}
    for node in answer["nodes"]:
        keys(node, "node cpus cpu_cnt first_cpu memory free allowed distances")
        folder = f"{NODES}/node{node['node']}"
        cpus = listed(f"{folder}/cpulist")
        where.update({cpu: node["node"] for cpu in cpus})
        tap.eq((sorted(spread(node["cpus"])), node["cpu_cnt"]), (cpus, len(cpus)))
        tap.eq(node["first_cpu"], cpus[0] if cpus else None)
        with open(f"{folder}/distance", encoding="ascii") as f:
            tap.eq([d["distance"] for d in node["distances"]], [int(word) for word in f.read().split()])
        tap.true(0 <= node["free"] <= node["memory"], f"free {node['free']}")
    tap.eq([cpu["cpu"] for cpu in answer["cpus"]], listed("/sys/devices/system/cpu/online"))
    tap.eq({cpu["cpu"]: cpu["node"] for cpu in answer["cpus"]}, where)
    tap.eq({cpu["cpu"] for cpu in answer["cpus"] if cpu["allowed"]}, os.sched_getaffinity(0))
    tap.eq(sorted(spread(answer["offline_nodes"])), sorted(set(listed(f"{NODES}/possible")) - set(nodes())))


@tap.test
def topology_allowed():
    """topology started on one cpu says so, in its table too"""
    cpu = min(os.sched_getaffinity(0))
    done = ctl("topology", preexec_fn=lambda: os.sched_setaffinity(0, [cpu]))
    tap.eq(done.rc, 0, done.err)
    tap.true(re.search(rf"^allowed cpus\s+{cpu}$", done.out, re.MULTILINE), done.out)
    tap.contains(done.out, "NODE FIRST CPU CPUS")
    tap.true(re.search(r"^DISTANCE\s+0", done.out, re.MULTILINE), done.out)


tap.run()
