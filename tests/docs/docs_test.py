"""The documentation: links lead somewhere, programs in it compile, commands in it do what it shows, words are spelt
right, and man pages are well formed."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import bin_dir, binary
from tutorial import FENCE, walk

ROOT = os.environ.get("WKSP_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
INCLUDE = os.path.join(ROOT, "lib/include")
# What a fence may say about what is in it; '' is plain text.
LANGUAGES = {"", "c", "cpp", "console", "sh", "yaml", "ini", "text", "go"}
# Words of ours, or of the trade, that codespell takes for others.
WORDS = "upto,childs,atends"
TUTORIALS = ["docs/tutorial.md"]


def pages():
    """Every Markdown file of the tree, as a path in it."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "build")) and f != "__pycache__")
        found += [os.path.relpath(os.path.join(folder, n), ROOT) for n in sorted(names) if n.endswith(".md")]
    return found


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def anchors(text):
    """What headings can be linked to, as GitHub names them."""
    text = FENCE.sub("", text)
    heads = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken_links(path, text):
    """Links to files or headings that are not there."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", FENCE.sub("", text))):
        if re.match(r"(https?|mailto):", target):
            continue
        name, _, anchor = target.partition("#")
        place = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
        if not os.path.exists(os.path.join(ROOT, place)):
            found.append(f"{path}: {target}")
        elif anchor and place.endswith(".md") and anchor not in anchors(read(place)):
            found.append(f"{path}: {target}, no such heading")
    return found


@tap.test
def links():
    """every link between the Markdown files leads to a file and a heading that are there"""
    found = [finding for path in pages() for finding in broken_links(path, read(path))]
    tap.eq(found, [], "broken links")
    tap.eq(len(broken_links("docs/x.md", "[a](nothing.md) [b](../README.md#nothing) [c](../README.md) `[d](e)`")), 2,
           "broken links that were planted")


def compiles(language, text, inside):
    """What the compiler says about a block."""
    if inside:
        text = ("#include <stdio.h>\n#include <string.h>\n#include <wksp/wksp.h>\n"
                "void block(wksp_client_t *client, fd_wksp_t *wksp, fd_alloc_t *alloc);\n"
                "void block(wksp_client_t *client, fd_wksp_t *wksp, fd_alloc_t *alloc) {\n"
                "  (void)client, (void)wksp, (void)alloc;\n" + text + "}\n")
    command = ["gcc", "-std=c11"] if language == "c" else ["g++", "-std=c++17"]
    if not shutil.which(command[0]):
        tap.skip(command[0])
    return subprocess.run([*command, "-Wall", "-Wextra", "-Werror", "-Wno-unused-variable",
                           "-Wno-unused-but-set-variable", "-I", INCLUDE, "-fsyntax-only", "-x",
                           "c" if language == "c" else "c++", "-"],
                          input=text, capture_output=True, text=True, check=False).stderr


@tap.test
def blocks():
    """C and C++ blocks compile with -Wall -Wextra -Werror (those marked inside: as the body of a function), shell
    blocks are shell, and every block says in which language it is"""
    checked = 0
    for path in pages():
        for language, info, text in FENCE.findall(read(path)):
            tap.true(language in LANGUAGES, f"{path}: a block in '{language}'")
            if language in ("c", "cpp"):
                tap.eq(compiles(language, text, info == "inside"), "", f"{path}:\n{text}")
                checked += 1
            if language == "sh":
                done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
                tap.eq((done.returncode, done.stderr), (0, ""), f"{path}:\n{text}")
                checked += 1
    tap.true(checked >= 5, f"only {checked} blocks")


@tap.test
def commands_exist():
    """every wkspctl command that the Markdown files show is one, with options that it has"""
    words = {}
    for path in pages():
        for line in re.findall(r"(?:^ *(?:\$ )?|`|\()wkspctl ([a-z][^`\n|&;)>]*)", read(path), re.MULTILINE):
            words.setdefault(line.strip(), path)
    every = subprocess.run([binary("cli/wkspctl"), "help", "commands"], capture_output=True, text=True,
                           check=True).stdout
    known = set(re.findall(r"^  ([a-z-]+) ", every, re.MULTILINE))
    seen = 0
    for line, path in words.items():
        parts = line.split()
        if parts[0] not in known:
            # A sentence that begins with the tool's name is no command line.
            tap.true(not re.search(r"--\w", line) and path != "docs/tutorial.md", f"{path}: wkspctl {line}")
            continue
        seen += 1
        named = [p for p in parts[:2] if re.fullmatch("[a-z-]+", p)]
        helped = subprocess.run([binary("cli/wkspctl"), *named, "--help"], capture_output=True, text=True,
                                check=False).stdout
        if not helped:
            helped = subprocess.run([binary("cli/wkspctl"), parts[0], "--help"], capture_output=True, text=True,
                                    check=True).stdout
        for option in re.findall(r"(?<!\S)--[a-z-]+", line):
            tap.true(option in helped or option == "--version", f"{path}: wkspctl {line}: {option}")
    tap.true(seen > 15, f"only {seen} command lines")


def as_built(folder):
    """The environment in which the programs and the library of the build folder are found."""
    pc = os.path.join(folder, "pkgconfig")
    os.mkdir(pc)
    with open(os.path.join(pc, "wksp.pc"), "w", encoding="ascii") as f:
        f.write(f"Name: wksp\nDescription: as built\nVersion: 0\nCflags: -I{INCLUDE}\n"
                f"Libs: -L{bin_dir()}/lib -lwksp\n")
    env = {k: v for k, v in os.environ.items() if k not in ("WKSPD_SOCKET", "NOTIFY_SOCKET")}
    env.update(PKG_CONFIG_PATH=pc, LD_LIBRARY_PATH=os.path.join(bin_dir(), "lib"), LC_ALL="C.UTF-8",
               PATH=f"{bin_dir()}/daemon:{bin_dir()}/cli:{os.environ['PATH']}")
    return env


@tap.test(timeout=240)
def tutorial():
    """every command of the tutorial does what the tutorial shows, one after the other, and leaves nothing behind"""
    if os.environ.get("WKSP_PLAIN") != "1":
        tap.skip("a build without sanitizers, for programs link its library")
    for path in TUTORIALS:
        with tempfile.TemporaryDirectory(prefix="wkspd-docs-") as folder:
            tap.true(walk(read(path), folder, as_built(folder)) > 40, f"commands in {path}")
            tap.eq(sorted(os.listdir(folder)), ["index", "index.c", "pkgconfig", "said"], "what it leaves")


@tap.test
def spelling():
    """codespell has nothing to say about documentation, man pages, headers, messages and comments"""
    if not shutil.which("codespell"):
        tap.skip("codespell")
    places = ("README.md", "CONTRIBUTING.md", "NEWS.md", "docs", "lib", "daemon", "cli", "proto", "examples", "systemd",
              "contrib", "bench", "scripts", "debian", "tests")
    done = subprocess.run(["codespell", "--ignore-words-list", WORDS, "--skip",
                           "*.svg,*.trace,*/corpus/*,*/images/*,*.gz,__pycache__,*_test.c,*_test.py", *places],
                          cwd=ROOT, capture_output=True, text=True, check=False)
    tap.eq((done.returncode, done.stdout), (0, ""), f"codespell\n{done.stderr}")


@tap.test
def man():
    """mandoc has no warning about any man page, and the page of each public header names all its calls"""
    if not shutil.which("scdoc") or not shutil.which("mandoc"):
        tap.skip("scdoc and mandoc")
    sources = {}
    for name in sorted(os.listdir(os.path.join(ROOT, "docs/man"))):
        if name.endswith(".scd"):
            sources[name] = read(os.path.join("docs/man", name))
    for header in sorted(os.listdir(os.path.join(INCLUDE, "wksp"))):
        done = subprocess.run([os.path.join(ROOT, "scripts/gen-man"), os.path.join(INCLUDE, "wksp", header)],
                              capture_output=True, text=True, check=False)
        tap.eq((done.returncode, done.stderr), (0, ""), f"scripts/gen-man {header}")
        sources[header] = done.stdout
        code = re.sub(r"/\*.*?\*/|^#.*$", "", read(f"lib/include/wksp/{header}"), flags=re.DOTALL | re.MULTILINE)
        declared = re.findall(r"\bWKSP_API\b[^;{(]*?(\w+)\s*[(;]", code)
        missing = [d for d in declared if not re.search(rf"\b{d}\b", re.sub(r"\\(.)", r"\1", done.stdout))]
        tap.eq(missing, [], f"calls of {header} that its page does not name")
    with tempfile.TemporaryDirectory() as out:
        for name, source in sources.items():
            page = os.path.join(out, name)
            done = subprocess.run(["scdoc"], input=source, capture_output=True, text=True, check=False)
            tap.eq((done.returncode, done.stderr), (0, ""), f"scdoc {name}")
            with open(page, "w", encoding="utf-8") as f:
                f.write(done.stdout)
            said = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True,
                                  check=False).stdout
            # scdoc puts an empty paragraph before each heading.
            said = [line for line in said.splitlines() if "skipping paragraph macro: PP" not in line]
            tap.eq(said, [], f"mandoc about {name}")


@tap.test
def errors():
    """docs/errors.md has each code of wksp/error.h, with its number"""
    codes = re.findall(r"^  (WKSP_\w+) = (-?\d+)", read("lib/include/wksp/error.h"), re.MULTILINE)
    listed = re.findall(r"^\| `(WKSP_\w+)` \| (-?\d+) \|", read("docs/errors.md"), re.MULTILINE)
    tap.true(len(codes) > 15, f"codes in error.h: {codes}")
    tap.eq(listed, codes, "codes in docs/errors.md")


@tap.test
def index():
    """docs/README.md leads to every page of docs"""
    text = read("docs/README.md")
    for path in pages():
        if path.startswith("docs/") and not path.startswith("docs/adr/") and path != "docs/README.md":
            tap.contains(text, f"({os.path.relpath(path, 'docs')})", "docs/README.md")


tap.run()
