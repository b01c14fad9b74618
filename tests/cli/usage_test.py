"""wkspctl's command line: what is missing, misspelt or out of range is told with the way out, and help is
to be had for everything. No daemon runs here: a wrong command line must be found before one is asked."""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import binary, sanitizer_check

# A valid line of each command; every proper prefix of it that is not valid itself must be refused.
# The second figure is the number of words that suffice.
VALID = [
    (["create", "demo", "--size", "64M", "--max-size", "1G", "--page", "4k", "--mode", "0600", "--seed", "7"], 4),
    (["ls"], 1),
    (["show", "demo"], 2),
    (["resize", "demo", "--size", "1G"], 4),
    (["rm", "demo", "--force"], 2),
    (["usage", "demo", "--tag", "1", "--tag", "0x10"], 2),
    (["query", "demo"], 2),
    (["compact", "demo"], 2),
    (["verify", "demo"], 2),
    (["alloc", "demo", "--size", "64", "--align", "128", "--tag", "7"], 4),
    (["free", "demo:0x1000"], 2),
    (["info", "demo", "--tag", "7"], 4),
    (["tag-query", "demo:0x1000"], 2),
    (["tag-free", "demo", "--tag", "7", "--tag", "8"], 4),
    (["memset", "demo:0x1000", "0xff"], 3),
    (["reset", "demo", "--seed", "7"], 2),
    (["check", "demo"], 2),
    (["rebuild", "demo", "--seed", "7"], 2),
    (["root", "ls", "demo"], 3),
    (["root", "set", "demo", "words", "0x1000", "--tag", "7"], 5),
    (["root", "rm", "demo", "words"], 4),
    (["heap", "new", "demo", "--tag", "7"], 5),
    (["heap", "malloc", "demo:0x1000", "--size", "8", "--align", "16", "--cgroup", "3"], 5),
    (["heap", "free", "demo:0x1000", "demo:0x2000"], 4),
    (["heap", "compact", "demo:0x1000"], 3),
    (["heap", "leaks", "demo:0x1000", "--limit", "5"], 3),
    (["heap", "query", "demo:0x1000"], 3),
    (["heap", "rm", "demo:0x1000"], 3),
    (["status"], 1),
    (["version"], 1),
    (["watch", "demo", "--count", "1"], 1),
    (["metrics", "--format", "prometheus", "--listen", "127.0.0.1:9477"], 1),
    (["top", "--interval", "1s"], 1),
    (["plan", "--size", "64M", "--max-size", "1G", "--page", "4k", "--numa", "0", "--preferred"], 3),
    (["map", "demo"], 2),
    (["clients"], 1),
    (["reload"], 1),
    (["checkpoint", "demo", "--mode", "fuzzy", "--style", "lz4", "--info", "x", "--wait"], 2),
    (["checkpoints", "demo"], 1),
    (["checkpoint-show", "1.1", "--verbose", "1"], 2),
    (["checkpoint-verify", "1.1"], 2),
    (["drill", "demo", "--from", "1.1"], 2),
    (["checkpoint-rm", "1.1"], 2),
    (["restore", "demo", "--from", "1.1", "--as", "new", "--tag", "7", "--page", "4k", "--numa", "0", "--seed", "1"],
     2),
    (["schedule", "demo", "--every", "5m", "--keep-last", "2", "--on-stop", "checkpoint", "--on-start", "restore"], 2),
    (["jobs"], 1),
    (["cancel", "1"], 2),
]

# The same for commands that do without a daemon.
LOCAL = [
    (["styles"], 1),
    (["topology"], 1),
    (["hugepages"], 1),
    (["hugepages", "reserve", "--node", "0", "--size", "2M", "--count", "0", "--compact", "--drop-caches"], 8),
    (["hugepages", "apply", "--file", "/nonexistent/conf"], 2),
    (["doctor"], 1),
]
GROUPS = ("heap", "root", "hugepages")

OPERANDS = {"show": "NAME", "rm": "NAME", "usage": "NAME", "query": "NAME", "compact": "NAME", "verify": "NAME",
            "resize": "NAME", "create": "NAME", "new": "NAME", "malloc": "HEAP", "free": "HEAP", "leaks": "HEAP"}


def command_of(line):
    """The words of a line that name its command."""
    return line[:2] if line[0] in GROUPS and len(line) > 1 and line[1][0] != "-" else line[:1]


def ctl(*args, env=None):
    """Runs wkspctl where no daemon can be; (exit code, stdout, stderr)."""
    with tempfile.TemporaryDirectory() as empty:
        proc = subprocess.run([binary("cli/wkspctl"), *args], capture_output=True, text=True, timeout=60, check=False,
                              stdin=subprocess.DEVNULL,
                              env=dict(os.environ, WKSPD_SOCKET=os.path.join(empty, "none"), **(env or {})))
    sanitizer_check(proc.stderr, " ".join(args))
    return proc.returncode, proc.stdout, proc.stderr


def refused(args, *parts):
    """The line must exit with 2, print nothing, and say all of parts on standard error."""
    rc, out, err = ctl(*args)
    line = " ".join(args)
    tap.eq(rc, 2, f"exit code of '{line}' ({err.strip()})")
    tap.eq(out, "", f"standard output of '{line}'")
    tap.contains(err, "usage: wkspctl", f"standard error of '{line}'")
    for part in parts:
        tap.contains(err, part, f"standard error of '{line}'")


@tap.test
def too_short():
    """Every line that is too short exits with 2 and names what is missing"""
    tried = 0
    for line, enough in VALID + LOCAL:
        named = len(command_of(line))
        for n in range(len(line)):
            prefix = line[:n]
            forgotten = n and prefix[-1].startswith("--") and not line[n].startswith("--")
            if prefix == ["hugepages"] or n >= enough and not forgotten:
                continue
            tried += 1
            if n == 0 or n < named:
                refused(prefix, "COMMAND is missing")
            elif forgotten:
                refused(prefix, f"{prefix[-1]} needs a value", "usage: wkspctl " + " ".join(command_of(line)))
            else:
                refused(prefix, "is missing", "usage: wkspctl " + " ".join(command_of(line)))
    tap.true(tried > 40, f"only {tried} prefixes were tried")


@tap.test
def missing_by_name():
    """What is missing is named: the operand, the option, the group's command"""
    refused(["create"], "create: NAME is missing")
    refused(["create", "demo"], "create: --size SIZE is missing")
    refused(["heap", "new", "demo"], "heap new: --tag TAG is missing")
    refused(["heap", "malloc"], "heap malloc: HEAP is missing")
    refused(["heap", "free", "demo:1"], "heap free: BLOCK is missing")
    refused(["heap"], "heap: COMMAND is missing")
    refused(["hugepages", "reserve", "--node", "0"], "hugepages reserve: --size SIZE is missing")
    refused(["alloc", "demo"], "alloc: --size SIZE is missing")
    refused(["free"], "free: PLACE is missing")
    refused(["info", "demo"], "info: --tag TAG is missing")
    refused(["tag-free", "demo"], "tag-free: --tag TAG is missing")
    refused(["memset", "demo:1"], "memset: BYTE is missing")
    refused(["root", "set", "demo"], "root set: ROOT is missing")
    refused(["root", "set", "demo", "r"], "root set: GADDR is missing")
    refused(["root", "rm", "demo"], "root rm: ROOT is missing")
    refused(["root"], "root: COMMAND is missing")


@tap.test
def suggestions():
    """A mistyped command, option or option value is answered with the nearest one"""
    for wrong, right in (("craete", "create"), ("sohw", "show"), ("stauts", "status"), ("hlep", "help"),
                         ("verfy", "verify"), ("heaps", "heap"), ("aloc", "alloc"), ("tagfree", "tag-free"),
                         ("rooot", "root")):
        refused([wrong], f"there is no command '{wrong}'", f"did you mean {right}?")
    refused(["heap", "mallco"], "did you mean heap malloc?")
    refused(["hugepages", "resreve"], "did you mean hugepages reserve?")
    refused(["help", "crate"], "did you mean create?")
    refused(["rm", "x", "--froce"], "rm has no option --froce", "did you mean --force?")
    refused(["create", "x", "--sise", "1M"], "did you mean --size?")
    refused(["ls", "--jsno"], "did you mean --json?")
    refused(["create", "x", "--size", "1M", "--page", "2N"], "did you mean 2M?")
    refused(["create", "x", "--size", "1M", "--page", "atuo"], "did you mean auto?")
    refused(["frobnicate"], "there is no command 'frobnicate'", "wkspctl help")


@tap.test
def wrong_lines():
    """Words too many, options of other commands, twice the same, values for flags are refused"""
    refused(["ls", "demo"], "'demo' is one word too many")
    refused(["show", "a", "b"], "'b' is one word too many")
    refused(["ls", "--size", "1M"], "ls has no option --size")
    refused(["heap", "new", "x", "--tag", "1", "--tag", "2"], "--tag is given twice", "'1'", "'2'")
    refused(["ls", "--json=yes"], "--json takes no value", "'yes'")
    refused(["-j"], "there is no option -j")
    refused(["rm", "x", "-f"], "there is no option -f")
    refused(["--", "--json"], "there is no command '--json'")


@tap.test
def wrong_values():
    """Values that cannot be read are refused, with the value and what would be right"""
    create = ["create", "demo", "--size"]
    for size, part in (("", "empty"), ("64X", "unknown unit"), ("64MB", "ambiguous"), ("1.5G", "fraction"),
                       ("-1", "negative"), ("lots", "not a size"), ("16777216T", "beyond 64 bits"),
                       ("18446744073709551616", "beyond 64 bits"), ("0x", "not a size")):
        refused([*create, size], f"--size '{size}'", part)
    for mode, part in (("rw", "octal"), ("0888", "octal"), ("-1", "negative"), ("0", "nobody")):
        refused([*create, "1M", "--mode", mode], f"--mode '{mode}'", part)
    refused([*create, "1M", "--page", "0"], "--page '0'", "auto, 4k, 2M")
    refused([*create, "1M", "--seed", "4294967296"], "--seed '4294967296'", "32 bits")
    refused(["usage", "demo", "--tag", "0"], "--tag '0'", "from 1 on")
    refused(["usage", "demo", "--tag", "1", "--tag", "x"], "--tag 'x'")
    refused(["heap", "new", "demo", "--tag", "seven"], "--tag 'seven'", "decimal")
    refused(["heap", "malloc", "demo:1", "--size", "0"], "--size '0'", "1 byte or more")
    refused(["heap", "malloc", "demo:1", "--size", "1", "--align", "x"], "--align 'x'")
    refused(["heap", "malloc", "demo:1", "--size", "1", "--cgroup", "16"], "--cgroup '16'", "0 to 15")
    for place in ("demo", "demo:", ":1", "demo:x", "demo:0", "a:b:1", "x" * 40 + ":1"):
        refused(["heap", "query", place], f"HEAP '{place}'")
    refused(["heap", "free", "demo:1", "demo"], "BLOCK 'demo'", "NAME:GADDR")
    refused(["heap", "free", "a:1", "b:2"], "BLOCK 'b:2'", "'a:1'")
    refused(["heap", "leaks", "demo:1", "--limit", "-1"], "--limit '-1'")
    refused(["watch", "--count", "0"], "--count '0'")
    for size, part in (("0", "1 byte or more"), ("", "empty"), ("1.5G", "fraction"), ("-1", "negative"),
                       ("18446744073709551616", "beyond 64 bits")):
        refused(["alloc", "demo", "--size", size], f"--size '{size}'", part)
    refused(["alloc", "demo", "--size", "1", "--align", "x"], "--align 'x'")
    for tag in ("0", "x", "-1", "18446744073709551616"):
        refused(["alloc", "demo", "--size", "1", "--tag", tag], f"--tag '{tag}'")
        refused(["info", "demo", "--tag", tag], f"--tag '{tag}'")
        refused(["tag-free", "demo", "--tag", "1", "--tag", tag], f"--tag '{tag}'")
    refused(["tag-free", "demo"] + ["--tag", "1"] * 1025, "1024")
    for command in ("free", "tag-query"):
        for place in ("demo", "demo:", ":1", "demo:x", "demo:0", "a:b:1", "x" * 40 + ":1"):
            refused([command, place], f"PLACE '{place}'")
    refused(["memset", "demo", "0"], "PLACE 'demo'", "NAME:GADDR")
    for byte in ("256", "x", "0x1ff", ""):
        refused(["memset", "demo:1", byte], f"BYTE '{byte}'")
    for seed in ("4294967296", "x", "-1"):
        refused(["reset", "demo", "--seed", seed], f"--seed '{seed}'")
    for gaddr in ("x", "", "demo:", "demo:0", "other:1"):
        refused(["root", "set", "demo", "r", gaddr], f"GADDR '{gaddr}'")
    refused(["root", "set", "demo", "r", "1", "--tag", "x"], "--tag 'x'")
    refused(["ls", "--timeout", "0"], "--timeout '0'", "1ms to 1h")
    refused(["ls", "--timeout", "2h"], "--timeout '2h'", "1ms to 1h")
    refused(["ls", "--socket", ""], "--socket ''")
    refused(["usage", "demo"] + ["--tag", "1"] * 1025, "1024")


@tap.test
def json_errors():
    """Under --json, wherever it stands, errors are one JSON object on standard error"""
    for line in (["--json", "create"], ["create", "--json"], ["create", "demo", "--size", "--json"]):
        rc, out, err = ctl(*line)
        tap.eq((rc, out), (2, ""), " ".join(line))
        error = json.loads(err)
        tap.eq(error["error"], "usage")
        tap.true(error["message"] and error["usage"].startswith("create NAME"), f"no help in {error}")


@tap.test
def odd_bytes():
    """Bytes that would steer a terminal, or are no UTF-8, come escaped in errors"""
    rc, _, err = ctl("\x1b[31mred")
    tap.eq(rc, 2)
    tap.true("\x1b" not in err, "an escape sequence came through")
    tap.contains(err, "\\x1b[31mred")
    rc, _, err = ctl("--json", os.fsdecode(b"\xff\xfe"))
    tap.eq(rc, 2)
    tap.contains(json.loads(err)["message"], "\\xff\\xfe")
    rc, _, err = ctl("x" * 100000)
    tap.eq(rc, 2)


@tap.test
def help_everywhere():
    """--help of each command and group has usage and an example, and fits a screen"""
    lines = [command_of(line) for line, _ in VALID + LOCAL] + [["heap"], ["root"], []]
    for words in lines:
        name = " ".join(words)
        rc, text, err = ctl(*words, "--help")
        tap.eq((rc, err), (0, ""), f"'{name} --help'")
        tap.contains(text, f"usage: wkspctl {name}".rstrip())
        examples = text.split("\nExamples:\n")
        tap.eq(len(examples), 2, f"example sections of '{name} --help'")
        tap.contains(examples[1], f"wkspctl {name}".rstrip())
        tap.true(len(text.splitlines()) <= (28 if words else 24), f"'{name} --help' is longer than a screen")
        tap.true(max(map(len, text.splitlines())) <= 80, f"'{name} --help' is wider than a screen")
        for other in ([*words, "-h"], ["help", *words], ["--help", *words], [*words, "--help", "--nonsense", "--size"]):
            tap.eq(ctl(*other), (0, text, ""), " ".join(other))


@tap.test
def help_lists_all():
    """The overview names every command or its group, help commands every one with a line within the screen, a group's
    every command of the group; and these tests have a line of each"""
    overview = set(ctl("help")[1].split("\nwkspctl help COMMAND")[0].split())
    every = ctl("help", "commands")[1]
    group = {name: ctl(name, "--help")[1] for name in GROUPS}
    tried = {" ".join(command_of(line)) for line, _ in VALID + LOCAL}
    for name in tried:
        words = name.split()
        tap.true(words[0] in overview, f"the overview has {words[0]}")
        tap.true(re.search(rf"^  {name} +\S", every, re.MULTILINE), f"help commands has {name}")
        if len(words) == 2:
            tap.contains(group[words[0]], f"\n  {words[1]}")
    tap.true(max(map(len, every.splitlines())) <= 80, "width of help commands")
    # The names are padded to 17 bytes.
    listed = {line[2:19].strip() for line in every.splitlines()} - {"help", *GROUPS}
    tap.eq(sorted(listed - tried), [], "commands without a line in VALID or LOCAL")


@tap.test
def examples_hold():
    """Every example in the help is a line that wkspctl understands, and does without a daemon or asks for one"""
    tried = 0
    for words in [command_of(line) for line, _ in VALID + LOCAL] + [["heap"], ["root"], []]:
        for example in ctl(*words, "--help")[1].split("\nExamples:\n")[1].splitlines():
            line = example.strip().removeprefix("heap=$(").removesuffix(")").split(" || ")[0]
            line = shlex.split(line)
            tap.eq(line.pop(0), "wkspctl", example)
            tried += 1
            if line[:2] in (["hugepages", "reserve"], ["hugepages", "apply"]):
                # It would set something on this machine: nothing but one word too many is wrong with it.
                refused([*line, "word"], "'word' is one word too many")
                continue
            rc, _, err = ctl(*line)
            # Of these the last finds that there is no daemon.
            right = 3 if command_of(line) in [command_of(valid) for valid, _ in VALID] else int(line[0] == "doctor")
            tap.eq(rc, right, f"exit code of '{example}' without a daemon ({err.strip()})")
    tap.true(tried >= 40, f"only {tried} examples")


@tap.test
def version_alone():
    """--version needs no daemon"""
    rc, out, _ = ctl("--version")
    tap.eq(rc, 0)
    tap.true(out.startswith("wkspctl ") and out.split()[1][0].isdigit(), out)


@tap.test
def no_daemon():
    """Without a daemon every command exits with 3 and names the socket, also under --json"""
    for line, _ in VALID:
        rc, out, err = ctl(*line)
        tap.eq((rc, out), (3, ""), f"'{' '.join(line)}' ({err.strip()})")
        tap.contains(err, "/none")
    rc, out, err = ctl("--json", "ls")
    tap.eq((rc, out), (3, ""))
    tap.eq(json.loads(err)["error"], "WKSP_E_NODAEMON")


@tap.test
def socket_option():
    """--socket goes before $WKSPD_SOCKET, wherever it stands in the line"""
    for line in (["--socket", "/nonexistent/a", "ls"], ["ls", "--socket", "/nonexistent/a"],
                 ["ls", "--socket=/nonexistent/a"]):
        rc, _, err = ctl(*line)
        tap.eq(rc, 3, " ".join(line))
        tap.contains(err, "/nonexistent/a")


@tap.test
def long_socket_path():
    """A socket path longer than the system allows is refused by name"""
    rc, _, err = ctl("--socket", "/tmp/" + "x" * 200, "ls")
    tap.eq(rc, 1)
    tap.contains(err, "x" * 50)


@tap.test
def lost_output():
    """Output that cannot be written is a failure: full disk, closed output, reader gone"""
    wkspctl = binary("cli/wkspctl")
    with open("/dev/full", "wb") as full:
        proc = subprocess.run([wkspctl, "help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
                              check=False)
    tap.eq(proc.returncode, 1, proc.stderr)
    tap.contains(proc.stderr, "No space left on device")

    proc = subprocess.run(["/bin/sh", "-c", 'exec "$0" help >&-', wkspctl], stderr=subprocess.PIPE, text=True,
                          timeout=60, check=False)
    tap.eq(proc.returncode, 1, proc.stderr)
    tap.contains(proc.stderr, "cannot write to standard output")

    reader, writer = os.pipe()
    os.close(reader)
    proc = subprocess.run([wkspctl, "help"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writer)
    tap.eq(proc.returncode, 1, proc.stderr)
    tap.contains(proc.stderr, "Broken pipe")


tap.run()
