"""C++: containers of wksp/wksp.hpp in shared memory, used by processes that map it at different addresses."""

import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import Daemon, bin_dir, binary

ROOT = os.environ.get("WKSP_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
STRICT = ["-std=c++17", "-Wall", "-Wextra", "-pedantic", "-Werror", "-I", os.path.join(ROOT, "lib/include")]
# Other compilers and standard libraries than the build's; they link the build's library, so it must be a plain one.
OTHERS = {"g++": ["g++"], "clang++": ["clang++"], "clang++ with libc++": ["clang++", "-stdlib=libc++"]}
# What stores raw pointers under libstdc++; the last one shows that the frame itself compiles.
REFUSED = {
    "std::unordered_map<int, int, std::hash<int>, std::equal_to<int>, wksp::allocator<std::pair<int const, int>>> "
    "c(1, wksp::allocator<std::pair<int const, int>>(join)); c[1] = 2;": "stores raw pointers",
    "std::forward_list<int, wksp::allocator<int>> c{wksp::allocator<int>(join)}; c.push_front(1);":
        "stores raw pointers",
    "std::vector<bool, wksp::allocator<bool>> c{wksp::allocator<bool>(join)}; c.push_back(1);": "stores raw pointers",
    "std::map<int, int, std::less<int>, wksp::allocator<std::pair<int const, int>>> "
    "c{wksp::allocator<std::pair<int const, int>>(join)}; c[1] = 2;": "error",
    "std::list<int, wksp::allocator<int>> c{wksp::allocator<int>(join)}; c.push_back(1);": "error",
    "std::vector<int, wksp::allocator<int>> c{wksp::allocator<int>(join)}; c.push_back(1);": None,
}


def shared(program):
    """Three processes use the same containers: one founds them, one reads, one changes and ends them."""
    with Daemon() as d:
        alone = d.run(program, "alone")
        tap.eq((alone.rc, alone.out, alone.err), (0, "alone\n", ""), "what needs no daemon")
        d.ok("create", "cpp", "--size", "32M", "--page", "4k")
        wrote = d.run(program, "write", "cpp")
        tap.eq((wrote.rc, wrote.err), (0, ""), "the writer")
        place = wrote.out.strip()
        tap.true(int(place, 16) > 0, f"the writer says that it has mapped it at {place}")
        for what, said in (("read", "read\n"), ("change", "changed\n")):
            done = d.run(program, what, "cpp", place)
            tap.eq((done.rc, done.out, done.err), (0, said, ""), what)
        tap.contains(d.ok("verify", "cpp"), "sound")


def compiled(command, source, out):
    """Compiles; (exit status, what was said)."""
    done = subprocess.run([*command, *STRICT, source, "-o", out, os.path.join(bin_dir(), "lib/libwksp.so"),
                           "-Wl,-rpath," + os.path.join(bin_dir(), "lib"), "-pthread"],
                          capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@tap.test
def by_the_build():
    """vectors, deques, strings, nested ones, and what else of containers the standard library lets hold an
    offset_ptr, are found, read and changed by processes that have mapped the workspace elsewhere"""
    shared(binary("tests/proc/hpp"))


def by(name):
    def body():
        command = OTHERS[name]
        if not shutil.which(command[0]):
            tap.skip(command[0])
        with tempfile.TemporaryDirectory() as folder:
            probe = os.path.join(folder, "probe.cc")
            with open(probe, "w", encoding="ascii") as f:
                f.write("#include <vector>\nint main() { return 0; }\n")
            if compiled(command, probe, os.path.join(folder, "probe"))[0]:
                tap.skip(f"{name}: its standard library")
            out = os.path.join(folder, "hpp")
            tap.eq(compiled(command, os.path.join(ROOT, "tests/proc/hpp.cc"), out), (0, ""), name)
            shared(out)

    body.__doc__ = f"the same built by {name}, with -Wall -Wextra -pedantic -Werror"
    return body


@tap.test
def refused():
    """a container of libstdc++ that would store raw pointers does not compile with wksp::allocator, and what does
    says why"""
    if not shutil.which("g++"):
        tap.skip("g++")
    frame = ("#include <forward_list>\n#include <list>\n#include <map>\n#include <unordered_map>\n#include <vector>\n"
             "#include <wksp/wksp.hpp>\nvoid f(fd_alloc_t *join);\nvoid f(fd_alloc_t *join) {{ {} }}\n")
    for statement, why in REFUSED.items():
        done = subprocess.run(["g++", *STRICT, "-fsyntax-only", "-x", "c++", "-"], input=frame.format(statement),
                              capture_output=True, text=True, check=False)
        tap.eq(done.returncode != 0, why is not None, f"refused: {statement}\n{done.stderr[:2000]}")
        tap.contains(done.stderr, why or "", statement)


if os.environ.get("WKSP_PLAIN") == "1":
    for other in OTHERS:
        tap.test(by(other), timeout=240)

tap.run()
