"""The scripts are sound, the code is formatted, and neither tap.py nor the sum of the tests can hide a failure."""

import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import checks
import tap

ROOT = os.environ.get("WKSP_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
SCRIPTS = ["scripts/quickstart", "scripts/test", "scripts/bench", "scripts/torture", "scripts/lab",
           "scripts/lib/common.sh", "scripts/lib/lab/wkspd-lab-run", "scripts/lib/lab/guest-init",
           "examples/go/build", "cli/completion/wkspctl.bash", ".ci/run"]


def run(*command, **kw):
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, **kw)


@tap.test
def shell():
    """shellcheck has nothing to say about the scripts"""
    if not shutil.which("shellcheck"):
        tap.skip("shellcheck")
    done = run("shellcheck", "-x", *SCRIPTS)
    tap.eq(done.returncode, 0, f"shellcheck\n{done.stdout}{done.stderr}")


@tap.test
def formatted():
    """every C file is as clang-format 14 would have it"""
    tool = shutil.which("clang-format-14") or shutil.which("clang-format")
    if not tool or " 14." not in run(tool, "--version").stdout:
        tap.skip("clang-format 14")
    done = run(tool, "--dry-run", "-Werror", *checks.sources(ROOT, ".c", ".h"))
    wrong = sorted({line.split(":", 1)[0] for line in done.stderr.splitlines() if ": error: " in line})
    tap.eq(wrong, [], "files that want clang-format -i")
    tap.eq(done.returncode, 0, f"clang-format\n{done.stderr[:4000]}")


@tap.test
def script_mistakes():
    """scripts/test, quickstart, bench, torture and lab refuse arguments that they do not know, and explain
    themselves"""
    for script in ("test", "quickstart", "bench", "torture", "lab"):
        wrong = run(os.path.join(ROOT, "scripts", script), "--fuul")
        tap.true(wrong.returncode != 0, f"{script} --fuul succeeded")
        tap.contains(wrong.stderr, "--fuul")
        explained = run(os.path.join(ROOT, "scripts", script), "--help")
        tap.eq(explained.returncode, 0, f"exit status of {script} --help")
        tap.contains(explained.stdout, f"scripts/{script}")


def summed(*entries):
    """What sum_tests.py says about a log with these entries: exit status, last line, all of it."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as log:
        for entry in entries:
            log.write(json.dumps({"name": "t", "result": "OK", "returncode": 0, "duration": 1.0} | entry) + "\n")
        log.flush()
        done = run(sys.executable, os.path.join(ROOT, "scripts/lib/sum_tests.py"), f"build={log.name}")
    tap.eq(done.stderr, "", "standard error of sum_tests.py")
    return done.returncode, done.stdout.splitlines()[-1], done.stdout


@tap.test
def sum_of_passed():
    """results are added up over several plans and tests, and a test without TAP counts as one"""
    tap.eq(summed({"stdout": "1..2\nok 1 - a\nok 2 - b\n1..1\nok 1 - c\n"}, {"stdout": "hello\n"})[:2],
           (0, "4 passed, 0 failed"))


@tap.test
def sum_of_skipped():
    """a skip is counted and shown with the capability it wants, in TAP's way of writing it and in cmocka's"""
    status, last, text = summed(
        {"stdout": "1..2\nok 1 - a # SKIP systemd\nok 2 - b\n"},
        {"stdout": "1..1\nwants huge pages\nnot ok 1 # SKIP c\n", "result": "FAIL"})
    tap.eq((status, last), (0, "1 passed, 0 failed, 2 skipped"))
    tap.contains(text, "  systemd (build: t: a)")
    tap.contains(text, "  wants huge pages (build: t: c)")


@tap.test
def sum_of_failed():
    """a failure, a crash, a timeout, a missing result, a silent failure and a build that fails each count"""
    ok = "1..1\nok 1 - a\n"
    for entry, why in [
            ({"stdout": "1..2\nok 1 - a\nnot ok 2 - b\n", "result": "FAIL"}, "b"),
            ({"stdout": ok, "result": "ERROR", "returncode": -11}, "signal"),
            ({"stdout": ok, "result": "TIMEOUT", "returncode": -15}, "timed out"),
            ({"stdout": "1..2\nok 1 - a\n", "result": "ERROR"}, "1 results of 2"),
            ({"stdout": ok, "result": "ERROR", "returncode": 3}, "exit status 3")]:
        status, last, text = summed(entry)
        tap.eq((status, last), (1, "1 passed, 1 failed"), f"sum for {entry}")
        tap.contains(text, why)
    tap.eq(summed()[:2], (1, "0 passed, 1 failed"), "sum of no test at all")
    done = run(sys.executable, os.path.join(ROOT, "scripts/lib/sum_tests.py"), "failed-build=x", "y=/nonexistent")
    tap.eq((done.returncode, done.stdout.splitlines()[-1]), (1, "0 passed, 2 failed"))


PLANTED = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import tap

@tap.test
def passes():
    \"\"\"one is one.\"\"\"
    print("told", end="")
    tap.eq(1, 1)

@tap.test
def fails():
    \"\"\"two is one\"\"\"
    tap.eq(2, 1, "two")

@tap.test
def skips():
    \"\"\"there is a moon\"\"\"
    tap.skip("a moon")

@tap.test(timeout=1)
def stalls():
    \"\"\"what never comes is waited for\"\"\"
    tap.until(lambda: False, 30, "never")

tap.run()
"""


def planted(*names):
    """Runs the planted tests of these names: exit status, results, everything."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as f:
        f.write(PLANTED)
        f.flush()
        done = run(sys.executable, f.name, os.path.join(ROOT, "tests/lib"), *names)
    return done.returncode, [line for line in done.stdout.splitlines() if not line.startswith("#")], done.stdout


@tap.test
def tap_results():
    """tap.py tells what passed, failed, was skipped and took too long, and its exit status says so"""
    status, results, text = planted()
    tap.eq(results, ["TAP version 13", "1..4", "ok 1 - one is one", "not ok 2 - two is one",
                     "ok 3 - there is a moon # SKIP a moon", "not ok 4 - what never comes is waited for"])
    tap.eq(status, 1, "exit status")
    for part in ("# told", "# AssertionError: two: got 2, want 1", "took longer than 1 s"):
        tap.contains(text, part)
    tap.eq(planted("passes", "skips")[:2], (0, ["TAP version 13", "1..2", "ok 1 - one is one",
                                                "ok 2 - there is a moon # SKIP a moon"]))
    tap.true(planted("nothing")[0] not in (0, None), "a test that is not there was found")


tap.run()
