"""wkspd starts, refuses and ends as it says.

Every test has a daemon, socket and state folder of its own.
"""

import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
import wire
from daemon import Daemon, binary
from manager import exec_with_fds, memfd, wait_ready

EXIT_S = 60


def run(*args, env=None, **kw):
    """Runs wkspd, which must end by itself: (exit status, stdout, stderr)."""
    done = subprocess.run([binary("daemon/wkspd"), *map(str, args)], capture_output=True, timeout=EXIT_S, check=False,
                          env=dict(os.environ, **(env or {})), text=True, **kw)
    return done.returncode, done.stdout, done.stderr


def spawn(d, *args, **kw):
    return subprocess.Popen([binary("daemon/wkspd"), "--socket", d.socket, "--state-dir", d.state_dir, *args],
                            stderr=subprocess.PIPE, text=True, **kw)


def gone(d):
    tap.true(not os.path.exists(d.socket), "the socket file is still there")
    tap.true(not os.path.exists(d.socket + ".lock"), "the socket's lock file is still there")


@tap.test
def term_and_int():
    """SIGTERM and SIGINT end it with status 0 and leave no socket file, with and without --supervise"""
    for how in (signal.SIGTERM, signal.SIGINT):
        for args in ((), ("--supervise",)):
            d = Daemon()
            proc = spawn(d, *args)
            wait_ready(proc)
            with wire.Wire(d.socket) as c:
                tap.eq(c.call("Host", "Version", {}).code, 0)
                proc.send_signal(how)
                tap.eq(proc.wait(EXIT_S), 0, f"exit status after {how.name} {args}")
            proc.stderr.close()
            gone(d)
            d.cleanup()


@tap.test
def early_term():
    """a SIGTERM at any moment from the exec on ends it with status 0"""
    d = Daemon()

    def block():
        # what comes before main can take it waits; main must not lose it
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    for args in ((), ("--supervise",)):
        for i in range(12):
            proc = spawn(d, *args, preexec_fn=block)
            if i % 2:
                proc.stderr.readline()
            proc.terminate()
            tap.eq(proc.wait(EXIT_S), 0, f"exit status, round {i} {args}")
            proc.stderr.close()
    gone(d)
    d.cleanup()


@tap.test
def start_time():
    """it is ready soon: from exec to the first answer, and by its own account"""
    for args in ((), ("--supervise",)):
        times, own = [], []
        for _ in range(5):
            d = Daemon()
            began = time.monotonic()
            proc = spawn(d, *args)
            lines = wait_ready(proc)
            times.append((time.monotonic() - began) * 1000)
            own.append(int(lines[-1].rsplit("start_us=", 1)[1]) / 1000)
            proc.terminate()
            tap.eq(proc.wait(EXIT_S), 0)
            proc.stderr.close()
            d.cleanup()
        tap.diag(f"{' '.join(args) or 'plain'}: ready after {min(times):.1f} to {max(times):.1f} ms, of these in the "
                 f"daemon {min(own):.1f} to {max(own):.1f} ms")


@tap.test
def second_on_socket():
    """a second daemon on a served socket ends with status 1 and says who serves it; the first goes on"""
    for supervise in (False, True):
        with Daemon(supervise=supervise) as d:
            for args in ((), ("--supervise",)):
                rc, _, err = run("--socket", d.socket, "--state-dir", d.state_dir + "2", *args)
                tap.eq(rc, 1)
                tap.contains(err, f"'{d.socket}' is served by process {d.proc.pid}")
                tap.contains(err, "--socket")
            tap.eq(wire.stats(d.socket)["connections"], 1)


@tap.test
def second_on_state_dir():
    """a second daemon on a state folder in use ends with status 1, says who uses it, and leaves no socket"""
    with Daemon() as d:
        for args in ((), ("--supervise",)):
            rc, _, err = run("--socket", d.socket + "2", "--state-dir", d.state_dir, *args)
            tap.eq(rc, 1)
            tap.contains(err, f"'{d.state_dir}' is in use by process {d.proc.pid}")
            tap.true(not os.path.exists(d.socket + "2"), "the refused daemon left its socket")


@tap.test
def stale_socket():
    """the socket file of a killed daemon is replaced"""
    d = Daemon()
    d.start()
    d.kill()
    tap.true(os.path.exists(d.socket), "the killed daemon left no socket file: the test proves nothing")
    d.start()
    d.stop()
    gone(d)
    d.cleanup()


@tap.test
def not_a_socket():
    """a file in the socket's place is left alone and named"""
    d = Daemon()
    with open(d.socket, "w", encoding="ascii") as f:
        f.write("mine")
    rc, _, err = run("--socket", d.socket, "--state-dir", d.state_dir)
    tap.eq(rc, 1)
    tap.contains(err, f"'{d.socket}' exists and is not a socket")
    with open(d.socket, encoding="ascii") as f:
        tap.eq(f.read(), "mine")
    d.cleanup()


@tap.test
def bad_state_dir():
    """a state folder that cannot be made or written is named; nothing is left behind"""
    d = Daemon()
    for bad in ("/proc/wkspd", d.log_path):
        with open(d.log_path, "w", encoding="ascii"):
            pass
        for args in ((), ("--supervise",)):
            rc, _, err = run("--socket", d.socket, "--state-dir", bad, *args)
            tap.eq(rc, 1)
            tap.contains(err, f"'{bad}'")
            gone(d)
    d.cleanup()


@tap.test
def foreign_state_dir():
    """a state folder that others can write, or that a link leads to, is refused, and nothing behind it is touched"""
    d = Daemon()
    victim = os.path.join(d.dir, "victim")
    os.mkdir(victim)
    for name in ("9.spec.tmp", "other.tmp"):
        with open(os.path.join(victim, name), "w", encoding="ascii") as f:
            f.write("mine")
    os.mkdir(d.state_dir, 0o700)
    os.symlink(victim, os.path.join(d.state_dir, "specs"))
    linked = os.path.join(d.dir, "link")
    os.symlink(victim, linked)
    loose = os.path.join(d.dir, "loose")
    os.mkdir(loose)
    os.chmod(loose, 0o770)
    for path, named, part in ((d.state_dir, d.state_dir + "/specs", "symbolic link"), (linked, linked, "symbolic link"),
                              (loose, loose, f"belongs to uid {os.geteuid()} and has mode 0770")):
        for args in ((), ("--supervise",)):
            rc, _, err = run("--socket", d.socket, "--state-dir", path, *args)
            tap.eq(rc, 1)
            tap.contains(err, f"'{named}'")
            tap.contains(err, part)
            gone(d)
    tap.eq(sorted(os.listdir(victim)), ["9.spec.tmp", "other.tmp"], "what the link leads to")
    tap.eq(os.listdir(loose), [], "what was made in a folder of others")
    d.cleanup()


@tap.test
def wrong_usage():
    """wrong usage ends with status 2 and one line that names what is wrong"""
    for args, part in ((["--frob"], "--frob"), (["--socket"], "--socket"), (["--log-level", "loud"], "loud"),
                       (["more"], "more"), (["--socket", "x" * 200], "107"), (["--config", "/none"], "/none"),
                       (["--worker", "more"], "--worker")):
        rc, out, err = run(*args)
        tap.eq((rc, out), (2, ""), f"{args}")
        tap.contains(err, part)
        tap.eq(len(err.splitlines()), 1, f"lines about {args}")


@tap.test
def help_and_version():
    """--help and --version answer on stdout with status 0, whatever else is said"""
    rc, out, err = run("--version", "--supervise")
    tap.eq((rc, err), (0, ""))
    tap.eq(out.split()[0], "wkspd")
    rc, out, err = run("--help")
    tap.eq((rc, err), (0, ""))
    for option in ("--socket", "--state-dir", "--config", "--log-level", "--supervise", "--version"):
        tap.contains(out, option)


@tap.test
def config_file():
    """a configuration file is obeyed; a mistake in it names file, line and value and ends with status 2"""
    d = Daemon()
    path = os.path.join(d.dir, "wkspd.conf")
    with open(path, "w", encoding="ascii") as f:
        f.write(f"[wkspd]\nsocket = {d.socket}\nstate_dir = {d.state_dir}\nlog_level = debug\n")
    proc = subprocess.Popen([binary("daemon/wkspd"), "--config", path], stderr=subprocess.PIPE, text=True)
    tap.contains(wait_ready(proc)[-1], f"socket={d.socket} state_dir={d.state_dir}")
    proc.terminate()
    tap.contains(proc.stderr.read(), " stopped ")
    tap.eq(proc.wait(EXIT_S), 0)
    proc.stderr.close()
    with open(path, "a", encoding="ascii") as f:
        f.write("sokcet = /x\n")
    rc, _, err = run("--config", path)
    tap.eq(rc, 2)
    tap.contains(err, f"{path}:5: unknown key 'sokcet'")
    with open(path, "w", encoding="ascii") as f:
        f.write("[wkspd]\nsocket = /tmp/a\0b\n")
    rc, _, err = run("--config", path)
    tap.eq(rc, 2)
    tap.contains(err, f"{path}:2: ")
    tap.contains(err, "NUL")
    rc, _, err = run("--config", "/dev/zero")
    tap.eq(rc, 2)
    tap.contains(err, "'/dev/zero' is not a regular file")
    d.cleanup()


@tap.test
def socket_activation():
    """a listening socket that is passed in is served and its file left in place at the end"""
    d = Daemon()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(d.socket)
    listener.listen(5)
    c = wire.Wire(d.socket)  # waits in the backlog until there is a daemon
    proc = exec_with_fds(["wkspd.socket"], [listener.fileno()], d)
    wait_ready(proc)
    tap.eq(c.call("Host", "Version", {}).code, 0)
    c.close()
    proc.terminate()
    tap.eq(proc.wait(EXIT_S), 0)
    proc.stderr.close()
    tap.true(os.path.exists(d.socket), "an activated daemon removed the manager's socket")
    listener.close()
    d.cleanup()


@tap.test
def passed_nonsense():
    """passed descriptors that are not what their names say are refused with a line each, and the rest is served"""
    d = Daemon()
    pipe_r, pipe_w = os.pipe()
    a, b = socket.socketpair()
    loose, sealed = memfd(False), memfd(True)
    proc = exec_with_fds(["stored", "l", "l", "w1", "w1", "w2", "supervisor", "w3", "w3"],
                         [pipe_r, a.fileno(), pipe_r, pipe_w, b.fileno(), loose, a.fileno(), sealed, sealed], d)
    lines = "".join(wait_ready(proc))
    tap.eq(lines.count("warn passed-descriptor "), 6, f"refused descriptors in\n{lines}")
    # memory without a spec, sealed or not, is kept for people to look at, and not served
    held = wire.stats(d.socket)
    tap.eq((held["workspaces"], held["quarantined"]), (3, 3))
    proc.terminate()
    tap.eq(proc.wait(EXIT_S), 0)
    proc.stderr.close()
    for end in (a, b):
        end.close()
    for fd in (pipe_r, pipe_w, loose, sealed):
        os.close(fd)
    d.cleanup()


@tap.test
def passed_nothing():
    """LISTEN_FDS that counts what was not passed ends the start with status 1 and names the first that is missing"""
    d = Daemon()
    fd = memfd(True)
    for fds, cnt in (([], 3), ([], 40), ([fd], 2)):
        proc = exec_with_fds(["w1", "supervisor"], fds, d, {"LISTEN_FDS": str(cnt)})
        _, err = proc.communicate(timeout=EXIT_S)
        tap.eq(proc.returncode, 1, f"exit status of\n{err}")
        tap.contains(err, f"LISTEN_FDS={cnt} says")
        tap.contains(err, f"{3 + len(fds)} is not open")
        gone(d)
    os.close(fd)
    d.cleanup()


@tap.test
def memory_lost():
    """a workspace whose memory nobody kept is dropped at the next start with a line that says so"""
    d = Daemon()
    d.start()
    with wire.Wire(d.socket) as c:
        tap.eq(c.call("Workspaces", "Create", {1: "w", 2: 4 << 20, 3: 4096}).code, 0)
    d.kill()
    d.start()
    tap.contains(d.log(), "memory-lost workspace=w ")
    tap.eq(wire.stats(d.socket)["workspaces"], 0)
    tap.eq(os.listdir(os.path.join(d.state_dir, "specs")), ["1.lost"], "what is left of it for people")
    with open(os.path.join(d.state_dir, "specs", "1.lost"), encoding="ascii") as f:
        tap.contains(f.read(), "name=w\n")
    with wire.Wire(d.socket) as c:
        tap.eq(c.call("Workspaces", "Create", {1: "w", 2: 4 << 20, 3: 4096}).code, 0)
    d.stop()
    d.cleanup()


@tap.test
def removal_of_damaged():
    """a workspace whose header was overwritten stays removed, whether before its quarantine or after"""
    with Daemon(supervise=True) as d:
        opened = {}
        with wire.Wire(d.socket) as c:
            for name in ("before", "after"):
                tap.eq(c.call("Workspaces", "Create", {1: name, 2: 1 << 20, 3: 4096}).code, 0)
                opened[name] = c.call("Workspaces", "Open", {1: name}).fds
                with mmap.mmap(opened[name][0], 1 << 20) as mem:
                    mem[0:200] = bytes(200)
            tap.eq(c.call("Workspaces", "Delete", {1: "before", 2: 1}).code, 0)
        d.wait_restart(d.kill_child())
        tap.eq(wire.stats(d.socket)["leases"], 2)
        for fds in opened.values():
            for fd in fds:
                os.close(fd)
        tap.until(lambda: wire.stats(d.socket)["leases"] == 0, EXIT_S, "no lease is left")
        with wire.Wire(d.socket) as c:
            tap.contains(c.call("Workspaces", "Open", {1: "after"}).message, "header")
            tap.eq(c.call("Workspaces", "Delete", {1: "after"}).code, 0)
        specs = os.path.join(d.state_dir, "specs")
        tap.until(lambda: not os.listdir(specs), EXIT_S, "the specs are gone")
        d.wait_restart(d.kill_child())
        tap.eq(wire.stats(d.socket)["workspaces"], 0, "what came back")


@tap.test
def few_files():
    """with 256 files it refuses what nobody could keep, and loses nothing that it accepted; with fewer it ends"""

    def limit(cnt):
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (cnt, cnt))

    d = Daemon()
    rc, _, err = run("--socket", d.socket, "--state-dir", d.state_dir, preexec_fn=limit(255))
    tap.contains(err, "the limit of open files is 255 and at least 256 are needed")
    tap.eq(rc, 1)

    with open(d.log_path, "wb") as log:
        d.proc = subprocess.Popen([binary("daemon/wkspd"), "--socket", d.socket, "--state-dir", d.state_dir,
                                   "--supervise"], stderr=log, preexec_fn=limit(256))
    d.wait_ready()
    made, opened, refused = 0, 0, []
    c = wire.Wire(d.socket)
    for method, part in (("Create", "workspaces"), ("Open", "leases")):
        for i in range(256):
            what = {1: f"w{i}", 2: 1 << 20, 3: 4096} if method == "Create" else {1: f"w{i % made}", 2: 1}
            reply = c.call("Workspaces", method, what)
            if reply.code:
                tap.eq(reply.code, wire.RESOURCE_EXHAUSTED, reply.message)
                tap.contains(reply.message, f"{part} are in use and the limit is")
                refused.append(method)
                break
            made += method == "Create"
            opened += method == "Open"
            c.fds += reply.fds
    tap.eq(refused, ["Create", "Open"])
    tap.diag(f"256 files: {made} workspaces, {opened} leases")
    tap.true(made >= 8 and opened >= 16, "next to nothing fits")
    d.wait_restart(d.kill_child())
    held = wire.stats(d.socket)
    tap.eq((held["workspaces"], held["quarantined"], held["leases"]), (made, 0, opened), "kept over a kill")
    c.close()
    for fd in c.fds:
        os.close(fd)
    d.stop()
    d.cleanup()


tap.run()
