"""Checkpoints by the real daemon while it is killed, stopped and started, and what its configuration says of them.

Every test has a daemon, socket, configuration and state folder of its own.
"""

import mmap
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
import wire
from daemon import Daemon, binary, sanitized

WAIT_S = 60
KILLS = 500 if tap.full() else 20 if sanitized() else 50


def take(d, name, *args):
    return d.json("checkpoint", name, "--wait", *args)["checkpoint"]


def idle(d):
    """No job is under way."""
    return all(job["ended_ns"] for job in d.json("jobs")["jobs"])


def progress(writer):
    """Seconds until the writer has made a round that it had not begun before; how many rounds it has made."""
    begun, rounds = time.monotonic(), 0
    for _ in range(2):  # the first answer may be of a round that was under way
        writer.stdin.write(b"?\n")
        writer.stdin.flush()
        rounds += int(writer.stdout.readline())
    return time.monotonic() - begun, rounds


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


@tap.test(timeout=1200 if tap.full() else 120)
def killed():
    """kill -9 of wkspd at random moments of checkpointing, while a program writes: each listed checkpoint verifies"""
    seed = tap.seed()
    rng = random.Random(seed)
    with Daemon(supervise=True) as d:
        d.ok("create", "w", "--size", "16M", "--page", "4k")
        writer = d.popen(binary("tests/proc/ckpt_writer"), "w", stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        tap.eq(writer.stdout.readline().strip(), b"ready", "the writer")
        d.ok("schedule", "w", "--every", "1s", "--keep-last", "3")
        listed, before, after = 0, [], []
        for n in range(KILLS):
            # A job that has been begun, or none: the moment is any of it.
            begun = d.popen(binary("cli/wkspctl"), "--socket", d.socket, "checkpoint", "w", "--style",
                            rng.choice(("raw", "lz4", "zstd")), "--mode", rng.choice(("fuzzy", "quiesce")),
                            stderr=subprocess.DEVNULL)
            if rng.random() < 0.9:
                begun.wait(WAIT_S)
            end = time.monotonic() + rng.random() * 0.05
            while time.monotonic() < end:
                pass
            before.append(progress(writer)[0])
            kill = time.monotonic()
            old = d.kill_child()
            rounds = progress(writer)[1]
            after.append(time.monotonic() - kill)
            tap.true(rounds > 0, f"the writer stood still, kill {n} (WKSP_TEST_SEED={seed})")
            begun.wait(WAIT_S)
            d.wait_restart(old)
            listed = max(listed, len(d.json("checkpoints")["checkpoints"]))
        ms = [f"{1000 * quantile(of, q):.1f}" for of in (before, after) for q in (0.5, 0.9, 1)]
        tap.diag(f"ms until the writer has gone on, median, p90, most: {', '.join(ms[:3])} with wkspd alive; "
                 f"{', '.join(ms[3:])} after kill -9; {sum(t > 0.2 for t in after)} of {KILLS} above 200 ms")
        if tap.full():  # what else the machine does it does to both
            tap.true(quantile(after, 0.9) <= 0.2 + max(before), "it goes on within 200 ms of a kill")
        d.ok("schedule", "w", "--drop")
        tap.until(lambda: idle(d), WAIT_S, "what was begun has ended")
        take(d, "w")
        for one in d.json("checkpoints")["checkpoints"]:
            tap.eq(one["bad"], None, f"checkpoint {one['id']} (WKSP_TEST_SEED={seed})")
        d.ok("checkpoint-verify", "--all", timeout_s=120)
        d.ok("restore", "w", "--as", "copy")
        tap.contains(d.ok("verify", "copy"), "sound")
        tap.true(listed > 0, "some were taken meanwhile")
        writer.stdin.close()
        tap.eq(writer.wait(WAIT_S), 0, "exit status of the writer")
        writer.stdout.close()


@tap.test
def worker_killed():
    """A worker that is killed leaves no half checkpoint, its job fails, and the next is taken"""
    with Daemon() as d:
        d.ok("create", "w", "--size", "256M", "--page", "4k")
        for _ in range(3):
            d.ok("memset", d.ok("alloc", "w", "--size", "64M", "--tag", "7").strip(), "1")
        job = d.json("checkpoint", "w", "--style", "zstd:19")["job"]

        def worker():
            with open(f"/proc/{d.proc.pid}/task/{d.proc.pid}/children", encoding="ascii") as f:
                found = f.read().split()
            state = [j for j in d.json("jobs")["jobs"] if j["id"] == job][0]["state"]
            return (found and int(found[0])) or (state in ("done", "failed") and -1)

        pid = tap.until(worker, WAIT_S, "a worker, or the end of its job")
        if pid > 0:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        last = tap.until(lambda: [j for j in d.json("jobs")["jobs"] if j["id"] == job and j["ended_ns"]], WAIT_S,
                         "the job has ended")[0]
        if last["state"] == "failed":
            tap.contains(last["message"], "killed")
            tap.eq(d.json("checkpoints")["checkpoints"], [])
        take(d, "w", "--style", "raw")
        d.ok("checkpoint-verify", "--all")
        store = os.path.join(d.state_dir, "checkpoints")
        left = [f for at, _, files in os.walk(store) if at != store for f in files]
        tap.true(all(f.endswith((".pack", ".ckpt")) for f in left), f"files {left}")


def workers(pid):
    """How many children wkspd has."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return len(f.read().split())


def fill(d, name, gaddr, size):
    """Random bytes there, which no chunk has twice."""
    with wire.Wire(d.socket) as c:
        reply = c.call("Workspaces", "Open", {1: name, 2: 0})
    tap.eq(reply.code, 0, reply.message)
    content = os.urandom(size)
    with mmap.mmap(reply.fds[0], os.fstat(reply.fds[0]).st_size) as mem:
        mem[gaddr:gaddr + size] = content
    for fd in reply.fds:
        os.close(fd)
    return content


@tap.test
def repacked():
    """After a schedule's retention a pack of which little is needed has gone, and checkpoints have what they had"""
    with Daemon() as d:
        d.ok("create", "w", "--size", "8M", "--page", "4k")
        at = int(d.ok("alloc", "w", "--size", "6M", "--tag", "7").split(":")[1], 16)
        kept = fill(d, "w", at, 6 << 20)[4 << 20:]
        first = take(d, "w", "--style", "raw")
        store = os.path.join(d.state_dir, "checkpoints", first.split(".")[0])
        pack = os.path.join(store, f"{int(first.split('.')[1], 16):016x}.pack")
        tap.true(os.path.getsize(pack) > 6 << 20, "its pack")
        changed = fill(d, "w", at, 4 << 20)
        take(d, "w", "--style", "raw")
        d.ok("checkpoint-rm", first)
        tap.eq(os.path.exists(pack), True, "a third of it is needed")
        d.ok("schedule", "w", "--every", "1s", "--keep-last", "1", "--style", "raw")
        tap.until(lambda: not os.path.exists(pack), WAIT_S, "it goes with the second run of the schedule")
        d.ok("schedule", "w", "--every", "never")
        tap.until(lambda: idle(d), WAIT_S, "the last has ended")
        d.ok("checkpoint-verify", "--all")
        d.ok("restore", "w", "--as", "copy")
        with wire.Wire(d.socket) as c:
            reply = c.call("Workspaces", "Open", {1: "copy", 2: 1})
        with mmap.mmap(reply.fds[0], os.fstat(reply.fds[0]).st_size, prot=mmap.PROT_READ) as mem:
            tap.true(mem[at:at + (6 << 20)] == changed + kept, "bytes of the copy")
        for fd in reply.fds:
            os.close(fd)
        held = sum(os.path.getsize(os.path.join(store, f)) for f in os.listdir(store))
        tap.true(held < 7 << 20, f"{held} bytes of files for 6 MiB that are needed")

def parts(d):
    return len(d.json("query", "w")["partitions"])


@tap.test
def in_place():
    """A restore in place leaves the old content or the new one, wherever wkspd is killed; who is attached is named"""
    seed = tap.seed()
    rng = random.Random(seed)
    with Daemon(supervise=True) as d:
        d.ok("create", "w", "--size", "24M", "--page", "4k")
        d.ok("memset", d.ok("alloc", "w", "--size", "16M", "--tag", "7").strip(), "1")
        begun = time.monotonic()
        take(d, "w", "--style", "lz4")
        writer = d.popen(binary("tests/proc/ckpt_writer"), "w", stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        tap.eq(writer.stdout.readline().strip(), b"ready", "the writer")
        refused = d.ctl("restore", "w", "--in-place")
        tap.eq(refused.rc, 1)
        tap.contains(refused.err, f"attached by pid {writer.pid} (uid {os.getuid()})")
        writer.stdin.close()
        tap.eq(writer.wait(WAIT_S), 0, "exit status of the writer")
        writer.stdout.close()
        tap.until(lambda: d.ctl("restore", "w", "--in-place").rc == 0, WAIT_S, "nobody is attached any more")
        long_s = time.monotonic() - begun
        tap.eq(parts(d), 1, "the new content")
        for n in range(30 if tap.full() else 3):
            d.ok("alloc", "w", "--size", "64K", "--tag", "8")
            was = d.json("show", "w")["uuid"]
            restore = d.popen(binary("cli/wkspctl"), "--socket", d.socket, "restore", "w", "--in-place",
                              stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            end = time.monotonic() + rng.random() * long_s / 4
            while time.monotonic() < end and restore.poll() is None:
                pass
            old = d.kill_child()
            restore.wait(WAIT_S)
            d.wait_restart(old)
            same = d.json("show", "w")["uuid"] == was
            tap.eq(parts(d), 2 if same else 1, f"kill {n} (WKSP_TEST_SEED={seed})")
            tap.contains(d.ok("verify", "w"), "sound")
            tap.eq([w["name"] for w in d.json("ls")["workspaces"]], ["w"], "workspaces")
            if same:
                tap.until(lambda: d.ctl("restore", "w", "--in-place").rc == 0, WAIT_S, "it is restored at last")
                tap.eq(parts(d), 1, "the new content")
        # what it was before goes first
        tap.until(lambda: d.ctl("rm", "w").rc == 0, WAIT_S, "it can be removed")


@tap.test
def restore_killed():
    """A restore is there whole or not at all, wherever wkspd is killed, and what memory it had is given back"""
    seed = tap.seed()
    rng = random.Random(seed)
    with Daemon(supervise=True) as d:
        d.ok("create", "w", "--size", "48M", "--page", "4k")
        d.ok("memset", d.ok("alloc", "w", "--size", "40M", "--tag", "7").strip(), "1")
        take(d, "w", "--style", "lz4")
        for n in range(30 if tap.full() else 3):
            pid, wait_s = d.pid(), rng.random() ** 3 / 50
            restore = d.popen(binary("cli/wkspctl"), "--socket", d.socket, "restore", "w", "--as", "copy",
                              stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            while not workers(pid) and restore.poll() is None:  # the one that fills it
                pass
            end = time.monotonic() + wait_s
            while time.monotonic() < end and restore.poll() is None:
                pass
            old = d.kill_child(pid)
            restore.wait(WAIT_S)
            d.wait_restart(old)
            there = sorted(w["name"] for w in d.json("ls")["workspaces"])
            tap.true(there in (["w"], ["copy", "w"]), f"kill {n}: {there} (WKSP_TEST_SEED={seed})")
            if "copy" in there:
                tap.contains(d.ok("verify", "copy"), "sound")
                d.ok("rm", "copy")
            tap.eq([w["name"] for w in d.json("ls")["workspaces"]], ["w"], "workspaces at the end")


@tap.test
def unlistable():
    """What cannot be listed in one store does not take the others along, and the log tells of it"""
    with Daemon() as d:
        d.ok("create", "w", "--size", "1M", "--page", "4k")
        one = take(d, "w")
        d.stop()
        root = os.path.join(d.state_dir, "checkpoints")
        with open(os.path.join(root, one.split(".")[0], "0" * 16 + ".ckpt"), "wb") as f:
            f.write(b"the id that means the newest")
        os.mkdir(os.path.join(root, "999"))
        with open(os.path.join(root, "999", "0" * 15 + "1.ckpt"), "wb") as f:
            f.truncate(60 << 30)  # more than a worker may have
        os.symlink("/nowhere", os.path.join(root, "998"))
        d.start()
        found = d.json("checkpoints")["checkpoints"]
        tap.eq([c["id"] for c in found if not c["bad"]], [one])
        tap.contains(d.log(), "store 998 cannot be listed")
        d.ok("restore", "w", "--as", "copy")


@tap.test
def left_behind():
    """A pack that a killed writer has left goes with the next checkpoint, though nothing is to be pruned"""
    with Daemon() as d:
        d.ok("create", "w", "--size", "1M", "--page", "4k")
        one = take(d, "w")
        store = os.path.join(d.state_dir, "checkpoints", one.split(".")[0])
        pack = os.path.join(store, "0" * 15 + "7.pack")
        with open(pack, "wb") as f:
            f.write(b"left")
        take(d, "w")
        tap.eq(os.path.exists(pack), False)
        d.ok("checkpoint-verify", "--all")


@tap.test
def other_sizes():
    """A restore at another size has what was there, at its addresses, and all its room; what cannot be has figures"""
    with Daemon() as d:
        d.ok("create", "w", "--size", "8M", "--page", "4k")
        where = d.ok("alloc", "w", "--size", "3M", "--tag", "7").strip()
        d.ok("memset", where, "1")
        take(d, "w")
        for size, most in (("4M", "9M"), (None, "10M"), ("10M", None), (None, "5M")):
            args = [*(("--size", size) if size else ()), *(("--max-size", most) if most else ())]
            d.ok("restore", "w", "--as", "x", *args)
            tap.contains(d.ok("verify", "x"), "sound")
            tap.eq(where.split(":")[1], d.ok("info", "x", "--tag", "7").split()[0].split(":")[1], "the address")
            got = d.json("show", "x")
            wanted = int((most or size)[:-1]) << 20
            tap.eq(got["max_size"], max(wanted, 8 << 20) if not most else wanted, f"max-size with {args}")
            d.ok("resize", "x", "--size", str(got["max_size"]))
            d.ok("alloc", "x", "--size", "1M", "--tag", "9")
            tap.until(lambda: d.ctl("rm", "x").rc == 0, WAIT_S, "nobody is attached")
        for n, (args, text) in enumerate(((("--size", "1M"), "what lives in it ends at"),
                           (("--max-size", "64M"), "at the most"),
                           (("--size", "8M", "--max-size", "4M"), "cannot have a max-size of 4194304"))):
            refused = d.ctl("restore", "w", "--as", f"x{n}", *args)
            tap.eq(refused.rc, 1, f"{args}")
            tap.contains(refused.err, text)
        tap.eq(len(d.json("ls")["workspaces"]), 1, "nothing is left")
        tap.until(lambda: d.ctl("restore", "w", "--in-place", "--max-size", "9M").rc == 0, WAIT_S, "nobody is attached")
        tap.eq(d.json("show", "w")["max_size"], 9 << 20)


@tap.test
def verified_stays():
    """When a checkpoint was found sound is known after a restart; a damaged line of the file says nothing"""
    with Daemon() as d:
        d.ok("create", "w", "--size", "4M", "--page", "4k")
        ids = [take(d, "w") for _ in range(3)]
        d.ok("checkpoint-verify", ids[0])
        d.ok("restore", "w", "--from", ids[1], "--as", "x")

        def times():
            return {one["id"]: one["verified_ns"] for one in d.json("checkpoints")["checkpoints"]}

        before = times()
        tap.true(before[ids[0]] and before[ids[1]] and not before[ids[2]], f"{before}")
        notes = os.path.join(d.state_dir, "checkpoints", ids[0].split(".")[0] + ".verified")
        tap.until(lambda: os.path.exists(notes) and open(notes, encoding="ascii").read().count("\n") == 3, WAIT_S,
                  "both are written down, and that one was restored")
        d.stop()
        d.start()
        tap.eq(times(), before, "after a restart")
        d.stop()
        with open(notes, "r+b") as f:
            text = f.read()
            at = text.index(b" ") + 3
            f.seek(at)
            f.write(bytes([text[at] ^ 1]))
        d.start()
        after = times()
        tap.eq((after[ids[0]], after[ids[1]]), (0, before[ids[1]]), "the first line is damaged")


@tap.test
def drilled():
    """A drill is restored by a worker that has nothing but the store; who kills it, or wkspd, loses no checkpoint; what
    it found outlives the daemon; a declared schedule's drills run by themselves"""
    with Daemon(supervise=True) as d:
        d.ok("create", "w", "--size", "64M", "--page", "4k")
        d.ok("memset", d.ok("alloc", "w", "--size", "48M", "--tag", "7").strip(), "1")
        for n in range(8):
            d.ok("heap", "malloc", d.ok("heap", "new", "w", "--tag", str(n + 8)).strip(), "--size", "100")
        one = take(d, "w")
        for _ in range(3):  # the daemon goes in the middle of it, or before, or after
            begun = d.popen(binary("cli/wkspctl"), "--socket", d.socket, "drill", "w", stderr=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL)
            old = d.kill_child()
            begun.wait(WAIT_S)
            d.wait_restart(old)
        d.ok("drill", "w", timeout_s=WAIT_S)
        tap.eq([w["name"] for w in d.json("ls")["workspaces"]], ["w"])
        is_ = d.json("checkpoints")["checkpoints"][0]
        tap.true(is_["drilled_ns"] and is_["id"] == one, f"{is_}")
        notes = os.path.join(d.state_dir, "checkpoints", one.split(".")[0] + ".verified")
        tap.until(lambda: os.path.exists(notes) and open(notes, encoding="ascii").read().count("\n") == 2, WAIT_S,
                  "it is written down")
        d.ok("schedule", "w", "--drill", "1s")
        tap.until(lambda: d.json("schedule", "w")["schedule"]["drill_ok_ns"], WAIT_S, "a drill by itself")
        d.ok("schedule", "w", "--drill", "never")
        tap.until(lambda: idle(d), WAIT_S, "it has ended")
        before = d.json("checkpoints")["checkpoints"][0]["drilled_ns"]
        d.stop()
        with open(notes, "a", encoding="ascii") as f:
            f.write(f"restored {int(one.split('.')[1], 16):x} 1 1\n")  # its sum is wrong
        d.start()
        tap.eq(d.json("checkpoints")["checkpoints"][0]["drilled_ns"], before, "after a restart")


@tap.test
def declared():
    """A declared workspace is checkpointed at the stop and is back at the start, before the daemon is ready"""
    with Daemon() as d:
        etc = os.path.join(d.dir, "etc")
        os.makedirs(os.path.join(etc, "workspaces.d"))
        with open(os.path.join(etc, "wkspd.conf"), "w", encoding="ascii") as f:
            f.write("[wkspd]\ncheckpoints = 1\ncheckpoint_rate = 1G\n")
        conf = os.path.join(etc, "workspaces.d", "orders.conf")
        with open(conf, "w", encoding="ascii") as f:
            f.write("[workspace]\nsize = 4M\npage_size = 4k\n[checkpoint]\nevery = 1h\njitter = 1m\nstyle = zstd:2\n"
                    "keep_last = 5\nkeep_daily = 7\non_stop = checkpoint\non_start = restore\ndrill = 2d\n")
        d.stop()
        d.args += ["--config", os.path.join(etc, "wkspd.conf")]
        d.start()
        tap.until(lambda: d.ctl("show", "orders").rc == 0, WAIT_S, "it is made, empty")
        is_ = d.json("schedule", "orders")["schedule"]
        tap.eq((is_["every_ns"], is_["jitter_ns"], is_["style"], is_["keep"]["last"], is_["keep"]["daily"]),
               (3600 * 10**9, 60 * 10**9, "zstd:2", 5, 7))
        tap.eq((is_["on_stop"], is_["on_start"], is_["drill_ns"]), ("checkpoint", "restore", 2 * 86400 * 10**9))
        d.ok("alloc", "orders", "--size", "64K", "--tag", "7")
        for n in range(2):
            ready = d.log().count(" ready pid=")
            d.stop()
            d.start()
            tap.until(lambda: d.log().count(" ready pid=") > ready, WAIT_S, "it says that it is ready")
            tap.eq(len(d.json("query", "orders")["partitions"]), 1, "partitions")
            tap.eq(len(d.json("checkpoints", "orders")["checkpoints"]), n + 1)
            tap.eq(d.json("schedule", "orders")["schedule"]["due_ns"], is_["due_ns"], "the next run")
        with open(conf, "a", encoding="ascii") as f:
            f.write("keep_yearly = 1\n")
        result = d.run(binary("daemon/wkspd"), "--check-config", "--config", os.path.join(etc, "wkspd.conf"))
        tap.eq(result.rc, 2)
        tap.contains(result.err, "orders.conf:13: unknown key 'keep_yearly'")


@tap.test
def bad_keys():
    """Each key of [checkpoint] that cannot be is named with its line, its value and what would do"""
    with Daemon() as d:
        folder = os.path.join(d.dir, "workspaces.d")
        os.makedirs(folder)
        conf = os.path.join(d.dir, "wkspd.conf")
        for line, part in (("every = 5", "a time such as 5m"), ("every = 5x", "a time such as 5m"),
                           ("jitter = -1s", "a time such as 30s"), ("mode = frozen", "fuzzy or quiesce"),
                           ("style = zstd:99", "from -7 to 19"), ("keep_last = x", "a number from 0 to 100000"),
                           ("on_stop = restore", "checkpoint or nothing"),
                           ("on_start = maybe", "empty, restore or none"),
                           ("drill = 5", "a time such as 1d")):
            with open(conf, "w", encoding="ascii") as f:
                f.write("[wkspd]\n")
            with open(os.path.join(folder, "w.conf"), "w", encoding="ascii") as f:
                f.write(f"[workspace]\nsize = 4M\n[checkpoint]\n{line}\n")
            result = d.run(binary("daemon/wkspd"), "--check-config", "--config", conf)
            tap.eq(result.rc, 2, line)
            tap.contains(result.err, "w.conf:4: ")
            tap.contains(result.err, part)
        for line, part in (("checkpoints = 17", "1 to 16"), ("checkpoint_rate = 0", "200M")):
            with open(conf, "w", encoding="ascii") as f:
                f.write(f"[wkspd]\n{line}\n")
            os.unlink(os.path.join(folder, "w.conf")) if os.path.exists(os.path.join(folder, "w.conf")) else None
            result = d.run(binary("daemon/wkspd"), "--check-config", "--config", conf)
            tap.eq(result.rc, 2, line)
            tap.contains(result.err, part)


@tap.test
def damaged_schedule():
    """A schedule that cannot be read is set aside and named, and the rest goes on"""
    with Daemon() as d:
        d.ok("create", "w", "--size", "4M", "--page", "4k")
        d.ok("schedule", "w", "--every", "1h")
        d.stop()
        path = os.path.join(d.state_dir, "schedules", "w.schedule")
        with open(path, "r+b") as f:
            f.seek(30)
            f.write(b"#")
        d.start()
        tap.contains(d.log(), "schedule-damaged workspace=w")
        tap.true(os.path.exists(path.replace(".schedule", ".bad")), "it is kept")
        tap.eq(d.json("checkpoints"), {"checkpoints": []})


if __name__ == "__main__":
    tap.run()
