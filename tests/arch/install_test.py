"""What `meson install` puts in place is complete, and a program can be built against it."""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import Daemon, bin_dir

ROOT = os.environ.get("WKSP_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))

WANTED = [
    "*/lib*/**/libwksp.so", "*/lib*/**/libwksp.so.1", "*/lib*/**/libwksp.so.1.0.0", "*/lib*/**/libwksp.a",
    "*/lib*/**/pkgconfig/wksp.pc", "*/bin/wkspd", "*/bin/wkspctl", "*/share/wkspd/wkspd.proto",
    "*/include/wksp/wksp.h", "*/include/wksp/client.h", "*/include/wksp/client_ckpt.h",
    "*/include/wksp/error.h", "*/include/wksp/types.h",
    "*/lib*/**/libwksp-ckpt.so", "*/lib*/**/libwksp-ckpt.so.1", "*/lib*/**/libwksp-ckpt.so.1.0.0",
    "*/lib*/**/libwksp-ckpt.a", "*/lib*/**/pkgconfig/wksp-ckpt.pc", "*/include/wksp/ckpt.h", "*/include/wksp/pause.h",
    "*/include/wksp/fd_wksp.h", "*/include/wksp/fd_alloc.h", "*/include/wksp/valloc.h", "*/include/wksp/compat.h",
    "*/include/wksp/wksp.hpp", "*/include/wksp/heap.h", "*/include/wksp/ext.h",
    "*/lib*/**/wksp/libwksp_malloc.so", "*/bin/wksp-run",
    "**/system/wkspd.service", "**/system/wkspd.socket", "**/user/wkspd.service", "**/user/wkspd.socket",
    "**/system/wkspd-hugepages.service", "**/system/wkspd-checkpoint@.service", "**/system/wkspd-checkpoint@.timer",
    "*/share/bash-completion/completions/wkspctl", "*/share/zsh/site-functions/_wkspctl",
    "**/sysusers.d/wkspd.conf", "**/tmpfiles.d/wkspd.conf", "**/system-preset/50-wkspd.preset",
]
# Where systemd knows what stands in it, 254 and later; with libmicrohttpd; where scdoc is there to make them.
PERHAPS = ["**/system/wkspd.service.d/fd-store-preserve.conf", "**/user/wkspd.service.d/fd-store-preserve.conf",
           "**/system/wkspd-metrics.service", "*/man/man1/wkspctl.1", "*/man/man8/wkspd.8",
           "*/man/man5/wkspd.conf.5", "*/man/man3/libwksp.3",
           "*/man/man3/wksp_*.3", "*/man/man1/wksp-run.1"]
EXPOSURE_MAX = 15  # tenths, of what systemd-analyze security says

_dest = tempfile.TemporaryDirectory(prefix="wkspd-install-")
_placed = tempfile.TemporaryDirectory(prefix="wkspd-units-")


def run(*command, **kw):
    """Runs a command, which must succeed; its standard output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **kw)
    tap.eq(done.returncode, 0, f"exit status of {' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def found(pattern):
    """The installed files that match; '*/' at the front stands for the prefix."""
    if pattern.startswith("*/"):
        pattern = "**/" + pattern[2:]
    return glob.glob(os.path.join(_dest.name, pattern), recursive=True)


def installed(pattern):
    """The one installed file that matches."""
    paths = found(pattern)
    tap.eq(len(paths), 1, f"installed files that match {pattern} ({paths})")
    return paths[0]


@tap.test
def layout():
    """libraries, pkg-config file, headers, daemon, tool, protocol and units are all put in place, and no more
    than that"""
    run("meson", "install", "-C", bin_dir(), "--no-rebuild", "--quiet", "--destdir", _dest.name)
    wanted = {installed(pattern) for pattern in WANTED}
    for pattern in PERHAPS:
        wanted.update(found(pattern))
    everything = {os.path.join(folder, name) for folder, _, names in os.walk(_dest.name) for name in names}
    tap.eq(sorted(everything - wanted), [], "files that nobody expects")
    tap.eq(os.readlink(installed("*/lib*/**/libwksp.so")), "libwksp.so.1")
    tap.contains(run("readelf", "-d", installed("*/lib*/**/libwksp.so.1.0.0")), "Library soname: [libwksp.so.1]")


def example():
    """The C program in README.md."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        block = re.search(r"^```c\n(.*?)^```", f.read(), re.DOTALL | re.MULTILINE)
    tap.true(block, "README.md has no ```c block")
    return block[1]


def flags(*args):
    """What pkg-config says about the installed library."""
    env = dict(os.environ, PKG_CONFIG_SYSROOT_DIR=_dest.name,
               PKG_CONFIG_LIBDIR=os.path.dirname(installed("*/lib*/**/pkgconfig/wksp.pc")))
    return run("pkg-config", *args, "wksp", env=env).split()


@tap.test
def readme_example():
    """the program in README.md, at most 30 lines long, builds without warnings against what is installed, and
    finds what it left behind, also when the daemon was killed in between"""
    text = example()
    tap.true(len(text.splitlines()) <= 30, f"it has {len(text.splitlines())} lines")
    source = os.path.join(_dest.name, "example.c")
    with open(source, "w", encoding="utf-8") as f:
        f.write(text)
    strict = ["gcc", "-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror", source]
    shared, static = os.path.join(_dest.name, "shared"), os.path.join(_dest.name, "static")
    run(*strict, "-o", shared, *flags("--cflags", "--libs"))
    run(*strict, "-o", static, *flags("--cflags"), installed("*/lib*/**/libwksp.a"),
        *run("pkg-config", "--libs", "libprotobuf-c").split(), "-pthread")
    env = {"LD_LIBRARY_PATH": os.path.dirname(installed("*/lib*/**/libwksp.so"))}
    with Daemon(supervise=True, env=env) as d:
        alone = d.run(shared)
        tap.eq(alone.rc, 1, "exit status without a workspace")
        tap.contains(alone.err, "demo")
        d.ok("create", "demo", "--size", "16M", "--page", "4k")
        for number, program in enumerate([shared, static, shared], 1):
            result = d.run(program)
            tap.eq(result.rc, 0, f"exit status ({result.err})")
            tap.contains(result.out, f"run {number} ")
            d.wait_restart(d.kill_child())


@tap.test
def versions():
    """what is installed says its version"""
    env = dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(installed("*/lib*/**/libwksp.so")))
    version = flags("--modversion")[0]
    tap.contains(run(installed("*/bin/wkspd"), "--version", env=env), version)
    tap.contains(run(installed("*/bin/wkspctl"), "--version", env=env), version)


@tap.test
def man_pages():
    """the man pages are well formed, and name every command and option that the programs' help names"""
    env = dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(installed("*/lib*/**/libwksp.so")))
    for program, page in (("wkspctl", "*/man/man1/wkspctl.1"), ("wkspd", "*/man/man8/wkspd.8")):
        pages = found(page)
        if not pages:
            tap.skip("scdoc")
        with open(pages[0], encoding="utf-8") as f:
            text = re.sub(r"\\(f[BIR]|)", "", f.read())
        told = run(installed(f"*/bin/{program}"), *(("help", "commands") if program == "wkspctl" else ("--help",)),
                   env=env)
        for word in set(re.findall(r"--[a-z-]+|^  [a-z-]+(?= )", told, re.MULTILINE)):
            tap.true(re.search(rf"(?<![\w-]){re.escape(word.strip())}(?![\w-])", text), f"{page} does not name {word}")
        if shutil.which("mandoc"):
            tap.eq(run("mandoc", "-T", "lint", "-W", "error", pages[0]), "", f"mandoc about {page}")


def analyze(*args):
    """Runs systemd-analyze; exit status and all that it prints. Skips where there is none."""
    if not shutil.which("systemd-analyze"):
        tap.skip("systemd-analyze")
    # A user's manager has a runtime folder, and so has who asks about its units.
    env = dict(os.environ, XDG_RUNTIME_DIR=_placed.name)
    done = subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, check=False, env=env)
    return done.returncode, done.stdout + done.stderr


def placed(kind):
    """The installed services of that kind, system or user, in a folder beside the socket, with the programs' places
    as they are in _dest."""
    service = installed(f"**/{kind}/wkspd.service")
    with open(service, encoding="utf-8") as f:
        text = f.read()
    started = re.search(r"^ExecStart=(\S+)", text, re.MULTILINE)[1]
    tap.eq(_dest.name + started, installed("*/bin/wkspd"), "what ExecStart names")
    folder = os.path.join(_placed.name, kind)
    os.makedirs(folder, exist_ok=True)
    shutil.copy(installed(f"**/{kind}/wkspd.socket"), folder)
    for path in found(f"**/{kind}/wkspd*.service"):
        with open(path, encoding="utf-8") as f:
            text = f.read()
        with open(os.path.join(folder, os.path.basename(path)), "w", encoding="utf-8") as f:
            f.write(re.sub(r"^(Exec\w+=)/", rf"\1{_dest.name}/", text, flags=re.MULTILINE))
    return folder


@tap.test
def units():
    """systemd-analyze verify has nothing to say about the installed units, the system's and the users', and they
    start the installed daemon"""
    for kind in ("system", "user"):
        folder = placed(kind)
        units_here = sorted(os.path.join(folder, name) for name in os.listdir(folder) if "@" not in name)
        tap.eq(len(units_here), 3 + len(found("**/wkspd-metrics.service")) if kind == "system" else 2,
               f"units of the {kind}")
        said = analyze("verify", f"--{kind}", *units_here)
        tap.eq(said, (0, ""), f"systemd-analyze verify --{kind}")


@tap.test
def hardened():
    """systemd-analyze security finds the service's exposure to be 1.5 at most, though it sees its peers: it has
    neither PrivateUsers nor ProtectProc; the same of the one that sets pools, though it writes to sysfs, and of
    that for metrics, though it speaks IP"""
    service = f"{placed('system')}/wkspd.service"
    for unit in glob.glob(f"{placed('system')}/wkspd*[!@].service"):
        status, text = analyze("security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", "--no-pager", unit)
        tap.eq(status, 0, f"systemd-analyze security\n{text}")
        tap.diag(text.strip().splitlines()[-1])
    with open(service, encoding="utf-8") as f:
        blind = re.findall(r"^(?:PrivateUsers|ProtectProc|ProcSubset|PrivatePIDs)=.*", f.read(), re.MULTILINE)
    tap.eq(blind, [], "settings that would hide peers from it")


tap.run()
