"""Pools, nodes and limits on an emulated machine with two memory nodes: what wkspctl sets and shows there, at boot
and later, and what doctor finds when nodes or pages are kept from wkspd."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import lab
import tap

lab.bed("guest", lab.debs)

NODES = "/sys/devices/system/node"
MIB = 1 << 20
PAGE = 2 * MIB
GROUPS = "/sys/fs/cgroup"


def pools():
    """{node: (pages of 2M that it has, free ones)}"""
    found = {}
    for node in (0, 1):
        figures = []
        for what in ("nr", "free"):
            with open(f"{NODES}/node{node}/hugepages/hugepages-2048kB/{what}_hugepages", encoding="ascii") as f:
                figures.append(int(f.read()))
        found[node] = tuple(figures)
    return found


def shown():
    """The same, with ours, as wkspctl shows it."""
    sizes = {pool["page_size"]: pool for pool in lab.ctl("hugepages")["pools"]}
    return {node["node"]: (node["total"], node["free"], node["ours"]) for node in sizes[PAGE]["nodes"]}


def doctor():
    """{check: [(state, what)]}, and the exit status."""
    status, out, _ = lab.run("wkspctl", "--json", "doctor")
    found = {}
    for line in json.loads(out)["checks"]:
        found.setdefault(line["check"], []).append((line["state"], line["what"]))
    return found, status


def write(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(text)


@tap.test(timeout=700)
def topology():
    """topology shows both nodes, their cpus and distances"""
    lab.apt("install", *lab.deb_files())
    lab.serving()
    answer = lab.ctl("topology")
    tap.eq([(n["node"], n["cpus"], n["first_cpu"], [d["distance"] for d in n["distances"]]) for n in answer["nodes"]],
           [(0, "0", 0, [10, 20]), (1, "1", 1, [20, 10])])
    tap.eq([(c["cpu"], c["node"]) for c in answer["cpus"]], [(0, 0), (1, 1)])
    tap.eq(answer["allowed_nodes"], "0-1")


@tap.test(timeout=240)
def ours():
    """hugepages says per node what is there and what of it workspaces hold"""
    tap.eq(shown(), {node: (*figures, 0) for node, figures in pools().items()})
    before = pools()
    for node, pages in ((0, 5), (1, 7)):
        lab.ok("wkspctl", "create", f"on{node}", "--size", f"{2 * pages}M", "--page", "2M", "--numa", node)
    tap.eq(shown(), {0: (128, before[0][1] - 5, 5), 1: (128, before[1][1] - 7, 7)})
    nodes = {w["name"]: [(n["node"], n["pages"]) for n in w["nodes"]] for w in lab.ctl("hugepages")["workspaces"]}
    tap.eq(nodes, {"on0": [(0, 5)], "on1": [(1, 7)]})
    for node in (0, 1):
        lab.ok("wkspctl", "rm", f"on{node}")
    tap.until(lambda: pools() == before, lab.READY_S, "their pages are free again")


@tap.test(timeout=240)
def reserves():
    """hugepages reserve changes the pool of the node that it is told, and no other; what is in use stays, and goes
    when it is given back; by wkspd-hugepages.service the file does the same"""
    before = pools()
    lab.ok("wkspctl", "hugepages", "reserve", "--node", "1", "--size", "2M", "--count", "96")
    tap.eq(pools(), {0: before[0], 1: (96, 96)})
    lab.ok("wkspctl", "create", "w", "--size", "32M", "--page", "2M", "--numa", "1")
    done = lab.ctl("hugepages", "reserve", "--node", "1", "--size", "2M", "--count", "4")["pools"][0]
    tap.eq((done["had"], done["got"], done["surplus"]), (96, 4, 12))
    lab.ok("wkspctl", "verify", "w")
    lab.ok("wkspctl", "rm", "w")
    tap.until(lambda: pools() == {0: before[0], 1: (4, 4)}, lab.READY_S, "the surplus is gone")
    write("/etc/wkspd/hugepages.conf", "[node 1]\n2M = 128\n[node 0]\n2M = 130\n")
    lab.ok("systemctl", "start", "wkspd-hugepages")
    tap.eq(pools(), {0: (130, 130), 1: (128, 128)})
    write("/etc/wkspd/hugepages.conf", "[node 0]\n2M = 128\n")
    lab.ok("systemctl", "restart", "wkspd-hugepages")
    os.unlink("/etc/wkspd/hugepages.conf")
    tap.eq(pools(), before)


@tap.test(timeout=240)
def well():
    """doctor has nothing against this machine"""
    lines, status = doctor()
    tap.eq(([line for check in lines.values() for line in check if line[0] == "fail"], status), ([], 0), "failures")
    for check in ("socket", "daemon", "nofile", "nodes", "units", "cgroups"):
        tap.eq({state for state, _ in lines[check]}, {"ok"}, f"{check}: {lines[check]}")


@tap.test(timeout=240)
def limited():
    """doctor finds a control group that keeps wkspd from huge pages, and names it; a create beyond it fails and
    takes nothing"""
    group = f"{GROUPS}/system.slice/wkspd.service"
    with open(f"{GROUPS}/cgroup.controllers", encoding="ascii") as f:
        if "hugetlb" not in f.read().split():
            tap.skip("a kernel with the hugetlb controller")
    for above in (GROUPS, f"{GROUPS}/system.slice"):
        write(f"{above}/cgroup.subtree_control", "+hugetlb")
    write(f"{group}/hugetlb.2MB.max", str(8 * PAGE))
    lines, status = doctor()
    tap.eq((lines["cgroups"][0][0], status), ("warn", 0), str(lines["cgroups"]))
    for part in ("/system.slice/wkspd.service", "16 MiB", "512 MiB"):
        tap.contains(lines["cgroups"][0][1], part)
    before, pid = pools(), lab.serving()
    for number, (folder, cnt) in enumerate(((group, 8), (f"{GROUPS}/system.slice", 5))):
        write(f"{folder}/hugetlb.2MB.max", str(cnt * PAGE))
        refused = lab.run("wkspctl", "create", "w", "--size", "32M", "--page", "2M")
        tap.eq((refused[0], refused[1]), (1, ""), refused[2])
        for part in (f"16 huge pages of 2 MiB are wanted, {cnt} can be taken", "hugetlb.2MB.max"):
            tap.contains(refused[2], part, f"error {number}")
        tap.eq((pools(), lab.serving()), (before, pid), "pools and the daemon")
    lab.ok("wkspctl", "create", "w", "--size", 5 * PAGE, "--page", "2M")
    lab.ok("wkspctl", "rm", "w")
    tap.until(lambda: pools() == before, lab.READY_S, "its pages are free again")
    write(f"{GROUPS}/system.slice/hugetlb.2MB.max", "max")
    write(f"{group}/hugetlb.2MB.max", "0")
    lines, status = doctor()
    tap.eq((lines["cgroups"][0][0], status), ("fail", 1), str(lines["cgroups"]))
    write(f"{group}/hugetlb.2MB.max", "max")
    tap.eq(doctor()[0]["cgroups"][0][0], "ok")


@tap.test(timeout=240)
def hidden():
    """doctor finds a unit that hides a node from wkspd; hugepages still shows both"""
    lab.drop_in("wkspd.service", "[Service]\nAllowedMemoryNodes=1\n")
    old = lab.serving()
    lab.ok("systemctl", "restart", "wkspd")
    lab.serving(old)
    lines, status = doctor()
    tap.eq((lines["nodes"], status), ([("warn", "wkspd may not use memory of node 0")], 0))
    tap.eq(sorted(shown()), [0, 1], "nodes that are shown")
    lab.drop_in("wkspd.service", "")
    old = lab.serving()
    lab.ok("systemctl", "restart", "wkspd")
    lab.serving(old)
    tap.eq(doctor()[0]["nodes"], [("ok", "wkspd may use memory of every node (2)")])


tap.run()
