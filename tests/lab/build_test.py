"""dpkg-buildpackage builds the packages, and lintian has nothing against them."""

import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import lab
import tap


@tap.test(timeout=500)
def builds():
    """dpkg-buildpackage -b makes the three packages, without a warning of the compiler"""
    lab.debs()
    lab.deb_files()
    with open(os.path.join(lab.debs_dir(), "build.log"), encoding="utf-8", errors="replace") as f:
        tap.eq([line for line in f if ": warning: " in line], [], "warnings")


@tap.test
def lintian():
    """lintian finds neither an error nor a warning"""
    if not shutil.which("lintian"):
        tap.skip("lintian")
    lab.debs()
    changes = [n for n in os.listdir(lab.debs_dir()) if n.endswith(".changes")]
    status, out, err = lab.run("lintian", "--allow-root", "--fail-on", "error,warning",
                               *[os.path.join(lab.debs_dir(), n) for n in changes])
    tap.eq((status, out), (0, ""), f"lintian {err}")


tap.run()
