"""The fuzzer of partitions and roots: what it has found before, and a short run of its own."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import fuzzlib
import tap


@tap.test
def corpus():
    """each input that was kept still ends well"""
    fuzzlib.replay("part")


@tap.test(timeout=fuzzlib.RUN_S + 60)
def short_run():
    """the fuzzer, let loose for a while, finds nothing"""
    fuzzlib.short_run("part", 20, "-max_len=512")


tap.run()
