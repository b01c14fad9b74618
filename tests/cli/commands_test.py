"""Every command on workspaces and on the daemon, as text and as JSON, against a private wkspd."""

import datetime
import grp
import json
import os
import pwd
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from clilib import Held, fails, hand, keys, looks
from daemon import Daemon, binary

INFO = ("name uuid size max_size page_size data_max part_max mode uid owner gid group seed created created_ns "
        "attached_rw attached_ro removing quarantined read_only damaged reason excess tag")
USAGE = "total_max total_cnt total_size free_cnt free_size free_size_max used_cnt used_size"


@tap.test
def create():
    """create says what was made, as text and as JSON; size, mode, seed and page are as asked"""
    with Daemon() as d:
        looks(d.ok("create", "demo", "--size", "4M", "--page", "4k"),
              "created demo: 4 MiB (4194304 bytes) in pages of 4 KiB, mode 0660<any>")
        info = d.json("create", "other", "--size", "3000000", "--page", "4k", "--mode", "600", "--seed", "0x10")
        keys(info, INFO + " note")
        tap.eq((info["name"], info["mode"], info["seed"], info["page_size"]), ("other", "0600", 16, 4096))
        tap.true(3000000 <= info["size"] < 3000000 + 4096 and info["size"] % 4096 == 0, f"size {info['size']}")
        tap.eq((info["attached_rw"], info["attached_ro"]), (0, 0))
        tap.eq((info["removing"], info["quarantined"], info["reason"]), (False, False, None))
        auto = d.json("create", "auto", "--size", "4M", "--page", "auto")
        tap.true(auto["page_size"] in (4096, 2 << 20), f"pages of {auto['page_size']}")


@tap.test
def ls():
    """ls lists all workspaces in the order of names, as a table and as JSON; none is said, too"""
    with Daemon() as d:
        tap.contains(d.ok("ls"), "no workspaces; make one with wkspctl create")
        tap.eq(d.json("ls"), {"workspaces": []})
        for name in ("b", "a", "c"):
            d.ok("create", name, "--size", "2M", "--page", "4k")
        user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
        rows = "\n".join(f"{name} 2 MiB 2 MiB 4 KiB 0660 {user} {group} 0 0 ok <time>" for name in "abc")
        looks(d.ok("ls"), "NAME SIZE MAX PAGE MODE OWNER GROUP RW RO STATE CREATED\n" + rows)
        listed = d.json("ls")["workspaces"]
        tap.eq([info["name"] for info in listed], ["a", "b", "c"])
        for info in listed:
            keys(info, INFO)
            shown = d.json("show", info["name"])
            tap.eq(shown.pop("placement")["nodes"][0]["got"], info["size"] // 4096, "pages that are there")
            tap.eq({**info, "lock_holder": None, "verified_checkpoint": None}, shown)


@tap.test
def ls_is_not_cut():
    """A table is as wide as its widest name, however narrow the terminal says it is"""
    with Daemon() as d:
        name = "n" * 39
        d.ok("create", name, "--size", "2M", "--page", "4k")
        d.env["COLUMNS"] = "20"
        tap.contains(d.ok("ls"), name)


@tap.test
def show():
    """show gives the facts one below the other, sizes also in bytes, and who is attached"""
    with Daemon() as d:
        before = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        d.ok("create", "demo", "--size", "4M", "--page", "4k", "--mode", "0640", "--seed", "9")
        with Held(d, "held", "hold", "demo", "rw"), Held(d, "held", "hold", "demo", "ro"):
            user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
            looks(d.ok("show", "demo"), f"""
name demo
size 4 MiB (4194304 bytes)
max size 4 MiB (4194304 bytes)
page size 4 KiB
data <exact>
partitions at most <n>
mode 0640
owner {user}:{group} ({os.getuid()}:{os.getgid()})
uuid <uuid>
seed 9
created <time>
attached 1 read-write, 1 read-only
lock free
state ok
placement <n>, or elsewhere

NODE PAGE WANTED GOT BYTES
<n> 4 KiB 1024 1024 4 MiB""")
            info = d.json("show", "demo")
        keys(info, INFO + " lock_holder placement verified_checkpoint")
        tap.eq(info["lock_holder"], None)
        tap.eq((info["attached_rw"], info["attached_ro"]), (1, 1))
        tap.eq((info["owner"], info["group"], info["uid"], info["gid"]), (user, group, os.getuid(), os.getgid()))
        created = datetime.datetime.strptime(info["created"], "%Y-%m-%dT%H:%M:%S%z")
        tap.true(before <= created <= datetime.datetime.now(datetime.timezone.utc), f"created {created}")
        tap.eq(info["created_ns"] // 10**9, int(created.timestamp()))


@tap.test
def show_lock():
    """show tells who holds the lock of a workspace, also when that is stopped or others wait for it"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "2M", "--page", "4k")
        with Held(d, "locked", "lock", "demo", "-") as hand:
            tap.contains(d.ok("show", "demo"), f"held by pid {hand.pid}, thread {hand.pid} (hand)")
            holder = d.json("show", "demo")["lock_holder"]
            keys(holder, "pid tid comm since since_ns dead")
            tap.eq((holder["pid"], holder["comm"], holder["dead"]), (hand.pid, "hand", False))
            hand.send_signal(signal.SIGSTOP)
            waiter = d.popen(binary("cli/wkspctl"), "alloc", "demo", "--size", "64")
            tap.until(lambda: d.json("show", "demo")["lock_holder"]["since_ns"], 60, "somebody waits for it")
            tap.contains(d.ok("show", "demo"), "waited for since 20")
            hand.send_signal(signal.SIGCONT)
        tap.eq(waiter.wait(60), 0, "exit status of the one that waited")
        tap.eq(d.json("show", "demo")["lock_holder"], None)


@tap.test
def resize():
    """resize grows and shrinks up to the max-size of the create; show, ls and usage follow; what blocks is told"""
    with Daemon() as d:
        looks(d.ok("create", "demo", "--size", "4M", "--max-size", "16M", "--page", "4k"),
              "created demo: 4 MiB (4194304 bytes) in pages of 4 KiB, mode 0660, at most 16 MiB (16777216 bytes)<any>")
        tap.contains(d.ok("show", "demo"), "data at most")
        fails(d, 1, ["alloc", "demo", "--size", "6M"], "resize it")
        looks(d.ok("resize", "demo", "--size", "8M"),
              "resized demo: 8 MiB (8388608 bytes), at most 16 MiB (16777216 bytes)")
        place = d.ok("alloc", "demo", "--size", "6M").strip()
        info = d.json("resize", "demo", "--size", "16M")
        keys(info, INFO)
        tap.eq((info["size"], info["max_size"]), (16 << 20, 16 << 20))
        tap.contains(d.ok("ls"), "16 MiB 16 MiB")
        tap.eq(fails(d, 1, ["resize", "demo", "--size", "2M"], "in the way", place.split(":")[1]), "WKSP_E_BUSY")
        tap.true(6 << 20 < d.json("show", "demo")["size"] < 8 << 20, "it has gone as far as it can")
        d.ok("free", place)
        d.ok("resize", "demo", "--size", "2M")
        total = d.json("usage", "demo")["usage"]["total_size"]
        tap.true(1 << 20 < total < 2 << 20, f"{total} bytes of data in 2 MiB")
        tap.eq(fails(d, 1, ["resize", "demo", "--size", "17M"], "max-size of 16777216", "at most 16777216"),
               "WKSP_E_INVAL")
        fails(d, 1, ["resize", "none", "--size", "4M"], "none")
        looks(d.ok("verify", "demo"), "demo is sound")


@tap.test
def rm():
    """rm removes; while somebody is attached only with --force, and then the name goes at once"""
    with Daemon() as d:
        for name in ("a", "b", "c", "d"):
            d.ok("create", name, "--size", "2M", "--page", "4k")
        looks(d.ok("rm", "a"), "removed a")
        tap.eq(d.json("rm", "b"), {"removed": "b", "force": False})
        fails(d, 1, ["show", "a"], "a")
        with Held(d, "held", "hold", "c", "rw"), Held(d, "held", "hold", "d", "ro"):
            tap.eq(fails(d, 1, ["rm", "c"], "c"), "WKSP_E_BUSY")
            tap.contains(d.ok("rm", "c", "--force"), "removed c; memory that is still attached goes with the last")
            tap.eq(d.json("rm", "d", "--force"), {"removed": "d", "force": True})
            for name in ("c", "d"):
                fails(d, 1, ["show", name], name)
            tap.eq([(info["name"], info["removing"]) for info in d.json("ls")["workspaces"]],
                   [("c", True), ("d", True)])
            tap.contains(d.ok("ls"), " removing ")
        tap.until(lambda: d.status()["bytes"] == 0, 60, "the memory of removed workspaces is gone")
        tap.eq(d.json("ls"), {"workspaces": []})


@tap.test
def usage():
    """usage sums partitions by tag; --tag picks some, and the figures are of these"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "8M", "--page", "4k")
        empty = d.json("usage", "demo")
        tap.eq((empty["name"], empty["tags"]), ("demo", []))
        keys(empty["usage"], USAGE)
        for tag, size in ((1, 65536), (1, 4096), (16, 128)):
            hand(d, "part", "demo", tag, size)
        looks(d.ok("usage", "demo"), """
workspace demo
data <exact>
used <exact> in 3 partitions
free <exact> in <n>, the largest <exact>
partitions <n> of at most <n>

TAG PARTITIONS SIZE BYTES
0x1 2 68 KiB 69632
0x10 1 128 B 128""")
        usage_of = d.json("usage", "demo")
        tap.eq(usage_of["tags"], [{"tag": "0x1", "partitions": 2, "size": 69632},
                                  {"tag": "0x10", "partitions": 1, "size": 128}])
        tap.eq((usage_of["usage"]["used_cnt"], usage_of["usage"]["used_size"]), (3, 69760))
        tap.eq(usage_of["usage"]["total_size"], usage_of["usage"]["free_size"] + 69760)

        some = d.json("usage", "demo", "--tag", "16")
        tap.eq(some["tags"], [{"tag": "0x10", "partitions": 1, "size": 128}])
        tap.eq((some["usage"]["used_cnt"], some["usage"]["used_size"]), (1, 128))
        both = d.json("usage", "demo", "--tag", "0x10", "--tag", "1")
        tap.eq(both["tags"], usage_of["tags"])
        tap.contains(d.ok("usage", "demo", "--tag", "16"), "used by these  128 bytes in 1 partition\n")
        tap.eq(d.json("usage", "demo", "--tag", "999")["tags"], [])


@tap.test
def query():
    """query lists every partition and root; names of roots that are no text come escaped"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "8M", "--page", "4k")
        one = hand(d, "part", "demo", 1, 65536)
        two = hand(d, "part", "demo", 0xffffffffffffffff, 4096)
        hand(d, "root", "demo", b"words".hex(), one, 1)
        hand(d, "root", "demo", b"\x1b[2J\xff".hex(), two, 5)
        hand(d, "root", "demo", "Wörter".encode().hex(), one, 1)
        d.env["LC_ALL"] = "C.UTF-8"
        text = d.ok("query", "demo")
        parts, roots = text.split("\n\n")[1:]
        rows = [f"{one} 64 KiB 65536 0x1 user", f"{two} 4 KiB 4096 0xffffffffffffffff user"]
        looks(parts, "GADDR SIZE BYTES TAG KIND\n" + "\n".join(sorted(rows, key=lambda row: int(row.split()[0], 0))))
        tap.eq(sorted(" ".join(line.split()) for line in roots.splitlines()),
               sorted(["ROOT GADDR TAG", f"words {one} 0x1", f"\\x1b[2J\\xff {two} 0x5", f"Wörter {one} 0x1"]))

        answer = d.json("query", "demo")
        keys(answer, "name usage partitions roots")
        keys(answer["usage"], USAGE)
        tap.eq(sorted(answer["partitions"], key=lambda part: part["tag"]),
               [{"gaddr": one, "size": 65536, "tag": "0x1", "kind": "user"},
                {"gaddr": two, "size": 4096, "tag": "0xffffffffffffffff", "kind": "user"}])
        by_name = {root["name"]: root for root in answer["roots"]}
        tap.eq(by_name["words"], {"name": "words", "gaddr": one, "tag": "0x1"})
        tap.eq(by_name["Wörter"]["gaddr"], one)
        tap.eq(by_name["\\x1b[2J\\xff"]["name_hex"], "1b5b324aff")


@tap.test
def compact():
    """compact gives back what heaps hold without need, and says how much"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "16M", "--page", "4k")
        heap = d.ok("heap", "new", "demo", "--tag", "7").strip()
        blocks = [d.ok("heap", "malloc", heap, "--size", "1000").strip() for _ in range(3)]
        for block in blocks:
            d.ok("heap", "free", heap, block)
        before = d.json("usage", "demo")["usage"]["free_size"]
        compacted = d.json("compact", "demo")
        keys(compacted, "compacted freed_size skipped_cnt skipped_pid skipped_tid")
        tap.eq((compacted["compacted"], compacted["skipped_cnt"]), ("demo", 0))
        after = d.json("usage", "demo")["usage"]["free_size"]
        tap.true(compacted["freed_size"] > 0, "nothing was given back")
        tap.eq(after - before, compacted["freed_size"], "what came back")
        looks(d.ok("compact", "demo"), "compacted demo: 0 bytes given back")


@tap.test
def verify():
    """verify says that a sound workspace is sound"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "8M", "--page", "4k")
        heap = d.ok("heap", "new", "demo", "--tag", "7").strip()
        d.ok("heap", "malloc", heap, "--size", "100")
        looks(d.ok("verify", "demo"), "demo is sound")
        tap.eq(d.json("verify", "demo"), {"name": "demo", "damaged": False, "findings": []})


@tap.test
def status():
    """status counts what there is: workspaces, leases, bytes, requests"""
    with Daemon() as d:
        said = d.ok("status").splitlines()
        looks("\n".join(line for line in said if not line.startswith("limit ")), """
daemon pid <n>, up <span>
memory ends with the daemon; run it by systemd or with --supervise
restart loses all workspaces
stop loses all workspaces
workspaces 0, 0 bytes
quarantined 0
damaged     0
leases 0
connections <n>
jobs <n>
requests <n>, of them <n> refused
violations 0 connections closed for breaking the protocol
descriptors <n>""")
        tap.contains("\n".join(said), "requests of a connection: 1 of 64")
        d.ok("create", "demo", "--size", "4M", "--page", "4k")
        first = d.status()
        keys(first, "pid uptime_ns fd_store workspace_cnt quarantined_cnt damaged_cnt lease_cnt connection_cnt job_cnt "
                    "bytes request_cnt refused_cnt violation_cnt fd_cnt lost_cnt config_mistake quotas limits "
                    "unproven_cnt proven_ns")
        tap.eq((first["workspace_cnt"], first["bytes"], first["lease_cnt"]), (1, 4 << 20, 0))
        tap.eq((first["pid"], first["fd_store"]), (d.proc.pid, False))
        with Held(d, "held", "hold", "demo", "rw"):
            tap.eq(d.status()["lease_cnt"], 1)
        second = d.status()
        tap.true(second["request_cnt"] > first["request_cnt"], "requests do not count")
        tap.true(second["uptime_ns"] > first["uptime_ns"], "the uptime stands still")


@tap.test
def clients():
    """clients lists processes with what they opened, once each, as long as they hold it"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "4M", "--page", "4k")
        with Held(d, "held", "hold", "demo", "rw") as held:
            found = [c for c in d.json("clients")["clients"] if c["held"]]
            tap.eq([(c["pid"], c["uid"], [h["name"] for h in c["held"]]) for c in found],
                   [(held.pid, os.getuid(), ["demo"])])
            keys(found[0],
                 "pid uid gid comm cgroup since since_ns connection_cnt request_cnt watch_cnt queued ended held")
            keys(found[0]["held"][0], "name lease_id read_only removing since_ns")
            tap.eq((found[0]["comm"], found[0]["ended"]), ("hand", False))
            tap.contains(d.ok("clients"), "demo")
        tap.until(lambda: not [c for c in d.json("clients")["clients"] if c["held"]], 60, "the lease has ended")


@tap.test
def version():
    """version names wkspctl, the library and the daemon"""
    with Daemon() as d:
        looks(d.ok("version"), "wkspctl <word>\nlibrary <word>\ndaemon <word>\nlayout <n>, geometry <hex>")
        answer = d.json("version")
        keys(answer, "wkspctl library daemon layout geometry_hash")
        tap.eq(answer["wkspctl"], answer["daemon"])
        tap.true(answer["geometry_hash"].startswith("0x"), "the hash is no string of hexadecimal digits")


def watch_while(d, args, act):
    """Runs watch and calls act(n) until it ends; its exit code and output. Nothing tells when a watch has
    begun, so what is to be seen is done until it has been."""
    proc = d.popen(binary("cli/wkspctl"), "watch", *args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    n = 0
    while proc.poll() is None and n < 2000:
        act(n)
        n += 1
    out, err = proc.communicate(timeout=60)
    tap.eq(err, b"", "standard error of watch")
    return proc.returncode, out.decode()


@tap.test
def watch():
    """watch prints events as they happen, of one workspace if named, and ends after --count"""
    with Daemon() as d:
        def churn(n):
            name = ("demo", "other")[n % 2]
            d.ok("create", name, "--size", "2M", "--page", "4k")
            d.ok("rm", name)

        rc, out = watch_while(d, ["--count", "5", "--timeout", "60"], churn)
        tap.eq(rc, 0)
        lines = [line.split() for line in out.splitlines()]
        tap.eq(len(lines), 5, f"events in\n{out}")
        for (_, kind, name), (_, next_kind, next_name) in zip(lines, lines[1:]):
            want = ("removed", name) if kind == "created" else ("created", "other" if name == "demo" else "demo")
            tap.eq((next_kind, next_name), want, f"order of events in\n{out}")

        rc, out = watch_while(d, ["demo", "--json", "--count", "4", "--timeout", "60"], churn)
        tap.eq(rc, 0)
        events = [json.loads(line) for line in out.splitlines()]
        tap.eq([event["name"] for event in events], ["demo"] * 4)
        for event in events:
            keys(event, "event name time time_ns")
            tap.true(event["event"] in ("created", "removed"), f"{event}")


@tap.test
def watch_attach():
    """watch sees who attaches and detaches"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "2M", "--page", "4k")

        def attach(_n):
            with Held(d, "held", "hold", "demo", "rw"):
                pass

        rc, out = watch_while(d, ["demo", "--count", "3", "--timeout", "60"], attach)
        tap.eq(rc, 0)
        tap.eq({line.split()[1] for line in out.splitlines()}, {"attached", "detached"})


@tap.test
def watch_timeout():
    """A watch that only waits ends well after --timeout; one that wanted more events fails"""
    with Daemon() as d:
        result = d.ctl("watch", "--timeout", "50ms")
        tap.eq((result.rc, result.out, result.err), (0, "", ""))
        fails(d, 1, ["watch", "--count", "2", "--timeout", "50ms"], "saw 0 of 2 events", "--timeout")


tap.run()
