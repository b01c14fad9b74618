"""tap: tests as sentences, results in TAP 13 on standard output.

    import tap

    @tap.test
    def unknown_name():
        \"\"\"showing a workspace that does not exist fails and names it\"\"\"
        tap.eq(ctl("show", "nobody").rc, 1)

    tap.run()

A test is a function whose docstring is a sentence that is true when it passes. It fails by any
exception, it is skipped by tap.skip("the capability that is missing"). Tests run in the order in
which they are written; arguments that do not begin with '-' choose some by name. What a test
prints becomes diagnostics. A test that takes longer than its timeout fails with a traceback of
where it stood.

Random tests take their seed from tap.seed(), which prints it; WKSP_TEST_SEED sets it. Tests that
have a longer form ask tap.full() (WKSP_TEST_FULL=1).

Refuses to: run tests in parallel, retry, or call an unnamed skip a skip.
"""

import contextlib
import os
import random
import signal
import sys
import time
import traceback

TIMEOUT_S = 120

_tests = []
_out = sys.stdout


class Skip(Exception):
    """Raised by skip()."""


class Timeout(Exception):
    """Raised in a test that takes longer than its timeout."""


def test(function=None, *, timeout=TIMEOUT_S):
    """Registers a test. timeout: seconds until it counts as failed."""

    def register(fn):
        if not (fn.__doc__ or "").strip():
            raise ValueError(f"test {fn.__name__} has no sentence: give it a docstring")
        _tests.append((fn, timeout))
        return fn

    return register if function is None else register(function)


def skip(capability):
    """Ends the running test as skipped because capability is missing here."""
    if not capability.strip():
        raise ValueError("a skip names the missing capability")
    raise Skip(capability)


def diag(text):
    """Prints text as diagnostics."""
    for line in str(text).splitlines() or [""]:
        _out.write(f"# {line}\n")
    _out.flush()


def seed():
    """The seed of this run, printed so that a failure can be had again."""
    value = int(os.environ.get("WKSP_TEST_SEED", "0"), 0) or random.SystemRandom().getrandbits(31) or 1
    diag(f"seed {value} (again with WKSP_TEST_SEED={value})")
    return value


def full():
    """Whether the longer forms are wanted."""
    return os.environ.get("WKSP_TEST_FULL", "") == "1"


def eq(got, want, what="value"):
    """Fails unless got == want."""
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def true(condition, what):
    """Fails with what unless condition holds."""
    if not condition:
        raise AssertionError(what)


def contains(text, part, what="text"):
    """Fails unless part occurs in text."""
    if part not in text:
        raise AssertionError(f"{what} does not contain {part!r}:\n{text}")


def until(condition, timeout_s, what):
    """Returns the first true value of condition(), asked every few milliseconds; fails with what
    after timeout_s. For events that nothing can wait for directly."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        signal.sigtimedwait([], 0.005)


class _Diagnostics:
    """A stream whose lines become diagnostics."""

    def __init__(self):
        self.rest = ""

    def write(self, text):
        self.rest += text
        *lines, self.rest = self.rest.split("\n")
        for line in lines:
            diag(line)
        return len(text)

    def flush(self):
        if self.rest:
            diag(self.rest)
            self.rest = ""


def _on_term(_signum, _frame):
    raise SystemExit("terminated")


def _run_one(number, fn, timeout):
    sentence = " ".join(fn.__doc__.split()).rstrip(".").replace("#", "number ")
    stream = _Diagnostics()

    def on_alarm(_signum, _frame):
        raise Timeout(f"took longer than {timeout} s")

    signal.signal(signal.SIGALRM, on_alarm)
    verdict, note = "ok", ""
    started = time.monotonic()
    try:
        with contextlib.redirect_stdout(stream):
            signal.alarm(timeout)
            try:
                fn()
            finally:
                signal.alarm(0)
    except Skip as why:
        note = f" # SKIP {why}"
    except Exception:  # every other exception is a failure of this test, not of the run
        verdict = "not ok"
        stream.flush()
        diag(traceback.format_exc())
    stream.flush()
    _out.write(f"{verdict} {number} - {sentence}{note}\n")
    diag(f"{fn.__name__}: {time.monotonic() - started:.2f} s")
    return verdict == "ok"


def run():
    """Runs the registered tests and ends the process: 0 if all passed or were skipped, else 1."""
    wanted = {arg for arg in sys.argv[1:] if not arg.startswith("-")}
    unknown = wanted - {fn.__name__ for fn, _ in _tests}
    if unknown:
        sys.exit(f"no such test: {', '.join(sorted(unknown))}; there are: "
                 + ", ".join(fn.__name__ for fn, _ in _tests))
    chosen = [pair for pair in _tests if not wanted or pair[0].__name__ in wanted]
    signal.signal(signal.SIGTERM, _on_term)
    os.umask(0o022)  # what tests make has modes that do not depend on who runs them
    _out.write(f"TAP version 13\n1..{len(chosen)}\n")
    _out.flush()
    failed = 0
    for number, (fn, timeout) in enumerate(chosen, 1):
        failed += not _run_one(number, fn, timeout)
    _out.flush()
    sys.exit(1 if failed or not chosen else 0)
