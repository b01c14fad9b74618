"""What goes wrong: bad values, missing permission, damage, daemons that stop, die or talk nonsense. Each has its
exit code and a reason, and the daemon is afterwards as it was."""

import contextlib
import fcntl
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from clilib import Held, fails
from daemon import Daemon, binary, sanitizer_check

NOBODY = 65534


@contextlib.contextmanager
def unchanged(d):
    """Fails unless the daemon holds afterwards what it held before."""

    def held():
        status = d.status()
        return {key: status[key] for key in ("pid", "workspace_cnt", "quarantined_cnt", "lease_cnt", "bytes", "fd_cnt",
                                             "job_cnt", "connection_cnt")}

    before = tap.until(lambda: quiet(held), 60, "the daemon is at rest")
    listed = d.json("ls")
    yield
    tap.until(lambda: held() == before, 60, f"the daemon is as before ({before})")
    tap.eq(d.json("ls"), listed)


def quiet(held):
    """What is held, once no job runs and nobody but the asker is connected."""
    now = held()
    return now if not now["job_cnt"] and now["connection_cnt"] <= 1 else None


@tap.test
def unknown_names():
    """Commands on a workspace that is not there fail and name it"""
    with Daemon() as d, unchanged(d):
        for line in (["show", "nobody"], ["rm", "nobody"], ["rm", "nobody", "--force"], ["usage", "nobody"],
                     ["query", "nobody"], ["compact", "nobody"], ["verify", "nobody"], ["check", "nobody"],
                     ["rebuild", "nobody"],
                     ["alloc", "nobody", "--size", "1"], ["free", "nobody:1"], ["info", "nobody", "--tag", "1"],
                     ["tag-query", "nobody:1"], ["tag-free", "nobody", "--tag", "1"], ["memset", "nobody:1", "0"],
                     ["reset", "nobody"], ["root", "ls", "nobody"], ["root", "set", "nobody", "r", "1"],
                     ["root", "rm", "nobody", "r"],
                     ["heap", "new", "nobody", "--tag", "1"], ["heap", "leaks", "nobody:0x1000"]):
            tap.eq(fails(d, 1, line, "nobody"), "WKSP_E_NOTFOUND", " ".join(line))


@tap.test
def double_create():
    """A name can be taken once, and the second attempt leaves the first workspace alone"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "4M", "--page", "4k")
        with unchanged(d):
            tap.eq(fails(d, 1, ["create", "demo", "--size", "8M", "--page", "4k"], "demo"), "WKSP_E_EXISTS")


@tap.test
def bad_names():
    """Names outside the rule are refused with the name and the rule"""
    with Daemon() as d, unchanged(d):
        for name in ("", ".x", "_x", "a/b", "a b", "a\nb", "ä", "x" * 40, "x" * 5000, "a:b", "..",
                     os.fsdecode(b"\xff")):
            line = ["create", name, "--size", "4M", "--page", "4k"]
            result = d.ctl(*line)
            tap.eq((result.rc, result.out), (1, ""), f"create {name!r}: {result.err}")
            tap.eq(json.loads(d.ctl("--json", *line).err)["error"], "WKSP_E_INVAL", f"create {name!r}")
            tap.eq(d.ctl("show", name).rc, 1, f"show {name!r}")
        fails(d, 1, ["create", "--size", "4M", "--", "-x"], "-x")
        fails(d, 1, ["create", "a/b", "--size", "4M"], "a/b")


@tap.test
def bad_sizes():
    """Sizes of nothing and beyond all limits are refused with the size"""
    with Daemon() as d, unchanged(d):
        for size in ("0", "0x0", str(2**46 + 1), "65T", str(2**63 - 1), str(2**63), str(2**63 + 1), str(2**64 - 1),
                     "16777215T"):
            result = d.ctl("create", "demo", "--size", size)
            tap.eq((result.rc, result.out), (1, ""), f"--size {size}: {result.err}")
            tap.true(len(result.err) > 30, f"--size {size} says {result.err!r}")
        tap.contains(d.ctl("create", "demo", "--size", "0").err, "0")
        fails(d, 1, ["create", "demo", "--size", str(2**46 + 1)], str(2**46 + 1))


@tap.test
def beyond_memory():
    """A workspace larger than the machine is refused by its figures, whatever the pages"""
    with Daemon() as d, unchanged(d):
        for page in ("4k", "2M", "auto"):
            tap.eq(fails(d, 1, ["create", "demo", "--size", "32T", "--page", page]), "WKSP_E_LIMIT", page)


@tap.test
def bad_modes_and_pages():
    """Modes beyond 0777 and page sizes that there are not are refused with the value"""
    with Daemon() as d, unchanged(d):
        for mode in ("1777", "07777", "01000", "37777777777"):
            tap.eq(fails(d, 1, ["create", "demo", "--size", "4M", "--mode", mode], "777"), "WKSP_E_INVAL", mode)
        for page in ("1", "8k", "3M", "16T"):
            tap.eq(fails(d, 1, ["create", "demo", "--size", "4M", "--page", page]), "WKSP_E_INVAL", page)


@tap.test
def removed_under_us():
    """A workspace removed while it is attached is gone for new calls"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "4M", "--page", "4k")
        with Held(d, "held", "hold", "demo", "rw"):
            d.ok("rm", "demo", "--force")
            fails(d, 1, ["verify", "demo"], "demo")
            d.ok("create", "demo", "--size", "4M", "--page", "4k")
            tap.eq(d.ctl("verify", "demo").rc, 0)


@tap.test
def damage():
    """verify of a damaged workspace lists findings and exits with 4"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "8M", "--page", "4k")
        heap = d.ok("heap", "new", "demo", "--tag", "7").strip()
        d.ok("heap", "malloc", heap, "--size", "100")
        with Held(d, "scribbled", "scribble", "demo", 0, 0, 0x5a):
            result = d.ctl("verify", "demo")
            tap.eq((result.rc, result.err), (4, ""), result.out)
            findings = result.out.splitlines()
            tap.true(findings and all(line.startswith("demo: ") for line in findings), result.out)
            result = d.ctl("--json", "verify", "demo")
            tap.eq((result.rc, result.err), (4, ""))
            answer = json.loads(result.out)
            tap.eq((answer["name"], answer["damaged"]), ("demo", True))
            tap.true(len(answer["findings"]) > 0, "no findings")
            tap.eq(d.ctl("check", "demo").out, "".join(f"{line}\n" for line in findings))


@tap.test
def rebuild():
    """rebuild mends a damaged workspace, lists what was lost, and keeps the rest"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "8M", "--page", "4k", "--seed", "5")
        place = d.ok("alloc", "demo", "--size", "4096", "--tag", "7").strip()
        tap.eq(d.ok("rebuild", "demo"), "rebuilt demo, seed 5: nothing was lost\n")
        tap.eq(d.ok("rebuild", "demo", "--seed", "6"), "rebuilt demo, seed 6: nothing was lost\n")
        d.ok("root", "set", "demo", "r", place.split(":")[1])
        before = d.json("query", "demo")
        with Held(d, "scribbled", "scribble", "demo", 0, 0, 0x5a):
            tap.eq(d.ctl("verify", "demo").rc, 4)
            result = d.ctl("rebuild", "demo")
            tap.eq((result.rc, result.err), (4, ""), result.out)
            lines = result.out.splitlines()
            tap.eq(lines[0], "rebuilt demo, seed 6: this was dropped or changed")
            tap.true(len(lines) > 1 and all(line.startswith("demo: ") for line in lines[1:]), result.out)
            tap.eq(d.json("rebuild", "demo"), {"rebuilt": "demo", "seed": 6, "losses": []})
            tap.eq(d.ctl("check", "demo").rc, 0)
            tap.true(len(d.json("query", "demo")["partitions"]) <= len(before["partitions"]), "more than before")
        for seed in ("-1", "x", "4294967296"):
            tap.eq(d.ctl("rebuild", "demo", "--seed", seed).rc, 2)


@tap.test
def damaged_header():
    """A workspace whose header is gone cannot be joined: for verify that is a finding"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "8M", "--page", "4k")
        with Held(d, "scribbled", "scribble", "demo", 0, 4096, 0):
            result = d.ctl("verify", "demo")
            tap.eq((result.rc, result.err), (4, ""), result.out)
            tap.contains(result.out, "demo: ")
            tap.eq(d.ctl("heap", "new", "demo", "--tag", "1").rc, 1)


@tap.test
def random_damage():
    """Whatever a few words of metadata are overwritten with, the commands end with a documented exit code"""
    rng = random.Random(tap.seed())
    with Daemon() as d:
        found = 0
        rounds = 40 if tap.full() else 8
        for n in range(rounds):
            name = f"w{n}"
            d.ok("create", name, "--size", "4M", "--page", "4k")
            heap = d.ok("heap", "new", name, "--tag", "7").strip()
            d.ok("heap", "malloc", heap, "--size", "100")
            lo = int(heap.split(":")[1], 0)
            size = rng.choice((8, 64, 512, 4096, 32768))
            at = rng.randrange(4096, lo - size, 8)
            byte = rng.choice((0, 1, 0x5a, 0x7f, 0xff))
            tap.diag(f"{name}: [{at:#x}, +{size}) = {byte:#x}")
            with Held(d, "scribbled", "scribble", name, at, at + size, byte):
                rc = d.ctl("verify", name, "--timeout", "20").rc
                tap.true(rc in (0, 1, 4), f"verify exits with {rc}")
                found += rc == 4
                for line in (["heap", "leaks", heap], ["heap", "query", heap], ["usage", name], ["query", name],
                             ["info", name, "--tag", "7"], ["tag-query", heap], ["root", "ls", name]):
                    rc = d.ctl(*line, "--timeout", "20").rc
                    tap.true(rc in (0, 1, 4), f"{line} exits with {rc}")
        tap.diag(f"verify found damage in {found} of {rounds}")


@tap.test
def other_users():
    """Another user gets no more than the mode gives, and is told so"""
    if os.getuid() != 0:
        tap.skip("root, to act as two users")
    with Daemon() as d:
        open_to_all(d)
        d.ok("create", "mine", "--size", "4M", "--page", "4k", "--mode", "0600")
        d.ok("create", "ours", "--size", "4M", "--page", "4k", "--mode", "0666")
        d.ok("create", "seen", "--size", "4M", "--page", "4k", "--mode", "0644")
        with unchanged(d):
            for line in (["verify", "mine"], ["heap", "new", "mine", "--tag", "1"], ["rm", "mine"],
                         ["heap", "new", "seen", "--tag", "1"], ["rm", "ours"]):
                result = as_nobody(d, *line)
                tap.eq(result.returncode, 1, f"{line}: {result.stderr}")
                tap.contains(result.stderr, line[1] if line[0] != "heap" else line[2])
            tap.eq(as_nobody(d, "verify", "seen").returncode, 0)
        result = as_nobody(d, "heap", "new", "ours", "--tag", "1")
        tap.eq(result.returncode, 0, result.stderr)


@tap.test
def root_becomes_the_owner():
    """When root looks into the memory of another user it does so as that user"""
    if os.getuid() != 0:
        tap.skip("root, to become another user")
    with Daemon() as d:
        open_to_all(d)
        result = as_nobody(d, "create", "theirs", "--size", "4M", "--page", "4k", "--mode", "0600")
        tap.eq(result.returncode, 0, result.stderr)
        for line in (["verify", "theirs"], ["heap", "new", "theirs", "--tag", "1"]):
            # A full pipe holds it at its last step, when the memory is still mapped.
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(writer, b"x")
            os.set_blocking(writer, True)
            proc = d.popen(binary("cli/wkspctl"), *line, stdout=writer)
            os.close(writer)
            tap.until(lambda p=proc: uids(p.pid) == {NOBODY}, 60, f"{line} runs as {NOBODY}")
            with os.fdopen(reader, "rb") as pipe:
                while pipe.read(65536):
                    continue
            tap.eq(proc.wait(60), 0, f"exit code of {line}")
        d.ok("rm", "theirs")


def open_to_all(d):
    """Lets other users reach the socket, and a copy of wkspctl: they may not enter the build folder."""
    os.chmod(d.dir, 0o755)
    os.chmod(d.socket, 0o666)
    shutil.copy(binary("cli/wkspctl"), d.dir)
    os.chmod(os.path.join(d.dir, "wkspctl"), 0o755)


def as_nobody(d, *line):
    """Runs wkspctl as another user."""
    proc = subprocess.run([os.path.join(d.dir, "wkspctl"), *line], user=NOBODY, group=NOBODY, extra_groups=[],
                          env=d.env, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    sanitizer_check(proc.stderr, " ".join(line))
    return proc


def uids(pid):
    """The user ids of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return {int(uid) for line in f if line.startswith("Uid:") for uid in line.split()[1:]}


@tap.test
def stopped_daemon():
    """A daemon that does not answer is waited for as long as --timeout says, and is well afterwards"""
    with Daemon() as d:
        os.kill(d.proc.pid, signal.SIGSTOP)
        try:
            for line in (["ls"], ["status"], ["create", "demo", "--size", "4M"]):
                result = d.ctl(*line, "--timeout", "200ms", timeout_s=60)
                tap.eq((result.rc, result.out), (1, ""), f"{line}: {result.err}")
            error = json.loads(d.ctl("--json", "ls", "--timeout", "200ms", timeout_s=60).err)
            tap.eq(error["error"], "WKSP_E_TIMEDOUT")
        finally:
            os.kill(d.proc.pid, signal.SIGCONT)
        d.ok("ls")


@tap.test
def daemon_dies_under_watch():
    """A watch whose daemon goes away fails and says so"""
    with Daemon() as d:
        proc = d.popen(binary("cli/wkspctl"), "watch", stdout=subprocess.PIPE, stderr=subprocess.PIPE)

        def seen():
            """A connection says little: before its request has come the daemon may die unnoticed."""
            d.ok("create", "demo", "--size", "2M", "--page", "4k")
            d.ok("rm", "demo")
            return select.select([proc.stdout], [], [], 0)[0]

        tap.until(seen, 60, "watch has told an event")
        d.kill()
        _, err = proc.communicate(timeout=60)
        tap.true(proc.returncode in (1, 3), f"exit code {proc.returncode}")
        tap.true(err.startswith(b"wkspctl: "), f"says {err!r}")


@tap.test
def watch_reader_leaves():
    """A watch whose reader has gone ends with a failure at the next event"""
    with Daemon() as d:
        proc = d.popen(binary("cli/wkspctl"), "watch", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        proc.stdout.close()

        def event():
            d.ok("create", "demo", "--size", "2M", "--page", "4k")
            d.ok("rm", "demo")
            return proc.poll() is not None

        tap.until(event, 60, "watch has ended")
        tap.eq(proc.returncode, 1)
        tap.contains(proc.stderr.read().decode(), "Broken pipe")
        proc.stderr.close()


@tap.test
def full_disk():
    """Results that cannot be written are a failure, for text and for JSON"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "4M", "--page", "4k")
        for line in (["ls"], ["ls", "--json"], ["query", "demo"], ["query", "demo", "--json"], ["status"],
                     ["verify", "demo"], ["show", "demo"], ["usage", "demo", "--json"]):
            with open("/dev/full", "wb") as full:
                proc = d.popen(binary("cli/wkspctl"), *line, stdout=full, stderr=subprocess.PIPE)
                _, err = proc.communicate(timeout=60)
            tap.eq(proc.returncode, 1, " ".join(line))
            tap.contains(err.decode(), "No space left on device")


@tap.test
def nonsense_for_an_answer():
    """Whatever answers on the socket, wkspctl ends with a reason and never with a crash"""
    rng = random.Random(tap.seed())
    head = b"\x00\x00\x00\x01\x02\x00"  # stream 1, type 2 (response), no flags
    answers = [b"", b"\x00", b"HTTP/1.0 400 Bad Request\r\n\r\n", b"\xff" * 64,
               b"\x00\x00\x00\x00" + head, b"\x00\x00\x00\x04" + head + b"\x12\x7f", b"\x7f\xff\xff\xff" + head,
               b"\x00\x00\x00\x02" + b"\x00\x00\x00\x09\x02\x00" + b"\x12\x00"]
    answers += [b"\x00\x00\x00\x20" + head + rng.randbytes(32) for _ in range(8)]
    commands = (["ls"], ["status"], ["show", "x"], ["query", "x"], ["verify", "x"])
    with tempfile.TemporaryDirectory() as folder:
        for answer in answers:
            with answering(os.path.join(folder, "sock"), answer) as path:
                for command in commands:
                    proc = subprocess.run([binary("cli/wkspctl"), "--socket", path, *command, "--timeout", "100ms"],
                                          capture_output=True, text=True, timeout=60, check=False)
                    sanitizer_check(proc.stderr, f"{command} answered {answer!r}")
                    # A well-formed empty answer is a legal message with nothing in it.
                    tap.true(proc.returncode in (0, 1, 3), f"{command} answered {answer!r}: {proc.returncode}")
                    if proc.returncode:
                        tap.true(proc.stderr.startswith("wkspctl: "), f"{command} says {proc.stderr!r}")


@contextlib.contextmanager
def answering(path, answer):
    """A server that gives every connection the same bytes after its first, then hangs up."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(8)

    def serve():
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                peer.settimeout(5)
                peer.recv(1)
                peer.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield path
    finally:
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        server.close()
        os.unlink(path)


def shown_at(master, part):
    """What a terminal has shown, up to where it has shown part."""
    shown, end = b"", time.monotonic() + 60
    while part not in shown:
        tap.true(select.select([master], [], [], max(0, end - time.monotonic()))[0], f"{part} in {shown}")
        shown += os.read(master, 4096)
    return shown


@tap.test
def progress():
    """a command that takes longer than half a second says so on a terminal, takes it away before its result, and
    colours nothing; elsewhere, and under --json, nothing is said"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "2M", "--page", "4k")
        pid, command = d.pid(), [binary("cli/wkspctl"), "--socket", d.socket]
        os.kill(pid, signal.SIGSTOP)
        plain = [subprocess.Popen([*command, *line], env=d.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE) for line in (["ls"], ["--json", "ls"])]
        master, slave = os.openpty()
        try:
            told = subprocess.Popen([*command, "show", "demo"], env=d.env, stdin=subprocess.DEVNULL, stdout=slave,
                                    stderr=slave)
            os.close(slave)
            shown = shown_at(master, b"\rwkspctl show: 1.0 s\x1b[K")
            os.kill(pid, signal.SIGCONT)
            shown += shown_at(master, b"created")
            tap.eq(told.wait(60), 0, "exit code")
        finally:
            os.kill(pid, signal.SIGCONT)
            os.close(master)
        before, _, after = shown.rpartition(b"\r\x1b[K")
        tap.eq((b"demo" in before, b"demo" in after), (False, True), f"the line is gone before the result: {shown}")
        tap.eq(re.findall(rb"\x1b\[(?!K)", shown), [], "colours")
        for proc in plain:
            out, err = proc.communicate(timeout=60)
            tap.eq((proc.returncode, err), (0, b""), "where there is no terminal")
            tap.contains(out.decode(), "demo")
        master, slave = os.openpty()
        failed = subprocess.run([*command, "show", "nobody"], env=d.env, stdout=slave, stderr=slave, check=False)
        os.close(slave)
        tap.eq(failed.returncode, 1)
        tap.contains(shown_at(master, b"\n").decode(), "nobody")
        os.close(master)


@tap.test
def widths():
    """map's strips are as wide as the terminal, whatever that is, and never wider, but below 26 columns"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "2M", "--page", "4k")
        for columns in (1, 26, 40, 79, 80, 81, 200, 500):
            master, slave = os.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
            done = subprocess.run([binary("cli/wkspctl"), "map", "demo"], env=dict(d.env, NO_COLOR="1"), stdout=slave,
                                  stderr=subprocess.PIPE, check=False)
            os.close(slave)
            tap.eq((done.returncode, done.stderr), (0, b""), "map")
            text = shown_at(master, b". nothing").decode()
            os.close(master)
            strips = [line.strip("\r") for line in text.split("\n") if "|" in line]
            tap.eq((len(strips), len(strips[0])), (2, len(strips[1])), f"strips at {columns}")
            tap.true(len(strips[0]) <= max(columns, 26), f"strips at {columns}: {strips}")
            tap.true(len(strips[0]) >= min(columns, 80) * 3 // 4, f"strips at {columns}: {strips}")


@tap.test
def colours():
    """map is coloured on a terminal, and not if NO_COLOR says so or it is no terminal; both say the same"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "2M", "--page", "4k")

        def shown(**more):
            master, slave = os.openpty()
            env = {k: v for k, v in d.env.items() if k != "NO_COLOR"}
            done = subprocess.run([binary("cli/wkspctl"), "map", "demo"], env=dict(env, **more), stdout=slave,
                                  stderr=subprocess.PIPE, check=False)
            os.close(slave)
            tap.eq((done.returncode, done.stderr), (0, b""), "map")
            text = shown_at(master, b". nothing")
            os.close(master)
            return text

        coloured, plain = shown(), shown(NO_COLOR="1")
        tap.true(b"\x1b[3" in coloured, f"colours in {coloured}")
        tap.eq(b"\x1b" in plain or "\x1b" in d.ok("map", "demo"), False, "colours")
        tap.eq(re.sub(rb"\x1b\[\d*m", b"", coloured).split(b"\r\n")[:4], plain.split(b"\r\n")[:4], "what it says")


tap.run()
