"""scripts/quickstart, as a user runs it, but for the build: twice, from a folder elsewhere."""

import os
import re
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import alive, bin_dir, binary, wait_gone

ROOT = os.environ.get("WKSP_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
RESERVED = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"


def reserved():
    """Huge pages of 2 MiB reserved on this machine, None without them."""
    try:
        with open(RESERVED, encoding="ascii") as f:
            return int(f.read())
    except FileNotFoundError:
        return None


def quickstart(home):
    """Runs it; what it printed and the process that it left."""
    env = dict(os.environ, XDG_RUNTIME_DIR=home, WKSP_BIN_DIR=bin_dir())
    done = subprocess.run([os.path.join(ROOT, "scripts/quickstart")], env=env, cwd="/", capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=120, check=False)
    tap.eq(done.returncode, 0, f"exit status of quickstart\n{done.stdout[-3000:]}{done.stderr}")
    tap.eq(done.stderr, "", "its standard error")
    left = re.search(r"the daemon is left running \(process (\d+);", done.stdout)
    tap.true(left, f"it does not say what it left running:\n{done.stdout[-3000:]}")
    return done.stdout, int(left[1])


def try_next(text):
    """Runs the commands that it proposes, in one shell."""
    proposed = re.findall(r"^  (.+)$", text[text.index("the daemon is left running"):], re.MULTILINE)
    tap.eq(len(proposed), 4, f"proposed commands, with the setting before them ({proposed})")
    done = subprocess.run(["bash", "-ec", "\n".join(proposed)], capture_output=True, text=True, check=False)
    tap.eq(done.returncode, 0, f"exit status of the proposed commands {proposed}\n{done.stdout}{done.stderr}")


@tap.test(timeout=240)
def twice():
    """quickstart shows the main job, leaves a daemon that answers, and replaces it when it is run again; the
    commands that it proposes work"""
    pids, before = [], reserved()
    with tempfile.TemporaryDirectory(prefix="wkspd-test-") as home:
        try:
            for _ in range(2):
                text, pid = quickstart(home)
                pids.append(pid)
                for part in ("is dead; process", "every node whole", "has not noticed", "the same leases",
                             "which never stopped, finishes", "demo is sound"):
                    tap.contains(text, part)
                tap.true(re.search(r"in pages of 2 MiB|ordinary 4 KiB pages instead of 2 MiB ones: .", text),
                         "it does not say which pages it got")
                tap.true(alive(pid), "the daemon that it left is not there")
                if len(pids) == 1:
                    try_next(text)
            tap.true(not alive(pids[0]), "the daemon of the first run still runs")
            sock = os.path.join(home, f"wkspd-quickstart-{os.getuid()}", "sock")
            status = subprocess.run([binary("cli/wkspctl"), "--socket", sock, "status"], check=False,
                                    capture_output=True)
            tap.eq(status.returncode, 0, f"exit status of status ({status.stderr})")
        finally:
            for pid in pids:
                if alive(pid):
                    os.kill(pid, signal.SIGTERM)
                    wait_gone(pid)
            if before is not None and reserved() != before:
                with open(RESERVED, "w", encoding="ascii") as f:
                    f.write(str(before))


tap.run()
