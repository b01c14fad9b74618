"""A second client stack beside libwksp: Go, with Debian's ttrpc and protobuf, and stubs from our proto file."""

import fcntl
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import Daemon, bin_dir

ROOT = os.environ.get("WKSP_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
SOURCES = "/usr/share/gocode/src/"
WANTED = {"go": shutil.which("go"), "protoc": shutil.which("protoc"),
          "golang-github-containerd-ttrpc-dev": os.path.isdir(SOURCES + "github.com/containerd/ttrpc"),
          "golang-google-protobuf-dev": os.path.isdir(SOURCES + "google.golang.org/protobuf")}


def built(program):
    """The path of a Go program; all are built once."""
    missing = [name for name, there in WANTED.items() if not there]
    if missing:
        tap.skip(", ".join(missing))
    out = os.path.join(bin_dir(), "go")
    path = os.path.join(out, program)
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, ".lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run([os.path.join(ROOT, "examples/go/build"), out, os.path.join(ROOT, "tests/interop")],
                              capture_output=True, text=True, check=False)
        tap.eq(done.returncode, 0, f"examples/go/build\n{done.stdout}{done.stderr}")
    return path


@tap.test(timeout=240)
def every_method():
    """every method of the proto file is called, with what it answers, streams, descriptors and refusals too"""
    program = built("interop")
    with Daemon() as d:
        result = d.run(program, timeout_s=120)
        tap.diag(result.out)
        tap.eq((result.rc, result.err), (0, ""), "exit status and standard error")
        tap.true(result.out.count("ok wkspd.v1.") >= 12, "methods that were called")
        tap.eq(d.json("ls")["workspaces"], [], "what it made is gone")
        tap.until(lambda: d.status()["lease_cnt"] == 0, 60, "its leases are gone")
        tap.eq(d.status()["violation_cnt"], 0, "breaches of the protocol")


@tap.test(timeout=240)
def example():
    """the Go example makes, opens, maps and removes a workspace, and says what is wrong otherwise"""
    program = built("hello")
    with Daemon() as d:
        result = d.run(program, "from-go")
        tap.eq((result.rc, result.err), (0, ""), "exit status and standard error")
        for part in ("layout ", "mapped 1048576 bytes", "EVENT_ATTACHED from-go"):
            tap.contains(result.out, part)
        tap.eq(d.json("ls")["workspaces"], [], "what it made is gone")
        tap.contains(d.run(program, "no name").err, "hello: ")
        d.stop()
        tap.contains(d.run(program, "from-go").err, d.socket)


@tap.test
def formatted():
    """the Go files are as gofmt would have them"""
    if not shutil.which("gofmt"):
        tap.skip("gofmt")
    done = subprocess.run(["gofmt", "-l", os.path.join(ROOT, "examples"), os.path.join(ROOT, "tests/interop")],
                          capture_output=True, text=True, check=False)
    tap.eq((done.returncode, done.stdout), (0, ""), f"gofmt -l\n{done.stderr}")


tap.run()
