"""Memory and leases outlive the daemon under --supervise, whatever ends it.

Every test has a daemon, socket and state folder of its own.
"""

import contextlib
import mmap
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
import wire
from daemon import Daemon, alive, binary, wait_gone

SIZE = 2 << 20
WAIT_S = 60
# Who was ready for so long is started again at once (daemon/shell/supervise.c).
STEADY_S = 1


def create(name, size=SIZE):
    return {1: name, 2: size, 3: 4096}


def pid_of(d):
    """The serving process; waits in the backlog while there is none."""
    with wire.Wire(d.socket) as c:
        return c.call("Host", "Stats", {}).fields[1][0]


def kill_daemon(d):
    """SIGKILLs the serving process and waits until it is gone."""
    pid = pid_of(d)
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)
    return pid


def info(d, name):
    """(code, uuid, attached_rw, attached_ro, quarantined, reason) of a workspace."""
    with wire.Wire(d.socket) as c:
        reply = c.call("Workspaces", "Get", {1: name})
        if reply.code:
            return (reply.code, b"", 0, 0, 0, "")
        w = wire.decode(reply.fields[1][0])
        return (0, w[2][0], (w[12] or [0])[0], (w[13] or [0])[0], (w[15] or [0])[0], b"".join(w[16]).decode())


@contextlib.contextmanager
def cramped(files, inherited):
    """A supervised daemon with that limit of open files, and so many that it did not open itself."""
    d = Daemon(supervise=True)
    extra = [os.open("/dev/null", os.O_RDONLY) for _ in range(inherited)]
    os.makedirs(d.state_dir, exist_ok=True)
    with open(d.log_path, "ab") as log:
        d.proc = subprocess.Popen(
            [binary("daemon/wkspd"), "--supervise", "--socket", d.socket, "--state-dir", d.state_dir],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=extra,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)))
    for fd in extra:
        os.close(fd)
    try:
        d.wait_ready()
        yield d
        d.stop()
    finally:
        d.cleanup()


def open_files(pid):
    """How many descriptors that process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def holds(d, cnt):
    """Waits until the supervisor has so many: it closes what came with a barrier after it has answered."""
    tap.until(lambda: open_files(d.proc.pid) == cnt, WAIT_S, f"{cnt} descriptors of the supervisor")


def switches(pid):
    """How often that process has gone to sleep."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", f.read(), re.M).group(1))


def refused_elsewhere(d, *args):
    """What another wkspd says that is started on d's state folder, and refuses."""
    done = subprocess.run([binary("daemon/wkspd"), "--socket", os.path.join(d.dir, "other"), "--state-dir",
                           d.state_dir, *args], capture_output=True, timeout=WAIT_S, check=False, text=True)
    tap.eq(done.returncode, 1, f"exit status of a second wkspd {args}: {done.stderr}")
    return done.stderr


@contextlib.contextmanager
def shared_folder(d):
    """Meanwhile a daemon that is started on d's state folder refuses: others could write to it."""
    path = os.path.join(d.state_dir, "specs")
    os.chmod(path, 0o770)
    try:
        yield path
    finally:
        os.chmod(path, 0o700)


@tap.test
def killed_twenty_times():
    """a daemon that is SIGKILLed 20 times loses no workspace, no lease and no byte; clients that connect meanwhile wait
    and are served"""
    rng = random.Random(tap.seed())
    with Daemon(supervise=True) as d:
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
            rw = c.call("Workspaces", "Open", {1: "w"}).fds
            ro = c.call("Workspaces", "Open", {1: "w", 2: 1}).fds
        first = info(d, "w")
        tap.eq(first[2:4], (1, 1), "leases")
        mem, view = mmap.mmap(rw[0], SIZE), mmap.mmap(ro[0], SIZE, prot=mmap.PROT_READ)
        tail = SIZE - (1 << 18)
        slowest = 0.0
        for i in range(20):
            data = rng.randbytes(1 << 18)
            mem[tail:] = data
            old = kill_daemon(d)
            began = time.monotonic()
            mem[tail:tail + 8] = data[:8]  # clients go on while there is no daemon
            tap.eq(info(d, "w"), first, f"the workspace after kill {i}")
            slowest = max(slowest, time.monotonic() - began)
            tap.true(pid_of(d) != old, "the dead daemon answered")
            with wire.Wire(d.socket) as c:
                again = c.call("Workspaces", "Open", {1: "w", 2: 1})
                tap.eq(again.code, 0)
                with mmap.mmap(again.fds[0], SIZE, prot=mmap.PROT_READ) as fresh:
                    tap.true(fresh[tail:] == data and view[tail:] == data, f"other bytes after kill {i}")
                for fd in again.fds:
                    os.close(fd)
            tap.until(lambda: info(d, "w") == first, WAIT_S, "the second reader's lease ended")
        started = [int(us) for us in re.findall(r"start_us=(\d+)", d.log())]
        tap.diag(f"restarts took the daemon {min(started[1:])} to {max(started[1:])} us, answers {slowest:.3f} s")
        for fd in rw + ro:
            os.close(fd)
        mem.close()
        view.close()
        tap.until(lambda: wire.stats(d.socket)["leases"] == 0, WAIT_S, "the leases ended with their holders")
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Delete", {1: "w"}).code, 0)


@tap.test
def killed_while_creating():
    """a daemon that is killed at a random moment of a create has made the workspace or not, and nothing else is left"""
    rng = random.Random(tap.seed())
    with Daemon(supervise=True) as d:
        before = wire.stats(d.socket)
        made = 0
        for i in range(15):
            pid = pid_of(d)
            with wire.Wire(d.socket) as c:
                c.start("Workspaces", "Create", create("w", 4 << 20))
                # other requests are answered meanwhile: that many round trips later
                with wire.Wire(d.socket) as other:
                    for _ in range(rng.randrange(150)):
                        other.call("Host", "Version", {})
                    os.kill(pid, signal.SIGKILL)
                wait_gone(pid)
            code = info(d, "w")[0]
            tap.true(code in (0, wire.NOT_FOUND), f"code {code} after kill {i}")
            if not code:
                made += 1
                with wire.Wire(d.socket) as c:
                    reply = c.call("Workspaces", "Open", {1: "w"})
                    tap.eq(reply.code, 0, "opening what is listed")
                    for fd in reply.fds:
                        os.close(fd)
                    tap.until(lambda c=c: c.call("Workspaces", "Delete", {1: "w"}).code == 0, WAIT_S, "deletable")
            tap.until(lambda: wire.stats(d.socket) == before, WAIT_S, f"all as before kill {i}")
            tap.until(lambda: not os.listdir(os.path.join(d.state_dir, "specs")), WAIT_S, "no spec is left")
        tap.diag(f"{made} of 15 were made")


@tap.test
def leases_end_without_daemon():
    """a lease that ends while there is no daemon is not there when it is back, and its workspace can go"""
    with Daemon(supervise=True) as d:
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
            reply = c.call("Workspaces", "Open", {1: "w"})
        pid = pid_of(d)
        os.kill(pid, signal.SIGSTOP)
        for fd in reply.fds:
            os.close(fd)
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        tap.until(lambda: wire.stats(d.socket)["leases"] == 0, WAIT_S, "no lease is left")
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Delete", {1: "w"}).code, 0)


@tap.test
def hangup_before_reap():
    """a lease that ends while its daemon hangs is told to the next one, and leaves the store once that has cleaned up,
    whatever its holder wrote into it"""
    with Daemon(supervise=True) as d:
        with wire.Wire(d.socket) as c:
            before = open_files(d.proc.pid) + 1
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
            holds(d, before)
            reply = c.call("Workspaces", "Open", {1: "w"})
        holds(d, before + 1)
        os.write(reply.fds[1], bytes(100000))
        pid = pid_of(d)
        os.kill(pid, signal.SIGSTOP)
        slept = switches(d.proc.pid)
        for fd in reply.fds:
            os.close(fd)
        tap.until(lambda: switches(d.proc.pid) > slept, WAIT_S, "the supervisor saw the hang-up")
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        tap.until(lambda: wire.stats(d.socket)["leases"] == 0, WAIT_S, "no lease is left")
        tap.contains(d.log(), "recovered workspaces=1 leases=1")
        tap.contains(d.log(), "detached workspace=w")
        tap.until(lambda: open_files(d.proc.pid) == before, WAIT_S, "the store let it go")
        kill_daemon(d)
        tap.eq(wire.stats(d.socket)["leases"], 0)
        tap.contains(d.log(), "recovered workspaces=1 leases=0")


@tap.test
def no_room_in_the_store():
    """with few descriptors, or most of them taken already, what was acknowledged is there after a kill, and what cannot
    be kept is refused"""
    for inherited in (0, 170):
        with cramped(256, inherited) as d:
            names, held, refused = [], [], []
            with wire.Wire(d.socket) as c:
                for i in range(64):
                    reply = c.call("Workspaces", "Create", create(f"w{i}"))
                    if reply.code:
                        refused.append(reply.message)
                        break
                    names.append(f"w{i}")
                    reply = c.call("Workspaces", "Open", {1: "w0", 2: i % 2})
                    if reply.code:
                        refused.append(reply.message)
                        break
                    held.append(reply.fds)
                late = c.call("Workspaces", "Create", create("late"))
                tap.true(late.code != 0, "a workspace was made")
                tap.eq("did not confirm" in late.message, inherited > 0, f"who refused it: {late.message}")
            tap.diag(f"{inherited} inherited: {len(names)} workspaces, {len(held)} leases, then: {refused}")
            tap.true(len(names) > 2 and len(held) > 2, "hardly anything was possible")
            tap.eq(len(refused), 1, "refusals")
            tap.eq("did not confirm" in refused[0], inherited > 0, f"the store refused, not the engine: {refused}")
            tap.eq("no room for another" in d.log(), inherited > 0, "the supervisor said so")
            kill_daemon(d)
            tap.eq([info(d, name)[0] for name in names], [0] * len(names), "workspaces after the kill")
            tap.eq(info(d, "late")[0], wire.NOT_FOUND, "the refused one")
            tap.eq(wire.stats(d.socket)["leases"], len(held), "leases after the kill")
            tap.true("memory-lost" not in d.log(), "memory was lost")
            for fd in sum(held, []):
                os.close(fd)
            tap.until(lambda d=d: wire.stats(d.socket)["leases"] == 0, WAIT_S, "no lease is left")
            with wire.Wire(d.socket) as c:
                reply = c.call("Workspaces", "Open", {1: "w0"})
                tap.eq(reply.code, 0, f"there is room again: {reply.message}")
                for fd in reply.fds:
                    os.close(fd)


@tap.test
def store_cannot_take():
    """a supervisor that has no descriptor left for what it is handed does not acknowledge it, and does again later"""
    with Daemon(supervise=True) as d, wire.Wire(d.socket) as c:
        idle = open_files(d.proc.pid)
        tap.eq(c.call("Workspaces", "Create", create("before")).code, 0)
        holds(d, idle + 1)
        was = resource.prlimit(d.proc.pid, resource.RLIMIT_NOFILE)
        top = max(int(fd) for fd in os.listdir(f"/proc/{d.proc.pid}/fd"))
        resource.prlimit(d.proc.pid, resource.RLIMIT_NOFILE, (top + 1, was[1]))
        reply = c.call("Workspaces", "Create", create("short"))
        tap.true("did not confirm" in reply.message, f"without a descriptor: {reply.code} {reply.message}")
        resource.prlimit(d.proc.pid, resource.RLIMIT_NOFILE, was)
        tap.until(lambda: c.call("Workspaces", "Create", create("after")).code == 0, WAIT_S, "there is room again")
        kill_daemon(d)
        tap.eq([info(d, name)[0] for name in ("before", "short", "after")], [0, wire.NOT_FOUND, 0], "after the kill")
        tap.true("memory-lost" not in d.log(), "memory was lost")


@tap.test
def leases_end_between_daemons():
    """a lease that ends between two daemons is told to the next one, which cleans up after it"""
    with Daemon(supervise=True) as d:
        with wire.Wire(d.socket) as c:
            before = open_files(d.proc.pid) + 1
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
            holds(d, before)
            reply = c.call("Workspaces", "Open", {1: "w"})
        with shared_folder(d):
            os.kill(pid_of(d), signal.SIGKILL)
            tap.until(lambda: "restart_ms=10" in d.log(), WAIT_S, "it cannot start")
            for fd in reply.fds:
                os.close(fd)
            tap.until(lambda: "restart_ms=40" in d.log(), WAIT_S, "it still cannot")
        tap.until(lambda: wire.stats(d.socket)["leases"] == 0, WAIT_S, "no lease is left")
        tap.contains(d.log(), "recovered workspaces=1 leases=1")
        tap.contains(d.log(), "detached workspace=w")
        tap.until(lambda: open_files(d.proc.pid) == before, WAIT_S, "the supervisor's store let it go")
        kill_daemon(d)
        tap.eq(wire.stats(d.socket)["leases"], 0)
        tap.contains(d.log(), "recovered workspaces=1 leases=0", "the supervisor's store forgot it")


@tap.test
def forced_delete_over_kills():
    """memory removed by force stays until its last lease ends, also when the daemon is killed in between"""
    with Daemon(supervise=True) as d:
        before = wire.stats(d.socket)
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
            reply = c.call("Workspaces", "Open", {1: "w"})
            tap.eq(c.call("Workspaces", "Delete", {1: "w", 2: 1}).code, 0)
        kill_daemon(d)
        tap.eq(info(d, "w")[0], wire.NOT_FOUND)
        held = wire.stats(d.socket)
        tap.eq((held["leases"], held["bytes"]), (1, SIZE), "leases and bytes")
        with mmap.mmap(reply.fds[0], SIZE) as mem:
            mem[-1] = 1
        for fd in reply.fds:
            os.close(fd)
        tap.until(lambda: wire.stats(d.socket) == before, WAIT_S, "all as before")


@tap.test
def ids_are_not_reused():
    """lease and workspace ids of before a kill are not given out again"""
    with Daemon(supervise=True) as d:
        seen = []
        for _ in range(3):
            with wire.Wire(d.socket) as c:
                tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
                reply = c.call("Workspaces", "Open", {1: "w"})
                seen.append(reply.fields[2][0])
                for fd in reply.fds:
                    os.close(fd)
                tap.until(lambda c=c: c.call("Workspaces", "Delete", {1: "w"}).code == 0, WAIT_S, "deletable")
            kill_daemon(d)
        tap.eq(sorted(set(seen)), seen, "lease ids rise")
        ids = [int(i) for i in re.findall(r"created workspace=w id=(\d+)", d.log())]
        tap.eq((len(ids), sorted(set(ids))), (3, ids), "workspace ids rise")


@tap.test
def damaged_ids():
    """a damaged file of ids is set aside and named; all that was there is served, and new ids are far above the old"""
    with Daemon(supervise=True) as d:
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
            reply = c.call("Workspaces", "Open", {1: "w"})
        path = os.path.join(d.state_dir, "ids")
        with open(path, "r+b") as f:
            f.seek(15)
            f.write(b"9")
        kill_daemon(d)
        code, _, rw, _, quarantined, _ = info(d, "w")
        tap.eq((code, rw, quarantined), (0, 1, 0))
        tap.contains(d.log(), f"ids-damaged file={path} ")
        tap.true(os.path.exists(path + ".bad"), "the damaged file is kept for people")
        with wire.Wire(d.socket) as c:
            again = c.call("Workspaces", "Open", {1: "w"})
            tap.true(again.fields[2][0] > 1 << 20, f"lease id {again.fields[2][0]}")
            tap.eq(c.call("Workspaces", "Create", create("v")).code, 0)
        tap.true(max(int(i) for i in re.findall(r"created workspace=v id=(\d+)", d.log())) > 1 << 20, "workspace id")
        for fd in reply.fds + again.fds:
            os.close(fd)


@tap.test
def supervisor_killed():
    """a daemon whose supervisor is killed says so once, serves on, refuses creates, and ends as always"""
    d = Daemon(supervise=True)
    d.start()
    with wire.Wire(d.socket) as c:
        tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
        reply = c.call("Workspaces", "Open", {1: "w"})
    child = pid_of(d)
    d.kill()
    tap.until(lambda: " supervisor-gone " in d.log(), WAIT_S, "the daemon noticed")
    tap.true(alive(child), "the daemon ended with its supervisor")
    with wire.Wire(d.socket) as c:
        refused = c.call("Workspaces", "Create", create("v"))
        tap.true(refused.code != 0, "a create was accepted")
        tap.contains(refused.message, "supervisor")
        tap.eq(c.call("Workspaces", "Get", {1: "w"}).code, 0)
        again = c.call("Workspaces", "Open", {1: "w"})
        tap.eq(again.code, 0)
        tap.eq((c.call("Host", "Stats", {}).fields[3] or [0])[0], 0, "fd_store")
    for fd in reply.fds + again.fds:
        os.close(fd)
    os.kill(child, signal.SIGTERM)
    wait_gone(child)
    tap.eq(d.log().count(" supervisor-gone "), 1, "lines about it")
    tap.contains(d.log(), f"stopped pid={child}")
    tap.true(not os.path.exists(d.socket), "the orphan left its socket")
    d.cleanup()


@tap.test
def child_ended_in_order():
    """a daemon that is ended in order by SIGTERM to itself comes back with everything"""
    with Daemon(supervise=True) as d:
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
            reply = c.call("Workspaces", "Open", {1: "w"})
        first, pid = info(d, "w"), pid_of(d)
        os.kill(pid, signal.SIGTERM)
        wait_gone(pid)
        tap.eq(info(d, "w"), first)
        for fd in reply.fds:
            os.close(fd)


@tap.test
def cannot_come_back():
    """a daemon that cannot start again is tried ever more slowly, and comes back once it can, with everything"""
    with Daemon(supervise=True) as d:
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
        first = info(d, "w")
        with shared_folder(d) as folder:
            os.kill(pid_of(d), signal.SIGKILL)
            tap.until(lambda: "restart_ms=160" in d.log(), WAIT_S, "the back-off doubled five times")
            tap.contains(d.log(), f"the state folder '{folder}' belongs to")
        tap.eq(info(d, "w"), first)
        waits = [int(ms) for ms in re.findall(r"restart_ms=(\d+)", d.log())]
        tap.eq(waits[:6], [0, 10, 20, 40, 80, 160], "ms between attempts")


@tap.test
def dies_when_ready():
    """a daemon that gets ready and dies again is started ever more slowly; one that was ready for a while, at once"""
    with Daemon(supervise=True) as d:
        # Each has lived from after the kill before it, at the most until the next was seen to be ready: only who
        # cannot have lived for a while by that must not have been started at once. This machine may be slow today.
        killed, seen = [time.monotonic()], []
        for i in range(9):
            tap.until(lambda i=i: len(re.findall(r" ready pid=\d+", d.log())) == i + 1, WAIT_S, f"start {i}")
            seen.append(time.monotonic())
            if i < 8:
                killed.append(time.monotonic())
                os.kill(int(re.findall(r" ready pid=(\d+)", d.log())[-1]), signal.SIGKILL)
        lived_long = [seen[i + 1] - killed[i] >= STEADY_S for i in range(8)]
        waits = [int(ms) for ms in re.findall(r"ready=1 restart_ms=(\d+)", d.log())]
        tap.eq(len(waits), 8, f"lines that tell of an end in\n{d.log()}")
        longest = 0
        for i, (got, may) in enumerate(zip(waits, lived_long)):
            tap.true(got == longest or (may and got == 0), f"{waits} ms between attempts, {lived_long}: number {i}")
            longest = min(2 * got, 100) or 10
        ready = d.status()["uptime_ns"]
        tap.until(lambda: d.status()["uptime_ns"] > ready + 2 * STEADY_S * 10**9, WAIT_S, "it is there for a while")
        kill_daemon(d)
        pid_of(d)
        tap.eq(re.findall(r" restart_ms=(\d+)", d.log())[-1], "0", "ms before the last start")


@tap.test
def terminal_closes():
    """SIGHUP ends neither the supervisor nor the daemon"""
    with Daemon(supervise=True) as d:
        pid = pid_of(d)
        d.proc.send_signal(signal.SIGHUP)
        os.kill(pid, signal.SIGHUP)
        tap.eq(pid_of(d), pid, "the daemon")
        kill_daemon(d)
        tap.true(pid_of(d) != pid, "the supervisor starts another")
    with Daemon() as d:
        pid = pid_of(d)
        os.kill(pid, signal.SIGHUP)
        tap.eq(pid_of(d), pid, "a daemon without a supervisor")


@tap.test
def folder_between_daemons():
    """while there is no daemon, its supervisor keeps the state folder from others"""
    with Daemon(supervise=True) as d:
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
        first, pid = info(d, "w"), pid_of(d)
        tap.contains(refused_elsewhere(d, "--supervise"), f"in use by process {d.proc.pid}")
        d.proc.send_signal(signal.SIGSTOP)
        try:
            os.kill(pid, signal.SIGKILL)
            wait_gone(pid)
            for args in ((), ("--supervise",)):
                said = refused_elsewhere(d, *args)
                tap.contains(said, f"'{d.state_dir}' is in use by process {d.proc.pid}")
        finally:
            d.proc.send_signal(signal.SIGCONT)
        tap.eq(info(d, "w"), first)


@tap.test
def stop_while_it_cannot_start():
    """SIGTERM to the supervisor ends it with status 0 also while no daemon runs"""
    with Daemon(supervise=True) as d:
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
        with shared_folder(d):
            os.kill(pid_of(d), signal.SIGKILL)
            tap.until(lambda: "restart_ms=40" in d.log(), WAIT_S, "the back-off began")
            d.stop()


@tap.test
def damaged_spec():
    """a damaged spec is set aside, its workspace quarantined with a reason and its memory kept; others are served"""
    with Daemon(supervise=True) as d:
        with wire.Wire(d.socket) as c:
            for name in ("a", "b"):
                tap.eq(c.call("Workspaces", "Create", create(name)).code, 0)
            specs = sorted(os.listdir(os.path.join(d.state_dir, "specs")))
        path = os.path.join(d.state_dir, "specs", specs[0])
        with open(path, "r+b") as f:
            f.seek(30)
            f.write(b"#")
        kill_daemon(d)
        tap.eq(info(d, "b")[:1], (0,))
        tap.eq(info(d, "a")[0], wire.NOT_FOUND)
        held = wire.stats(d.socket)
        tap.eq((held["workspaces"], held["quarantined"], held["bytes"]), (2, 1, 2 * SIZE))
        tap.contains(d.log(), "spec-damaged id=1 line=")
        name = "quarantined-1"
        code, _, _, _, quarantined, reason = info(d, name)
        tap.eq((code, quarantined), (0, 1))
        tap.contains(reason, "spec")
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Open", {1: name}).code, wire.FAILED_PRECONDITION)
            tap.eq(c.call("Workspaces", "Delete", {1: name}).code, 0, "deleting it")
        tap.until(lambda: wire.stats(d.socket)["bytes"] == SIZE, WAIT_S, "its memory is gone")
        tap.eq(os.listdir(os.path.join(d.state_dir, "specs")), specs[1:], "what is left on disk")


@tap.test
def tampered_header():
    """a workspace whose header a client has overwritten is quarantined at the next start, with the reason"""
    with Daemon(supervise=True) as d:
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Create", create("w")).code, 0)
            reply = c.call("Workspaces", "Open", {1: "w"})
        with mmap.mmap(reply.fds[0], SIZE) as mem:
            mem[0:200] = bytes(200)
        kill_daemon(d)
        code, _, rw, _, quarantined, reason = info(d, "w")
        tap.eq((code, rw, quarantined), (0, 1, 1))
        tap.contains(reason, "header")
        with wire.Wire(d.socket) as c:
            tap.eq(c.call("Workspaces", "Open", {1: "w"}).code, wire.FAILED_PRECONDITION)
        for fd in reply.fds:
            os.close(fd)
        tap.until(lambda: wire.stats(d.socket)["leases"] == 0, WAIT_S, "the lease ended")
        with wire.Wire(d.socket) as c:
            tap.until(lambda: c.call("Workspaces", "Delete", {1: "w"}).code == 0, WAIT_S, "deletable")
        tap.until(lambda: wire.stats(d.socket)["bytes"] == 0, WAIT_S, "its memory is gone")


tap.run()
