#!/usr/bin/env python3
"""Draw lengths.svg: time and memory against the length of a row, from lengths.json (needs matplotlib 3).

    python docs/figures/lengths.py
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
STYLE = {
    "Cotangent": ("#0b6e4f", "o", "-"),
    "transformers": ("#c1440e", "s", "--"),
    "mlx-lm": ("#5b5f97", "^", ":"),
}
QUANTITIES = [("time", "ms"), ("memory", "peak MB")]


def main():
    plt.rcParams.update({"svg.hashsalt": "lengths", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3})
    panels = json.loads((HERE / "lengths.json").read_text())
    figure, axes = plt.subplots(len(panels), 2, figsize=(9, 3.4 * len(panels)), layout="constrained")
    for row, panel in zip(axes, panels):
        for axis, (quantity, unit) in zip(row, QUANTITIES):
            for name, points in panel["programs"].items():
                colour, marker, line = STYLE[name]
                lengths = [point["tokens"] for point in points]
                values = [point[quantity] for point in points]
                axis.plot(lengths, values, color=colour, marker=marker, linestyle=line, label=panel["labels"].get(name, name))
            axis.set(xscale="log", yscale="log", xlabel="tokens in one row", ylabel=unit)
            ticks = sorted({point["tokens"] for points in panel["programs"].values() for point in points})
            axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=30)
            axis.minorticks_off()
            axis.set_title(f"{panel['title']}: {quantity}", fontsize=9)
        row[0].legend(fontsize=8)
    figure.savefig(HERE / "lengths.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
