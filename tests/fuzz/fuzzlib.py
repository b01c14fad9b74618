"""What the tests of fuzzers share: replaying what was kept, and a short run.

Inputs worth keeping lie in corpus/NAME: those that reach much of the code, and, named after it, one for
each bug that was found so. `scripts/torture` runs a fuzzer for longer.
"""

import glob
import os
import subprocess
import tempfile

import tap
from daemon import bin_dir

HERE = os.path.dirname(os.path.abspath(__file__))
# scripts/torture sets these two: for how long, and a folder in which to keep what is new.
RUN_S = int(os.environ.get("WKSP_FUZZ_SECONDS") or (300 if tap.full() else 3))
KEEP = os.environ.get("WKSP_FUZZ_CORPUS")
# What one input may take: all of it is a few hundred microseconds of work.
INPUT_S = 20
# libFuzzer's seeds have 32 bits.
SEED = int(os.environ.get("WKSP_TEST_SEED") or "1", 0) % (1 << 32) or 1


def fuzz(name, *arguments):
    """Runs the fuzzer; fails with what it said, and the input as hex, if it found something."""
    program = os.path.join(bin_dir(), f"tests/fuzz/{name}_fuzz")
    if not os.path.exists(program):
        tap.skip("clang's libFuzzer and sanitizers (Debian: libclang-rt-14-dev)")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([program, f"-timeout={INPUT_S}", f"-artifact_prefix={folder}/", "-rss_limit_mb=1024",
                               "-print_final_stats=1", *arguments], capture_output=True, text=True, errors="replace",
                              check=False)
        for path in glob.glob(f"{folder}/*"):
            with open(path, "rb") as f:
                tap.diag(f"replay: echo {f.read().hex()} | xxd -r -p >input && {program} input")
        tap.eq(done.returncode, 0, f"exit status of {name}_fuzz\n{done.stderr[-6000:]}")
        return done.stderr


def replay(name):
    """Each input that was kept still ends well."""
    kept = sorted(glob.glob(f"{HERE}/corpus/{name}/*"))
    tap.true(kept, f"no input in corpus/{name}")
    said = fuzz(name, *kept)
    tap.eq(said.count("Executed "), len(kept), "inputs executed")


def short_run(name, least, *options):
    """The fuzzer, let loose for a while, again where the machine is busy, tries at least so many inputs and finds
    nothing."""
    tried, seed = 0, SEED
    while tried <= least:
        with tempfile.TemporaryDirectory() as fresh:
            said = fuzz(name, f"-seed={seed}", f"-max_total_time={RUN_S}", "-len_control=0", *options, KEEP or fresh,
                        f"{HERE}/corpus/{name}")
        units = [line for line in said.splitlines() if "number_of_executed_units" in line]
        tap.eq(len(units), 1, f"lines that tell how many inputs were tried\n{said[-2000:]}")
        tap.diag(f"seed {seed}: {units[0]}")
        tried += int(units[0].split()[-1])
        seed = seed % ((1 << 32) - 1) + 1
