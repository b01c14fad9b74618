"""lab: tests that want a machine of their own, in a bed of scripts/lab.

    import lab, tap
    lab.bed("nspawn", lab.debs)

    @tap.test
    ...
    tap.run()

bed() names the bed that the tests want. Called on an ordinary machine it builds what is wanted and
runs the same file again inside that bed, through `scripts/lab`; what the tests say comes out as if
they ran here. Where the bed cannot be had, each test is skipped with the capability that is missing.
Inside the bed it does nothing. A machine that is such a bed by itself, and may be treated so, says
it with WKSP_LAB_BED=nspawn: packages are installed and removed on it.

The rest is for the tests inside: running commands, and the service that the packages install.

Refuses to: touch the units and packages of a machine that was not given away.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import tap
from daemon import bin_dir

ROOT = os.environ.get("WKSP_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
LAB = os.path.join(ROOT, "scripts/lab")
TIMEOUT_S = 5000 if tap.full() else 500
READY_S = 60
PACKAGES = ("wkspd", "libwksp1", "libwksp-ckpt1", "libwksp-dev")
# What dpkg-buildpackage wants besides what builds the tree by meson.
BUILD_TOOLS = ("dpkg-buildpackage", "dh", "scdoc")
# Folders of the tree that go into a package's source, and are what it is built from.
SOURCES = ("NEWS.md", "cli", "contrib", "daemon", "debian", "docs", "examples", "lib", "proto",
           "scripts/gen-man", "systemd", "meson.build", "meson_options.txt")


# Outside ----------------------------------------------------------------------------------------


def bed(kind, *builders):
    """Sees to it that what follows runs in that bed. builders: functions called before, outside, for what is to
    be built; they raise tap.Skip for what is missing here, and anything else fails the tests."""
    if os.environ.get("WKSP_LAB_BED") == kind:
        return
    try:
        missing = ok(LAB, "missing", kind, timeout_s=None).strip()
        if missing:
            tap.skip(missing)
        for builder in builders:
            builder()
    except Exception as why:  # pylint: disable=broad-except
        _every_test(why)
        return
    inside = ["python3", os.path.abspath(sys.argv[0]), *sys.argv[1:]]
    os.execv(LAB, [LAB, kind, "--timeout", str(TIMEOUT_S), "--", *inside])


def _every_test(outcome):
    """Each test that is registered from now on ends with that exception, a Skip or a failure."""
    register = tap.test

    def test(function=None, **kw):
        def instead(fn):
            def body():
                raise outcome

            body.__doc__, body.__name__ = fn.__doc__, fn.__name__
            return register(body, **kw)

        return instead if function is None else instead(function)

    tap.test = test


def sources():
    """The files that a package is built from, sorted, as paths in the tree."""
    found = []
    for name in SOURCES:
        top = os.path.join(ROOT, name)
        if os.path.isfile(top):
            found.append(name)
        for folder, subfolders, names in os.walk(top):
            subfolders[:] = [s for s in subfolders if s != "__pycache__"]
            found += [os.path.relpath(os.path.join(folder, n), ROOT) for n in names if not n.endswith(".pyc")]
    return sorted(found)


def debs_dir():
    """Where debs() leaves the packages."""
    return os.path.join(bin_dir(), "lab-debs")


def debs():
    """Builds the packages with dpkg-buildpackage in a copy of the tree, unless that was done for these very
    sources. Skips where a tool for it is missing."""
    for tool in BUILD_TOOLS:
        if not shutil.which(tool):
            tap.skip(f"{tool} (packages debhelper, dpkg-dev, scdoc)")
    out = debs_dir()
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, ".lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, digest = os.path.join(out, "stamp"), hashlib.sha256()
        for path in sources():
            with open(os.path.join(ROOT, path), "rb") as f:
                digest.update(f"{path}\0{os.path.getsize(f.name)}\0".encode() + f.read())
        if os.path.exists(stamp):
            with open(stamp, encoding="ascii") as f:
                if f.read() == digest.hexdigest():
                    return
        for name in os.listdir(out):
            path = os.path.join(out, name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif name != ".lock":
                os.unlink(path)
        _build(out)
        with open(stamp, "w", encoding="ascii") as f:
            f.write(digest.hexdigest())


def _build(out):
    tree = os.path.join(out, "wkspd")
    for path in sources():
        os.makedirs(os.path.dirname(os.path.join(tree, path)), exist_ok=True)
        shutil.copy(os.path.join(ROOT, path), os.path.join(tree, path))
    env = {k: v for k, v in os.environ.items() if k not in ("CC", "LD_LIBRARY_PATH", "CFLAGS", "DESTDIR")}
    # Less for the debugger, in less time.
    env.update(DEB_BUILD_OPTIONS=f"nocheck noautodbgsym parallel={os.cpu_count()}", DEB_CFLAGS_APPEND="-g1",
               LC_ALL="C.UTF-8")
    log = os.path.join(out, "build.log")
    with open(log, "wb") as f:
        status = subprocess.run(["dpkg-buildpackage", "-b", "-us", "-uc"], cwd=tree, env=env, stdin=subprocess.DEVNULL,
                                stdout=f, stderr=f, check=False).returncode
    if status:
        with open(log, encoding="utf-8", errors="replace") as f:
            text = f.read()
        unmet = re.search(r"Unmet build dependencies: (.*)", text)
        if unmet:
            tap.skip(f"packages to build with: {unmet[1]}")
        raise AssertionError(f"dpkg-buildpackage failed ({status}):\n{text[-6000:]}")


def deb_files(*packages):
    """The built packages of these names, as absolute paths."""
    found = []
    for package in packages or PACKAGES:
        names = [n for n in os.listdir(debs_dir()) if n.startswith(package + "_") and n.endswith(".deb")]
        tap.eq(len(names), 1, f"built packages called {package} ({names})")
        found.append(os.path.join(debs_dir(), names[0]))
    return found


# Inside -----------------------------------------------------------------------------------------


def run(*command, timeout_s=120, **kw):
    """Runs a command; (exit status, standard output, standard error)."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False,
                          timeout=timeout_s, stdin=subprocess.DEVNULL, **kw)
    return done.returncode, done.stdout, done.stderr


def ok(*command, **kw):
    """Runs a command that must succeed; its standard output."""
    status, out, err = run(*command, **kw)
    tap.eq(status, 0, f"exit status of {' '.join(map(str, command))}\n{out}{err}")
    return out


def apt(*args):
    """apt-get, as an operator would use it, without a network. Returns what it said."""
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    return ok("apt-get", "-y", "-q", "--no-install-recommends", *args, env=env, timeout_s=600)


def ctl(*args, **kw):
    """What the installed wkspctl answers in JSON."""
    return json.loads(ok("wkspctl", "--json", *args, **kw) or "null")


def unit(name="wkspd.service"):
    """What systemd says about a unit, {property: value}."""
    return dict(line.split("=", 1) for line in ok("systemctl", "show", name).splitlines() if "=" in line)


def serving(old_pid=0):
    """Waits until systemd has a ready wkspd whose main process is not old_pid, and it answers; its id."""

    def ready():
        now = unit()
        pid = int(now.get("MainPID", "0"))
        if now["ActiveState"] != "active" or pid in (0, old_pid):
            return 0
        status, out, _ = run("wkspctl", "--json", "status")
        return pid if status == 0 and json.loads(out)["pid"] == pid else 0

    return tap.until(ready, READY_S, "wkspd is served by a new process" if old_pid else "wkspd serves")


def journal(name="wkspd.service"):
    """A service's log, with all that it has written until now."""
    ok("journalctl", "--sync")
    return ok("journalctl", "--no-pager", "-b", "-u", name, "-o", "cat")


def memories():
    """{inode: bytes that it holds} of each workspace's memory that any process has open: the daemon, systemd,
    clients."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fds = os.listdir(f"/proc/{pid}/fd")
        except (FileNotFoundError, ProcessLookupError):
            continue
        for fd in fds:
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/memfd:wksp:"):
                    st = os.stat(f"/proc/{pid}/fd/{fd}")
                    found[st.st_ino] = st.st_blocks * 512
    return found


class Labour:
    """Programs of tests/lab/labour.c at work as an ordinary user of the group wkspd. niceness: 19 where
    processors are slow and others have work to do too."""

    WORDS = 512

    def __init__(self, folder, niceness=0):
        self.niceness = niceness
        self.board_path = os.path.join(folder, "board")
        with open(self.board_path, "wb") as f:
            f.truncate(self.WORDS * 8)
        os.chmod(self.board_path, 0o666)
        self.procs = []

    def start(self, *args):
        """Starts `labour ARGS`, where BOARD and PLACE stand for this board and a place on it."""
        place = str(len(self.procs))
        args = [{"BOARD": self.board_path, "PLACE": place}.get(a, str(a)) for a in args]
        proc = subprocess.Popen([os.path.join(bin_dir(), "tests/lab/labour"), *args], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, user="labour",
                                group="labour", extra_groups=["wkspd"],
                                preexec_fn=lambda: os.nice(self.niceness))
        self.procs.append(proc)
        return proc

    def counts(self):
        """How many operations each has done."""
        with open(self.board_path, "rb") as f:
            data = f.read()
        return [int.from_bytes(data[i * 8:i * 8 + 8], "little") for i in range(len(self.procs))]

    def alive(self):
        """Fails if one has ended."""
        for proc in self.procs:
            if proc.poll() is not None:
                out, err = proc.communicate()
                raise AssertionError(f"{' '.join(proc.args)} has ended with {proc.returncode}: {out}{err}")

    def go_on(self, steps):
        """Waits until each has done that many more operations."""
        before = self.counts()

        def done():
            self.alive()
            return all(now >= was + n for now, was, n in zip(self.counts(), before, steps))

        tap.until(done, READY_S, f"each goes on from {before} by {steps}")

    def finish(self):
        """Ends them all, which must have found nothing wrong; what each of them printed."""
        said = []
        for proc in self.procs:
            proc.terminate()
        for proc in self.procs:
            out, err = proc.communicate(timeout=READY_S)
            tap.eq((proc.returncode, err), (0, ""), f"exit status and errors of {' '.join(proc.args)}")
            said.append(out.strip())
        self.procs = []
        return said

    def kill(self):
        """Ends what is left, whatever happened."""
        for proc in self.procs:
            proc.kill()
            proc.communicate()


def add_user():
    """An ordinary user for Labour."""
    ok("useradd", "--create-home", "labour")


def drop_in(name, text):
    """Adds to a unit until the bed ends, or takes that away again (text empty)."""
    path = f"/run/systemd/system/{name}.d/lab.conf"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    ok("systemctl", "daemon-reload")
