"""Checkpoints, restores, schedules and jobs by hand: every command as text and as JSON, against a private wkspd."""

import mmap
import os
import re
import select
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../lib"), os.path.join(HERE, "../proc")]

import tap
import wire
from clilib import fails, keys, looks
from daemon import Daemon, binary

CHECKPOINT = ("id name uuid uid gid permissions by mode mode_asked style created created_ns took_ns pause_ns "
              "live_size scanned_size changed_size written_size file_size part_cnt root_cnt alloc_cnt "
              "suspect_cnt silent_cnt size page_size seed verified_ns info bad drilled_ns")
JOB = ("id kind state by name uid checkpoint asked_ns begun_ns ended_ns phase done_size total_size written_size error "
       "message")
SCHEDULE = ("name every_ns jitter_ns mode style keep on_stop on_start due_ns last_ok_ns fail_cnt runs drill_ns "
            "drill_due_ns drill_ok_ns drill_number drill_fail_cnt")
WAIT_S = 60


def make(d, name="demo", size="4M"):
    """A workspace with a megabyte of tag 7 that is all 0x5a, and one of tag 9."""
    d.ok("create", name, "--size", size, "--page", "4k", "--seed", "5")
    place = d.ok("alloc", name, "--size", "1M", "--tag", "7").strip()
    d.ok("alloc", name, "--size", "1M", "--tag", "9")
    d.ok("memset", place, "0x5a")
    return place


def take(d, name="demo", *args):
    """A checkpoint of it, taken to its end; its id."""
    return d.json("checkpoint", name, "--wait", *args)["checkpoint"]


def bytes_of(d, name):
    """The content of a workspace's partition of tag 7, by its memory."""
    place = d.ok("info", name, "--tag", "7").split()[0]
    with wire.Wire(d.socket) as c:
        reply = c.call("Workspaces", "Open", {1: name, 2: 1})
    tap.eq(reply.code, 0, reply.message)
    size = os.fstat(reply.fds[0]).st_size
    with mmap.mmap(reply.fds[0], size, prot=mmap.PROT_READ) as mem:
        gaddr = int(place.split(":")[1], 16)
        content = mem[gaddr:gaddr + (1 << 20)]
    for fd in reply.fds:
        os.close(fd)
    return content


@tap.test
def checkpoint():
    """checkpoint says its job at once or, with --wait, what came of it; lists and figures agree"""
    with Daemon() as d:
        make(d)
        tap.contains(d.ok("checkpoints"), "no checkpoints; take one with wkspctl checkpoint")
        tap.eq(d.json("checkpoints"), {"checkpoints": []})
        out = d.ok("checkpoint", "demo")
        tap.true(re.fullmatch(r"checkpoint of demo is job \d+; see wkspctl jobs\n", out), out)
        tap.until(lambda: len(d.json("checkpoints")["checkpoints"]) == 1, WAIT_S, "it is there")
        out = d.ok("checkpoint", "demo", "--wait", "--style", "zstd:3", "--mode", "quiesce", "--info", "two words")
        looks(out, "checkpoint <word> of demo, <size> written")
        first, second = d.json("checkpoints", "demo")["checkpoints"]
        keys(first, CHECKPOINT)
        tap.eq((first["mode"], first["style"], first["by"], first["info"]), ("fuzzy", "lz4", "hand", ""))
        tap.eq((second["mode"], second["style"], second["info"]), ("quiesce", "zstd:3", "two words"))
        tap.eq((second["live_size"], second["part_cnt"], second["seed"]), (2 << 20, 2, 5))
        tap.eq(second["changed_size"], 0, "bytes that the store did not have")
        table = d.ok("checkpoints", "demo").splitlines()
        tap.eq(len(table), 3)
        tap.contains(table[2], "two words")
        text = d.ok("checkpoint-show", second["id"], "--verbose", "2")
        for part in ("demo", "two words", "0x7", "0x9", "partition"):
            tap.contains(text, part, "checkpoint-show")
        keys(d.json("checkpoint-show", second["id"]), CHECKPOINT)


@tap.test
def restore():
    """A restored workspace has what the checkpoint had, under another name, page size and seed, whole or by tag"""
    with Daemon() as d:
        make(d)
        id = take(d)
        d.ok("memset", d.ok("info", "demo", "--tag", "7").split()[0], "0")
        looks(d.ok("restore", "demo", "--as", "copy"), f"restored copy from checkpoint {id}")
        tap.eq(set(bytes_of(d, "copy")), {0x5a}, "bytes of the copy")
        tap.eq(set(bytes_of(d, "demo")), {0}, "bytes of the original")
        tap.contains(d.ok("verify", "copy"), "sound")
        tap.eq(d.json("show", "copy")["seed"], 5)
        tap.true(d.json("show", "copy")["uuid"] != d.json("show", "demo")["uuid"], "it has a uuid of its own")
        job = d.json("restore", "demo", "--from", id, "--as", "part", "--tag", "7", "--seed", "6")
        keys(job, JOB)
        tap.eq((job["kind"], job["state"], job["name"]), ("restore", "done", "part"))
        tap.eq(d.json("show", "part")["seed"], 6)
        tap.eq([p["tag"] for p in d.json("query", "part")["partitions"]], ["0x7"])
        d.ok("rm", "demo")
        d.ok("restore", "demo")
        tap.eq(set(bytes_of(d, "demo")), {0x5a}, "bytes of the restored one")
        d.ok("alloc", "demo", "--size", "64K")


def damage(d, id):
    """Flips a bit in the middle of the largest file of its store."""
    store = os.path.join(d.state_dir, "checkpoints", id.split(".")[0])
    pack = max((os.path.join(store, f) for f in os.listdir(store)), key=os.path.getsize)
    with open(pack, "r+b") as f:
        f.seek(os.path.getsize(pack) // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 1]))


@tap.test
def removed_and_verified():
    """checkpoint-verify finds a damaged one; checkpoint-rm removes one and leaves the others sound"""
    with Daemon() as d:
        make(d)
        one, two = take(d), take(d)
        looks(d.ok("checkpoint-verify", one), f"checkpoint {one} of demo is sound")
        looks(d.ok("checkpoint-verify", "--all"),
              f"checkpoint {one} of demo is sound\ncheckpoint {two} of demo is sound")
        tap.contains(d.ok("checkpoint-rm", one), f"removed checkpoint {one}")
        tap.eq([c["id"] for c in d.json("checkpoints")["checkpoints"]], [two])
        d.ok("checkpoint-verify", two)
        fails(d, 1, ["checkpoint-rm", one], f"there is no checkpoint {one}", "list the checkpoints")
        damage(d, two)
        result = d.ctl("checkpoint-verify", two)
        tap.eq(result.rc, 4, f"exit code of a verify of a damaged one ({result.err})")
        tap.true(d.json("checkpoints")["checkpoints"][0]["bad"], "the list says that it is bad")
        fails(d, 1, ["restore", "demo", "--as", "x"], "no checkpoint of a workspace", "list the checkpoints")
        fails(d, 1, ["restore", "demo", "--from", two, "--as", "x"], "is damaged", "restore an older one")


@tap.test
def drill():
    """drill restores the newest, or the one that is named, for trial; show, status and the list say how old the last
    verified one is; a damaged one is found, and a schedule's drills are shown"""
    with Daemon() as d:
        make(d)
        fails(d, 1, ["drill", "demo"], "there is no checkpoint of demo", "wkspctl checkpoint demo")
        tap.true("verified" not in d.ok("show", "demo"), "nothing is said where there is none")
        one, two = take(d), take(d)
        tap.contains(d.ok("show", "demo"), "none of 2 checkpoints")
        looks(d.ok("drill", "demo", "--from", one),
              f"checkpoint {one} of demo can be restored: 2 MiB of it were, and are sound")
        job = d.json("drill", "demo")
        keys(job, JOB)
        tap.eq((job["kind"], job["state"], job["checkpoint"]), ("drill", "done", two))
        tap.eq([w["name"] for w in d.json("ls")["workspaces"]], ["demo"], "nothing was published")
        first, second = d.json("checkpoints")["checkpoints"]
        for of in (first, second):
            tap.true(of["drilled_ns"] and of["drilled_ns"] == of["verified_ns"], f"{of}")
        is_ = d.json("show", "demo")["verified_checkpoint"]
        keys(is_, "id created_ns verified_ns age_ns drilled_ns")
        tap.eq((is_["id"], is_["created_ns"], is_["drilled_ns"]), (two, second["created_ns"], second["drilled_ns"]))
        tap.contains(d.ok("show", "demo"), f"checkpoint {two}, ")
        tap.eq((d.status()["unproven_cnt"], d.status()["proven_ns"]), (0, None), "no schedule asks for any")
        is_ = d.json("schedule", "demo", "--drill", "1s")["schedule"]
        keys(is_, SCHEDULE)
        tap.eq((is_["drill_ns"], is_["every_ns"]), (10**9, 0))
        tap.eq((d.status()["unproven_cnt"], d.status()["proven_ns"]), (0, second["created_ns"]))
        tap.contains(d.ok("status"), "has a verified one")
        last = tap.until(lambda: d.json("schedule", "demo")["schedule"]["drill_number"], WAIT_S, "a drill by itself")
        tap.eq(f"{last:x}", two.split(".")[1])
        tap.contains(d.ok("schedule", "demo"), "last drill")
        fails(d, 2, ["schedule", "demo", "--drill", "5"], "--drill '5'")
        d.ok("schedule", "demo", "--drill", "never")
        tap.until(lambda: all(j["ended_ns"] for j in d.json("jobs")["jobs"]), WAIT_S, "the last has ended")
        damage(d, two)
        result = d.ctl("drill", "demo")
        tap.eq(result.rc, 4, f"exit code of a drill of a damaged one ({result.err})")
        tap.true(d.json("checkpoints")["checkpoints"][1]["bad"], "the list says that it is bad")
        tap.eq(d.ctl("drill", "demo").rc, 4, "the one before shares what is damaged")
        tap.eq(d.json("show", "demo")["verified_checkpoint"], None)
        tap.eq((d.status()["unproven_cnt"], d.status()["proven_ns"]), (1, None))
        d.ok("checkpoint", "demo", "--wait")
        d.ok("drill", "demo")


@tap.test
def schedule():
    """schedule sets what is given and leaves the rest; slots run, what is not kept goes, and all of it is shown"""
    with Daemon() as d:
        make(d)
        tap.contains(d.ok("schedule", "demo"), "demo has no schedule; set one with")
        tap.eq(d.json("schedule", "demo")["schedule"], None)
        text = d.ok("schedule", "demo", "--every", "1s", "--keep-last", "2")
        tap.contains(text, "last 2, hourly 0")
        is_ = d.json("schedule", "demo", "--on-stop", "checkpoint", "--style", "raw")["schedule"]
        keys(is_, SCHEDULE)
        tap.eq((is_["every_ns"], is_["keep"]["last"], is_["on_stop"], is_["style"]),
               (10**9, 2, "checkpoint", "raw"))
        by_hand = take(d)
        tap.until(lambda: len(d.json("schedule", "demo")["schedule"]["runs"]) >= 5, WAIT_S, "slots are run")
        d.ok("schedule", "demo", "--every", "never")
        tap.until(lambda: all(j["ended_ns"] for j in d.json("jobs")["jobs"]), WAIT_S, "the last has ended")
        found = d.json("checkpoints", "demo")["checkpoints"]
        tap.eq([c["by"] for c in found].count("schedule"), 2, "kept ones")
        tap.true(by_hand in [c["id"] for c in found], "the one by hand is there")
        tap.eq(d.json("schedule", "demo")["schedule"]["due_ns"], 0)
        tap.contains(d.ok("schedule", "demo", "--drop"), "no schedule any more")
        tap.eq(d.json("schedule", "demo")["schedule"], None)


@tap.test
def restarts():
    """After a restart checkpoints, schedules and their runs are known; a workspace that is lost comes back"""
    with Daemon() as d:
        make(d)
        id = take(d)
        d.ok("schedule", "demo", "--every", "1h", "--on-start", "restore", "--on-stop", "checkpoint")
        before = d.json("schedule", "demo")["schedule"]
        place = d.ok("info", "demo", "--tag", "7").split()[0]
        d.ok("memset", place, "0x33")
        d.stop()
        d.start()
        tap.until(lambda: d.ctl("show", "demo").rc == 0, WAIT_S, "the workspace is back")
        tap.eq(set(bytes_of(d, "demo")), {0x33}, "bytes: those of the stop's checkpoint")
        found = d.json("checkpoints", "demo")["checkpoints"]
        tap.eq([c["by"] for c in found], ["hand", "daemon"])
        tap.eq(found[0]["id"], id)
        after = d.json("schedule", "demo")["schedule"]
        tap.eq((after["every_ns"], after["due_ns"]), (before["every_ns"], before["due_ns"]))
        tap.eq([r["by"] for r in after["runs"]], ["hand", "daemon"] if len(before["runs"]) else ["daemon"])
        tap.eq(take(d).split(".")[0], id.split(".")[0], "the store that it goes on with")


@tap.test
def cancelled():
    """cancel ends a job and leaves nothing; jobs tells of it, and only its owner's jobs can be meant"""
    with Daemon() as d:
        d.ok("create", "big", "--size", "256M", "--page", "4k")
        for _ in range(3):
            place = d.ok("alloc", "big", "--size", "64M", "--tag", "7").strip()
            d.ok("memset", place, "0x77")
        job = d.json("checkpoint", "big", "--style", "zstd:19")["job"]
        result = d.ctl("cancel", str(job))
        # It may have been done before.
        if result.rc == 0:
            def ended():
                found = [j for j in d.json("jobs")["jobs"] if j["id"] == job]
                return found and found[0]["ended_ns"] and found[0]
            last = tap.until(ended, WAIT_S, "it has ended")
            tap.true(last["state"] in ("cancelled", "done"), f"job {last}")
            if last["state"] == "cancelled":
                tap.eq(d.json("checkpoints")["checkpoints"], [])
        else:
            tap.contains(result.err, "has ended")
        d.ok("checkpoint", "big", "--wait", "--style", "raw")
        d.ok("checkpoint-verify", "--all")
        fails(d, 1, ["cancel", "4711"], "there is no job 4711", "list the jobs")


@tap.test
def bar():
    """On a terminal a bar shows how far it is, on standard error; elsewhere lines do"""
    with Daemon() as d:
        make(d)
        result = d.ctl("checkpoint", "demo", "--wait")
        tap.eq(result.rc, 0, result.err)
        tap.true("\r" not in result.err, "no bar where there is no terminal")
        master, slave = os.openpty()
        try:
            proc = subprocess.Popen([binary("cli/wkspctl"), "--socket", d.socket, "checkpoint-verify", "--all"],
                                    env=d.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave)
            os.close(slave)
            slave = -1
            out = proc.stdout.read().decode()
            shown = b""
            try:
                while select.select([master], [], [], WAIT_S)[0]:
                    part = os.read(master, 65536)
                    if not part:
                        break
                    shown += part
            except OSError:
                pass  # the other end is closed
            tap.eq(proc.wait(WAIT_S), 0, f"exit status ({shown})")
            proc.stdout.close()
        finally:
            os.close(master)
            if slave >= 0:
                os.close(slave)
        tap.contains(out, "is sound")
        if shown:
            tap.contains(shown.decode(), "\r")


@tap.test
def refused():
    """What cannot be is refused with its value and the way out, with the exit code for it"""
    with Daemon() as d:
        make(d)
        fails(d, 1, ["checkpoint", "none"], 'no workspace "none"')
        fails(d, 2, ["checkpoint", "demo", "--style", "gzip"], "--style 'gzip' is no style", "raw, lz4, zstd")
        fails(d, 2, ["checkpoint", "demo", "--style", "zstd:20"], "'zstd:20'", "from -7 to 19")
        fails(d, 2, ["checkpoint", "demo", "--style", "lz4:1"], "only zstd has one")
        fails(d, 2, ["checkpoint", "demo", "--mode", "frozen"], "--mode 'frozen'", "fuzzy or quiesce")
        fails(d, 1, ["checkpoint", "demo", "--info", "x" * 2000], "1023 bytes")
        fails(d, 1, ["checkpoint-show", "1.1"], "there is no checkpoint 1.1")
        fails(d, 1, ["checkpoint-show", "first"], '"first" is not the id of a checkpoint')
        fails(d, 2, ["checkpoint-show", "1.1", "--verbose", "3"], "0 to 2")
        fails(d, 2, ["checkpoint-verify"], "ID is missing")
        fails(d, 2, ["checkpoint-verify", "1.1", "--all"], "give one of them")
        fails(d, 1, ["restore", "demo"], "no checkpoint of a workspace \"demo\"")
        id = take(d)
        fails(d, 1, ["restore", "demo"], 'the name "demo" is taken')
        fails(d, 1, ["restore", "other", "--from", id], "is of workspace \"demo\"", "--as")
        fails(d, 1, ["restore", "demo", "--as", "../x"], "name")
        fails(d, 1, ["restore", "demo", "--as", "y", "--page", "8k"], "no pages of 8192 bytes")
        fails(d, 2, ["schedule", "demo", "--every", "5"], "--every '5'", "30s, 5m")
        fails(d, 1, ["schedule", "demo", "--every", "0s", "--jitter", "1s"], "jitter")
        fails(d, 1, ["schedule", "none", "--every", "5m"], 'no workspace "none"')
        fails(d, 2, ["schedule", "demo", "--on-stop", "restore"], "checkpoint or nothing")
        fails(d, 2, ["cancel", "x"], "JOB 'x'")
        tap.contains(d.ok("styles"), "zstd:LEVEL")
        tap.eq([s["style"] for s in d.json("styles")["styles"]], ["raw", "lz4", "zstd"])


if __name__ == "__main__":
    tap.run()
