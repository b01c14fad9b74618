"""libwksp_malloc.so: the same observable results as other allocators, and what a program's life asks of it.

same.c and life.c say what is looked at.
"""

import os
import resource
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import heaplib
import tap
from daemon import Daemon, bin_dir

SAME = os.path.join(bin_dir(), "tests/heap/same")
CXX = os.path.join(bin_dir(), "tests/heap/cxx")
LIFE = os.path.join(bin_dir(), "tests/heap/life")


def same(library, seed, steps, leave_out):
    done = heaplib.run(library, SAME, str(seed), str(steps), leave_out)
    tap.eq(done.returncode, 0, f"{library}: {done.stdout[-300:]} {done.stderr[-300:]}")
    return done.stdout


def as_glibc(library, leave_out, turns):
    """Compares what the library lets one see with what the C library does."""
    seed, steps = tap.seed(), 60000 if tap.full() else 8000
    for turn in range(turns):
        tap.eq(same(library, seed + turn, steps, leave_out), same(None, seed + turn, steps, leave_out))


@tap.test
def as_the_c_library():
    """what can be seen of a random sequence of calls is what the C library's malloc shows"""
    as_glibc(heaplib.OURS, "", 4)


def as_peer(name, leave_out):
    """The suite itself is sound: others pass it, but for what they do otherwise."""
    library = heaplib.peer(name)
    if not library:
        tap.skip(name)
    as_glibc(library, leave_out, 1)
    tap.eq(same(library, 5, 3000, leave_out), same(heaplib.OURS, 5, 3000, leave_out))


@tap.test
def as_jemalloc():
    """jemalloc shows the same, but for errno of sizes that cannot be and after free, and without pvalloc"""
    as_peer("libjemalloc.so.2", "efp")


@tap.test
def as_mimalloc():
    """mimalloc shows the same, but for errno, and for alignments, which Debian 12's does not always keep"""
    as_peer("libmimalloc.so.2", "aef")


def life(what, limit=None, **env):
    done = heaplib.run(heaplib.OURS, LIFE, what, limit=limit, **env)
    tap.eq(done.returncode, 0, f"{what} {env}: {done.stdout[-300:]} {done.stderr[-300:]}")
    tap.eq(done.stdout, b"ok\n")
    return done.stderr.decode()


@tap.test
def forks():
    """after a child has changed and freed all it had, its parent's memory is what it was, byte for byte"""
    life("forks")


@tap.test
def forks_under_threads():
    """children of a process whose threads allocate can allocate, make threads and fork again"""
    for _ in range(4 if tap.full() else 1):
        life("storm")


@tap.test
def threads():
    """thousands of threads, more at once than there are slots, and destructors that allocate after ours"""
    for what in ("many", "crowd", "keys", "late"):
        life(what)


@tap.test
def namespaces():
    """a child in another namespace of processes may have its parent's id"""
    life("namespaces")


@tap.test
def sandbox():
    """a process whose filter refuses barriers, advice and ids has all that threads and forks need, and no bad free"""
    tap.eq(life("sandbox"), "")


@tap.test
def grows():
    """a block that grows by little each time is copied a few times only"""
    life("grows")


@tap.test
def execs():
    """children by vfork, posix_spawn, system and popen; exec from a thread"""
    life("execs")


@tap.test
def signals():
    """a handler that allocates may interrupt malloc and free at any time"""
    life("signals")


@tap.test
def figures():
    """mallinfo2 and malloc_usable_size say what is there"""
    life("figures")


@tap.test
def gives_back():
    """what is freed goes back to the system, most by itself and the rest by malloc_trim"""
    life("gives_back")


@tap.test
def few_addresses():
    """where addresses, or data, are limited, malloc fails with ENOMEM when they are used up, and works again"""
    def addresses():
        resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))

    def data():
        resource.setrlimit(resource.RLIMIT_DATA, (200 << 20, 200 << 20))

    def nearly_none():
        resource.setrlimit(resource.RLIMIT_AS, (120 << 20, 120 << 20))

    for limit in (addresses, data, nearly_none):
        life("few", limit)


@tap.test
def bad_frees():
    """frees of what is no block are refused and told, or end the program if that is wanted"""
    told = life("bad")
    tap.true("was freed before" in told and "inside a block" in told, told)
    tap.eq(life("bad", WKSP_MALLOC_BAD_FREE="ignore"), "")
    done = heaplib.run(heaplib.OURS, LIFE, "bad", WKSP_MALLOC_BAD_FREE="abort")
    tap.eq(done.returncode, -signal.SIGABRT)


@tap.test
def cxx():
    """C++'s operators, plain, aligned, sized, without exceptions and with a handler, are served by it"""
    if not os.path.exists(CXX):
        tap.skip("a C++ compiler")
    for library in (heaplib.OURS, None):
        done = heaplib.run(library, CXX)
        tap.eq(done.returncode, 0, f"{library}: {done.stdout[-300:]} {done.stderr[-300:]}")
        tap.eq((done.stdout, done.stderr), (b"ok\n", b""))


@tap.test
def pages():
    """all is the same with huge pages, there or not, on a node, and with little kept"""
    for env in ({"WKSP_MALLOC_HUGE": "thp"}, {"WKSP_MALLOC_HUGE": "hugetlb"}, {"WKSP_MALLOC_NUMA": "0"},
                {"WKSP_MALLOC_KEEP": "0"}, {"WKSP_MALLOC_SIZE": "20M"}):
        life("forks", **env)


@tap.test
def variables():
    """what a variable says wrongly is told and left out; a node that does not exist is any"""
    told = life("figures", WKSP_MALLOC_KEEP="much")
    tap.true("WKSP_MALLOC_KEEP=much is not understood" in told, told)
    for wrong in ("1 ", "K", "-1", "1KB", "99999999999999999999", ""):
        tap.true("is not understood" in life("figures", WKSP_MALLOC_SIZE=wrong), wrong)
    told = life("figures", WKSP_MALLOC_NUMA="63")
    tap.true("any node will do" in told, told)
    tap.eq(life("figures", WKSP_MALLOC_STATS="0"), "")


@tap.test
def shared():
    """the heap may lie in a workspace of wkspd's, which others see; then a child must exec, and malloc ends with it"""
    with Daemon() as d:
        d.env["LD_LIBRARY_PATH"] = os.path.join(bin_dir(), "lib")
        d.ok("create", "heap", "--size", "64M", "--page", "4k")
        run = (heaplib.RUN, "--library", heaplib.OURS, "--workspace", "heap", "--tag", "77")
        done = d.run(*run, LIFE, "shared")
        tap.eq(done.rc, 0, done.out + done.err)
        tap.contains(done.err, "a forked child wants memory")
        tap.true(d.json("usage", "heap", "--tag", "77")["usage"]["used_size"] > 1 << 20, "its memory is there")
        d.ok("verify", "heap")
        done = d.run(*run[:4], "nobody", LIFE, "figures")
        tap.eq(done.rc, 126, done.err)


def wksp_run(*arguments):
    return heaplib.run(None, heaplib.RUN, *arguments)


@tap.test
def runs():
    """wksp-run sets all that up, passes the exit status on, and says what it does not understand"""
    use = ("--library", heaplib.OURS)
    done = wksp_run(*use, "--stats", "--huge", "--numa", "0", "--keep", "1M", "--size", "1G", LIFE, "figures")
    tap.eq(done.returncode, 0, done.stderr)
    report = done.stderr.decode()
    for part in ("peak resident", "live: ", "mappings: ", "refused frees: 0 bad"):
        tap.true(part in report, report)
    tap.eq(wksp_run(*use, "--", "/bin/sh", "-c", "exit 7").returncode, 7)
    env = wksp_run(*use, "--huge=hugetlb", "/usr/bin/env").stdout.decode()
    tap.true(f"LD_PRELOAD={heaplib.OURS}\n" in env and "WKSP_MALLOC_HUGE=hugetlb\n" in env, env)
    tap.eq(wksp_run(*use, "/nowhere/program").returncode, 127)
    tap.eq(wksp_run(*use, "/etc").returncode, 126)
    for wrong in (("--huge=big", "/bin/true"), ("--numa", "x", "/bin/true"), ("--keep", "1X", "/bin/true"), (),
                  ("--bad-free", "no", "/bin/true"), ("--unknown",), ("--library", "/nowhere", "/bin/true")):
        tap.eq(wksp_run(*wrong).returncode, 2, f"{wrong}")
    tap.eq(wksp_run("--help").returncode, 0)
    tap.eq(wksp_run("--version").stdout[:9], b"wksp-run ")


tap.run()
