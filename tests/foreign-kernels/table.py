"""Counts the results for what `record.py` recorded: OUT/compile.txt is the compiler's output for OUT/declarations.rs, and
OUT/res/kN_M.txt what `cotangent-emulator` printed, with its exit status in the last line as `rc=0`.

    python table.py OUT
"""

import collections
import json
import pathlib
import re
import sys


def refusals(out):
    """For each module, the first error of the compiler."""
    lines = (out / "declarations.rs").read_text().splitlines()
    module_of, current = {}, None
    for number, line in enumerate(lines, 1):
        found = re.match(r"pub mod (k\d+)", line)
        current = found.group(1) if found else current
        module_of[number] = current
    found = {}
    for block in re.split(r"\n(?=error)", (out / "compile.txt").read_text()):
        place = re.search(r"/(k\d+)\.metal:", block)
        line = re.search(r"declarations\.rs:(\d+):", block)
        module = place.group(1) if place else module_of.get(int(line.group(1))) if line else None
        if module and block.startswith("error"):
            found.setdefault(module, block.splitlines()[0].removeprefix("error: "))
    return found


def runs(out, module):
    """The findings of each launch: none, their kinds, or why it did not run."""
    for path in sorted((out / "res").glob(f"{module}_*.txt")):
        text = path.read_text()
        if text.rstrip().endswith("rc=0"):
            yield "clean"
        elif text.rstrip().endswith("rc=1"):
            kinds = re.findall(r"^([a-z][a-z ]+): ", text, re.MULTILINE)
            yield ", ".join(sorted(set(kinds))) or "a finding"
        else:
            yield "not run"


def main():
    out = pathlib.Path(sys.argv[1])
    refused = refusals(out)
    places = collections.defaultdict(list)
    for number, entry in enumerate(json.loads((out / "kernels.json").read_text())):
        for place in entry["places"]:
            places[place].append((f"k{number}", entry["name"]))
    for package in ("mlx_lm", "mlx_vlm", "page"):
        counts = collections.Counter()
        for place, texts in sorted(places.items()):
            if not place.startswith(package):
                continue
            why = [refused[module] for module, _ in texts if module in refused]
            results = [result for module, _ in texts for result in runs(out, module)]
            status = "refused" if why else "compiles"
            ran = len(results)
            counts[status] += 1
            counts["ran at two sizes" if ran >= 2 else "ran at one size" if ran else "not called"] += 1
            bad = sorted(set(results) - {"clean"})
            print(f"| `{place}` | {texts[0][1]} | {why[0] if why else 'compiles'} | {', '.join(bad) if bad else 'clean' if ran else '-'} ({ran}) |")
        print(package, dict(counts), file=sys.stderr)


if __name__ == "__main__":
    main()
