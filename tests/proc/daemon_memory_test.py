"""The daemon's own memory: it does not grow with what it has done, and where the system gives it no more, nothing is
lost."""

import os
import random
import resource
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import talk
import tap
import wire
from daemon import Daemon

WAIT_S = 60
WARM_TALKS = 6
SHORT_TALKS = 12
FULL_S = 60
# The heaps of its threads fill at different times; a talk has some thirty requests.
GROWTH_MAX = 4 << 20
SHORT_SQUEEZES = 4
FULL_SQUEEZES = 60


def field(pid, name):
    """Bytes, of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith(name + ":"))


def need_plain(pid):
    """Skips the test where a sanitizer keeps what was freed."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as f:
        if "libasan" in f.read():
            tap.skip("a build without the address sanitizer, which keeps what was freed")


@tap.test(timeout=600 if tap.full() else 240)
def flat():
    """its memory after every kind of request, again and again, is what it was after the first of them"""
    with Daemon() as d:
        need_plain(d.proc.pid)

        def some(cnt):
            for _ in range(cnt):
                tap.eq(talk.whole(d), [], "what is refused")
                talk.clean_up(d)

        some(WARM_TALKS)
        before, cnt = field(d.proc.pid, "RssAnon"), 0
        end = time.monotonic() + FULL_S
        while cnt < SHORT_TALKS or (tap.full() and time.monotonic() < end):
            some(1)
            cnt += 1
        after = field(d.proc.pid, "RssAnon")
        tap.diag(f"{before >> 10} KiB, after {cnt} more times everything {after >> 10} KiB")
        tap.true(after < before + GROWTH_MAX, f"its memory has grown from {before} to {after} bytes")


@tap.test(timeout=900 if tap.full() else 240)
def squeezed():
    """without room for more memory requests fail or the daemon is started anew; workspaces that there were are whole,
    and it holds what it held before"""
    rng = random.Random(tap.seed())
    restarts = failures = 0
    with Daemon(supervise=True) as d:
        pid = d.pid()
        need_plain(pid)
        d.ok("create", "kept", "--size", "4M", "--page", "4k")
        talk.whole(d)
        talk.clean_up(d)
        fresh = wire.stats(d.socket)
        for _ in range(FULL_SQUEEZES if tap.full() else SHORT_SQUEEZES):
            was = resource.prlimit(pid, resource.RLIMIT_AS)
            room = field(pid, "VmSize") + rng.choice([0, 4096, 65536, 1 << 20])
            resource.prlimit(pid, resource.RLIMIT_AS, (room, was[1]))
            failures += len(talk.whole(d))
            try:
                resource.prlimit(pid, resource.RLIMIT_AS, was)
            except ProcessLookupError:
                pass
            now = d.pid()
            restarts += now != pid
            pid = now
            talk.clean_up(d)
            talk.as_at_first(d, fresh, "after a squeeze")
            d.ok("verify", "kept")
        tap.diag(f"{failures} requests failed, {restarts} new starts")
        tap.true(failures + restarts > 0, "it was short of memory")


tap.run()
