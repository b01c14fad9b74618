"""Calls that change something are done once, whatever becomes of the daemon meanwhile.

Every test has a daemon, socket and state folder of its own.
"""

import os
import random
import re
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
import wire
from daemon import Daemon, binary, wait_gone

MIB = 1 << 20
WAIT_S = 60
KILLS = 30   # while clients call: then they come to their end whatever the machine's load
LOSSES = 12
CALLERS = 3
ROUNDS = 6


def insist(d, method, message):
    """Makes a call until it is answered and not under way any more; the reply."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            with wire.Wire(d.socket) as c:
                reply = c.call("Workspaces", method, message)
        except (wire.Broken, ConnectionError, FileNotFoundError):
            continue
        if reply.code != wire.UNAVAILABLE:
            return reply
        tap.true(reply.detail[1][0] in (b"repeat", b"stopping"), f"refused for now: {reply.message}")
    raise AssertionError(f"{method} was not answered within {WAIT_S} s")


class Killer:
    """Kills the serving process KILLS times, at random moments, or until it is told to stop."""

    def __init__(self, d, seed):
        self.d, self.rng, self.go_on, self.kills = d, random.Random(seed), True, 0
        self.moment = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while self.go_on and self.kills < KILLS:
            try:
                with wire.Wire(self.d.socket) as c:
                    pid = c.call("Host", "Stats", {}).fields[1][0]
                self.moment.wait(self.rng.random() * 0.05)
                os.kill(pid, signal.SIGKILL)
                wait_gone(pid)
                self.kills += 1
            except (wire.Broken, ConnectionError, ProcessLookupError):
                continue

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.go_on = False
        self.moment.set()
        self.thread.join()


def caller(d, number, failures):
    """Makes, resizes and removes a workspace of its own; every call has to succeed."""
    name = f"w{number}"
    for _ in range(ROUNDS):
        for args in (("create", name, "--size", "4M", "--max-size", "16M", "--page", "4k"),
                     ("resize", name, "--size", "12M"), ("resize", name, "--size", "6M"), ("rm", name)):
            result = d.run(binary("cli/wkspctl"), "--socket", d.socket, "--timeout", "2m", *args)
            if result.rc:
                failures.append(f"{' '.join(args)}: {result.err.strip()}")
                return


@tap.test(timeout=200)
def no_call_fails():
    """clients create, resize and remove while the daemon is killed again and again: no call fails, and each was done
    once"""
    seed = tap.seed()
    with Daemon(supervise=True) as d:
        failures = []
        threads = [threading.Thread(target=caller, args=(d, i, failures)) for i in range(CALLERS)]
        with Killer(d, seed) as killer:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        tap.diag(f"{killer.kills} kills")
        tap.eq(failures, [], "calls that failed")
        tap.true(killer.kills > 3, "kills")
        held = wire.stats(d.socket)
        tap.eq((held["workspaces"], held["bytes"]), (0, 0), "what is left")
        # a create that was answered is not made anew: each name was published once a round, unless the kill fell
        # between the disk and the line
        for i in range(CALLERS):
            made = len(re.findall(rf" created workspace=w{i} ", d.log()))
            tap.true(made <= ROUNDS, f"w{i} was created {made} times in {ROUNDS} rounds")


@tap.test(timeout=200)
def others_in_between():
    """what was done, and whose answer was lost, is not done again when others have undone it meanwhile"""
    rng = random.Random(tap.seed())
    found = {True: 0, False: 0}
    with Daemon(supervise=True) as d:
        for i in range(LOSSES):
            request = {1: "w", 2: 4 * MIB, 3: 4096, 7: 8 * MIB, 8: rng.randbytes(16)}
            with wire.Wire(d.socket) as c:
                pid = c.call("Host", "Stats", {}).fields[1][0]
                c.start("Workspaces", "Create", request)
                # now and then it has been done by then
                if i % 3 == 0:
                    c.frame()
                elif i % 3 == 1:
                    threading.Event().wait(rng.random() * 0.01)
                os.kill(pid, signal.SIGKILL)
                wait_gone(pid)
            with wire.Wire(d.socket) as c:
                done = c.call("Workspaces", "Get", {1: "w"}).code == 0
                if done:
                    tap.eq(c.call("Workspaces", "Delete", {1: "w"}).code, 0)
            found[done] += 1
            reply = insist(d, "Create", request)
            tap.eq(reply.code, 0, reply.message)
            with wire.Wire(d.socket) as c:
                there = c.call("Workspaces", "Get", {1: "w"}).code
                tap.eq(there, wire.NOT_FOUND if done else 0, f"after a create that was {'' if done else 'not '}done")
                if not there:
                    tap.eq(c.call("Workspaces", "Delete", {1: "w"}).code, 0)
        tap.diag(f"done before the kill: {found[True]}, not: {found[False]}")
        tap.true(found[True] > 0, "a kill after it was done")


@tap.test
def removed_once():
    """a removal that is asked for again does not take the successor of the name"""
    with Daemon(supervise=True) as d:
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", {1: "w", 2: MIB, 3: 4096}).code, 0)
            tap.eq(c.call("Workspaces", "Delete", {1: "w", 3: bytes(15) + b"x"}).code, 0)
            tap.eq(c.call("Workspaces", "Create", {1: "w", 2: MIB, 3: 4096}).code, 0)
        for _ in range(2):
            tap.eq(insist(d, "Delete", {1: "w", 3: bytes(15) + b"x"}).code, 0)
            with wire.Wire(d.socket) as c:
                tap.eq(c.call("Workspaces", "Get", {1: "w"}).code, 0, "the successor is there")
            d.wait_restart(d.kill_child())
        with wire.Wire(d.socket) as c:
            reply = c.call("Workspaces", "Delete", {1: "w", 3: b"short"})
            tap.eq(reply.code, wire.INVALID_ARGUMENT)
            tap.contains(reply.message, "request_id of 5 bytes")


tap.run()
