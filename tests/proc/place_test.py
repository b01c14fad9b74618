"""Where workspaces lie, on whatever nodes this machine has: what create, plan, show and map say of it against what the
kernel says, quotas, and memory that is held beyond the end. tests/lab/place_test.py does the same on two nodes.

Every test has a daemon, socket and state folder of its own.
"""

import json
import mmap
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import pages
import tap
from daemon import Daemon

M = 1 << 20
NAME = f"place-{os.getpid()}"
NODES = "/sys/devices/system/node"
WAIT_S = 60


def online():
    """The numbers of the nodes that are there; [0] on a kernel without any."""
    try:
        names = os.listdir(NODES)
    except FileNotFoundError:
        return [0]
    return sorted(int(n[4:]) for n in names if n.startswith("node") and n[4:].isdigit()) or [0]


def pool(node, what):
    """Huge pages of 2 MiB of a node, as sysfs has them."""
    try:
        with open(f"{NODES}/node{node}/hugepages/hugepages-2048kB/{what}_hugepages", encoding="ascii") as f:
            return int(f.read())
    except FileNotFoundError:
        return 0


@tap.test
def mistakes():
    """what is no placement, and nodes and cpus that are not there, are refused with what is wrong, and nothing stays"""
    with Daemon() as d:
        for numa, says in (("x", "is no placement"), ("0,", "is no placement"), ("split:", "is no placement"),
                           ("0,0", "comes twice"), ("63", "is not there or is offline"),
                           ("cpu:8191", "is not there or is offline"), ("split:0,63", "node 63")):
            for command in (("create", NAME, "--size", "4M"), ("plan", "--size", "4M")):
                result = d.ctl(*command, "--numa", numa)
                tap.eq(result.rc, 1, f"{command[0]} --numa {numa}")
                tap.contains(result.err, says, f"{command[0]} --numa {numa}")
        tap.eq(d.json("ls"), {"workspaces": []}, "workspaces")
        result = d.ctl("create", NAME, "--size", "4M", "--numa", "")
        tap.eq(result.rc, 2, "--numa ''")


@tap.test
def plan():
    """plan names each node that is online, with the figures of sysfs; what it says can be had is had, and it takes
    nothing; what cannot be had it says with figures"""
    with Daemon() as d:

        def looked():
            before = {n: (pool(n, "nr"), pool(n, "free")) for n in online()}
            result = d.ctl("--json", "plan", "--size", "4M", "--page", "2M")
            after = {n: (pool(n, "nr"), pool(n, "free")) for n in online()}
            return (result, before) if before == after else None  # others take and give back pages, too

        result, figures = tap.until(looked, WAIT_S, "nobody changes the pools")
        said = json.loads(result.out)
        tap.eq([n["node"] for n in said["nodes"]], online(), "nodes")
        tap.eq(sum(n["wanted"] for n in said["nodes"]), 2, "wanted")
        for node in said["nodes"]:
            tap.eq(node["total"], figures[node["node"]][0], f"pages of node {node['node']}")
            if node["allowed"]:
                tap.eq(node["free"], figures[node["node"]][1], f"free pages of node {node['node']}")
        tap.eq(said["possible"], result.rc == 0, "possible, and exit status")
        tap.eq(said["lacking"] is None, result.rc == 0, "lacking, and exit status")
        too_much = d.ctl("plan", "--size", "32T", "--page", "2M")
        tap.eq(too_much.rc, 1, "exit status")
        tap.contains(too_much.err, "larger than this machine's memory", "a plan that cannot be")
        small = d.json("plan", "--size", "1M")
        tap.eq((small["page_size"], small["size"], small["possible"]), (4096, M, True))
        tap.contains(small["why"], "2M: larger than all of it", "why")
        tap.eq(d.json("ls"), {"workspaces": []}, "workspaces")


@tap.test
def placed():
    """every page of a workspace is on the node that was asked for, by move_pages; show and map say the same, and so
    they do when it has grown and when the daemon has been started anew"""
    node = online()[0]
    with Daemon(supervise=True) as d:
        made = d.json("create", NAME, "--size", "5M", "--max-size", "24M", "--page", "4k", "--numa",
                      f"split:{node},{node}")
        for size in (made["size"], 16 * M):
            if size != made["size"]:
                d.ok("resize", NAME, "--size", size)
            with pages.Mapped(NAME, size, 4096) as mapped:
                tap.eq(set(mapped.nodes()), {node}, "nodes of its pages")
            shown = d.json("show", NAME)["placement"]
            tap.eq((shown["numa"], shown["policy"], shown["strict"]),
                   (f"split:{node},{node}", f"split:{node}*2", True), "placement")
            tap.eq(shown["nodes"], [{"node": node, "page_size": 4096, "wanted": size // 4096, "got": size // 4096}])
            tap.eq((shown["runs"], shown["runs_cut"], shown["elsewhere"]),
                   ([{"first": 0, "cnt": size // 4096, "node": node}], False, 0), "runs")
            pid = d.status()["pid"]
            os.kill(pid, 9)
            tap.until(lambda: d.status()["pid"] != pid, WAIT_S, "another daemon")


@tap.test
def drawn():
    """map draws a strip of at most 80 columns where there is no terminal, uncoloured, with what is in use; and tells
    the same as JSON"""
    with Daemon() as d:
        d.ok("create", NAME, "--size", "64M", "--page", "4k")
        d.ok("alloc", NAME, "--size", "20M")
        lines = d.ok("map", NAME).splitlines()
        tap.true(max(map(len, lines)) <= 80, f"width of {lines}")
        tap.true(not any("\033" in line for line in lines), "colours")
        strips = [line.split("|")[1] for line in lines if "|" in line]
        tap.eq(len(strips), 2, "strips")
        tap.eq(len(strips[0]), len(strips[1]), "width of both strips")
        tap.true(set(strips[0]) <= set("0123456789abcdefghijklmnopqrstuvwxyz*"), f"nodes {strips[0]!r}")
        used = strips[1].count("#") / len(strips[1])
        tap.true(0.25 < used < 0.4, f"20 of 64 MiB are drawn as {strips[1]!r}")
        told = d.json("map", NAME)
        tap.eq((told["name"], told["size"], told["page_size"]), (NAME, 64 * M, 4096))
        tap.eq([p["size"] for p in told["partitions"]], [20 * M], "partitions")
        tap.eq(sum(n["got"] for n in told["placement"]["nodes"]), 64 * M // 4096, "pages")


def configured(d, text):
    """Has the daemon run with this configuration."""
    path = os.path.join(d.dir, "wkspd.conf")
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    d.args[:] = ["--config", path]
    return path


@tap.test
def quotas():
    """a user's workspaces are charged with their max-size by size of pages and node: what is over the quota is an error
    with figures, status shows it, and what is removed or undone is not charged; a reload changes it"""
    d, uid, node = Daemon(), os.getuid(), online()[0]
    path = configured(d, f"[quota]\ndefault.4k = 1M\nuid{uid}.4k = 64M\nuid{uid}.4k.node{node} = 48M\n")
    with d:
        d.ok("create", NAME, "--size", "4M", "--max-size", "40M", "--page", "4k", "--numa", node)
        result = d.ctl("create", "other", "--size", "9M", "--page", "4k", "--numa", node)
        tap.eq(result.rc, 1, "exit status")
        for part in (f"on node {node}", f"uid {uid} may have {48 * M} and has {40 * M}", "quota"):
            tap.contains(result.err, part, "error")
        tap.eq(d.json("status")["quotas"],
               [{"uid": uid, "tag": None, "page_size": 4096, "node": on, "workspaces": False, "limit": limit * M,
                 "used": 40 * M} for on, limit in ((None, 64), (node, 48))], "quotas")
        tap.contains(d.ok("status"), "MAY HAVE", "status")
        # the size of whose pages is known only when they have been taken
        result = d.ctl("create", "other", "--size", "1M", "--max-size", "9M", "--page", "auto", "--numa", node)
        tap.eq(result.rc, 1, "exit status")
        tap.contains(result.err, f"may have {48 * M}", "error")
        d.ok("create", "other", "--size", "8M", "--page", "4k", "--numa", node)
        d.ok("rm", NAME)
        d.ok("create", NAME, "--size", "40M", "--page", "4k", "--numa", node)
        with open(path, "w", encoding="ascii") as f:
            f.write(f"[quota]\nuid{uid}.4k = 49M\n")
        d.ok("reload")
        tap.eq([q["limit"] for q in d.json("status")["quotas"]], [49 * M], "quotas after a reload")
        tap.contains(d.ctl("create", "third", "--size", "2M", "--page", "4k").err, "quota", "error after a reload")
        for bad in ("uid1.3M = 1", "default.2M = x", "user.2M = 1", "uid1.2M.node99 = 1"):
            with open(path, "w", encoding="ascii") as f:
                f.write(f"[quota]\n{bad}\n")
            done = d.ctl("reload")
            tap.contains(done.out, f"{path}:2:", f"a reload of {bad}")
            tap.eq(done.rc, 1, f"exit status of a reload of {bad}")


@tap.test
def quotas_of_tags():
    """workspaces of a tag are counted together, whosesoever they are, in bytes and in number; a restart and a reload
    keep the tag; one that is kept for a group is for its members"""
    d, uid = Daemon(supervise=True), os.getuid()
    path = configured(d, "[quota]\ntag.red.4k = 16M\ntag.red.workspaces = 2\ntag.blue.4k.workspaces = 0\n"
                         f"uid{uid}.workspaces = 4\n")
    with d:
        d.ok("create", "a", "--size", "4M", "--page", "4k", "--tag", "red")
        tap.eq(d.json("show", "a")["tag"], "red", "tag")
        tap.contains(d.ok("show", "a"), "red", "show")
        result = d.ctl("create", "b", "--size", "13M", "--page", "4k", "--tag", "red")
        tap.contains(result.err, f'tag "red" may have {16 * M} and has {4 * M}', "bytes of a tag")
        tap.contains(d.ctl("create", "b", "--size", "1M", "--tag", "blue").err,
                     'tag "blue" may have 0 workspaces and has 0', "none of a tag")
        tap.contains(d.ctl("create", "b", "--size", "1M", "--tag", "no.tag").err, "is not a tag", "what is none")
        d.ok("create", "b", "--size", "4M", "--page", "4k", "--tag", "red")
        d.wait_restart(d.kill_child())
        tap.contains(d.ctl("create", "c", "--size", "1M", "--page", "4k", "--tag", "red").err,
                     'tag "red" may have 2 workspaces and has 2', "workspaces of a tag")
        for name in ("c", "d"):
            d.ok("create", name, "--size", "1M", "--page", "4k")
        tap.contains(d.ctl("create", "e", "--size", "1M", "--page", "4k").err,
                     f"uid {uid} may have 4 workspaces and has 4", "workspaces of a user")
        rows = {(q["uid"], q["tag"], q["page_size"], q["workspaces"]): (q["limit"], q["used"])
                for q in d.json("status")["quotas"]}
        tap.eq(rows, {(None, "red", 4096, False): (16 * M, 8 * M), (None, "red", None, True): (2, 2),
                      (uid, None, None, True): (4, 4)}, "quotas")
        tap.contains(d.ok("status"), "tag red", "status")
        with open(path, "w", encoding="ascii") as f:
            f.write("[quota]\ntag.red.group = no-such-group\n")
        tap.contains(d.ctl("reload").out, "is not a group", "a reload of a group that is not there")


def touch(d, at, size, all_held):
    """Writes to the memory of the workspace beyond its end; the daemon is stopped meanwhile, lest it finds and gives
    back the first of the pages while others are being touched."""
    pid = d.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        fd = os.open(pages.memfd(NAME), os.O_RDWR)
        with mmap.mmap(fd, at + size) as memory:
            memory[at:at + size] = b"x" * size
        os.close(fd)
        tap.eq(held(), all_held, "bytes held")
    finally:
        os.kill(pid, signal.SIGCONT)


def held():
    """Bytes that its memory holds."""
    return os.stat(pages.memfd(NAME)).st_blocks * 512


@tap.test
def excess():
    """pages that a program touches beyond the end of a workspace are noticed and given back; when it does so again the
    workspace is quarantined, and says why"""
    with Daemon() as d:
        d.ok("create", NAME, "--size", "8M", "--max-size", "48M", "--page", "4k")
        tap.eq(held(), 8 * M, "bytes held")
        touch(d, 20 * M, 4096, 8 * M + 4096)

        def looked(want):
            d.ctl("query", NAME)  # which has the daemon look
            return want()

        tap.until(lambda: looked(lambda: held() == 8 * M), WAIT_S, "what was too much is given back")
        tap.eq(d.json("show", NAME)["quarantined"], False, "quarantined")
        d.ok("resize", NAME, "--size", "16M")
        d.ok("resize", NAME, "--size", "7M")
        tap.eq(looked(held), 7 * M, "bytes held where an end lies within what was a huge page")
        d.ok("resize", NAME, "--size", "8M")
        tap.eq(looked(held), 8 * M, "bytes held")
        tap.eq(d.json("show", NAME)["quarantined"], False, "quarantined")
        touch(d, 20 * M, 4096, 8 * M + 4096)
        tap.until(lambda: looked(lambda: d.json("show", NAME)["quarantined"]), WAIT_S, "it is quarantined")
        shown = d.json("show", NAME)
        tap.eq(shown["excess"], 4096, "excess")
        tap.contains(shown["reason"], "it holds 4096 bytes beyond its end", "reason")
        tap.contains(d.ctl("alloc", NAME, "--size", "1M").err, "not served", "error")
        d.ok("rm", NAME)


@tap.test
def excess_hidden():
    """pages beyond the end are noticed as well when the program gives as many back before the end, so that the memory
    holds no more than it should"""
    with Daemon() as d:
        d.ok("create", NAME, "--size", "8M", "--max-size", "48M", "--page", "4k")
        for quarantined in (False, True):
            before = held()
            fd = os.open(pages.memfd(NAME), os.O_RDWR)
            with mmap.mmap(fd, 8 * M) as memory:  # in the data, of which nothing is in use
                memory.madvise(mmap.MADV_REMOVE, 5 * M, M)
            os.close(fd)
            tap.eq(held(), before - (0 if quarantined else M), "bytes held")
            touch(d, 20 * M, 4096, 7 * M + 4096)

            def found():
                d.ctl("query", NAME)
                # show would fill the hole: it asks the kernel where each page is
                return d.json("show", NAME)["quarantined"] if quarantined else held() == 7 * M

            tap.until(found, WAIT_S, "it is quarantined" if quarantined else "what was too much is given back")
        tap.contains(d.json("show", NAME)["reason"], "beyond its end", "reason")
        d.ok("rm", NAME)


tap.run()
