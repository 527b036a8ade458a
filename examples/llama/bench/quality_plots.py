#!/usr/bin/env python3
"""Draws quality against keys read from a file that record_quality.py has written.

    quality_plots.py examples/llama/results/quality-h200.json docs/images

writes two pictures there: quality_reads.svg, what each kind of attention loses against the keys
that it reads, at every length, with a dotted line where dense attention is; and quality_heads.svg,
the attention mass that it does not attend by layer and head at the longest. Wants matplotlib.
"""

import argparse
import json
import pathlib
import sys

from document_tables import grouped, length, mean_of
from quality_tables import above_dense, label, mean_by_head

try:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator
except ImportError:
    sys.exit("quality_plots.py needs matplotlib: python3 -m pip install matplotlib")

STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "hip_attn",  # the same file for the same figures
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
BASELINES = ("window", "random", "block_means", "quest", "best")
MARKERS = "osD^vP*X<>hpd"


def name_of(attention):
    """Baselines have the size of the first preset, which need not be said at every point."""
    kind = attention.split()[0]
    return kind if kind in BASELINES else label(attention)


def reads(runs):
    """Keys that a query block reads of one KV head, by the search and by attention."""
    return mean_of(runs, "search_reads") + mean_of(runs, "attention_reads")


def lost_share(runs, field):
    heads = [value for layer in mean_by_head(runs, field) for value in layer]
    return max(1 - sum(heads) / len(heads), 1e-5)


def mean_above(runs, dense):
    differences = above_dense(runs, dense, "nll", ["seed"])
    return sum(differences) / len(differences)


def draw_reads(report, path):
    by_context = grouped(report["texts"], "context")
    measures = [
        ("nats above dense", "linear", mean_above),
        ("attention mass not attended", "log", lambda runs, dense: lost_share(runs, "mass")),
        (
            f"top {report['top_keys']} keys not attended",
            "log",
            lambda runs, dense: lost_share(runs, "top"),
        ),
    ]
    figure, axes = pyplot.subplots(
        len(measures),
        len(by_context),
        figsize=(2 + 2.3 * len(by_context), 6.2),
        sharex="col",
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    kinds = [name for name in grouped(report["texts"], "attention") if name != "dense"]
    for column, (context, runs) in enumerate(by_context.items()):
        by_attention = grouped(runs, "attention")
        dense = by_attention["dense"]
        for row, (title, scale, measure) in enumerate(measures):
            axis = axes[row][column]
            axis.set_yscale(scale)
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_locator(LogLocator(base=2, subs=(1.0, 1.5)))
            axis.xaxis.set_major_formatter(lambda keys, _: f"{keys / 1024:g}k")
            axis.grid(alpha=0.3, linewidth=0.5)
            axis.axvline(reads(dense), color="0.4", linewidth=0.8, linestyle=":")
            if column == 0:
                axis.set_ylabel(title)
            for number, kind in enumerate(kinds):
                is_baseline = kind.split()[0] in BASELINES
                axis.plot(
                    reads(by_attention[kind]),
                    measure(by_attention[kind], dense),
                    MARKERS[number % len(MARKERS)],
                    color=f"C{number % 10}",
                    markerfacecolor="white" if is_baseline else f"C{number % 10}",
                    markersize=5.5,
                    linestyle="none",
                    label=name_of(kind),
                )
        axes[0][column].set_title(length(context))
        axes[-1][column].set_xlabel("keys read")
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False)
    save(figure, path, report)


def draw_heads(report, path):
    context, runs = list(grouped(report["texts"], "context").items())[-1]
    by_attention = grouped(runs, "attention")
    kinds = [name for name in by_attention if name != "dense"]
    columns = 4
    rows = -(-len(kinds) // columns)
    figure, axes = pyplot.subplots(
        rows,
        columns,
        figsize=(8.4, 0.5 + 1.45 * rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(kinds) :]:
        axis.set_visible(False)
    for axis, kind in zip(axes.flat, kinds):
        mass = mean_by_head(by_attention[kind], "mass")
        lost = [[max(1 - share, 1e-4) for share in heads] for heads in mass]
        mesh = axis.imshow(lost, norm=LogNorm(1e-4, 1), cmap="magma_r", aspect="auto")
        axis.set_title(name_of(kind), fontsize=8)
    figure.supxlabel("query head", fontsize=8)
    figure.supylabel("layer", fontsize=8)
    figure.colorbar(mesh, ax=axes, label=f"attention mass not attended, {length(context)}")
    save(figure, path, report)


def save(figure, path, report):
    """With a line that says on what it was measured."""
    texts = len({run["seed"] for run in report["texts"]})
    measured = f"{report['device']}, {texts} text{'s' if texts > 1 else ''} of each length"
    figure.suptitle(measured, fontsize=8, x=0.01, ha="left")
    figure.savefig(path, metadata={"Date": None})
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=pathlib.Path, help="a file of record_quality.py")
    parser.add_argument("folder", type=pathlib.Path, help="where the pictures go")
    options = parser.parse_args()
    report = json.loads(options.results.read_text(encoding="utf-8"))
    with pyplot.rc_context(STYLE):
        draw_reads(report, options.folder / "quality_reads.svg")
        draw_heads(report, options.folder / "quality_heads.svg")


if __name__ == "__main__":
    main()
