"""wkspctl doctor on this machine: with a daemon, without one, and as somebody whom the socket is closed to."""

import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from clilib import keys
from daemon import Daemon, binary, sanitizer_check

NOBODY = 65534
CHECKS = "daemon mappings membarrier memlock nodes nofile pools shmem socket units userfaultfd".split()


def examined(done):
    """{check: [lines]} of doctor --json, which must be consistent."""
    answer = json.loads(done.out)
    keys(answer, "checks ok warn fail")
    lines = {}
    for line in answer["checks"]:
        keys(line, "check state what mend")
        tap.eq(line["mend"] is None, line["state"] == "ok", f"whether {line} wants no mending")
        lines.setdefault(line["check"], []).append(line)
    for state in ("ok", "warn", "fail"):
        tap.eq(answer[state], sum(line["state"] == state for line in answer["checks"]), state)
    tap.eq(done.rc, 1 if answer["fail"] else 0, "exit status")
    if answer["fail"]:
        tap.eq(json.loads(done.err)["error"], "unwell")
    tap.eq([check for check in CHECKS if check not in lines], [], "checks that say nothing")
    return lines


@tap.test
def with_daemon():
    """with a daemon, socket and daemon are well, and the text says what the JSON says"""
    with Daemon(supervise=True) as d:
        lines = examined(d.ctl("doctor", "--json"))
        tap.eq([line["state"] for line in lines["socket"] + lines["daemon"]], ["ok", "ok"])
        tap.contains(lines["socket"][0]["what"], d.socket)
        tap.contains(lines["nofile"][0]["what"], "wkspd may open")
        text = d.ctl("doctor").out
        for check in ("socket", "nofile", "nodes", "membarrier", "mappings"):
            for line in lines[check]:
                tap.contains(text, f"{line['state']:4}  {check:11}  {line['what']}\n")


@tap.test
def unkept():
    """a daemon whose memory nobody keeps is a warning, not a failure"""
    with Daemon() as d:
        lines = examined(d.ctl("doctor", "--json"))
        tap.eq([line["state"] for line in lines["daemon"]], ["ok", "warn"])
        tap.contains(lines["daemon"][1]["mend"], "--supervise")


@tap.test
def without_daemon():
    """without a daemon doctor fails, looks at all the rest, and says how to start one"""
    with Daemon() as d:
        d.stop()
        done = d.ctl("doctor", "--json")
        lines = examined(done)
        tap.eq(done.rc, 1)
        tap.eq([line["state"] for line in lines["daemon"]], ["fail"])
        tap.contains(lines["daemon"][0]["mend"], "systemctl")
        tap.contains(d.ctl("doctor").err, "failed")


@tap.test
def closed_socket():
    """who may not connect is told what the socket's mode and group are, and how to get in"""
    if os.geteuid():
        tap.skip("root, to become somebody else")
    with Daemon() as d:
        os.chmod(d.dir, 0o755)
        os.chmod(d.socket, 0o660)
        program = shutil.copy(binary("cli/wkspctl"), d.dir)
        os.chmod(program, 0o755)
        done = subprocess.run([program, "doctor", "--json"], user=NOBODY, group=NOBODY, extra_groups=[], env=d.env,
                              cwd="/", capture_output=True, text=True, timeout=60, check=False)
        sanitizer_check(done.stderr, "doctor as nobody")
        line = json.loads(done.stdout)["checks"][0]
        tap.eq((done.returncode, line["check"], line["state"]), (1, "socket", "fail"))
        tap.contains(line["what"], "0660")
        tap.contains(line["mend"], "usermod -aG")


tap.run()
