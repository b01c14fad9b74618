"""The bench of partitions runs, says what it measured, and can be asked for the same again."""

import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import bin_dir


def bench(*arguments):
    return subprocess.run([os.path.join(bin_dir(), "bench/wksp"), *arguments], capture_output=True, text=True,
                          check=False)


def rows_of(*arguments):
    done = bench("--json", *arguments)
    tap.eq(done.returncode, 0, f"exit status; it said {done.stderr}")
    said = json.loads(done.stdout)
    return said, {row["measure"]: row for row in said["rows"]}


@tap.test
def measures():
    """rows have a median within its spread, in nanoseconds and in units, and the seed that was given is named"""
    said, rows = rows_of("--rounds", "1", "--only", "pair same 1000", "--seed", "42")
    tap.eq((said["seed"], said["rounds"]), (42, 1))
    tap.true({"unit", "pair same 1000", "pair same 100000"} <= set(rows), f"rows {sorted(rows)}")
    row = rows["pair same 1000"]
    for figures in (row["ns"], row["figure"]):
        tap.true(0 < figures["p10"] <= figures["median"] <= figures["p90"], f"spread {figures}")
    tap.eq(row["reached"], row["figure"]["median"] <= row["goal"], "whether the goal is reached")


@tap.test
def same_room():
    """what does not depend on time is the same in every run, and is in the table as it is in JSON"""
    _, rows = rows_of("--only", "metadata")
    tap.eq(rows, rows_of("--only", "metadata", "--seed", "3")[1])
    table = bench("--only", "metadata", "--check")
    tap.eq(table.returncode, 0, "exit status of --check with the goal reached")
    tap.contains(table.stdout, f"{rows['metadata']['figure']['median']:.2f}")
    tap.contains(table.stdout, "yes")


@tap.test
def checkpoints():
    """the bench of checkpoints runs, and free memory is not in them"""
    done = subprocess.run([os.path.join(bin_dir(), "bench/checkpoint"), "--size", "16", "--rounds", "1", "--json"],
                          capture_output=True, text=True, check=False)
    tap.eq(done.returncode, 0, f"exit status; it said {done.stderr}")
    rows = {row["measure"]: row for row in json.loads(done.stdout)["rows"]}
    tap.true({"raw, tmpfs", "lz4", "restore, zstd -1", "second, 1 % changed"} <= set(rows), f"rows {sorted(rows)}")
    tap.eq(rows["free memory in it"]["figure"]["median"], 0, "bytes of free memory in a checkpoint")


@tap.test
def mistakes():
    """arguments that are wrong or match nothing, and traces that are missing, fail with a sentence"""
    with tempfile.TemporaryDirectory() as empty:
        for arguments, word in [(["--rounds", "0"], "--rounds"), (["--rounds", "x"], "'x'"), (["more"], "'more'"),
                                (["--only", "nothing at all"], "nothing at all"), (["--wrong"], "--wrong"),
                                (["--only", "frag", "--traces", empty], empty)]:
            done = bench(*arguments)
            tap.eq((done.returncode, done.stdout), (2, ""), f"exit status and output for {arguments}")
            tap.contains(done.stderr, word)
    tap.eq(bench("--help").returncode, 0, "exit status of --help")


tap.run()
