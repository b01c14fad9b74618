#!/usr/bin/python3
"""Compares the results of a benchmark with those that are committed, row by row.

    bench/compare.py COMMITTED.txt NEW.txt [--svg FILE]
    bench/compare.py --draw RESULT.txt --svg FILE

Each is what scripts/bench printed: of wksp, checkpoint, alloc, programs, place or rpc. Only ratios are compared, of
ours by a peer or a unit that was measured in turn with it, since these stay when the machine is another one. A row
is worse if its median lies beyond the committed spread and the committed median beyond the new one: what a noisy run
cannot tell apart is no finding. Of a row without a spread it says both figures and does not judge.

Exit status: 0, 1 if a row is worse, 2 if a file has no rows. --svg draws both, logarithmically, and checkpoint pauses
against size; with --draw just the one: what ours costs by its peer or unit, which is the line at 1.
"""

import argparse
import collections
import html
import math
import re
import sys

# ratio: the median; low, high: of its spread, None if it has none; more: 1 if more is better.
Row = collections.namedtuple("Row", "ratio low high more")

NUMBER = r"(-?[\d.]+(?:e[+-]?\d+)?)"
# Units of bench/report.c whose figures are no ratios, and those whose figures are the same in every run.
ABSOLUTE = ("ns", "us", "ms", "s")
EXACT = ("model", "B")


def report_rows(text):
    """The table of bench/report.c. Rows of a peer alone are no figures of ours."""
    found = {}
    line = re.compile(rf"^(\S.*?) +(?:{NUMBER}|-) +(?:{NUMBER}\.\.{NUMBER} +)?(?:{NUMBER}|-)"
                      rf"(?: +{NUMBER}\.\.{NUMBER})? +([A-Za-z/%]\S*) ", re.M)
    for match in line.finditer(text[max(0, text.find("\nmeasure ")):] if "\nmeasure " in text else ""):
        if not match[5] or match[8] in ABSOLUTE or match[1].startswith("boost "):
            continue
        low = float(match[6]) if match[6] else float(match[5]) if match[8] in EXACT else None
        high = float(match[7]) if match[7] else low
        found[match[1]] = Row(float(match[5]), low, high, 0)
    return found


def rpc_rows(text):
    """Rates beside the echo; loaded by quiet; the last tenth of many by the first."""
    found = {m[0].strip(): Row(float(m[1]), float(m[2]), float(m[3]), 1) for m in
             re.findall(rf"^(\S.*?)\s+\d+/s\s+echo\s+\d+/s\s+ratio {NUMBER} \({NUMBER} to {NUMBER}\)", text, re.M)}
    for line, name in (("Get at 99.9 %", "at 99.9 %, loaded by quiet"), ("Get of one user", "beside a flood by alone")):
        match = re.search(rf"^{re.escape(line)}.* ratio {NUMBER} \({NUMBER} to {NUMBER}\)", text, re.M)
        if match and found:
            found[name] = Row(float(match[1]), float(match[2]), float(match[3]), 0)
    many = re.search(r"^\d+ workspaces.*$", text, re.M)
    for name, ratio in re.findall(rf"(\w+) \d+ us each, the last tenth {NUMBER} of the first", many[0]) if many else []:
        if found:
            found[f"{name}, last of thousands by first"] = Row(float(ratio), None, None, 0)
    return found


def place_rows(text):
    return {m[0].strip(): Row(float(m[1]), float(m[2]), float(m[3]), 0) for m in
            re.findall(rf"^(\S.*?)\s+[\d.]+ [a-z]+\s+[\d.]+ [a-z]+\s+{NUMBER}\s+{NUMBER}\.\.{NUMBER}(?:\s+goal.*)?\s*$",
                       text, re.M)}


def alloc_rows(text):
    """The first table of alloc-table: to best, with the spread of fd_alloc's own figures."""
    table = re.search(r"^row .*\n((?:.+\n?)*)", text, re.M)
    found, plain = {}, r"(\d+(?:\.\d+)?)"
    for line in table[1].splitlines() if table else []:
        match = re.match(rf"(\S.*?)\s\s+{plain}\s.*?\s{plain}\s+(?:{plain}|-)(?:\s+{plain}\.\.{plain})?\s*$", line)
        if match and float(match[2]):
            ours, ratio = float(match[2]), float(match[3])
            low, high = (ratio * float(end) / ours if end else None for end in (match[5], match[6]))
            found[match[1]] = Row(ratio, low, high, 0)
    return found


def programs_rows(text):
    """to best, with our spread and that of whom we are compared with."""
    found = {}
    for line in text.splitlines():
        cells = re.findall(rf"{NUMBER} ±\s*(\d+)%\s*\d+M", line)
        match = re.match(r"(\S+)\s.*M\s+([\d.]+)(?:\s+[\d.]+)*$", line)
        if len(cells) < 2 or not match:
            continue
        best = min(cells[:-1], key=lambda cell: float(cell[0]))
        part, ratio = (int(best[1]) + int(cells[-1][1])) / 100, float(match[2])
        found[match[1]] = Row(ratio, ratio * (1 - part), ratio * (1 + part), 0)
    return found


READERS = (report_rows, rpc_rows, alloc_rows, programs_rows, place_rows)


def rows(text):
    """{name: Row} of a result, whichever it is."""
    for reader in READERS:
        found = reader(text)
        if found:
            return found
    return {}


def verdict(old, new):
    """'worse', 'better', 'same', or 'no spread'."""
    if None in (old.low, old.high, new.low, new.high):
        return "no spread"
    up = new.ratio > old.high and old.ratio < new.low
    down = new.ratio < old.low and old.ratio > new.high
    if not up and not down:
        return "same"
    return "worse" if up != bool(new.more) else "better"


def spread(row):
    return "" if row.low is None else f"{row.low:.3g}..{row.high:.3g}"


def tell(old, new):
    """Prints a line for each row; how many are worse."""
    print(f"{'row':34} {'committed':>10} {'spread':>16} {'now':>10} {'spread':>16}")
    counts = collections.Counter()
    for name in [*old, *(n for n in new if n not in old)]:
        if name not in new or name not in old:
            row = old.get(name) or new[name]
            print(f"{name:34} {'not in the new one' if name in old else 'not committed'}: {row.ratio:.3g}")
            continue
        a, b = old[name], new[name]
        said = verdict(a, b)
        counts[said] += 1
        print(f"{name:34} {a.ratio:10.3g} {spread(a):>16} {b.ratio:10.3g} {spread(b):>16} "
              f"{'' if said == 'same' else said}".rstrip())
    print(", ".join(f"{counts[word]} {word}" for word in ("worse", "better", "same", "no spread")))
    return counts["worse"]


LEFT, WIDE, STEP, TOP, TALL = 240, 560, 18, 44, 200


def pauses(text):
    """[(MiB, ms, least, greatest, ms of the digest)] of the pauses of workspaces of several sizes."""
    found = re.findall(rf"^pause, of (\d+) MiB +{NUMBER} +{NUMBER}\.\.{NUMBER} +{NUMBER} ", text, re.M)
    return [(int(size), *(float(ns) / 1e6 for ns in times), float(times[0]) / 1e6 / float(ratio))
            for size, *times, ratio in found if float(ratio) > 0]


def draw_pauses(points, top):
    """Pauses against size, as lines of SVG below top; both axes are logarithmic."""
    def scale(values, start, length):
        low, high = math.log(min(values)), math.log(max(values))
        return lambda value: start + length * (math.log(value) - low) / max(high - low, 1e-9)

    x = scale([point[0] for point in points], LEFT, WIDE)
    y = scale([value for point in points for value in point[1:]], top + TALL, -TALL)
    out = [f'<text x="10" y="{top - 18}" font-size="12">pause with nothing changing, in ms, by MiB of the workspace, '
           'half of which live: red; the digest of the same bytes by 2 threads: grey</text>']
    for column, colour in ((4, "#95a5a6"), (1, "#c0392b")):
        line = " ".join(f"{x(point[0]):.1f},{y(point[column]):.1f}" for point in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
    for size, middle, low, high, digest in points:
        out.append(f'<line x1="{x(size):.1f}" x2="{x(size):.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" '
                   f'stroke="#c0392b"/><circle cx="{x(size):.1f}" cy="{y(middle):.1f}" r="3.5" fill="#c0392b"/>'
                   f'<text x="{x(size):.1f}" y="{top + TALL + 16}" text-anchor="middle">{size}</text>'
                   f'<text x="{x(size) + 6:.1f}" y="{y(middle) - 6:.1f}" text-anchor="end">{middle:.3g}</text>'
                   f'<circle cx="{x(size):.1f}" cy="{y(digest):.1f}" r="2.5" fill="#95a5a6"/>')
    return out


def draw(tables, title, points=()):
    """One or two tables as dots with their spreads, by row, on a logarithmic axis of ratios, the last in red; and
    pauses against size."""
    old, new = tables[0], tables[-1]
    both = [row for table in tables for row in table.values() if row.ratio > 0]
    ends = [v for row in both for v in (row.ratio, row.low or row.ratio, row.high or row.ratio) if v > 0]
    ends = ends or [1]
    low, high = math.floor(math.log10(min(ends))), math.ceil(math.log10(max(ends)) + 1e-9)

    def at(value):
        return LEFT + WIDE * (math.log10(max(value, 10 ** low)) - low) / max(high - low, 1)

    names = [*old, *(n for n in new if n not in old)]
    bottom = TOP + STEP * len(names)
    height = bottom + 30 + (TALL + 80 if points else 0)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDE + 30}" height="{height}" '
           'font-family="sans-serif" font-size="11">', '<rect width="100%" height="100%" fill="#fff"/>',
           f'<text x="10" y="16" font-size="12">{html.escape(title)}</text>']
    for tens in range(low, high + 1):
        x = at(10 ** tens)
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{bottom}" stroke="#ddd"/>'
                   f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{10 ** tens:g}</text>')
    for i, name in enumerate(names):
        y = TOP + STEP * i + STEP // 2
        out.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{html.escape(name)}</text>')
        for table, colour, shift in ((old, "#95a5a6", -3), (new, "#c0392b", 3))[2 - len(tables):]:
            row = table.get(name)
            if not row or row.ratio <= 0:
                continue
            if row.low is not None:
                out.append(f'<line x1="{at(row.low):.1f}" x2="{at(row.high):.1f}" y1="{y + shift}" y2="{y + shift}" '
                           f'stroke="{colour}"/>')
            out.append(f'<circle cx="{at(row.ratio):.1f}" cy="{y + shift}" r="3.5" fill="{colour}"/>')
    if points:
        out += draw_pauses(points, bottom + 60)
    return "\n".join([*out, "</svg>", ""])


def main(line):
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("results", nargs="+", metavar="RESULT")
    args.add_argument("--draw", action="store_true")
    args.add_argument("--svg")
    parsed = args.parse_args(line)
    if len(parsed.results) != (1 if parsed.draw else 2) or parsed.draw and not parsed.svg:
        args.error("two results, or --draw with one and --svg FILE")
    tables, texts = [], []
    for path in parsed.results:
        try:
            with open(path, encoding="utf-8") as file:
                texts.append(file.read())
            tables.append(rows(texts[-1]))
        except OSError as why:
            print(f"compare: {why}", file=sys.stderr)
            return 2
        if not tables[-1]:
            print(f"compare: {path}: there is no row of a benchmark in it", file=sys.stderr)
            return 2
    title = (f"ratios and their spreads; {texts[0].splitlines()[0]}" if parsed.draw else
             "ratios and their spreads: new red, committed grey")
    if parsed.svg:
        with open(parsed.svg, "w", encoding="utf-8") as file:
            file.write(draw(tables, title, pauses(texts[-1])))
    return 0 if parsed.draw or not tell(*tables) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
