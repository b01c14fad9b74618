"""tutorial: a page whose commands are run, one after the other, and compared with what it shows.

Figures and the width of columns may differ; "..." stands for anything. A C program of the page, in a block with a
file's name, is written into the folder before.
"""

import os
import re
import subprocess

import tap

FENCE = re.compile(r"^```(\w*)(?: ([^\n]*))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def plain(text):
    """Lines without what changes from one run to the next: figures, and how wide columns are."""
    lines = [re.sub(r"0x[0-9a-f]+|\d+", "#", line) for line in text.splitlines()]
    return [re.sub(r"\s+", " ", line).strip() for line in lines if line.strip()]


def steps(text):
    """(files, [(command, expected output)]) of a page, in its order."""
    files, found = {}, []
    for language, info, block in FENCE.findall(text):
        if language == "c" and info and info != "inside":
            files[info] = block
        if language != "console":
            continue
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return files, found


def walk(text, folder, env, **kw):
    """Runs the commands of a page in one shell there, with this environment; fails where the output is not what the
    page shows. How many they are. kw: as for subprocess."""
    files, found = steps(text)
    for name, content in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            f.write(content)
    script = "".join(f"echo '@@{i}'\n{command}\n" for i, (command, _) in enumerate(found))
    with open(os.path.join(folder, "said"), "w+b") as said:
        status = subprocess.run(["bash", "-c", script], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=said,
                                stderr=subprocess.STDOUT, timeout=200, check=False, **kw).returncode
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    # The shell's own word about a job that was killed.
    text = re.sub(r"^.*line \d+: +\d+ Killed.*\n", "", text, flags=re.MULTILINE)
    # How far a job is, for which a terminal has a bar, and what kills may have left in flight.
    text = re.sub(r"^(job \d+: \w+ \w+, .*|note: \d+ blocks? .*)\n", "", text, flags=re.MULTILINE)
    parts = re.split(r"^@@(\d+)\n", text, flags=re.MULTILINE)
    tap.eq(parts[0], "", "what was said before the first command")
    outputs = dict(zip(map(int, parts[1::2]), parts[2::2]))
    for i, (command, want) in enumerate(found):
        got, wanted = plain(outputs.get(i, "(not reached)")), plain("\n".join(want))
        for k in range(max(len(got), len(wanted))):
            pattern = re.escape(wanted[k]).replace(r"\.\.\.", ".*") if k < len(wanted) else None
            tap.true(pattern is not None and k < len(got) and re.fullmatch(pattern, got[k]),
                     f"$ {command}\nsaid {outputs.get(i)!r}, not {want}\nall:\n{text}")
    tap.eq(status, 0, "exit status of the last command")
    return len(found)
