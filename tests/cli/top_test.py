"""wkspctl top in a terminal (tmux): what it shows at three sizes, its keys, and how it ends."""

import os
import re
import shlex
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from clilib import Held, fails
from daemon import Daemon, binary

WAIT_S = 60


class Terminal:
    """A terminal of that size in which a shell runs wkspctl ARGS, says what came of it and stays."""

    def __init__(self, d, cols, rows, *args, env=""):
        if not shutil.which("tmux"):
            tap.skip("tmux")
        self.dir, self.tmux = d.dir, ["tmux", "-S", os.path.join(d.dir, "tmux"), "-f", "/dev/null"]
        command = " ".join(map(shlex.quote, [binary("cli/wkspctl"), *args]))
        before, after = os.path.join(d.dir, "before"), os.path.join(d.dir, "after")
        script = f"trap : INT; stty -g >{before}; {env} {command}; echo rc=$?; stty -g >{after}; exec cat"
        keep = {k: v for k, v in d.env.items() if k not in ("TMUX", "TMUX_PANE", "LD_LIBRARY_PATH")}
        env = dict(keep, LC_ALL="C.UTF-8", SHELL="/bin/sh", TERM="screen")
        # In the foreground (-D), so that whoever looks for processes that were left behind knows it.
        self.server = d.popen(*self.tmux, "-D", env=env)
        start = [*self.tmux, "-N", "new-session", "-d", "-x", str(cols), "-y", str(rows), script]
        tap.until(lambda: subprocess.run(start, env=env, capture_output=True, check=False).returncode == 0, WAIT_S,
                  "tmux has a session")

    def say(self, *args):
        return subprocess.run([*self.tmux, *args], check=True, capture_output=True, text=True).stdout

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            tap.diag(self.text())
        self.server.terminate()
        self.server.wait(WAIT_S)

    def text(self):
        return self.say("capture-pane", "-p")

    def keys(self, *names):
        self.say("send-keys", *names)

    def wait(self, *parts, without=()):
        """Waits until the screen has all of parts and nothing of without; the screen."""

        def there():
            text = self.text()
            return text if all(p in text for p in parts) and not any(p in text for p in without) else None

        try:
            return tap.until(there, WAIT_S, f"a screen with {parts} without {without}")
        except AssertionError as why:
            raise AssertionError(f"{why}; it is:\n{self.text()}") from None

    def ended(self, rc=0):
        """It has ended so, and has left the terminal as it was."""
        self.wait(f"rc={rc}", without=("q quit", "q back"))
        saved = [os.path.join(self.dir, name) for name in ("before", "after")]
        tap.until(lambda: os.path.exists(saved[1]) and os.path.getsize(saved[1]), WAIT_S, "what stty says")
        with open(saved[0], encoding="ascii") as a, open(saved[1], encoding="ascii") as b:
            tap.eq(b.read(), a.read(), "settings of the terminal")


def furnish(d):
    """A few workspaces, one of them with a heap."""
    d.ok("create", "demo", "--size", "16M", "--max-size", "32M", "--page", "4k")
    d.ok("create", "x" * 39, "--size", "2M", "--page", "4k", "--mode", "0600")
    for i in range(30):
        d.ok("create", f"ws{i:02}", "--size", "256K", "--page", "4k")
    heap = d.ok("heap", "new", "demo", "--tag", "7").strip()
    d.ok("root", "set", "demo", "things", heap)
    for size in ("100", "100", "5000", "1M"):
        d.ok("heap", "malloc", heap, "--size", size)
    return heap


def break_checkpoint(d):
    """Flips a bit in the middle of the largest file of all stores."""
    stores = os.path.join(d.state_dir, "checkpoints")
    files = [os.path.join(folder, name) for folder, _, names in os.walk(stores) for name in names]
    pack = max(files, key=os.path.getsize)
    with open(pack, "r+b") as f:
        middle = os.path.getsize(pack) // 2
        f.seek(middle)
        byte = f.read(1)
        f.seek(middle)
        f.write(bytes([byte[0] ^ 1]))


@tap.test
def sizes():
    """at 80x24, 132x43 and 200x60, and when the terminal changes its size, each line is on the screen as a whole, and
    as many workspaces as there is room for"""
    with Daemon() as d:
        furnish(d)
        for cols, rows in ((80, 24), (132, 43), (200, 60)):
            with Terminal(d, cols, rows, "top", "--interval", "200ms") as t:
                for width, height in ((cols, rows), (100, 30)):
                    t.say("resize-window", "-x", str(width), "-y", str(height))
                    shown = min(32, height - 5)

                    def right():
                        lines = t.text().split("\n")
                        listed = [line for line in lines if re.match(r"(demo|ws\d\d|xxx)", line)]
                        return lines if len(listed) == shown and lines[height - 1].startswith("q quit") else None

                    lines = tap.until(right, WAIT_S, f"{shown} workspaces at {width}x{height}")
                    for part in ("32 workspaces", "LOST AT A RESTART"):
                        tap.contains("\n".join(lines[:2]), part)
                    columns = "NAME SIZE USED % LARGEST FRAG RW RO VERIFIED"
                    tap.eq(" ".join(lines[3].split()), columns, f"columns at {width}x{height}")
                    row = r"demo +16 MiB +1\.\d MiB +\d+% +1\d\.\d MiB +\d+% +0 +0 +-$"
                    tap.true(re.match(row, lines[4]), lines[4])
                    tap.true(max(map(len, lines)) <= width, f"width of {width}x{height}")
                t.keys("q")
                t.ended()


@tap.test
def pages():
    """arrows select, Enter shows a workspace with its tags, fd_allocs and size classes, q goes back and then quits"""
    with Daemon(supervise=True) as d:
        heap = furnish(d)
        with Terminal(d, 80, 24, "top", "--interval", "200ms") as t:
            t.wait("demo ", "ws00")
            t.keys("Enter")
            text = t.wait("demo: 16 MiB of at most 32 MiB", "root", "TAG KIND", "q back", "roots: things", "0x7 heap")
            tap.true("NAME" not in text, "the list is away")
            t.say("resize-window", "-x", "80", "-y", "40")
            text = t.wait("SIZE CLASS", "large")
            tap.contains(text, heap.split(":")[1] + "      0x7         3")
            tap.true(re.search(r"^ +\d+ +112 B +2 +224 B$", text, re.MULTILINE), "two blocks of the class of 112 bytes")
            with Held(d, "held", "hold", "demo", "rw") as held:
                t.wait("1 to write", f"{held.pid} hand", " rw ")
            t.wait("0 to write", without=(" hand",))
            t.say("resize-window", "-x", "80", "-y", "12")
            t.wait("lines 1 to 8 of")
            t.keys("Down", "Down")
            t.wait("lines 3 to 10 of")
            t.keys("NPage", "NPage", "NPage", "NPage", "NPage")
            t.wait("large")
            t.say("resize-window", "-x", "80", "-y", "24")
            t.keys("q")
            t.wait("NAME", "q quit")
            t.keys("Down", "Enter")
            t.wait("ws00: ", "no fd_allocs")
            d.ok("rm", "ws00", "--force")  # top may be looking into it
            t.wait("ws00: is gone")
            t.keys("Escape")
            t.wait("NAME", without=("ws00",))
            t.keys("s")
            t.wait("sort: size")
            tap.true(t.wait("sort: size").split("\n")[4].startswith("demo"), "the largest first")
            t.keys("NPage", "NPage", "NPage")
            t.wait("ws29", without=("demo ",))
            t.keys("q")
            t.ended()


@tap.test
def checkpoints():
    """the list has the age of the last verified checkpoint; the page has checkpoints, the schedule, pages by node and
    jobs that failed"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "2M", "--page", "4k")
        d.ok("alloc", "demo", "--size", "64K")
        with Terminal(d, 80, 24, "top", "--interval", "200ms") as t:
            t.wait("VERIFIED", "demo ")
            tap.true(re.search(r"^demo .* 0 +-$", t.text(), re.MULTILINE), "none yet")
            d.ok("checkpoint", "demo", "--wait")
            d.ok("checkpoint-verify", "--all")
            tap.until(lambda: re.search(r"^demo .* 0 +\d+[smh]$", t.text(), re.MULTILINE), WAIT_S, "its age")
            d.ok("schedule", "demo", "--every", "2h")
            t.keys("Enter")
            text = t.wait("checkpoints: 1, ", "schedule: every 2h", "pages: node ")
            tap.true(re.search(r"0 bad; age of the last good \d+[smh], verified \d+[smh]", text), text)
            break_checkpoint(d)
            tap.eq(d.ctl("checkpoint-verify", "--all").rc, 4, "a verify of a damaged one")
            text = t.wait("1 bad; age of the last good -, verified -", "verify failed: ")
            t.keys("q", "q")
            t.ended()


@tap.test
def daemon_away():
    """while the daemon is away it says so, and goes on when it is back"""
    with Daemon(supervise=True) as d:
        d.ok("create", "demo", "--size", "2M", "--page", "4k")
        with Terminal(d, 80, 24, "top", "--interval", "200ms") as t:
            t.wait("demo ", "kept over restarts")
            old = d.kill_child()
            new = d.wait_restart(old)
            t.wait("demo ", f"pid {new},")
            d.stop()
            t.wait("sock")
            d.start()
            t.wait("no workspaces", "0 workspaces")
            t.keys("q")
            t.ended()


@tap.test
def ends():
    """Ctrl-C ends it with the terminal as it was; a terminal that is too small is said; a terminal that goes away ends
    it"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "2M", "--page", "4k")
        with Terminal(d, 80, 24, "top") as t:
            t.wait("demo ")
            t.say("resize-window", "-x", "30", "-y", "5")
            t.wait("too small")
            t.say("resize-window", "-x", "80", "-y", "24")
            t.wait("demo ")
            t.keys("C-c")
            tap.until(lambda: "rc=" in t.text(), WAIT_S, "it has ended")
            t.wait("rc=", without=("q quit",))
        with Terminal(d, 80, 24, "top") as t:
            t.wait("demo ")
        tap.until(lambda: d.status()["connection_cnt"] == 1, WAIT_S, "nobody asks any more")


@tap.test
def wrong():
    """without a terminal, with a terminal of no known type, under --json and with an interval that is none it is
    refused with the way out"""
    with Daemon() as d:
        fails(d, 2, ["top", "--interval", "soon"], "'soon'")
        result = d.ctl("top")
        tap.eq((result.rc, result.out), (1, ""), "without a terminal")
        tap.contains(result.err, "metrics")
        result = d.ctl("--json", "top")
        tap.eq(result.rc, 2, "under --json")
        tap.contains(result.err, "metrics --json")
        with Terminal(d, 80, 24, "top", env="TERM=nonsense") as t:
            t.wait("'nonsense'", "rc=1")


tap.run()
