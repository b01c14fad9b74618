"""A machine that is shut down and started again: nothing of its memory is left, the disk is, and workspaces whose
schedules say so are back, with what was in them.

Each of the two lives is a bed of its own with systemd as process 1; the daemon's state lies in a folder that both see.
"""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import lab
import tap

STATE = "/var/lib/wkspd"


def begin(folder):
    """The packages, and the daemon with its state in that folder."""
    # Its units start with the package, so they are told not to before its state is where it is to be.
    lab.ok("systemctl", "mask", "--runtime", "wkspd.service", "wkspd.socket")
    lab.apt("install", *lab.deb_files("libwksp1", "libwksp-ckpt1", "wkspd"))
    os.makedirs(STATE, exist_ok=True)
    lab.ok("mount", "--bind", folder, STATE)
    lab.ok("systemctl", "unmask", "--runtime", "wkspd.service", "wkspd.socket")
    lab.ok("systemctl", "start", "wkspd.socket", "wkspd")
    return lab.serving()


def facts(name):
    """What has to be the same: tags, roots, sizes."""
    query = lab.ctl("query", name)
    return {"partitions": query["partitions"], "roots": query["roots"], "size": lab.ctl("show", name)["size"]}


def first(folder):
    """Makes what is to survive, and says what it is."""
    begin(folder)
    for name in ("w", "v", "gone"):
        lab.ok("wkspctl", "create", name, "--size", "8M", "--page", "4k")
        place = lab.ok("wkspctl", "alloc", name, "--size", "2M", "--tag", "7").strip()
        lab.ok("wkspctl", "memset", place, "5")
        lab.ok("wkspctl", "root", "set", name, "words", place)
        heap = lab.ok("wkspctl", "heap", "new", name, "--tag", "9").strip()
        lab.ok("wkspctl", "heap", "malloc", heap, "--size", "100")
        if name != "gone":
            lab.ok("wkspctl", "schedule", name, "--on-stop", "checkpoint", "--on-start", "restore", "--drill", "1d")
    print(lab.json.dumps({name: facts(name) for name in ("w", "v")}))
    lab.ok("systemctl", "stop", "wkspd.socket", "wkspd")  # as a shutdown does


def second(folder):
    """What there is after it."""
    begin(folder)
    for name in ("w", "v"):
        tap.until(lambda name=name: lab.run("wkspctl", "show", name)[0] == 0, lab.READY_S, f"{name} is back")
    print(lab.json.dumps({name: facts(name) for name in ("w", "v")}))
    for name in ("w", "v"):
        tap.contains(lab.ok("wkspctl", "verify", name), "sound")
        tap.true(lab.ctl("show", name)["verified_checkpoint"], "the restore counts as a drill")
        lab.ok("wkspctl", "alloc", name, "--size", "64K")
        tap.eq(lab.ctl("schedule", name)["schedule"]["drill_ns"], 86400 * 10**9, "its schedule is there")
    tap.eq(lab.run("wkspctl", "show", "gone")[0], 1, "what nobody wanted back")
    lab.ok("systemctl", "stop", "wkspd.socket", "wkspd")


def live(which, folder):
    """One life of the machine; what it printed last."""
    args = [lab.LAB, "nspawn", "--bind", folder, "--timeout", str(lab.TIMEOUT_S), "--", "python3",
            os.path.abspath(__file__), which, folder]
    done = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    tap.eq(done.returncode, 0, f"the {which} life ({done.stdout[-2000:]})")
    return lab.json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])


@tap.test(timeout=1200)
def reboot():
    """on-stop=checkpoint, a reboot, on-start=restore: partitions, roots and heaps are back, and the schedules"""
    missing = lab.ok(lab.LAB, "missing", "nspawn", timeout_s=None).strip()
    if missing:
        tap.skip(missing)
    lab.debs()
    with tempfile.TemporaryDirectory(prefix="wkspd-reboot-", dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        before = live("first", folder)
        tap.true(before["w"]["partitions"] and before["w"]["roots"], "there is something")
        tap.eq(live("second", folder), before, "after the reboot")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in ("first", "second"):
        {"first": first, "second": second}[sys.argv[1]](sys.argv[2])
    else:
        tap.run()
