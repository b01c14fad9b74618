"""Eight programs work in shared memory, and one makes and removes workspaces, while their daemon is restarted by
systemd, killed, and installed anew."""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import lab
import tap

lab.bed("nspawn", lab.debs)

ROUNDS = 50 if tap.full() else 5
INSTALLS = 50 if tap.full() else 2
WORKERS = 8
STEPS = 200  # operations of each worker between two events
MANY = 100
MEMBER = {"user": "labour", "group": "labour", "extra_groups": ["wkspd"]}


def labour_once(*args):
    """Runs a labour program to its end."""
    lab.ok(os.path.join(lab.bin_dir(), "tests/lab/labour"), *args, **MEMBER)


def restart():
    lab.ok("systemctl", "restart", "wkspd")


def kill():
    lab.ok("systemctl", "kill", "-s", "KILL", "wkspd")


def reinstall():
    lab.apt("install", "--reinstall", *lab.deb_files())


def execute_anew():
    """systemd itself starts anew, with what it keeps, and so does the service."""
    lab.ok("systemctl", "daemon-reexec")
    restart()


def listed():
    """The workspaces that are not a caller's, without what changes when somebody merely looks."""
    return [w for w in lab.ctl("ls")["workspaces"] if not w["name"].startswith("call-")]


def settled(names):
    """Fails unless the memory there is, in any process, is that of the workspaces listed, page for page."""

    def agree():
        there = {w["name"] for w in listed()}
        return there == names and len(lab.memories()) == len(names)

    tap.until(agree, lab.READY_S, f"the memory of {len(names)} workspaces, and no other")
    return lab.memories()


@tap.test
def set_up():
    """the packages are installed; two workspaces for the workers, of huge pages where there are some, and one that
    nobody uses, are made by an ordinary user"""
    lab.apt("install", *lab.deb_files())
    lab.serving()
    lab.add_user()
    for name, size, page in (("huge", "48M", "auto"), ("small", "48M", "4k"), ("idle", "2M", "4k")):
        lab.ok("wkspctl", "create", name, "--size", size, "--page", page, **MEMBER)
    tap.diag(f"pages of 'huge': {lab.ctl('show', 'huge')['page_size']} bytes")
    for name in ("huge", "small"):
        labour_once("setup", name)


def survives(what, how, labour, rounds):
    """Does it to the service, while they all work, so many times."""
    steps = [STEPS] * WORKERS + [1]
    labour.go_on(steps)
    before = listed()
    for number in range(rounds):
        labour.go_on(steps)
        old = lab.serving()
        how()
        lab.serving(old)
        labour.go_on(steps)
        tap.eq(listed(), before, f"workspaces after {what} {number + 1}")


def under_labour(what, how, rounds=ROUNDS):
    """survives(), with workers and a caller; and what memory there is before and after agrees."""
    names = {w["name"] for w in listed()}
    before = settled(names)
    labour = lab.Labour("/var/tmp")
    seed = tap.seed()
    try:
        for i in range(WORKERS):
            labour.start("work", "huge" if i % 2 else "small", "BOARD", "PLACE", (seed + i) % (1 << 31))
        labour.start("call", f"call-{what[:4]}-", "BOARD", "PLACE")
        survives(what, how, labour, rounds)
        tap.diag("; ".join(labour.finish()))
    finally:
        labour.kill()
    tap.until(lambda: lab.ctl("status")["lease_cnt"] == 0, lab.READY_S, "the leases of the ended are gone")
    tap.eq(settled(names), before, f"bytes of memory by inode after {rounds} times {what}")
    for name in ("huge", "small"):
        lab.ok("wkspctl", "verify", name)
    tap.eq(lab.ctl("status")["quarantined_cnt"], 0, "quarantined workspaces")


@tap.test(timeout=900)
def restarted():
    """systemctl restart, 5 times (50 in --full): no client sees an error, no byte differs, every workspace is listed
    again, no call is done twice, and the same memory is there, page for page"""
    under_labour("restart", restart)


@tap.test(timeout=900)
def killed():
    """systemctl kill -s KILL, as often: the same"""
    under_labour("kill", kill)


@tap.test(timeout=1800)
def installed_again():
    """the packages are installed again over the running daemon, twice (50 times in --full): the same"""
    under_labour("reinstall", reinstall, INSTALLS)


@tap.test
def leases_of_the_silent():
    """a program that attached and never calls keeps its lease over a restart, a kill, a re-installation, and one of
    systemd's own: its workspace cannot be removed; when it ends, the lease ends"""
    labour = lab.Labour("/var/tmp")
    try:
        labour.start("work", "small", "BOARD", "PLACE", 1)
        labour.go_on([1])
        for how in (restart, kill, reinstall, execute_anew):
            old = lab.serving()
            how()
            lab.serving(old)
            tap.eq(lab.ctl("show", "small")["attached_rw"], 1, "leases")
            tap.true(lab.run("wkspctl", "rm", "small")[0] == 1, "a workspace in use was removed")
    finally:
        labour.kill()
    tap.until(lambda: lab.ctl("show", "small")["attached_rw"] == 0, lab.READY_S, "the lease of the dead is gone")


@tap.test
def hangs():
    """a daemon that stands still is found by systemd's watchdog and started again, with everything it had"""
    lab.drop_in("wkspd.service", "[Service]\nWatchdogSec=4s\n")
    restart()
    before, old = listed(), lab.serving()
    stopped = lab.unit()["WatchdogTimestampMonotonic"]
    tap.until(lambda: lab.unit()["WatchdogTimestampMonotonic"] != stopped, lab.READY_S, "it says that it lives")
    os.kill(old, signal.SIGSTOP)
    lab.serving(old)
    tap.contains(lab.journal(), "Watchdog timeout", "the service's log")
    tap.eq(listed(), before, "workspaces")
    lab.drop_in("wkspd.service", "")


@tap.test
def stopped():
    """after systemctl stop the next call starts it again, with nothing where systemd does not keep descriptors of a
    stopped service: the log names each workspace that is lost; a program that has one mapped goes on unharmed"""
    kept = lab.unit().get("FileDescriptorStorePreserve") == "yes"
    names = {w["name"] for w in listed()}
    labour = lab.Labour("/var/tmp")
    try:
        labour.start("work", "small", "BOARD", "PLACE", 1)
        labour.go_on([STEPS])
        lab.ok("systemctl", "stop", "wkspd.service")
        tap.eq(lab.unit()["ActiveState"], "inactive", "the service")
        labour.go_on([STEPS])
        tap.eq({w["name"] for w in listed()}, names if kept else set(), "workspaces after stop and start")
        told = [line for line in lab.journal().splitlines() if " memory-lost " in line]
        lost = {line.split("workspace=")[1].split()[0] for line in told}
        tap.eq(lost, set() if kept else names, "workspaces that the log says are lost")
        labour.go_on([STEPS])
        labour.finish()
    finally:
        labour.kill()


@tap.test
def start_with_a_hundred():
    """systemctl restart with 100 workspaces ends with all of them served; how long it took stands here"""
    labour_once("many", "hundred", MANY, 1 << 20)
    took = []
    for _ in range(5):
        old = lab.serving()
        restart()
        lab.serving(old)
        unit = lab.unit()
        took.append((int(unit["ActiveEnterTimestampMonotonic"]) - int(unit["ExecMainStartTimestampMonotonic"])) / 1000)
    tap.eq(sum(w["name"].startswith("hundred") for w in listed()), MANY, "workspaces")
    tap.diag(f"from exec to ready, ms, with {len(listed())} workspaces: {' '.join(f'{ms:.1f}' for ms in took)}")


@tap.test
def empties():
    """when every workspace is removed, no memory and no descriptor is kept by anybody"""
    for workspace in listed():
        lab.ok("wkspctl", "rm", workspace["name"])
    tap.until(lambda: not lab.memories(), lab.READY_S, "no memory is left")
    tap.until(lambda: lab.unit()["NFileDescriptorStore"] == "0", lab.READY_S, "systemd keeps nothing")


tap.run()
