"""The fuzzer of partitions and roots: what it has found before, and a short run of its own.

Inputs worth keeping lie in corpus/part: those that reach much of the code, and, named after it, one for
each bug that was found so. `scripts/torture` runs the fuzzer for longer.
"""

import glob
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import bin_dir

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus/part")
# scripts/torture sets these two: for how long, and a folder in which to keep what is new.
RUN_S = int(os.environ.get("WKSP_FUZZ_SECONDS") or (300 if tap.full() else 10))
KEEP = os.environ.get("WKSP_FUZZ_CORPUS")
# What one input may take: all of it is a few hundred microseconds of work.
INPUT_S = 20
# libFuzzer's seeds have 32 bits.
SEED = int(os.environ.get("WKSP_TEST_SEED") or "1", 0) % (1 << 32) or 1


def fuzz(*arguments):
    """Runs the fuzzer; fails with what it said, and the input as hex, if it found something."""
    program = os.path.join(bin_dir(), "tests/fuzz/part_fuzz")
    if not os.path.exists(program):
        tap.skip("clang's libFuzzer and sanitizers (Debian: libclang-rt-14-dev)")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([program, f"-timeout={INPUT_S}", f"-artifact_prefix={folder}/", "-rss_limit_mb=1024",
                               "-print_final_stats=1", *arguments], capture_output=True, text=True, errors="replace",
                              check=False)
        for path in glob.glob(f"{folder}/*"):
            with open(path, "rb") as f:
                tap.diag(f"replay: echo {f.read().hex()} | xxd -r -p >input && {program} input")
        tap.eq(done.returncode, 0, f"exit status of part_fuzz\n{done.stderr[-6000:]}")
        return done.stderr


@tap.test
def corpus():
    """each input that was kept still ends well"""
    kept = sorted(glob.glob(f"{CORPUS}/*"))
    tap.true(kept, f"no input in {CORPUS}")
    said = fuzz(*kept)
    tap.eq(said.count("Executed "), len(kept), "inputs executed")


@tap.test(timeout=RUN_S + 60)
def short_run():
    """the fuzzer, let loose for a while, finds nothing"""
    with tempfile.TemporaryDirectory() as fresh:
        said = fuzz(f"-seed={SEED}", f"-max_total_time={RUN_S}", "-max_len=512", "-len_control=0", KEEP or fresh,
                    CORPUS)
    units = [line for line in said.splitlines() if "number_of_executed_units" in line]
    tap.eq(len(units), 1, f"lines that tell how many inputs were tried\n{said[-2000:]}")
    tap.diag(units[0])
    tap.true(int(units[0].split()[-1]) > 1000, f"too few inputs: {units[0]}")


tap.run()
