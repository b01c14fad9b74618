"""The programs of examples/ do what they say, are short, and the daemon may be killed meanwhile."""

import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import Daemon, binary

ROOT = os.environ.get("WKSP_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
EXAMPLES = os.path.join(ROOT, "examples")
LINES_MAX = 150


def example(name):
    """The path of an example's program; skips where there is no compiler for it."""
    try:
        return binary(f"examples/{name}")
    except FileNotFoundError:
        tap.true(name == "pmr", f"examples/{name} has not been built")
        tap.skip("a C++ compiler (g++ or clang++)")


def good(result, *parts):
    """It succeeded, said nothing on standard error, and these parts; its output."""
    tap.eq((result.rc, result.err), (0, ""), "exit status and standard error")
    for part in parts:
        tap.contains(result.out, part)
    return result.out


def empty_but(d, name, *tags):
    """The workspace is sound, and whatever is in it has one of these tags."""
    tap.contains(d.ok("verify", name), "sound")
    tap.eq({t["tag"] for t in d.json("usage", name)["tags"]} - {hex(t) for t in tags}, set(), f"tags in {name}")


@tap.test
def short():
    """each example has fewer than 150 lines without blank ones and the comment with which it opens"""
    seen = 0
    for folder, _, names in os.walk(EXAMPLES):
        for name in names:
            if name.endswith((".c", ".cc", ".go")):
                seen += 1
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    text = re.sub(r"\A/\*.*?\*/\n|\A(//[^\n]*\n)+", "", f.read(), flags=re.DOTALL)
                lines = sum(bool(line.strip()) for line in text.splitlines())
                tap.true(lines < LINES_MAX, f"examples/{name} has {lines} lines")
    tap.true(seen >= 5, f"only {seen} examples")


@tap.test
def ring():
    """what is sent through the ring arrives once, whole and in order, though the daemon is killed meanwhile"""
    with Daemon(supervise=True) as d:
        d.ok("create", "demo", "--size", "16M", "--page", "4k")
        to, count = d.popen(example("ring"), "demo", "receive", 200000, stdout=subprocess.PIPE), 200000
        sender = d.popen(example("ring"), "demo", "send", count, stdout=subprocess.PIPE)
        d.wait_restart(d.kill_child())
        tap.contains(sender.communicate(timeout=100)[0].decode(), f"sent {count} messages, from number 1 on")
        total = sum(i % 100 for i in range(count))
        tap.contains(to.communicate(timeout=100)[0].decode(),
                     f"received {count} messages with {total} bytes, from number 1 on")
        tap.eq((sender.returncode, to.returncode), (0, 0), "exit status of sender and receiver")
        heap = d.json("query", "demo")["roots"]
        tap.eq([r["name"] for r in heap], ["ring"])


@tap.test
def ring_killed():
    """a sender and a receiver that are killed and started again go on where they were"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "16M", "--page", "4k")
        upto = 400000
        procs = {}

        def start(what):
            procs[what] = d.popen(example("ring"), "demo", what, upto, stdout=subprocess.PIPE)

        start("send")
        start("receive")
        for what in ("send", "receive", "send", "receive"):
            # It is attached, so it is at work, or has done all of it.
            tap.until(lambda: procs[what].poll() is not None or d.json("show", "demo")["attached_rw"] == 2, 60, "work")
            procs[what].kill()
            procs[what].communicate()
            start(what)
        for what, proc in procs.items():
            out = proc.communicate(timeout=100)[0].decode()
            tap.eq(proc.returncode, 0, f"exit status of {what}")
            tap.contains(out, "sent" if what == "send" else "received")
        again = d.run(example("ring"), "demo", "receive", upto)
        tap.contains(good(again), f"received 0 messages with 0 bytes, from number {upto + 1} on")
        empty_but(d, "demo", 8)


@tap.test
def dashboard():
    """the dashboard shows usage, tags and roots, follows events, and cannot be made to write"""
    with Daemon(supervise=True) as d:
        d.ok("create", "demo", "--size", "16M", "--page", "4k")
        place = d.ok("heap", "new", "demo", "--tag", "7").strip()
        d.ok("root", "set", "demo", "things", place)
        d.ok("heap", "malloc", place, "--size", "100")
        good(d.run(example("dashboard"), "demo", 1), "demo: ", "MiB used", "tag 0x7", "root things",
             "1 small and 0 large blocks")
        proc = d.popen(example("dashboard"), "demo", 3, stdout=subprocess.PIPE)
        tap.contains(proc.stdout.readline().decode(), "demo: ")
        tap.until(lambda: d.json("show", "demo")["attached_ro"] == 1, 60, "it is attached read-only")
        with open(f"/proc/{proc.pid}/maps", encoding="ascii") as f:
            rights = {line.split()[1] for line in f if "wksp:" in line}
        tap.eq(rights, {"r--s"}, "how it has mapped the workspace")
        d.wait_restart(d.kill_child())
        proc.stdout.read()
        tap.eq(proc.wait(60), 0, "exit status")


@tap.test
def forkserver():
    """all jobs are done and each result is right, though workers are killed, and nothing is left behind"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "16M", "--page", "4k")
        good(d.run(example("forkserver"), "demo", 3, 2000), "2000 jobs done", "; 0 workers were killed")
        out = good(d.run(example("forkserver"), "demo", 3, 2000, 250), "2000 jobs done")
        tap.eq(re.search(r"(\d+) workers were killed", out)[1], "8")
        tap.until(lambda: d.status()["lease_cnt"] == 0, 60, "the leases of the dead are gone")
        empty_but(d, "demo")
        tap.eq(d.run(example("forkserver"), "demo").rc, 2, "exit status for wrong usage")


@tap.test
def forkserver_from_outside():
    """a worker that is killed from outside loses no job"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "128M", "--page", "4k")
        proc = d.popen(example("forkserver"), "demo", 2, 50000, stdout=subprocess.PIPE)
        for _ in range(5):
            workers = tap.until(lambda: proc.poll() is not None or children_of(proc.pid), 60, "workers")
            if workers is True:
                break
            try:
                os.kill(workers[0], signal.SIGKILL)
            except ProcessLookupError:
                pass
        tap.contains(proc.communicate(timeout=100)[0].decode(), "50000 jobs done")
        tap.eq(proc.returncode, 0, "exit status")
        empty_but(d, "demo")


def children_of(pid):
    """The ids of a process's children."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return [int(child) for child in f.read().split()]
    except FileNotFoundError:
        return []


@tap.test
def pmr():
    """each run of the C++ example finds the lines of those before, wherever it has mapped them"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "16M", "--page", "4k")
        good(d.run(example("pmr"), "demo", "one", "two", "one"), "     2 one\n     1 two\n3 lines, 2 of them different")
        long = "long " * 100
        good(d.run(example("pmr"), "demo", *[long] * 50), f"    50 {long}\n", "53 lines, 3 of them different")
        good(d.run(example("pmr"), "demo"), "53 lines, 3 of them different")
        leak = d.json("query", "demo")
        tap.eq([r["name"] for r in leak["roots"]], ["history"])
        empty_but(d, "demo", 10)


@tap.test
def no_daemon():
    """without a daemon, or without the workspace, each says so and fails"""
    with Daemon() as d:
        lines = {"ring": ["demo", "send", 1], "dashboard": ["demo", 1], "forkserver": ["demo", 1, 1], "pmr": ["demo"],
                 "kv": ["demo", "check"]}
        for where in ("no workspace called demo", "socket"):
            for name, args in lines.items():
                result = d.run(example(name), *args)
                tap.eq(result.rc, 1, f"exit status of {name}")
                tap.true(result.err.startswith(f"{name}: "), f"{name} says {result.err!r}")
                if where == "socket":
                    tap.contains(result.err, d.socket)
                else:
                    tap.contains(result.err, "demo")
            if where != "socket":
                d.stop()


tap.run()
