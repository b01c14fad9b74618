"""The usual malloc and free hold no atomic instruction that other cores would have to wait for: what the compiler
made of lib/core/alloc_fast.c is read from the static library as it is shipped. Built without threads, none of
lib/core does."""

import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap

LIBRARY = os.path.join(os.environ["WKSP_BIN_DIR"], "lib", "core", "libwksp_core.a")
SHORT_FORMS = {"fd_alloc_malloc", "fd_alloc_malloc_at_least", "fd_alloc_free", "fd_alloc_free_sized", "free_other",
               "malloc_other", "malloc_refill"}
# x86-64; arm64 with and without LSE. An xchg with memory locks without a prefix.
ATOMIC = re.compile(r"\s(lock|xchg\s[^#]*\(|mfence|ldaxr|ldxr|stlxr|stxr|cas[abhlp]*\s|swp|"
                    r"ldadd|ldset|ldeor|ldclr|dmb)")


def functions(text):
    """{name: its instructions} of a disassembly"""
    found, name = {}, None
    for line in text.splitlines():
        head = re.match(r"^[0-9a-f]+ <([^>]+)>:$", line)
        if head:
            name = head.group(1).split(".")[0]
            found.setdefault(name, [])
        elif name and line.startswith(" "):
            found[name].append(line)
    return found


def atomics(listing):
    return [line.strip() for line in listing if ATOMIC.search(line)]


def disassembly():
    if subprocess.run(["objdump", "--version"], capture_output=True, check=False).returncode:
        tap.skip("needs objdump")
    out = subprocess.run(["objdump", "-d", "--no-show-raw-insn", LIBRARY], capture_output=True, text=True, check=True)
    return functions(out.stdout)


if os.environ.get("WKSP_NO_THREADS"):
    @tap.test
    def none_at_all():
        """without threads no function of lib/core holds an atomic read-modify-write or a fence"""
        found = disassembly()
        for name in ("fd_alloc_malloc", "wksp__span_give_elsewhere", "wksp__call_begin", "fd_wksp_alloc"):
            tap.true(found.get(name), f"{name} is in the library")
        with_some = {name: atomics(listing) for name, listing in found.items() if atomics(listing)}
        tap.eq(with_some, {}, "atomics by function")
else:
    @tap.test
    def owner_path():
        """no function of the short forms of malloc and free holds an atomic read-modify-write or a fence"""
        found = disassembly()
        for name in ("fd_alloc_malloc", "fd_alloc_malloc_at_least", "fd_alloc_free"):
            tap.true(len(found.get(name, [])) > 20, f"{name} is in the library")
        for name in SHORT_FORMS & set(found):
            tap.eq(atomics(found[name]), [], f"atomic instructions of {name}")

    @tap.test
    def others_are_seen():
        """the pattern finds the atomics where there are some: giving a block to another heap's span takes one"""
        found = disassembly()
        tap.true(atomics(found["wksp__span_give_elsewhere"]), "atomic instructions of wksp__span_give_elsewhere")


tap.run()
