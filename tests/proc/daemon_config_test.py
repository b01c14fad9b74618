"""Configuration: what it declares is made, changes are taken over while programs run, mistakes are named.

Every test has a daemon, socket, configuration and state folder of its own.
"""

import os
import signal
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
import wire
from daemon import Daemon, binary

WAIT_S = 60
MIB = 1 << 20


class Configured(Daemon):
    """A daemon with a configuration file and the folders beside it."""

    def __init__(self, supervise=False):
        super().__init__(supervise=supervise)
        self.conf = os.path.join(self.dir, "etc", "wkspd.conf")
        self.args += ["--config", self.conf]
        for name in ("wkspd.conf.d", "workspaces.d"):
            os.makedirs(os.path.join(self.dir, "etc", name))
        self.write("wkspd.conf", "[wkspd]\nlog_level = info\n")

    def path(self, name):
        return os.path.join(self.dir, "etc", name)

    def start(self, ready=True):
        """Waits until what is declared has been tried, too."""
        told = self.log().count(" ready pid=")
        super().start(ready)
        tap.until(lambda: self.log().count(" ready pid=") > told, WAIT_S, "it says that it is ready")
        return self

    def write(self, name, text):
        """Puts a file in place as an editor does: whole."""
        with open(self.path(name) + "~", "w", encoding="ascii") as f:
            f.write(text)
        os.rename(self.path(name) + "~", self.path(name))

    def declare(self, name, **keys):
        self.write(f"workspaces.d/{name}.conf",
                   "[workspace]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()))

    def reload(self, mistakes=0):
        """Lines of wkspctl reload, which has that many mistakes to tell."""
        done = self.ctl("reload")
        tap.eq(done.rc, 1 if mistakes else 0, f"exit status of reload: {done.out}{done.err}")
        tap.eq(f"{mistakes} of what the configuration says" in done.err, mistakes > 0, f"it says so: {done.err}")
        return done.out.splitlines()

    def check(self):
        """(exit status, stdout, stderr) of --check-config."""
        done = subprocess.run([binary("daemon/wkspd"), "--check-config", "--config", self.conf], capture_output=True,
                              text=True, timeout=WAIT_S, check=False)
        return done.returncode, done.stdout, done.stderr


@tap.test
def declared():
    """declared workspaces are there when the daemon is ready, with all that their files say, and over a restart"""
    with Configured(supervise=True) as d:
        d.stop()
        d.declare("orders", size="4M", max_size="16M", page_size="4k", mode="0640", owner="1234", group="77", seed="9",
                  part_max="500")
        d.declare("bills", size="1M")
        d.start()
        tap.contains(d.log(), "orders: created, it has 4194304 bytes")
        ready = d.log().rindex(" ready pid=")
        tap.true(max(d.log().index(" created workspace=orders "), d.log().index(" created workspace=bills ")) < ready,
                 "it was ready before they were there")
        got = d.json("show", "orders")
        tap.eq([got[key] for key in ("size", "max_size", "page_size", "mode", "uid", "gid", "seed", "part_max")],
               [4 * MIB, 16 * MIB, 4096, "0640", 1234, 77, 9, 500])
        tap.eq(d.json("show", "bills")["uid"], os.geteuid())
        tap.eq(d.reload(), [], "what a second reading has to say")
        d.wait_restart(d.kill_child())
        tap.eq(d.json("show", "orders"), got)
        tap.eq(d.log().count(" created workspace="), 2)


@tap.test
def changed():
    """a reload makes what is new, resizes what has another size, says what cannot be changed, and removes nothing"""
    with Configured() as d:
        d.declare("a", size="4M", max_size="16M", page_size="4k")
        d.declare("b", size="1M", page_size="4k")
        tap.eq(d.reload(), ["a: created, it has 4194304 bytes", "b: created, it has 1048576 bytes"])
        opened = open_it(d, "a")
        os.remove(d.path("workspaces.d/b.conf"))
        d.declare("a", size="12M", max_size="16M", page_size="4k")
        d.declare("c", size="1M", page_size="4k")
        tap.eq(d.reload(), ["a: resized, it has 12582912 bytes", "c: created, it has 1048576 bytes"])
        tap.eq([d.json("show", name)["size"] for name in "abc"], [12 * MIB, MIB, MIB])
        tap.true(os.fstat(opened[0]).st_blocks * 512 == 12 * MIB, "pages of the memory that a program has")

        d.declare("a", size="12M", max_size="32M", page_size="2M", mode="0600", owner="7", group="8", seed="5",
                  part_max="9999")
        notes = d.reload()
        for key in ("page_size", "max_size", "mode", "owner", "group", "seed", "part_max"):
            tap.eq(sum(f"a: {key} is " in line for line in notes), 1, f"lines about {key} in {notes}")
        tap.eq(len(notes), 7, f"lines of {notes}")
        d.declare("a", size="20M", max_size="32M", page_size="4k")
        tap.eq(sum("created with a max-size of 16777216" in line for line in d.reload(1)), 1)
        tap.eq(d.json("show", "a")["size"], 12 * MIB)
        for end in opened:
            os.close(end)


def open_it(d, name):
    with wire.Wire(d.socket) as c:
        reply = c.call("Workspaces", "Open", {1: name})
        tap.eq(reply.code, 0, reply.message)
        return reply.fds


@tap.test
def hangup():
    """SIGHUP does what a reload does, also through a supervisor; the level of the log changes, other keys wait"""
    for supervise in (False, True):
        with Configured(supervise=supervise) as d:
            d.declare("a", size="1M")
            d.write("wkspd.conf.d/10-level.conf", "[wkspd]\nlog_level = error\n")
            d.write("wkspd.conf.d/20-level.conf", "[wkspd]\nlog_level = debug\nworkers = 3\n")
            d.proc.send_signal(signal.SIGHUP)
            tap.until(lambda: "created workspace=a " in d.log(), WAIT_S, "what is declared is made")
            tap.contains(d.log(), "workers takes a restart")
            with wire.Wire(d.socket):
                tap.until(lambda: " debug connected " in d.log(), WAIT_S, "debug lines")


@tap.test
def mistakes():
    """each mistake is named by file, line and value, by --check-config and by a reload, and changes nothing"""
    ways = (
        ("wkspd.conf", "[wkspd]\n\nlog_level = loud\n", ":3: log_level = 'loud' is not debug"),
        ("wkspd.conf", "[wkspd]\nsokcet = /x\n", ":2: unknown key 'sokcet'"),
        ("wkspd.conf", "[wkspd]\nworkers = 65\n", ":2: workers = '65' is not a number from 1 to 64"),
        ("wkspd.conf", "[wkspd]\n# " + "x" * 300 + "\n", ":2: the line beginning"),
        ("wkspd.conf.d/x.conf", "[wkspd]\nworkers = 1\nworkers = 2\n", ":3: workers is given twice"),
        ("wkspd.conf.d/x.conf", "nonsense\n", ":1: not a section"),
        ("workspaces.d/w.conf", "[workspace]\nsize = 4Q\n", ":2: size = '4Q' is not a size"),
        ("workspaces.d/w.conf", "[workspace]\nsize = 65T\n", ":2: size = '65T' is not a size"),
        ("workspaces.d/w.conf", "[workspace]\nsize = 18446744073709551616\n", ":2: size = "),
        ("workspaces.d/w.conf", "[workspace]\nmode = 0660\n", ": size is missing"),
        ("workspaces.d/w.conf", "[workspace]\nsize = 4M\nmax_size = 2M\n", ": max_size of 2097152 bytes is below"),
        ("workspaces.d/w.conf", "[workspace]\nsize = 4M\npage_size = 8k\n", ":3: page_size = '8k' is not auto"),
        ("workspaces.d/w.conf", "[workspace]\nsize = 4M\nmode = 888\n", ":3: mode = '888' is not permission"),
        ("workspaces.d/w.conf", "[workspace]\nsize = 4M\nowner = no-such-user\n", ":3: owner = 'no-such-user' is not"),
        ("workspaces.d/w.conf", "[workspace]\nsize = 4M\npart_max = 7\n", ":3: part_max = '7' is not"),
        ("workspaces.d/w.conf", "[wkspd]\nsize = 4M\n", ":2: unknown section [wkspd]"),
        ("workspaces.d/w.conf", "[workspace]\nsize = 4M\nsize = 4M\n", ":3: size is given twice"),
        ("workspaces.d/.-w.conf", "", None),
        ("workspaces.d/-w.conf", "[workspace]\nsize = 4M\n", ": '-w' is no name of a workspace"),
    )
    with Configured() as d:
        d.declare("good", size="1M")
        tap.eq(d.check(), (0, f"{d.conf} is sound; it declares 1 workspaces\n", ""))
        tap.eq(d.reload(), ["good: created, it has 1048576 bytes"])
        for name, text, says in ways:
            good = None
            if os.path.exists(d.path(name)):
                with open(d.path(name), encoding="ascii") as f:
                    good = f.read()
            d.write(name, text)
            rc, _, err = d.check()
            notes = d.reload(1 if says else 0)
            if says:
                tap.eq(rc, 2, f"--check-config with {text!r} in {name}")
                tap.contains(err, d.path(name) + says)
                tap.eq(sum(d.path(name) + says in line for line in notes), 1, f"{says!r} in {notes}")
                tap.eq(len(notes), 1, f"lines of {notes}")
            else:
                tap.eq((rc, notes), (0, []), f"{text!r} in {name}")
            if good is None:
                os.remove(d.path(name))
            else:
                d.write(name, good)
        tap.eq(wire.stats(d.socket)["workspaces"], 1)
        tap.eq(d.reload(), [])


@tap.test
def restart_with_mistake():
    """a mistake in the files leaves a daemon that is restarted with what it has read before, as a whole; status,
    doctor, metrics and the log say so until a reload finds it mended"""
    quota = f"[quota]\nuid{os.geteuid()}.4k = 64M\n"
    with Configured(supervise=True) as d:
        d.ok("create", "w", "--size", "1M", "--page", "4k")
        d.write("wkspd.conf.d/q.conf", quota)
        d.reload()
        d.write("wkspd.conf", "[wkspd]\nlog_level = debug\n\nworkers = 65\n")
        says = d.path("wkspd.conf") + ":4: workers = '65' is not a number"
        tap.contains(d.reload(1)[0], says)
        tap.contains(d.status()["config_mistake"], says)
        d.wait_restart(d.kill_child())
        tap.contains(d.log(), "in force is what was read last without a mistake")
        status = d.status()
        tap.contains(status["config_mistake"], says)
        tap.eq([q["limit"] for q in status["quotas"]], [64 * MIB], "the quotas of before")
        tap.contains(" ".join(d.ok("status").split()), "mistake " + says)
        tap.contains(d.ctl("doctor").out, says)
        tap.contains(d.ok("metrics"), "\nwkspd_configuration_sound 0\n")
        tap.true("debug connected" not in d.log(), "a part of what is wrong is in force")
        d.write("wkspd.conf", "[wkspd]\n")
        tap.eq(d.reload(), [])
        tap.eq(d.status()["config_mistake"], "")
        tap.contains(d.ok("metrics"), "\nwkspd_configuration_sound 1\n")
        d.wait_restart(d.kill_child())
        tap.eq((d.status()["config_mistake"], len(d.json("ls")["workspaces"])), ("", 1))


@tap.test
def nothing_kept():
    """a start that finds a mistake refuses where nobody else keeps memory, and where what was kept is damaged,
    until it is mended"""
    with Configured(supervise=True) as d:
        d.ok("create", "w", "--size", "1M", "--page", "4k")
        kept = os.path.join(d.state_dir, "wkspd.good")
        with open(kept, encoding="ascii") as f:
            text = f.read()
        tap.contains(text, "[wkspd]\nlog_level=info\n")
        d.write("wkspd.conf", "[wkspd]\nworkers = 65\n")
        rc, _, err = d.check()
        tap.eq(rc, 2, err)
        alone = subprocess.run([binary("daemon/wkspd"), "--socket", d.socket + "2", "--state-dir", d.state_dir,
                                "--config", d.conf], capture_output=True, text=True, timeout=WAIT_S, check=False)
        tap.eq(alone.returncode, 2, alone.stderr)
        with open(kept, "w", encoding="ascii") as f:
            f.write(text.replace("[wkspd]\n", "[wkspd]\nworkers = 1\n"))
        old = d.kill_child()
        tap.until(lambda: "wkspd: " + d.conf + ":2: workers = '65'" in d.log(), WAIT_S, "it refuses")
        d.write("wkspd.conf", "[wkspd]\nlog_level = info\n")
        d.wait_restart(old)
        tap.eq((d.status()["config_mistake"], len(d.json("ls")["workspaces"])), ("", 1))
        with open(kept, encoding="ascii") as f:
            tap.eq(f.read(), text, "what is kept")


@tap.test
def one_fails():
    """a declaration that the machine cannot meet is said with its figures, and the others are made"""
    with Configured() as d:
        d.declare("a", size="1M")
        d.declare("huge", size="64T")
        d.declare("z", size="1M")
        notes = d.reload(1)
        tap.eq([line.split(":")[0] for line in notes], ["a", "huge", "z"])
        tap.contains(notes[1], "larger than this machine's memory")
        d.stop()
        d.start()
        tap.eq(sorted(w["name"] for w in d.json("ls")["workspaces"]), ["a", "z"])


@tap.test
def many_at_once():
    """reloads that come while one is under way are answered after the next, all of them"""
    with Configured() as d:
        for i in range(20):
            d.declare(f"w{i}", size="1M")
        command = (binary("cli/wkspctl"), "--socket", d.socket, "reload")
        pids = [d.popen(*command, stdout=subprocess.PIPE) for _ in range(8)]
        lines = [proc.communicate(timeout=WAIT_S)[0].decode().splitlines() for proc in pids]
        tap.eq([proc.returncode for proc in pids], [0] * 8)
        tap.true(any(len(out) == 20 for out in lines), f"one of them made all: {[len(out) for out in lines]}")
        tap.eq(wire.stats(d.socket)["workspaces"], 20)


@tap.test
def for_operators():
    """only root and the daemon's own user may have it reloaded"""
    if os.geteuid():
        tap.skip("no second user to ask as: this runs as one that is not root")
    with Configured() as d:
        os.chmod(d.dir, 0o755)
        program = shutil.copy(binary("cli/wkspctl"), d.dir)  # others may not look into the build folder
        os.chmod(program, 0o755)
        asked = subprocess.run([program, "--socket", d.socket, "reload"], capture_output=True, text=True,
                               timeout=WAIT_S, check=False, preexec_fn=lambda: os.setuid(65534))
        tap.eq(asked.returncode, 1, asked.stderr)
        tap.contains(asked.stderr, "only root")


@tap.test
def what_stop_loses():
    """the log says at SIGTERM what a stop takes with it, and the next start's status how much was lost"""
    with Configured() as d:
        d.ok("create", "w", "--size", "4M", "--page", "4k")
        tap.contains(d.ok("status"), "loses all workspaces")
        d.stop()
        tap.contains(d.log(), "warn stop-loses workspaces=1 bytes=4194304")
        d.start()
        tap.eq(d.status()["lost_cnt"], 1)
        tap.contains(d.ok("status"), "1 workspaces, when this daemon was started")
    with Configured(supervise=True) as d:
        d.ok("create", "w", "--size", "4M", "--page", "4k")
        tap.contains(d.ok("status"), "keeps all")
        d.stop()
        tap.contains(d.log(), "stop-keeps workspaces=1 bytes=4194304")
        tap.contains(d.log(), "stop-loses descriptors=1")


tap.run()
