"""Adds up what the tests of several builds said.

Arguments: NAME=PATH, the testlog.json of `meson test` in a build called NAME, or failed-build=NAME. Each
TAP result counts as one; an executable that speaks no TAP counts as one. An executable that was
killed, timed out, gave fewer results than it had planned, or failed without saying which result
failed, counts as one more failure. What failed is printed with all its output, what was skipped with
the reason it gave.
"""

import json
import re
import sys

PLAN = re.compile(r"^1\.\.(\d+)")
RESULT = re.compile(r"^(not ok|ok)\b\s*(\d*)\s*-?\s*(.*)$")
SKIP = re.compile(r"#\s*skip\b:?\s*(.*)$", re.IGNORECASE)


class Sum:
    def __init__(self):
        self.passed = self.failed = 0
        self.skips = []

    def fail(self, where, why, output):
        self.failed += 1
        print(f"\n==== FAILED {where}: {why}")
        if output:
            print(output.rstrip())

    def tap(self, where, output):
        """Counts passed and skipped results in output; returns (planned, seen, failed sentences, whether a
        skip was written as cmocka does: `not ok N # SKIP name`, which meson takes for a failure)."""
        planned = seen = 0
        failures = []
        cmocka_skip = False
        note = "no reason given"
        for line in output.splitlines():
            plan, result = PLAN.match(line), RESULT.match(line)
            if plan:
                planned += int(plan[1])
            elif result:
                seen += 1
                skip = SKIP.search(result[3])
                if skip and result[3].startswith("#"):
                    # No place for a reason: the test prints it as its last words.
                    cmocka_skip = True
                    self.skips.append((where, skip[1], note))
                elif skip and result[1] == "ok":
                    self.skips.append((where, SKIP.sub("", result[3]).strip(), skip[1] or "no reason given"))
                elif result[1] == "not ok":
                    failures.append(result[3])
                else:
                    self.passed += 1
                note = "no reason given"
            elif line.strip(" #"):
                note = line.strip(" #")
        return planned, seen, failures, cmocka_skip

    def test(self, build, entry):
        where = f"{build}: {entry['name']}"
        output = entry.get("stdout") or ""
        shown = output + ("\n-- stderr --\n" + entry["stderr"] if entry.get("stderr") else "")
        verdict, code = entry["result"], entry.get("returncode", 0)
        planned, seen, failures, cmocka_skip = self.tap(where, output)
        for sentence in failures:
            self.fail(where, sentence, "")
        if failures:
            print(shown.rstrip())
        if verdict == "TIMEOUT":
            self.fail(where, f"timed out after {entry.get('duration', 0):.0f} s", shown)
        elif code is not None and (code < 0 or code > 125):
            self.fail(where, f"ended by a signal or not started (exit status {code})", shown)
        elif planned > seen:
            self.fail(where, f"gave {seen} results of {planned} planned", shown)
        elif verdict == "FAIL" and code == 0 and cmocka_skip and planned == seen:
            return
        elif verdict not in ("OK", "SKIP", "EXPECTEDFAIL") and not failures:
            self.fail(where, f"{verdict}, exit status {code}", shown)
        elif planned == 0 and seen == 0:
            if verdict == "SKIP":
                self.skips.append((where, entry["name"], "whole test skipped"))
            else:
                self.passed += 1


def main():
    total = Sum()
    for argument in sys.argv[1:]:
        build, path = argument.split("=", 1)
        if build == "failed-build":
            total.fail(path, "does not build, see above", "")
            continue
        try:
            with open(path, encoding="utf-8") as log:
                entries = [json.loads(line) for line in log]
        except FileNotFoundError:
            total.fail(build, f"meson test wrote no {path}", "")
            continue
        if not entries:
            total.fail(build, "no test ran", "")
        for entry in entries:
            total.test(build, entry)
    if total.skips:
        print("\nskipped for want of:")
        for where, sentence, reason in total.skips:
            print(f"  {reason} ({where}: {sentence})")
    print()
    line = f"{total.passed} passed, {total.failed} failed"
    print(line + (f", {len(total.skips)} skipped" if total.skips else ""))
    sys.exit(1 if total.failed or not total.passed else 0)


main()
