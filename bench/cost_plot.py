"""The plot of docs/guide/cost-model.md: predicted against measured times."""

import sys

try:
    import matplotlib
except ModuleNotFoundError:
    sys.exit("--plot takes matplotlib: python3 -m pip install matplotlib")

matplotlib.use("svg")

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import PercentFormatter  # noqa: E402

# What is drawn of each point, and how: label, colour, marker. A search alone is a difference.
KINDS = {
    ("prefill", "total"): ("prefill", "#0969da", "o"),
    ("prefill", "all_searched"): ("prefill, all of it searched", "#54aeff", "x"),
    ("prefill", "attend"): ("attention of prefill", "#8250df", "s"),
    ("decode", "from"): ("decode, stages refreshed", "#bc4c00", "^"),
    ("decode", "cycle"): ("decode, mean over the cycle", "#d4a72c", "D"),
    ("decode", "reused"): ("decode, selection reused", "#1a7f37", "v"),
    ("decode", "all"): ("decode, dense", "#6e7781", "P"),
}
WITHIN = 0.15
GREY = "#7d8590"  # reads on light and dark


def grouped(points):
    groups = {kind: [] for kind in KINDS}
    for point in points:
        what = "from" if point.what.startswith("from") else point.what
        if (point.kind, what) in groups:
            groups[point.kind, what].append(point)
    return groups


def draw(points, path):
    settings = {
        "svg.hashsalt": "hip_attn",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        **{
            name: GREY
            for name in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
        },
    }
    with plt.rc_context(settings):
        figure, (times, errors) = plt.subplots(1, 2, figsize=(11, 4.6))
        for kind, of in grouped(points).items():
            if not of:
                continue
            label, colour, marker = KINDS[kind]
            style = {"s": 14, "color": colour, "marker": marker, "linewidths": 1, "label": label}
            measured = [point.measured_ms for point in of]
            times.scatter(measured, [point.predicted_ms for point in of], **style)
            errors.scatter(measured, [point.error for point in of], **style)
        low = min(point.measured_ms for point in points) / 1.5
        high = max(point.measured_ms for point in points) * 1.5
        times.plot([low, high], [low, high], color=GREY, linewidth=0.8)
        times.set(
            xscale="log", yscale="log", xlim=(low, high), ylim=(low, high),
            xlabel="measured, ms a layer", ylabel="predicted, ms a layer",
        )
        times.legend(frameon=False, fontsize=8, loc="upper left")
        for edge in (-WITHIN, 0, WITHIN):
            errors.axhline(edge, color=GREY, linewidth=0.8, linestyle="-" if edge == 0 else "--")
        worst = max(abs(point.error) for of in grouped(points).values() for point in of)
        errors.set(
            xscale="log", xlim=(low, high), ylim=(-max(0.2, 1.1 * worst), max(0.2, 1.1 * worst)),
            xlabel="measured, ms a layer", ylabel="predicted / measured - 1",
        )
        errors.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        for axes in (times, errors):
            axes.set_facecolor("none")
            axes.grid(color=GREY, alpha=0.2, linewidth=0.5)
        figure.tight_layout()
        figure.savefig(path, transparent=True, metadata={"Date": None})
        plt.close(figure)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")
