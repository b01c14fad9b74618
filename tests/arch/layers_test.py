"""The source tree keeps to its architecture, its headers stand alone, the library exports what it declares.

Each check is also given a tree or an object with a planted violation and must find it: a check that
cannot fail proves nothing.
"""

import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import checks
import tap
from daemon import bin_dir

ROOT = os.environ.get("WKSP_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
WARNINGS = ["-Wall", "-Wextra", "-pedantic", "-Werror"]


def none(findings):
    """Fails with the findings unless there are none."""
    if findings:
        raise AssertionError(f"{len(findings)} findings:\n" + "\n".join(findings))


def planted(files):
    """A temporary tree with these files; the caller removes it."""
    root = tempfile.mkdtemp(prefix="wkspd-arch-")
    for path, text in files.items():
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as f:
            f.write(text)
    return root


def must_find(files, check, *parts):
    """check must find, in a tree with these files, something that mentions each of parts; and as many
    things as there are parts."""
    root = planted(files)
    try:
        findings = check(root)
    finally:
        shutil.rmtree(root)
    for part in parts:
        tap.true(any(part in f for f in findings), f"not found: {part!r}; found: {findings}")
    tap.eq(len(findings), len(parts), f"findings ({findings})")


def compiler(*names):
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    return None


@tap.test
def includes():
    """every include follows an arrow of the architecture"""
    none(checks.include_findings(ROOT))


@tap.test
def includes_planted():
    """an include against the arrows is found, whichever way it is written"""
    header = "/* x */\n"
    must_find({
        "lib/include/wksp/fd_wksp.h": header, "lib/include/wksp/error.h": header, "lib/core/part.h": header,
        "daemon/core/engine.h": header, "daemon/shell/loop.h": header,
        "lib/core/a.c": header + '#include "part.h"\n#include "core/part.h"\n#include "daemon/core/engine.h"\n',
        "lib/ttrpc/b.c": header + '#include "wksp/error.h"\n#include <sys/socket.h>\n',
        "daemon/core/c.c": header + '#include "wksp/error.h"\n# include "wksp/fd_wksp.h"\n#include <uv.h>\n'
                                    '#include <time.h>\n',
        "cli/d.c": header + '#include "core/part.h"\n#include "nowhere.h"\n#include <cmocka.h>\n',
        "elsewhere/e.c": header,
    }, checks.include_findings,
        'lib/core may not include "daemon/core/engine.h"', 'lib/ttrpc may not include "wksp/error.h"',
        "may not include <sys/socket.h>", 'daemon/core may not include "wksp/fd_wksp.h"', "may not include <uv.h>",
        "may not include <time.h>", 'cli may not include "core/part.h"', '"nowhere.h" is not in the tree',
        "<cmocka.h> outside a test", "elsewhere/e.c")


@tap.test
def undefined_symbols():
    """lib/core, lib/ckpt, lib/ttrpc and daemon/core call nothing outside their allow-lists; lib/ckpt what libwksp
    exports, too"""
    found = []
    for folder, (allowed, by_file) in checks.LAYERS.items():
        objects = checks.objects_of(bin_dir(), folder)
        tap.true(objects, f"no objects of {folder} in {bin_dir()}: has a library been renamed?")
        if folder == "lib/ckpt":
            allowed = allowed | set(checks.exported(os.path.join(bin_dir(), "lib/libwksp.so")))
        found += [f"{folder}: {f}" for f in checks.symbol_findings(objects, allowed, by_file)]
    none(found)


@tap.test
def undefined_symbols_planted():
    """a call of a function that is not allowed is found, also through another object"""
    root = planted({
        "a.c": "int socket(int, int, int); void b(void); int printf(const char *, ...);\n"
               "void a(void) { b(); if (socket(1, 1, 0) < 0) printf(\"%d\", 1); }\n",
        "b.c": "#include <string.h>\nvoid b(void) {}\nunsigned long c(char const *s) { return strlen(s); }\n",
    })
    try:
        objects = []
        for name in ("a", "b"):
            objects.append(f"{root}/{name}.c.o")
            subprocess.run([compiler("cc", "gcc", "clang"), "-c", "-O0", f"{root}/{name}.c", "-o", objects[-1]],
                           check=True)
        tap.eq(checks.symbol_findings(objects, checks.PURE), ["a.c: may not use printf", "a.c: may not use socket"])
        tap.eq(checks.symbol_findings(objects, checks.PURE, {"a": {"printf", "bind"}}),
               ["a.c: may not use socket", "a.c: may use bind, but does not: take it off the list"])
    finally:
        shutil.rmtree(root)


def compile_header(command, include, header, language):
    text = f"#include <wksp/{header}>\n#include <wksp/{header}>\n"
    return subprocess.run([*command, *WARNINGS, "-I", include, "-x", language, "-fsyntax-only", "-"],
                          input=text, capture_output=True, text=True, check=False)


@tap.test
def headers_c():
    """each public header compiles alone, and twice, as C11 with -Wall -Wextra -pedantic -Werror"""
    include = os.path.join(ROOT, "lib/include")
    headers = checks.sources(os.path.join(include, "wksp"), ".h")
    tap.true(len(headers) >= 7, f"only {len(headers)} public headers")
    for cc in filter(None, (compiler("gcc"), compiler("clang"))):
        for header in headers:
            done = compile_header([cc, "-std=c11"], include, header, "c")
            tap.eq(done.returncode, 0, f"{cc} on {header}\n{done.stderr}")


@tap.test
def headers_cpp():
    """each public header compiles alone, and twice, as C++17 with -Wall -Wextra -pedantic -Werror"""
    include = os.path.join(ROOT, "lib/include")
    found = [c for c in (compiler("g++"), compiler("clang++")) if c]
    if not found:
        tap.skip("a C++ compiler (g++ or clang++)")
    for cxx in found:
        for header in checks.sources(os.path.join(include, "wksp"), ".h", ".hpp"):
            done = compile_header([cxx, "-std=c++17"], include, header, "c++")
            tap.eq(done.returncode, 0, f"{cxx} on {header}\n{done.stderr}")


@tap.test
def headers_planted():
    """a header that needs another, or that is no C++, does not pass"""
    root = planted({"wksp/needs.h": "/* x */\nsize_t f(void);\n",
                    "wksp/no_cpp.h": "/* x */\n#ifndef A\n#define A\nint f(int new);\n#endif\n"})
    try:
        tap.true(compile_header([compiler("gcc"), "-std=c11"], root, "needs.h", "c").returncode, "needs.h passed")
        cxx = compiler("g++", "clang++")
        if cxx:
            tap.true(compile_header([cxx, "-std=c++17"], root, "no_cpp.h", "c++").returncode, "no_cpp.h passed")
    finally:
        shutil.rmtree(root)


@tap.test
def exports():
    """libwksp.so exports what the public headers declare WKSP_API, all of it under the version of libwksp.map,
    and nothing else"""
    library = os.path.join(bin_dir(), "lib/libwksp.so")
    tap.true(len(checks.declared_api(ROOT)) > 50, "the headers declare too little: has WKSP_API been renamed?")
    none(checks.export_findings(ROOT, library))


@tap.test
def exports_ckpt():
    """libwksp-ckpt.so exports what wksp/ckpt.h declares, and nothing else"""
    library = os.path.join(bin_dir(), "lib/ckpt/libwksp-ckpt.so")
    tap.true(len(checks.declared_api(ROOT, checks.HEADERS_CKPT)) > 20, "the header declares too little")
    none(checks.export_findings(ROOT, library, "lib/ckpt/libwksp-ckpt.map", checks.HEADERS_CKPT))


@tap.test
def exports_planted():
    """a symbol that is exported without being declared, and one declared without being exported, are found"""
    root = planted({
        "lib/include/wksp/a.h": "/* WKSP_API int wksp_comment(void); */\nWKSP_API int wksp_a(int (*f)(void *x));\n"
                                "WKSP_API extern int wksp_var;\nWKSP_API int wksp_gone(void);\n",
        "lib/libwksp.map": "WKSP_1 {\n  global:\n    wksp_*;\n    never_*;\n  local: *;\n};\n",
        "a.c": "int wksp_a(int (*f)(void *x)) { return f(0); }\nint wksp_var;\nint wksp_more(void) { return 1; }\n"
               "int hidden(void) { return 2; }\n",
    })
    try:
        subprocess.run([compiler("cc", "gcc", "clang"), "-shared", "-fPIC", f"{root}/a.c", "-o", f"{root}/liba.so",
                        f"-Wl,--version-script={root}/lib/libwksp.map"], check=True)
        tap.eq(checks.export_findings(root, f"{root}/liba.so"),
               ["declared WKSP_API but not exported: wksp_gone", "exported but not declared WKSP_API: wksp_more",
                "the map exports never_*, which nothing matches"])
    finally:
        shutil.rmtree(root)


@tap.test
def style():
    """no file is longer than 600 lines, postpones work, waits by the clock, holds dead code, or fails to say
    why it exists"""
    none(checks.style_findings(ROOT))


@tap.test
def style_planted():
    """each breach of style is found"""
    must_find({
        "a.c": "/* x */\n" + "int a;\n" * 600,
        "b.c": "int b;\n",
        "tests/c.py": '"""x."""\ntime.' + "sl" "eep(1)\n",
        "scripts/d": "#!/bin/sh\nsl" "eep 1\n",
        "e.h": "/* TO" "DO */\n#if 0\n#endif\n",
        "f.py": "x = 1 \n",
        "g.c": "/* x */\nint " + "g" * 130 + ";\n",
        "h.c": "/* x */",
    }, checks.style_findings, "a.c: 601 lines", "b.c: does not open", "tests/c.py:2: waits", "scripts/d:2: waits",
        "e.h:1: postponed", "e.h: code that is never compiled", "f.py:1: white space", "f.py: does not open",
        "g.c:2: 135 columns, at most 120", "h.c: no newline")


tap.run()
