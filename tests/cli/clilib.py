"""clilib: what wkspctl prints, compared with how it should look, and the helper `hand`."""

import functools
import json
import os
import re
import subprocess

import tap
from daemon import binary

# What a <word> in a pattern stands for.
_PLACEHOLDERS = {
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "gaddr": r"0x[1-9a-f][0-9a-f]*",
    "hex": r"0x[0-9a-f]+",
    "n": r"\d+",
    "size": r"\d+(?:\.\d)? [KMGT]?i?B",
    "exact": r"(?:\d+ bytes|\d+(?:\.\d)? [KMGT]iB \(\d+ bytes\))",
    "span": r"[0-9.]+[sdhm](?: \d+[hms])*",
    "word": r"\S+",
    "any": r".*",
}


def looks(text, pattern):
    """Fails unless text is pattern, in which <word>s stand for variable parts and runs of blanks are one."""

    def lines(s):
        return [re.sub(r"\s+", " ", line).strip() for line in s.strip("\n").splitlines()]

    got, want = lines(text), lines(pattern)
    for n, line in enumerate(want):
        regex = re.sub(r"<(\w+)>", lambda m: _PLACEHOLDERS[m.group(1)], re.escape(line).replace("\\ ", " "))
        if n >= len(got) or not re.fullmatch(regex, got[n]):
            raise AssertionError(f"line {n + 1}: wanted {line!r}; all of it:\n{text}")
    tap.eq(len(got), len(want), f"number of lines of\n{text}")


def keys(value, want):
    """Fails unless the JSON object has exactly these keys, given as 'a b c'."""
    tap.eq(sorted(value), sorted(want.split()), "keys")


SCHEMAS = os.path.join(os.environ.get("WKSP_SOURCE_DIR") or os.path.join(os.path.dirname(__file__), "../.."),
                       "docs/schemas")


def _closed(schema):
    """The schema with objects that have no keys but those that it names."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _closed(part) for key, part in schema.items()}
    if "required" in schema:
        schema["additionalProperties"] = False
    return schema


@functools.lru_cache(maxsize=None)
def schema(name):
    """The schema docs/schemas/NAME.json, as a text."""
    with open(os.path.join(SCHEMAS, name + ".json"), encoding="utf-8") as f:
        return f.read()


def valid(name, value):
    """Fails unless the value is what docs/schemas/NAME.json says, without a key that it does not name."""
    try:
        import jsonschema
    except ImportError:
        tap.skip("python3-jsonschema")
    wanted = _closed(json.loads(schema(name)))
    jsonschema.Draft7Validator.check_schema(wanted)
    common = jsonschema.RefResolver("", {}, store={"common.json": _closed(json.loads(schema("common")))})
    wrong = [f"{'.'.join(map(str, e.absolute_path))}: {e.message}"
             for e in jsonschema.Draft7Validator(wanted, resolver=common).iter_errors(value)]
    tap.eq(wrong, [], f"what docs/schemas/{name}.json says of {json.dumps(value)[:2000]}")


def fails(d, rc, args, *parts):
    """wkspctl must exit with rc, print nothing, and say all of parts in one line; the same under --json."""
    result = d.ctl(*args)
    line = " ".join(map(str, args))
    tap.eq(result.rc, rc, f"exit code of '{line}' ({result.err.strip()})")
    tap.eq(result.out, "", f"standard output of '{line}'")
    tap.true(result.err.startswith("wkspctl: "), f"'{line}' says {result.err!r}")
    for part in parts:
        tap.contains(result.err, part, f"standard error of '{line}'")
    again = d.ctl("--json", *args)
    tap.eq((again.rc, again.out), (rc, ""), f"'{line}' under --json")
    error = json.loads(again.err)
    tap.true(error["error"] and error["message"], f"'{line}' under --json says {error}")
    return error["error"]


def hand(d, *args):
    """Runs hand, which must succeed; its output without the line end."""
    result = d.run(binary("tests/cli/hand"), *args)
    tap.eq(result.rc, 0, f"hand {args} ({result.err.strip()})")
    return result.out.strip()


class Held:
    """A running hand that has said `line` and goes on until the block ends."""

    def __init__(self, d, line, *args):
        self.proc = d.popen(binary("tests/cli/hand"), *args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.line = line

    def __enter__(self):
        tap.eq(self.proc.stdout.readline().decode().strip(), self.line, "what hand says")
        return self.proc

    def __exit__(self, kind, value, trace):
        self.proc.stdin.close()
        rc = self.proc.wait(60)
        self.proc.stdout.close()
        if kind is None:
            tap.eq(rc, 0, "exit code of hand")
