"""An emulated machine with two memory nodes: wkspd as its packages install it, on huge pages of both."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import lab
import tap

lab.bed("guest", lab.debs)

HUGE = "hugepages/hugepages-2048kB"
PAGES = 64  # of each workspace
WORKERS = 3


def nodes():
    """{node: (huge pages it has, free ones)}"""
    found = {}
    for name in sorted(os.listdir("/sys/devices/system/node")):
        if name.startswith("node"):
            figures = []
            for what in ("nr", "free"):
                with open(f"/sys/devices/system/node/{name}/{HUGE}/{what}_hugepages", encoding="ascii") as f:
                    figures.append(int(f.read()))
            found[name] = tuple(figures)
    return found


@tap.test
def bed():
    """the guest has two nodes with free huge pages on both, the unified control groups, and all units came up"""
    tap.eq(nodes(), {"node0": (128, 128), "node1": (128, 128)}, "huge pages")
    tap.eq(lab.ok("stat", "-f", "-c", "%T", "/sys/fs/cgroup").strip(), "cgroup2fs", "control groups")
    tap.eq(lab.ok("systemctl", "is-system-running").strip(), "running", "state")


@tap.test(timeout=240)
def huge_pages_survive():
    """workspaces that together are larger than one node's huge pages keep each of them, on its node, while programs
    work in them and wkspd is restarted, killed and installed anew; removed, they give back all"""
    lab.apt("install", *lab.deb_files())
    lab.serving()
    lab.add_user()
    began, everything = time.monotonic(), nodes()
    for name in ("one", "two", "three"):
        lab.ok("wkspctl", "create", name, "--size", f"{2 * PAGES}M", "--page", "2M", "--mode", "0666")
        lab.ok(os.path.join(lab.bin_dir(), "tests/lab/labour"), "setup", name)
    held = nodes()
    tap.diag(f"free huge pages before and after: {everything}, {held}")
    tap.eq(sum(free for _, free in held.values()), 256 - 3 * PAGES, "free huge pages")
    labour, before = lab.Labour("/var/tmp", niceness=19), None
    try:
        for number, name in enumerate(("one", "two", "three")):
            labour.start("work", name, "BOARD", "PLACE", number)
        labour.go_on([50] * WORKERS)
        before = lab.ctl("ls")
        for how in (("systemctl", "restart", "wkspd"), ("systemctl", "kill", "-s", "KILL", "wkspd"),
                    ("dpkg", "-i", *lab.deb_files())):
            old = lab.serving()
            lab.ok(*how)
            lab.serving(old)
            labour.go_on([50] * WORKERS)
            tap.eq(lab.ctl("ls"), before, f"workspaces after {how[:2]}")
            tap.eq(nodes(), held, f"free huge pages after {how[:2]}")
            tap.diag(f"survived {how[:2]}, {time.monotonic() - began:.0f} s")
        labour.finish()
    finally:
        labour.kill()
    for name in ("one", "two", "three"):
        lab.ok("wkspctl", "verify", name)
        lab.ok("wkspctl", "rm", name)
    tap.until(lambda: nodes() == everything, lab.READY_S, "all huge pages are free again")


tap.run()
