"""Completion: what the shells offer for a command line, with what the daemon knows, and without a daemon."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import Daemon, binary

ROOT = os.environ.get("WKSP_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
COMPLETION = os.path.join(ROOT, "cli/completion")
PACKAGED = "/usr/share/bash-completion/bash_completion"
DEADLINE_S = 1  # of cli/complete.c: then it offers what it knows without the daemon
WAIT_S = 60


def env_of(d):
    return dict(d.env, PATH=os.path.dirname(binary("cli/wkspctl")) + ":" + d.env["PATH"])


def bash(d, line, packaged=False):
    """What bash offers at the end of the line, sorted."""
    words = re.findall(r":|[^\s:]+", line) + ([""] if line[-1] in " :" else [])
    script = (f"{f'source {PACKAGED}; ' if packaged else ''}source {COMPLETION}/wkspctl.bash; "
              f"COMP_LINE={shlex.quote(line)}; COMP_POINT=${{#COMP_LINE}}; "
              f"COMP_WORDS=({' '.join(shlex.quote(w) for w in words)}); COMP_CWORD={len(words) - 1}; _wkspctl; "
              'printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "--norc", "--noprofile", "-c", script], env=env_of(d), capture_output=True,
                          text=True, check=False, cwd=d.dir, timeout=60)
    tap.eq((done.returncode, done.stderr), (0, ""), f"completing '{line}'")
    return sorted(done.stdout.split())


def in_time(right, ask):
    """What is asked for: once it is right, or was told in time, in which the daemon has not been given up on."""
    end = time.monotonic() + WAIT_S
    while True:
        begun = time.monotonic()
        told = ask()
        if right(told) or time.monotonic() - begun < DEADLINE_S or begun > end:
            return told


def offered(d, line, want, what="what is offered", packaged=False):
    """Fails unless bash offers that at the end of the line."""
    got = in_time(lambda told: told == want, lambda: bash(d, line, packaged))
    tap.eq(got, want, f"{what}, for '{line}'")


def commands(text):
    """The commands, or first words of such, that a help lists."""
    return sorted(set(re.findall(r"^  ([a-z-]+) ", text.split("\nExamples:")[0], re.MULTILINE)))


@tap.test
def words():
    """commands, those of a group, and options are offered as --help lists them"""
    with Daemon() as d:
        offered(d, "wkspctl ", commands(d.ok("help", "commands")), "commands")
        offered(d, "wkspctl help ", commands(d.ok("help", "commands")), "commands after help")
        offered(d, "wkspctl re", ["rebuild", "reload", "reset", "resize", "restore"])
        for group in ("heap", "root"):
            offered(d, f"wkspctl {group} ", commands(d.ok(group, "--help")), group)
        for command in ("create", "heap malloc", "usage", "ls"):
            options = re.findall(r"^  (--[a-z-]+)", d.ok(*command.split(), "--help"), re.MULTILINE)
            offered(d, f"wkspctl {command} --", sorted(options + ["--version"]), command)
        offered(d, "wkspctl create x --size 1M --s", ["--seed", "--socket"], "what was given is not offered again")
        offered(d, "wkspctl usage x --tag 1 --ta", ["--tag"], "but for what may be repeated")


@tap.test
def values():
    """values that are known are offered, and files where a path is wanted"""
    with Daemon() as d:
        offered(d, "wkspctl create x --page ", ["2M", "4k", "auto"])
        offered(d, "wkspctl heap query x:1 --what l", ["leak"])
        offered(d, "wkspctl metrics --format ", ["openmetrics", "prometheus"])
        offered(d, "wkspctl ls --socket so", ["sock", "sock.lock"])
        offered(d, "wkspctl create x --mode ", [])
        offered(d, "wkspctl create ", [], "a new name")


@tap.test
def names():
    """names of workspaces, places and roots come from the daemon, also that of --socket"""
    with Daemon() as d:
        for name in ("demo", "delta", "other"):
            d.ok("create", name, "--size", "2M", "--page", "4k")
        place = d.ok("alloc", "demo", "--size", "4K").strip()
        for root in ("words", "w2", "odd one"):
            d.ok("root", "set", "demo", root, place)
        for command in ("show", "rm", "heap new", "root ls", "watch", "rm --force"):
            offered(d, f"wkspctl {command} d", ["delta", "demo"], command)
        offered(d, "wkspctl free ", ["delta:", "demo:", "other:"])
        offered(d, "wkspctl root rm demo ", ["w2", "words"], "a root that would have to be quoted is not offered")
        offered(d, "wkspctl show demo ", [], "nothing more")
        socket, d.env["WKSPD_SOCKET"] = d.socket, "/nowhere"
        offered(d, f"wkspctl --socket {socket} show de", ["delta", "demo"])
        offered(d, "wkspctl show ", [], "without a daemon")


@tap.test
def checkpoints():
    """ids of checkpoints are offered, for restore those of the workspace, and names of workspaces that are gone and
    have checkpoints; values of schedules and styles are known"""
    with Daemon() as d:
        for name in ("demo", "gone"):
            d.ok("create", name, "--size", "2M", "--page", "4k")
            d.ok("checkpoint", name, "--wait")
        d.ok("rm", "gone")
        of = {c["name"]: c["id"] for c in d.json("checkpoints")["checkpoints"]}
        for command in ("checkpoint-show", "checkpoint-verify", "checkpoint-rm"):
            offered(d, f"wkspctl {command} ", sorted(of.values()), command)
        whole = of["demo"]
        offered(d, f"wkspctl checkpoint-rm {whole[:-1]}", [whole] if of["gone"][:-1] != whole[:-1] else
               sorted(of.values()), "begun")
        offered(d, "wkspctl restore gone --from ", [of["gone"]], "of the workspace")
        offered(d, "wkspctl restore ", ["demo", "gone"], "names")
        offered(d, "wkspctl checkpoints g", ["gone"], "names")
        offered(d, "wkspctl checkpoint ", ["demo"], "of workspaces that there are")
        offered(d, "wkspctl schedule demo --on-stop ", ["checkpoint", "nothing"])
        offered(d, "wkspctl checkpoint demo --style ", ["lz4", "raw", "zstd"])
        offered(d, "wkspctl cancel ", [], "nothing is under way")


@tap.test
def places():
    """after NAME: the partitions of the workspace are offered, as bash has the word"""
    if not os.path.exists(PACKAGED):
        tap.skip("bash-completion")
    with Daemon() as d:
        d.ok("create", "demo", "--size", "2M", "--page", "4k")
        wanted = sorted(d.ok("alloc", "demo", "--size", "4K").strip() for _ in range(3))
        got = [place.removeprefix("demo:") for place in wanted]
        offered(d, "wkspctl free demo:", got, packaged=True)
        begun = got[0][:-1]
        offered(d, "wkspctl free demo:" + begun, [g for g in got if g.startswith(begun)], packaged=True)
        offered(d, "wkspctl show de", ["demo"], packaged=True)


@tap.test
def zsh():
    """zsh is given the same, with descriptions"""
    if not shutil.which("zsh"):
        tap.skip("zsh")
    with Daemon() as d:
        d.ok("create", "demo", "--size", "2M", "--page", "4k")
        frame = ("_describe() {{ print -l -- ${{(P)4}} }}\ncompadd() {{ print -l -- \"$@\" }}\n"
                 "_files() {{ print files }}\ncomplete_it() {{ source {}/_wkspctl }}\n"
                 "words=({} '')\nCURRENT=$#words\ncomplete_it\n")
        d.ok("checkpoint", "demo", "--wait")
        one = d.json("checkpoints")["checkpoints"][0]["id"]
        for line, want in (("wkspctl show", "demo:\n"), ("wkspctl free", "demo:\n"),
                           ("wkspctl checkpoint-rm", one + ":demo, "), ("wkspctl restore", "demo:\n"),
                           ("wkspctl --socket", "files\n"), ("wkspctl heap", "new:make an fd_alloc heap")):
            command = ["zsh", "-f", "-c", frame.format(COMPLETION, line)]
            done = in_time(lambda told, part=want: part in told.stdout,
                           lambda args=command: subprocess.run(args, env=env_of(d), text=True, capture_output=True,
                                                               check=False))
            tap.eq((done.returncode, done.stderr), (0, ""), f"completing '{line}'")
            tap.contains(done.stdout, want, f"offered for '{line}'")


@tap.test
def odd_lines():
    """lines that are wrong, and words that would steer a terminal, offer what they can and never fail"""
    with Daemon() as d:
        for line in ([], [""], ["--"], ["--nonsense", ""], ["nonsense", "x", ""], ["heap", "nonsense", ""], ["help"],
                     ["help", ""], ["show", "a", "b", "c", "d", "e", "f", "g", ""], ["create", "--size"],
                     ["free", ":" * 100], ["free", "x" * 100 + ":"], ["free", "\033[2J:"], ["--tag", "1"] * 50 + [""]):
            done = d.ctl()  # a line without a command, for the contrast
            tap.eq(done.rc, 2, "no command")
            done = d.run(binary("cli/wkspctl"), "__complete", *line)
            tap.eq((done.rc, done.err), (0, ""), f"completing {line}")
            tap.true("\033" not in done.out, f"completing {line} prints {done.out!r}")


tap.run()
