"""A program written for the published fd_wksp / fd_alloc interface, built against wksp/compat.h, run with a daemon."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import Daemon, binary


@tap.test
def published():
    """every call of the published interface that compat.h promises does there what was published"""
    with Daemon() as d:
        result = d.run(binary("tests/proc/compat"), "theirs")
        tap.eq((result.rc, result.err), (0, ""), "exit status, what was wrong")
        tap.contains(result.out, "compat: pass")
        tap.eq(d.json("ls")["workspaces"], [], "what it created is gone")
        tap.until(lambda: d.status()["lease_cnt"] == 0, 60, "its leases are gone")


@tap.test
def alone():
    """without a daemon it says so, and does not hang or fault"""
    with Daemon() as d:
        d.stop()
        result = d.run(binary("tests/proc/compat"), "theirs")
        tap.eq(result.rc, 1)
        tap.contains(result.err, "fd_wksp_new_named")


tap.run()
