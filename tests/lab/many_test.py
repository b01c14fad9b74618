"""Thousands of workspaces survive what happens to their daemon."""

import os
import resource
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import lab
import tap

lab.bed("nspawn", lab.debs)

FEW, MANY = 2000, 10000
# A workspace costs wkspd a descriptor; of all that it may have, workspaces get two thirds.
FILES = 20000
SIZE = 128 << 10
SPARE = 1 << 30


def create(cnt):
    """Creates that many workspaces of SIZE bytes in pages of 4 KiB."""
    lab.ok(os.path.join(lab.bin_dir(), "tests/lab/labour"), "many", f"m{cnt}-", cnt, SIZE, timeout_s=900)


def facts():
    """{name: everything that is said of it}"""
    return {w["name"]: w for w in lab.ctl("ls")["workspaces"]}


def survive(cnt):
    """Does everything to the service with that many workspaces."""
    names, held = facts(), lab.memories()
    tap.eq((len(names), len(held)), (cnt, cnt), "workspaces and memories")
    for what in (("restart", "wkspd"), ("kill", "-s", "KILL", "wkspd")):
        old = lab.serving()
        lab.ok("systemctl", *what)
        lab.serving(old)
        ready = [line for line in lab.journal().splitlines() if line.startswith("info ready ")]
        tap.diag(f"systemctl {what[0]}: {ready[-1]}")
        tap.eq(facts() == names, True, f"whether all is as it was after systemctl {what[0]}")
        tap.eq(lab.memories() == held, True, f"whether the same memory is there after systemctl {what[0]}")
        tap.eq(lab.unit()["NFileDescriptorStore"], str(cnt), "descriptors that systemd keeps")


@tap.test(timeout=400)
def thousands():
    """2,000 workspaces of 4 KiB pages are the same after a restart and after a kill -9"""
    lab.apt("install", *lab.deb_files())
    lab.serving()
    create(FEW)
    survive(FEW)


def ten_thousand():
    """10,000 workspaces of 4 KiB pages are the same after a restart and after a kill -9"""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < FILES:
        tap.skip(f"a limit of open files of {FILES}, or CAP_SYS_RESOURCE to raise it")
    with open("/proc/meminfo", encoding="ascii") as f:
        free = int(next(line for line in f if line.startswith("MemAvailable:")).split()[1]) << 10
    if free < MANY * SIZE + SPARE:
        tap.skip(f"{(MANY * SIZE + SPARE) >> 20} MiB of memory")
    create(MANY - FEW)
    survive(MANY)


# More than a minute, most of it systemd's: it compares each descriptor with all that it has.
if tap.full():
    tap.test(ten_thousand, timeout=1500)

tap.run()
