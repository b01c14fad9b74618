"""Eight processes change partitions at once, one is SIGKILLed every 5 ms: nothing is half done, nobody waits.

part_kill.c does the killing and the checking; this file says for how long, and what is enough. The
sanitized build, in which a process takes a multiple of the time to start, kills for a shorter while.
"""

import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from daemon import binary, sanitized


def kill_for(seconds, how):
    """Runs part_kill; the figures that it prints."""
    seed, program = tap.seed(), binary("tests/proc/part_kill")
    if tap.full():
        seconds *= 6
    elif sanitized("tests/proc/part_kill"):
        seconds = 3
    done = subprocess.run([program, str(seconds), str(seed), how], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        tap.skip(f"CAP_SYS_ADMIN, for pid namespaces ({done.stdout.strip()})")
    tap.eq(done.returncode, 0, f"exit status of part_kill: {done.stdout}{done.stderr}")
    tap.diag(done.stdout.strip())
    figures = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", done.stdout)}
    # On a machine that is busy with other things there are fewer than 200 in a second, and it goes on for longer.
    tap.true(figures["kills"] >= 200, f"only {figures['kills']} kills")
    tap.true(figures["in_flight"] > figures["kills"] // 10, f"only {figures['in_flight']} kills hit an operation")
    tap.true(0 < figures["happened"] < figures["in_flight"], "all or none of the operations hit had happened")
    # What the kernel does not tell of (a processor taken from the whole machine) may delay a few; whoever has to
    # wait for a dead one is late each time.
    tap.true(figures["late"] <= 1 + figures["kills"] // 50,
             f"{figures['late']} calls took longer than 200 ms, the longest {figures['slowest_us'] / 1000:.0f} ms")
    return figures


@tap.test(timeout=150)
def killed_every_5_ms():
    """of eight processes that allocate, free and bind roots, one is SIGKILLed every 5 ms for 8 s: the others go on
    after each kill, each operation has happened wholly or not at all, and in the end there is exactly what the
    survivors hold and the dead had published"""
    kill_for(8, "plain")


@tap.test(timeout=120)
def killed_in_two_namespaces():
    """the same with the processes in two pid namespaces, where living ones have the same thread ids"""
    figures = kill_for(3, "namespaces")
    tap.true(figures["same_tid"] > figures["kills"] // 10, f"equal thread ids at only {figures['same_tid']} kills")


tap.run()
