"""manager: a service manager that keeps descriptors, for tests of what a daemon finds at its start.

    manager = Manager(d)
    proc = manager.start(d)
    wait_ready(proc)
    create_stored(d, manager, "w")

It confirms each barrier at once, or, with confirm = False, when it is told to (release).
"""

import array
import fcntl
import os
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
import wire
from daemon import binary

EXIT_S = 60

F_ADD_SEALS, SEALS = 1033, 0x2 | 0x4  # against shrinking and growing


def wait_ready(proc):
    """Reads the log until the daemon says that it is ready; the lines."""
    lines = []
    for line in proc.stderr:
        lines.append(line)
        if " ready pid=" in line:
            return lines
    raise AssertionError("it ended before it was ready:\n" + "".join(lines))


def exec_with_fds(names, fds, d, extra_env=None):
    """Starts wkspd as systemd would, with these descriptors from 3 on and no others."""
    program = binary("daemon/wkspd")
    code = ("import os, sys\n"
            "os.environ['LISTEN_PID'] = str(os.getpid())\n"
            "os.execv(sys.argv[1], sys.argv[1:])\n")
    top = 100

    def place():
        for i, fd in enumerate(fds):
            os.dup2(fd, top + i)
        for i in range(len(fds)):
            os.dup2(top + i, 3 + i)
            os.set_inheritable(3 + i, True)
        os.closerange(3 + len(fds), top + len(fds))

    env = dict(os.environ, LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=":".join(names))
    env.update(extra_env or {})
    return subprocess.Popen([sys.executable, "-c", code, program, "--socket", d.socket, "--state-dir", d.state_dir],
                            stderr=subprocess.PIPE, text=True, env=env, preexec_fn=place, close_fds=False)


def memfd(sealed, content=b""):
    """Memory of 4 KiB."""
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    if sealed:
        fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
    os.pwrite(fd, content, 0)
    return fd


class Manager:
    """A service manager that keeps descriptors, and confirms only when it is told to."""

    def __init__(self, d):
        self.path = os.path.join(d.dir, "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(EXIT_S)
        self.confirm, self.waiting = True, []
        self.stored = []  # pairs of name and descriptor

    def until(self, line):
        """Does what it is asked to, up to the message that has this line."""
        while True:
            data, control, _, _ = self.sock.recvmsg(4096, socket.CMSG_SPACE(4))
            fds = array.array("i")
            for _, _, raw in control:
                fds.frombytes(raw)
            lines = data.decode().split("\n")
            name = "".join(text[7:] for text in lines if text.startswith("FDNAME="))
            if "FDSTORE=1" in lines:
                self.stored.append((name, fds[0]))
            elif "FDSTOREREMOVE=1" in lines:
                self.drop(name)
            elif "BARRIER=1" in lines:
                self.waiting.append(fds[0])
                if self.confirm:
                    self.release()
            if line in lines:
                return

    def drop(self, name):
        for entry in [entry for entry in self.stored if entry[0] == name]:
            os.close(entry[1])
            self.stored.remove(entry)

    def names(self):
        return sorted(name for name, _ in self.stored)

    def fd(self, name):
        """The first descriptor of that name."""
        return next(fd for own, fd in self.stored if own == name)

    def release(self):
        """Confirms everything so far."""
        for fd in self.waiting:
            os.close(fd)
        self.waiting = []

    def start(self, d):
        """Starts a daemon with what is kept."""
        names, fds = [name for name, _ in self.stored], [fd for _, fd in self.stored]
        return exec_with_fds(names, fds, d, {"NOTIFY_SOCKET": self.path})

    def close(self):
        self.release()
        for _, fd in self.stored:
            os.close(fd)
        self.sock.close()


def create_stored(d, manager, name):
    with wire.Wire(d.socket) as c:
        stream = c.start("Workspaces", "Create", {1: name, 2: 1 << 20, 3: 4096})
        manager.until("BARRIER=1")
        got = c.frame()
        tap.eq((got.stream, c.reply(got).code), (stream, 0))


def spec_state(d, ws_id):
    """The state that the spec on disk has, "" when there is none."""
    try:
        with open(os.path.join(d.state_dir, "specs", f"{ws_id}.spec"), encoding="ascii") as f:
            return "".join(line[6:-1] for line in f if line.startswith("state="))
    except FileNotFoundError:
        return ""
