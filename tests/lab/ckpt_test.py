"""Checkpoints by the installed service: its workers behind their fences in the hardened unit, and a stop and a start
of the unit, which lose the memory and bring it back."""

import os
import platform
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import inject
import lab
import tap

lab.bed("nspawn", lab.debs)


def status(pid):
    """What /proc says of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def worker(parent, job):
    """What /proc says of a worker while the job runs; {}: it has ended."""

    def look():
        with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as f:
            for pid in f.read().split():
                try:
                    facts = status(pid)
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if facts["Seccomp"].strip() == "2":  # it is in its sandbox
                    return [{**facts, "pid": int(pid)}]
        jobs = [j for j in lab.ctl("jobs")["jobs"] if j["id"] == job]
        return [{}] if jobs and jobs[0]["ended_ns"] else []

    return tap.until(look, lab.READY_S, "a worker in its sandbox, or the end of its job")[0]


@tap.test(timeout=300)
def fenced():
    """a worker of a checkpoint has a filter, no capability and no way to new rights, and does what it is for"""
    lab.apt("install", *lab.deb_files("libwksp1", "libwksp-ckpt1", "wkspd"))
    pid = lab.serving()
    lab.ok("wkspctl", "create", "w", "--size", "128M", "--page", "4k")
    for _ in range(2):
        at = lab.ok("wkspctl", "alloc", "w", "--size", "48M", "--tag", "7").strip()
        lab.ok("wkspctl", "memset", at, "5")
    seen = {}
    for _ in range(5):  # one that ends sooner than it is found shows nothing
        job = lab.ctl("checkpoint", "w", "--style", "zstd:19")["job"]
        seen = worker(pid, job)
        tap.until(lambda: all(j["ended_ns"] for j in lab.ctl("jobs")["jobs"]), lab.READY_S, "the job has ended")
        if seen:
            break
        lab.ok("wkspctl", "checkpoint-rm", lab.ctl("checkpoints")["checkpoints"][0]["id"])
    tap.true(seen, "a worker was seen")
    tap.eq((seen["NoNewPrivs"], int(seen["CapEff"], 16), int(seen["CapPrm"], 16)), ("1", 0, 0))
    tap.eq(seen["Uid"].split()[0], status(pid)["Uid"].split()[0], "its user")
    lab.ok("wkspctl", "checkpoint-verify", "--all")
    lab.ok("wkspctl", "restore", "w", "--as", "copy")
    tap.contains(lab.ok("wkspctl", "verify", "copy"), "sound")
    lab.ok("wkspctl", "checkpoint", "w", "--mode", "quiesce", "--wait")
    lab.ok("wkspctl", "rm", "copy")


@tap.test(timeout=300)
def fence():
    """a worker in the unit that was taken over reads and writes no file but its store's: what it is made to call, the
    kernel refuses"""
    if platform.machine() != "x86_64":
        tap.skip("system calls put into another process, which this test knows for x86_64 only")
    if inject.landlock_version() < 1:
        tap.skip("Landlock in the kernel")
    pid = lab.serving()
    results = None
    for _ in range(5):
        job = lab.ctl("checkpoint", "w", "--style", "zstd:19")["job"]
        seen = worker(pid, job)
        if seen:
            results = made(seen["pid"])
        tap.until(lambda: all(j["ended_ns"] for j in lab.ctl("jobs")["jobs"]), lab.READY_S, "the job has ended")
        if results:
            break
        lab.ok("wkspctl", "checkpoint-rm", lab.ctl("checkpoints")["checkpoints"][-1]["id"])
    tap.true(results, "a worker was found in its sandbox")
    own, others = results
    tap.true(own >= 0, f"its own store: {own}")
    for path, result in others.items():
        tap.eq(result, -inject.EACCES, f"open of {path}")
    done = [j for j in lab.ctl("jobs")["jobs"] if j["id"] == job][0]
    tap.eq(done["state"], "done", "and it has done what it is for")
    lab.ok("wkspctl", "checkpoint-verify", "--all")


def made(pid):
    """What a worker gets that is made to open its store's folder and files elsewhere; None: it has ended."""
    try:
        with inject.Stopped(pid) as taken:
            own = taken.open_at(inject.STORE_FD, ".", os.O_RDONLY | os.O_DIRECTORY)
            if own >= 0:
                taken.call(inject.CLOSE, own)
            # Absolute, so the filter lets them pass: it is the fence that is asked.
            others = {}
            for path, flags in (("/etc/passwd", os.O_RDONLY), ("/var/lib/wkspd/specs", os.O_RDONLY),
                                ("/proc/self/maps", os.O_RDONLY), ("/var/lib/wkspd/new", os.O_WRONLY | os.O_CREAT),
                                ("/tmp/new", os.O_WRONLY | os.O_CREAT)):
                others[path] = taken.open_at(inject.STORE_FD, path, flags)
            return own, others
    except (ProcessLookupError, FileNotFoundError):
        return None


@tap.test(timeout=300)
def stop_start():
    """a stop of the unit checkpoints what is to be, and after the start it is there again"""
    lab.ok("wkspctl", "schedule", "w", "--every", "1h", "--on-stop", "checkpoint", "--on-start", "restore")
    before = lab.ctl("query", "w")["partitions"]
    for _ in range(2):
        taken = len(lab.ctl("checkpoints")["checkpoints"])
        lab.ok("systemctl", "stop", "wkspd")
        lab.ok("systemctl", "start", "wkspd.socket", "wkspd")
        lab.serving()
        tap.until(lambda: lab.run("wkspctl", "show", "w")[0] == 0, lab.READY_S, "it is back")
        if len(lab.ctl("checkpoints")["checkpoints"]) != taken + 1:
            tap.diag(lab.ok("journalctl", "-u", "wkspd", "-n", "60", "--no-pager"))
        tap.eq(len(lab.ctl("checkpoints")["checkpoints"]), taken + 1, "checkpoints")
        tap.eq(lab.ctl("query", "w")["partitions"], before, "partitions")
        tap.contains(lab.ok("wkspctl", "verify", "w"), "sound")


if __name__ == "__main__":
    tap.run()
