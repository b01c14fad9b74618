"""Real processes, a real daemon, SIGKILL: nobody waits, nothing breaks, nothing is lost.

stress.c does the killing and the checking; this file gives it a daemon and says what is enough. The
rest is the example kv, as a user runs it.
"""

import os
import re
import select
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import Daemon, binary, sanitized

KILLS = 1000 if tap.full() else 80 if sanitized() else 200
DAEMON_KILLS = 200 if tap.full() else 20 if sanitized() else 50
INSIDE_MIN = KILLS // 4
# What is counted: every Debian has it.
TEXT = "/usr/share/common-licenses/GPL-3"


@tap.test(timeout=900 if tap.full() else 240)
def killed_again_and_again():
    """of two processes that allocate and free, one is SIGKILLed 200 times (a quarter of them at least inside
    an allocator call) and wkspd 50 times, in a sanitized build 80 and 20: the other goes on within 200 ms, every block
    stays whole, none is lost but the one in the dead one's hand, and in the end the allocator is empty"""
    seed = tap.seed()
    with Daemon(supervise=True) as d:
        d.ok("create", "w", "--size", "64M", "--page", "4k")
        result = d.run(binary("tests/proc/stress"), "drive", "w", seed, KILLS, DAEMON_KILLS,
                       timeout_s=900 if tap.full() else 240)
        tap.eq(result.rc, 0, f"exit status of stress: {result.err}")
        tap.diag(result.out.strip())
        figures = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", result.out)}
        tap.eq(figures["kills"], KILLS, "kills")
        tap.eq(figures["daemon_kills"], DAEMON_KILLS, "kills of wkspd")
        tap.true(figures["inside"] >= INSIDE_MIN,
                 f"only {figures['inside']} kills inside an allocator call, {INSIDE_MIN} wanted")
        # A processor that is taken from the whole machine is not told of; who waits for the dead is late each time.
        tap.true(figures["late"] <= 1 + KILLS // 50,
                 f"after {figures['late']} kills the other took longer than 200 ms to go on, the longest time "
                 f"{figures['slowest_us'] / 1000:.0f} ms")
        d.ok("verify", "w")
        tap.until(lambda: d.status()["lease_cnt"] == 0, 60, "the leases of the dead are gone")


def words_of(path):
    """How many words kv finds in a text."""
    with open(path, "rb") as f:
        return len(re.findall(rb"[A-Za-z]+", f.read()))


def check(d):
    """What `kv check` finds: (different words, all words)."""
    result = d.run(binary("examples/kv"), "w", "check")
    tap.eq(result.rc, 0, f"exit status of kv check: {result.err}")
    found = re.match(r"(\d+) different words, (\d+) in all", result.out)
    tap.true(found, f"kv check says: {result.out}")
    return int(found[1]), int(found[2])


def next_line(proc, timeout_s=60):
    """The next line that a process prints."""
    if not select.select([proc.stdout], [], [], timeout_s)[0]:
        raise AssertionError(f"process {proc.pid} has said nothing for {timeout_s} s")
    line = proc.stdout.readline()
    tap.true(line, f"process {proc.pid} has ended, exit status {proc.poll()}")
    return line.decode()


@tap.test
def kv_counts():
    """two processes that count into one table at the same time count every word once"""
    with Daemon() as d:
        d.ok("create", "w", "--size", "16M", "--page", "4k")
        both = [d.popen(binary("examples/kv"), "w", "count", *[TEXT] * 20) for _ in range(2)]
        for proc in both:
            tap.eq(proc.wait(60), 0, "exit status of kv count")
        different, total = check(d)
        tap.eq(total, 2 * 20 * words_of(TEXT), "words counted")
        top = d.run(binary("examples/kv"), "w", "top", "3").out.splitlines()
        tap.eq(len(top), 4, f"lines of kv top 3: {top}")
        tap.eq(top[0].split()[1], "the", "the most frequent word")
        tap.true(different > 500, f"only {different} different words")


@tap.test
def kv_killed():
    """a process that counts is SIGKILLed in the middle, wkspd too: the other goes on and finishes, and the table
    holds every word that it counted"""
    with Daemon(supervise=True) as d, tempfile.TemporaryDirectory() as folder:
        endless = os.path.join(folder, "text")
        os.mkfifo(endless)
        d.ok("create", "w", "--size", "16M", "--page", "4k")
        one = d.popen(binary("examples/kv"), "w", "count", *[TEXT] * 10000, stdout=-1)
        other = d.popen(binary("examples/kv"), "w", "count", *[TEXT] * 200, endless, stdout=-1)
        next_line(one)
        one.kill()
        tap.eq(one.wait(), -9, "exit status of the killed process")
        next_line(other)
        check(d)
        old = d.kill_child()
        next_line(other)
        d.wait_restart(old)
        with open(endless, "wb") as writer:
            writer.write(b"wkspdisback ")
        tap.eq(other.wait(60), 0, "exit status of the survivor")
        _, total = check(d)
        tap.true(total >= 200 * words_of(TEXT) + 1, f"{total} words in the table, the survivor counted more")
        d.ok("verify", "w")


@tap.test
def kv_mistakes():
    """kv says what is wrong with its arguments, with a workspace that is not there, and with an empty one"""
    with Daemon() as d:
        kv = binary("examples/kv")
        tap.eq(d.run(kv).rc, 2, "exit status without arguments")
        tap.contains(d.run(kv, "w", "cuont").err, "usage: kv")
        gone = d.run(kv, "w", "check")
        tap.eq(gone.rc, 1, "exit status for a workspace that is not there")
        tap.contains(gone.err, "w")
        d.ok("create", "w", "--size", "16M", "--page", "4k")
        empty = d.run(kv, "w", "check")
        tap.eq(empty.rc, 1, "exit status for a workspace without a table")
        tap.contains(empty.err, "kv")
        tap.eq(d.run(kv, "w", "count", "/nonexistent").rc, 1, "exit status for a text that is not there")


tap.run()
