"""daemon: a private wkspd for a test, and wkspctl and other clients to go with it.

    with Daemon(supervise=True) as d:
        d.ok("create", "w", "--size", "64M")
        old = d.kill_child()
        d.wait_restart(old)

Binaries come from the build folder named by WKSP_BIN_DIR (or --bin-dir=DIR): daemon/wkspd,
cli/wkspctl, examples/kv. Each daemon has a temporary folder of its own with socket, state and log.

Ready means that it answers `wkspctl status`. Stopping means SIGTERM, exit status 0, nothing in the
log from a sanitizer, and no process left behind: the test is made the reaper of its orphans, so
that whatever a daemon leaves is found, killed and reported.

Refuses to: touch processes that it did not start.
"""

import atexit
import collections
import ctypes
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import tap

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# Nothing is shown by these: whatever takes longer has failed.
READY_S = 60
STOP_S = 60

_SANITIZER = re.compile(r"ERROR: \w+Sanitizer|WARNING: \w+Sanitizer|runtime error:|SUMMARY: \w+Sanitizer")

Result = collections.namedtuple("Result", "rc out err")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
_started = []


def bin_dir():
    """The build folder."""
    for arg in sys.argv[1:]:
        if arg.startswith("--bin-dir="):
            return os.path.abspath(arg.split("=", 1)[1])
    path = os.environ.get("WKSP_BIN_DIR", "")
    if not path:
        sys.exit("WKSP_BIN_DIR is not set: name the build folder, or run the test with meson test")
    return os.path.abspath(path)


def binary(name):
    """The path of a program in the build folder, such as 'cli/wkspctl'."""
    path = os.path.join(bin_dir(), name)
    if not os.access(path, os.X_OK):
        raise FileNotFoundError(f"{path} is not there: build it first (ninja -C {bin_dir()})")
    return path


def sanitized(name="daemon/wkspd"):
    """Whether that program of the build has the address sanitizer, with which a process costs a multiple."""
    with open(binary(name), "rb") as f:
        return b"__asan_init" in f.read()


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def alive(pid):
    """Whether a process of that id is there and not a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_gone(pid, timeout_s=STOP_S):
    """Waits until that process has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([fd], [], [], timeout_s)[0]:
            raise AssertionError(f"process {pid} has not ended within {timeout_s} s")
    finally:
        os.close(fd)


def children():
    """The ids of this process's children, orphans that came to it included."""
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children", encoding="ascii") as f:
                found += [int(pid) for pid in f.read().split()]
        except FileNotFoundError:
            continue
    return found


def sanitizer_check(text, whose):
    """Fails if text holds a sanitizer's report."""
    if _SANITIZER.search(text):
        raise AssertionError(f"a sanitizer reports about {whose}:\n{text[-8000:]}")


class Daemon:
    """A private wkspd. As a context manager it is started on entry and stopped on exit."""

    program = "daemon/wkspd"

    def __init__(self, supervise=False, args=(), env=None):
        self.dir = tempfile.mkdtemp(prefix="wkspd-test-")
        self.socket = os.path.join(self.dir, "sock")
        self.state_dir = os.path.join(self.dir, "state")
        self.log_path = os.path.join(self.dir, "log")
        self.supervise = supervise
        self.args = list(args)
        self.env = dict(os.environ, WKSPD_SOCKET=self.socket, **(env or {}))
        self.env.pop("NOTIFY_SOCKET", None)
        self.proc = None
        self.clients = []
        _started.append(self)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            tap.diag("log of wkspd (its end):\n" + self.log()[-6000:])
            self.cleanup()
            return
        try:
            self.stop()
        finally:
            self.cleanup()

    # Life ---------------------------------------------------------------------------------------

    def start(self, ready=True):
        """Starts it and waits until it answers."""
        command = [binary(self.program), "--socket", self.socket, "--state-dir", self.state_dir]
        if self.supervise:
            command.append("--supervise")
        os.makedirs(self.state_dir, mode=0o700, exist_ok=True)
        with open(self.log_path, "ab") as log:
            self.proc = subprocess.Popen(command + self.args, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         env=self.env, preexec_fn=_die_with_parent)
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, timeout_s=READY_S):
        """Waits until it answers; fails at once when it has ended, or when a sanitizer has ended what it
        supervises."""
        end = time.monotonic() + timeout_s
        command = [binary("cli/wkspctl"), "--socket", self.socket, "status"]
        pidfd = os.pidfd_open(self.proc.pid)
        try:
            while True:
                ask = subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                asked = os.pidfd_open(ask.pid)
                try:
                    while not select.select([pidfd, asked], [], [], 0.1)[0] and time.monotonic() < end:
                        sanitizer_check(self.log(), "wkspd")
                    if ask.poll() == 0:
                        return
                finally:
                    os.close(asked)
                    ask.kill()
                    why = ask.communicate()[1].decode("utf-8", "replace").strip()
                ended = select.select([pidfd], [], [], 0.01)[0]
                if ended or time.monotonic() >= end:
                    raise AssertionError(f"wkspd {'ended' if ended else f'did not answer within {timeout_s} s'}; "
                                         f"wkspctl status: {why}; its log:\n{self.log()[-6000:]}")
        finally:
            os.close(pidfd)

    def stop(self, timeout_s=STOP_S):
        """Ends it with SIGTERM; fails unless it exits with 0, leaves no process and a clean log."""
        if self.proc is None:
            return
        proc, self.proc = self.proc, None
        before = {p.pid for p in self.clients if p.poll() is None}
        proc.send_signal(signal.SIGTERM)
        try:
            rc = proc.wait(timeout_s)
        except subprocess.TimeoutExpired:
            proc.kill()
            proc.wait()
            raise AssertionError(f"wkspd did not end within {timeout_s} s of SIGTERM; log:\n{self.log()[-6000:]}")
        sanitizer_check(self.log(), "wkspd")
        tap.eq(rc, 0, "exit status of wkspd after SIGTERM")
        others = {d.proc.pid for d in _started if d.proc is not None}
        others |= {p.pid for d in _started for p in d.clients}
        # A worker whose daemon was killed at the worker's first instruction ends by itself, a moment later.
        for pid in (pid for pid in children() if alive(pid) and pid not in before | others):
            try:
                wait_gone(pid)
            except AssertionError as why:
                raise AssertionError(f"wkspd left process {pid} behind") from why

    def kill(self):
        """Ends the started process (the parent, under --supervise) with SIGKILL and reaps it."""
        proc, self.proc = self.proc, None
        proc.kill()
        proc.wait()

    def kill_child(self, pid=None):
        """Ends the serving process with SIGKILL, waits until it is gone; returns its id. pid: it, if that is known."""
        pid = pid or self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        return pid

    def wait_restart(self, old_pid, timeout_s=READY_S):
        """Waits until another process than old_pid serves; returns its id."""

        def other():
            result = self.ctl("--json", "status")
            pid = json.loads(result.out)["pid"] if result.rc == 0 else old_pid
            return pid if pid != old_pid else 0

        return tap.until(other, timeout_s, f"wkspd came back after {old_pid}")

    def cleanup(self):
        """Kills what is left, whatever happened, and removes the folder."""
        pids = [p for p in self.clients if p.poll() is None]
        if self.proc is not None and self.proc.poll() is None:
            pids.append(self.proc)
        for proc in pids:
            proc.kill()
            proc.wait()
        self.proc, self.clients = None, []
        if self in _started:
            _started.remove(self)
        shutil.rmtree(self.dir, ignore_errors=True)
        if not _started:
            _reap_all()

    # Talking to it ------------------------------------------------------------------------------

    def ctl(self, *args, timeout_s=60, stdin=None):
        """Runs wkspctl; a Result (rc, out, err)."""
        return self.run(binary("cli/wkspctl"), "--socket", self.socket, *args, timeout_s=timeout_s, stdin=stdin)

    def ok(self, *args, **kw):
        """Runs wkspctl, which must succeed; its standard output."""
        result = self.ctl(*args, **kw)
        tap.eq(result.rc, 0, f"exit status of wkspctl {' '.join(map(str, args))} ({result.err.strip()})")
        return result.out

    def json(self, *args, **kw):
        """Runs wkspctl --json, which must succeed; the parsed output."""
        return json.loads(self.ok("--json", *args, **kw))

    def status(self):
        """What `wkspctl --json status` says."""
        return self.json("status")

    def pid(self):
        """The id of the serving process."""
        return self.status()["pid"]

    def run(self, *command, timeout_s=60, stdin=None):
        """Runs a program with WKSPD_SOCKET set; a Result. A sanitizer's report fails the test."""
        command = [str(part) for part in command]
        proc = subprocess.run(command, env=self.env, capture_output=True, timeout=timeout_s, check=False,
                              input=stdin if stdin is not None else b"")
        out, err = proc.stdout.decode("utf-8", "replace"), proc.stderr.decode("utf-8", "replace")
        sanitizer_check(err, " ".join(command))
        return Result(proc.returncode, out, err)

    def popen(self, *command, **kw):
        """Starts a program with WKSPD_SOCKET set; it is killed at the end if it still runs. What it prints goes
        nowhere unless stdout is given."""
        kw.setdefault("stdout", subprocess.DEVNULL)
        kw.setdefault("env", self.env)
        proc = subprocess.Popen([str(part) for part in command], preexec_fn=_die_with_parent, **kw)
        self.clients.append(proc)
        return proc

    def log(self):
        """The daemon's log so far."""
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""


def _reap_all():
    """Kills and reaps every child, orphans included."""
    end = time.monotonic() + STOP_S
    while time.monotonic() < end:
        pids = children()
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                continue


@atexit.register
def _cleanup_all():
    for daemon in list(_started):
        daemon.cleanup()
    _reap_all()
