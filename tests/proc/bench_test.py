"""The benchmarks run, say what they measured, and can be asked for the same again."""

import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import re
import resource
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
    done = subprocess.run([os.path.join(bin_dir(), "bench/checkpoint"), "--size", "16", "--rounds", "1", "--idle", "0",
                           "--json"], capture_output=True, text=True, check=False)
    tap.eq(done.returncode, 0, f"exit status; it said {done.stderr}")
    rows = {row["measure"]: row for row in json.loads(done.stdout)["rows"]}
    tap.true({"raw, tmpfs", "lz4", "restore, zstd -1", "second, 1 % changed"} <= set(rows), f"rows {sorted(rows)}")
    tap.eq(rows["free memory in it"]["figure"]["median"], 0, "bytes of free memory in a checkpoint")


COMPARE = os.path.join(os.environ.get("WKSP_SOURCE_DIR") or
                       os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."), "bench/compare.py")

# Made-up results as each benchmark prints them: the ratio, its spread and something that no run changes.
REPORT = """machine
pages: none
seed 1, 7 rounds; unit: lock and unlock of a robust process-shared mutex

measure                    ns median            p10..p90    figure            p10..p90 unit     goal  reached
unit                             8.4            8.4..9.6         -                                 -  -       a note
pair same 10                   112.2        111.6..116.7     {:5.2f}        {:.2f}..{:.2f} units       5  no      a note
boost pair same 10             364.5        362.1..378.0     {:5.2f}        {:.2f}..{:.2f} units       -  -       a note
recovery 1000000              3325.0      2704.0..4397.0     {:5.3f}        {:.3f}..{:.3f} ms          1  yes     a note
metadata                           -                         52.00                     B          64  yes     a note
"""
RPC = "a request has 45 bytes\nGet,  1 connection       63588/s   echo      70285/s   ratio {:.2f} ({:.2f} to {:.2f})\n"
ALLOC = """machine

row                        fd_alloc    glibc    boost  to best  boost by us    p10..p90 of fd_alloc
same 64                       100.0      9.1     30.0{:9.2f}         5.56{:.1f}..{:.1f}

The least of the rounds:
"""
PROGRAMS = "seconds, peak             glibc              wksp   to best  least    rss\n" \
           "gcc               1.466 ± 0%  10M    1.365 ±{:2.0f}%  10M{:10.3f}  0.993   1.00\n"
PLACE = """
                                        wkspd          plain      ratio   p10..p90
create 1062 MiB, 2M pages               776.0 ms      1060.0 ms  {0:6.2f} {1:6.2f}..{2:<6.2f} goal 1.05
attach 64 MiB                           170.0 us        16.9 us   10.06   9.00..11.00  goal 3.00 MISSED
  a bare libuv server's                 109.0 us        16.9 us    6.45   6.00..7.00
"""


def comparer():
    """bench/compare.py as a module."""
    loader = importlib.machinery.SourceFileLoader("compare", COMPARE)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("compare", loader))
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = kept
    return module


def compared(old, new):
    """What bench/compare.py says of two texts: its exit status, its output."""
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        paths = [os.path.join(folder, name) for name in ("old", "new", "svg")]
        for path, text in zip(paths, (old, new)):
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        status = comparer().main([*paths[:2], "--svg", paths[2]])
        if status != 2:
            with open(paths[2], encoding="utf-8") as f:
                tap.true(f.read().endswith("</svg>\n"), "the drawing")
    return status, said.getvalue()


def alloc(ratio, low, high):
    # The spread is that of fd_alloc's own nanoseconds, of which there are 100.
    return ALLOC.format(ratio, 100 * low / ratio, 100 * high / ratio).replace("5.56", "5.56    ")


@tap.test
def compares():
    """of made-up results a row is worse if each median lies beyond the other's spread, better likewise, and nothing
    otherwise; more is better for requests; a peer alone, and times, are not judged"""
    def report(*figures):
        return REPORT.format(*figures, 1, 1, 1, 1, 1, 1)

    worse, better, same = (20, 19, 21), (5, 4, 6), (12, 8, 16)
    for what, text in (("report", report), ("alloc", alloc), ("place", PLACE.format)):
        base = text(10, 9, 11)
        for new, status, word in ((worse, 1, "1 worse"), (better, 0, "1 better"), (same, 0, "0 worse, 0 better"),
                                  ((12, 11.5, 12.5), 1, "1 worse"), ((12, 9.9, 20), 0, "0 worse"),
                                  ((10, 9, 11), 0, "0 worse, 0 better")):
            got, said = compared(base, text(*new))
            tap.eq(got, status, f"{what} {new}: {said}")
            tap.contains(said, word)
    tap.eq(compared(RPC.format(10, 9, 11), RPC.format(*worse))[0], 0, "more requests")
    tap.eq(compared(RPC.format(10, 9, 11), RPC.format(*better))[0], 1, "fewer requests")
    tap.eq(compared(PROGRAMS.format(5, 1), PROGRAMS.format(5, 1.2))[0], 1, "slower programs")
    tap.eq(compared(PROGRAMS.format(5, 1), PROGRAMS.format(5, 1.04))[0], 0, "programs within the spread")
    slow = REPORT.format(10, 9, 11, *worse, *worse)
    tap.eq(compared(REPORT.format(10, 9, 11, *better, *better), slow)[0], 0, "a peer and times")
    got, said = compared(report(10, 9, 11), report(10, 9, 11).replace("52.00", "53.00"))
    tap.eq(got, 1, "what is the same in every run, and is not")
    tap.contains(said, "metadata")
    gone = report(10, 9, 11).replace("pair same 10 ", "pair other 1 ")
    tap.contains(compared(report(10, 9, 11), gone)[1], "not in the new one")
    tap.eq(compared("nothing", report(10, 9, 11))[0], 2, "a file without a row")


@tap.test
def pauses():
    """pauses against size are read from a table, with the digest that their ratios imply, and drawn"""
    text = "".join(f"pause, of {size} MiB    {ns} {ns - 1000000}..{ns + 1000000}  0.500  0.400..0.600 x  -  -  a note\n"
                   for size, ns in ((64, 2000000), (128, 4000000)))
    found = comparer().pauses(text)
    tap.eq(found, [(64, 2.0, 1.0, 3.0, 4.0), (128, 4.0, 3.0, 5.0, 8.0)])
    tap.contains(comparer().draw([{}], "title", found), "polyline")
    tap.eq(comparer().pauses("pause, nothing changing   -    1.100   1.000..1.200 x   1.2  yes   a note\n"), [])


@tap.test
def driver():
    """scripts/bench all runs each benchmark for real, keeps a table and a drawing, and fails if one is worse than what
    is committed, or cannot be run, naming that one"""
    script, build = os.path.join(os.path.dirname(COMPARE), "../scripts/bench"), bin_dir()
    names = ["wksp", "checkpoint", "place", "jitter"] + (["alloc", "programs", "rpc"] if tap.full() else [])

    def everything(where, against, *which):
        done = subprocess.run([script, "all", "--quick", "--build", where, "--against", against, *which],
                              capture_output=True, text=True, check=False)
        return done, dict(re.findall(r"^(\w+) {2,}(.*)$", done.stdout.partition("== all\n")[2], re.M))

    with tempfile.TemporaryDirectory() as against:
        # No run is as good as the first, none as bad as the second.
        for name, row, figure in ("wksp", "pair same 1000", -1), ("checkpoint", "raw, tmpfs", 1e9):
            with open(os.path.join(against, f"{name}.txt"), "w", encoding="ascii") as f:
                f.write(f"machine\n\nmeasure  all that is there\n"
                        f"{row:21} 1.0 1.0..1.0 {figure:f} {figure:f}..{figure:f} units - -\n")
        done, said = everything(build, against, *names)
        told = f"it said {done.stdout} {done.stderr}"
        tap.eq(list(said), names, told)
        tap.eq(done.returncode, 1, told)
        tap.contains(said["wksp"], "WORSE: 1 worse")
        tap.contains(said["checkpoint"], "0 worse, 1 better")
        tap.contains(said["place"], "nothing is committed")
        for name in names:
            with open(os.path.join(build, "bench-results", f"{name}.txt"), encoding="utf-8") as f:
                tap.contains(f.readline(), f"scripts/bench {name}; ")
            tap.eq(os.path.exists(os.path.join(build, "bench-results", f"{name}.svg")), name != "jitter", "a drawing")
        os.mkdir(os.path.join(against, "empty"))
        done, said = everything(os.path.join(against, "empty"), against, "jitter")
        tap.eq((done.returncode, said), (1, {"jitter": "FAILED"}), "with nothing that can be run")
    for wrong in (["--keep", "--quick"], ["nothing"], ["--build", "/nonexistent"]):
        done = subprocess.run([script, "all", *wrong], capture_output=True, text=True, check=False)
        tap.eq((done.returncode, done.stdout), (1, ""), f"all {wrong}")
        tap.contains(done.stderr, wrong[-1].lstrip("-"))


@tap.test
def committed():
    """results that are committed can be compared, and are no worse than themselves"""
    folder = os.path.join(os.path.dirname(COMPARE), "results")
    names = sorted(name for name in os.listdir(folder) if name.endswith(".txt") and name != "jitter.txt")
    tap.true("wksp.txt" in names, f"results {names}")
    for name in names:
        path = os.path.join(folder, name)
        with open(path, encoding="utf-8") as f:
            status, said = compared(*[f.read()] * 2)
        tap.eq(status, 0, f"{name}: {said}")
        tap.contains(said, "0 worse, 0 better")
    done = subprocess.run([COMPARE, path, "/nonexistent"], capture_output=True, text=True, check=False)
    tap.eq(done.returncode, 2, "a file that is not there")


@tap.test
def connections():
    """2,000 connections, in the long form 10,000, are held, and each adds less than 20 KiB to the daemon's memory"""
    cnt = 10000 if tap.full() else 2000
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2 * cnt:
        tap.skip(f"a limit of open files of {2 * cnt}")
    done = subprocess.run([os.path.join(bin_dir(), "bench/rpc"), "--only", "idle", "--connections", str(cnt)],
                          capture_output=True, text=True, check=False)
    tap.eq(done.returncode, 0, f"exit status; it said {done.stderr}")
    tap.diag(done.stdout.strip())
    said = re.match(r"(\d+) idle connections of \d+ processes: (-?[0-9.]+) KiB", done.stdout)
    tap.eq(int(said.group(1)), cnt, "connections that were held")
    tap.true(float(said.group(2)) < 20, "memory of each")


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
