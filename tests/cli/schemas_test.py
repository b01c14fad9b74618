"""docs/schemas: every command has a schema of its --json output, and what it prints is what that says."""

import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from clilib import SCHEMAS, Held, hand, valid
from daemon import Daemon, binary

# What they set is this machine's: tests/cli/pages_test.py looks at their output.
ELSEWHERE = {"hugepages reserve", "hugepages apply"}
# It has none, and says so (tests/cli/top_test.py).
WITHOUT = {"top"}


def values(text):
    """The JSON values of a text, one after the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found


class Asked:
    """A daemon, and which commands it was asked."""

    def __init__(self, d):
        self.d, self.commands = d, set()

    def __call__(self, *args, rc=0):
        """Runs wkspctl --json; what it prints must be values that the command's schema accepts. The first. rc None:
        any, for it is this machine's."""
        words = args[:2] if args[0] in ("heap", "root", "hugepages") and args[1:2] and args[1][0] != "-" else args[:1]
        self.commands.add(" ".join(words))
        result = self.d.ctl("--json", *args)
        if rc is not None:
            tap.eq(result.rc, rc, f"exit code of {args} ({result.err.strip()})")
        found = values(result.out)
        tap.true(found, f"{args} prints something")
        for value in found:
            valid("-".join(words), value)
        return found[0]

    def refused(self, rc, *args):
        """A line that fails, with an error that its schema accepts."""
        result = self.d.ctl("--json", *args)
        tap.eq((result.rc, result.out), (rc, ""), f"{args}")
        valid("error", json.loads(result.err))


def contents(ask):
    """Partitions, roots and heaps."""
    place = ask("alloc", "demo", "--size", "64K", "--tag", "7")["partition"]
    for found in ("7", "8"):
        ask("info", "demo", "--tag", found)
    ask("tag-query", place)
    ask("memset", place, "3")
    ask("root", "set", "demo", "words", place)
    ask("root", "ls", "demo")
    heap = ask("heap", "new", "demo", "--tag", "9")["heap"]
    block = ask("heap", "malloc", heap, "--size", "8")["block"]
    ask("heap", "malloc", heap, "--size", "1M")
    for what in ("test", "tag", "full"):
        ask("heap", "query", heap, "--what", what)
    ask("heap", "query", heap, "--what", "leak", rc=4)
    ask("heap", "query", heap)
    ask("heap", "leaks", heap, rc=4)
    for command in ("usage", "query", "map", "compact", "verify", "check"):
        ask(command, "demo")
    ask("heap", "free", heap, block)
    ask("heap", "compact", heap)
    return place, heap


def checkpoints(ask):
    """Checkpoints, restores, schedules and jobs."""
    ask("checkpoints")
    ask("checkpoint", "demo", "--wait", "--info", "a text")
    one = ask("checkpoints")["checkpoints"][0]["id"]
    ask("checkpoint-show", one)
    ask("checkpoint-verify", "--all")
    ask("drill", "demo")
    ask("show", "demo")
    ask("checkpoints", "demo")
    ask("restore", "demo", "--from", one, "--as", "copy")
    ask("schedule", "demo")
    ask("schedule", "demo", "--every", "1s", "--style", "zstd:3", "--drill", "1d")
    ask("status")
    tap.until(lambda: ask("schedule", "demo")["schedule"]["runs"], 60, "a run of the schedule")
    ask("schedule", "demo", "--drop")
    job = ask("checkpoint", "copy")["job"]
    result = ask.d.ctl("--json", "cancel", str(job))
    # It may have ended before.
    ask.commands.add("cancel")
    valid("cancel" if result.rc == 0 else "error", json.loads(result.out or result.err))
    ask("jobs")
    ask("checkpoint-rm", one)
    ask("styles")


@tap.test
def outputs():
    """what each command prints under --json is what its schema says, without a key that it does not name; no command
    is without one, and none is left over"""
    with Daemon() as d:
        ask = Asked(d)
        ask("plan", "--size", "4M", "--page", "4k")
        ask("plan", "--size", "2M", "--page", "1G", rc=None)
        ask("create", "demo", "--size", "4M", "--max-size", "16M", "--page", "4k")
        ask("resize", "demo", "--size", "8M")
        place, heap = contents(ask)
        checkpoints(ask)
        with Held(d, "held", "hold", "demo", "rw"):
            for command in ("ls", "clients", "status", "metrics", "version", "reload", "topology", "hugepages"):
                ask(command)
            ask("show", "demo")
        ask("doctor", rc=None)
        ask("heap", "rm", heap)
        ask("free", place)
        ask("tag-free", "demo", "--tag", "7")
        ask("root", "rm", "demo", "words")
        ask("reset", "demo")
        ask("rebuild", "demo")
        ask("rm", "copy", "--force")
        watch(ask)
        ask.refused(1, "show", "nobody")
        ask.refused(2, "create")
        every = {line[2:19].strip() for line in d.ok("help", "commands").splitlines()} - {"help", "heap", "root"}
        tap.eq(sorted(every - ask.commands - ELSEWHERE - WITHOUT), [], "commands that were not tried")
        files = {name.removesuffix(".json") for name in os.listdir(SCHEMAS)}
        tap.eq(files, {name.replace(" ", "-") for name in every - WITHOUT} | {"common", "error"}, "schemas")


def watch(ask):
    """An event for each kind of line."""
    ask.commands.add("watch")
    with open(os.path.join(ask.d.dir, "events"), "w+b") as out:
        proc = ask.d.popen(binary("cli/wkspctl"), "--json", "watch", "--count", "1", stdout=out)
        tap.until(lambda: any(c["watch_cnt"] for c in ask("clients")["clients"]), 60, "somebody watches")
        ask("rm", "demo")
        tap.eq(proc.wait(60), 0, "exit code of watch")
        out.seek(0)
        for value in values(out.read().decode()):
            valid("watch", value)


@tap.test
def refuses():
    """a value of the wrong type, a key that is missing and one that no schema names are found"""
    good = {"removed": "x", "force": False}
    valid("rm", good)
    for bad in ({"removed": 1, "force": False}, {"removed": "x"}, {**good, "more": 1}, []):
        try:
            valid("rm", bad)
        except AssertionError:
            continue
        raise AssertionError(f"{bad} was accepted")


tap.run()
