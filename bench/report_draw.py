"""Draws the figures of report_figures.py with matplotlib, as SVG with text that stays text."""

import io
import math
import re

import matplotlib

from report_figures import DIGEST

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator  # noqa: E402

INK, MUTED, GRID = "#1f2328", "#59636e", "#e2e6ea"
WINS = "#fff3c4"
DENSE_IS_FASTER = "dense is faster"
MOST_TICKS = 28  # along the width of a picture
COLOURS = {
    "infinite_hip": "#d9620f",
    "landmark": "#2f74d0",
    "landmark_1k": "#1a8a6e",
    "dense": "#59636e",
    "cudnn": "#a40e26",
    "flash": "#b08800",
    "flex": "#8250df",
    "authors": "#bf3989",
    "flashprefill": "#0a7ea4",
    "floor": "#1f2328",
    "attend": "#b7bfc8",
    "stage1": "#b84a00",
    "stage2": "#e07b2e",
    "stage3": "#f3b183",
    "stage4": "#fbe3d0",
}
KINDS = {
    "bold": dict(linewidth=2.2, marker="o", markersize=3.5),
    "solid": dict(linewidth=1.3, marker="o", markersize=2.5),
    "dashed": dict(linewidth=1.3, linestyle=(0, (4, 2)), marker="o", markersize=2.5),
    "dotted": dict(linewidth=1.3, linestyle=(0, (1, 1.6))),
    "dots": dict(linewidth=0, marker="D", markersize=5),
}
# The font that matplotlib has and lays out with, and what a browser shows.
MEASURED_WITH = "DejaVu Sans"
SHOWN_WITH = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hip_attn",
    "font.family": MEASURED_WITH,
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
}


def plain(number, _=None):
    """A tick: 0.5, 20, 3000."""
    return f"{number:g}" if number < 1 else f"{number:,.0f}".replace(",", " ")


def draw_lines(axes, panel):
    if panel.log_x:
        axes.set_xscale("log", base=2)
    if panel.log_y:
        axes.set_yscale("log")
    for low, high in panel.wins:
        axes.axvspan(low, high, color=WINS, linewidth=0, zorder=0)
    for line in panel.lines:
        xs, ys = zip(*line.points)
        axes.plot(xs, ys, label=line.label, color=COLOURS[line.series], clip_on=False,
                  **KINDS[line.kind])
    if panel.level is not None:
        low = min(panel.level / 1.5, *(y for line in panel.lines for _, y in line.points))
        axes.axhline(panel.level, color=INK, linewidth=0.8)
        axes.axhspan(low / 1.2, panel.level, color=WINS, linewidth=0, zorder=0)
        axes.set_ylim(bottom=low / 1.2)
    if panel.log_y:
        log_ticks(axes)
    else:
        axes.set_ylim(bottom=panel.y_from)
    if panel.y_to is not None:
        axes.set_ylim(top=panel.y_to)
    columns = panel.columns()
    if len(columns) > MOST_TICKS * axes.get_position().width:
        columns = columns[1 - len(columns) % 2 :: 2]
    axes.set_xticks(columns, [panel.names[x] for x in columns])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    for index, (x, words) in enumerate(panel.marks):
        axes.axvline(x, color=INK, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        axes.annotate(words, (x, 1), (2, -8 - 9 * index), xycoords=("data", "axes fraction"),
                      textcoords="offset points", fontsize=7, color=INK, zorder=5,
                      bbox=dict(facecolor="white", edgecolor="none", pad=0.8, alpha=0.8))


def log_ticks(axes):
    """At 1, 2 and 5; of a range of many decades only at the powers of ten."""
    low, high = axes.get_ylim()
    subs = (1,) if math.log10(high / low) > 2.5 else (1, 2, 5)
    axes.yaxis.set_major_locator(LogLocator(10, subs=subs, numticks=12))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(plain))


def draw_stack(axes, panel):
    columns = panel.columns()
    below = [0.0] * len(columns)
    for line in panel.lines:
        heights = [line.at(x) or 0.0 for x in columns]
        axes.bar(range(len(columns)), heights, 0.72, bottom=below, label=line.label,
                 color=COLOURS[line.series])
        below = [b + h for b, h in zip(below, heights)]
    axes.set_xticks(range(len(columns)), [panel.names[x] for x in columns])


def draw_panel(axes, panel):
    (draw_stack if panel.stacked else draw_lines)(axes, panel)
    axes.set_title(panel.title, loc="left", color=INK)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=2.5)


def legend_columns(panel, inches):
    """Two where the longest labels of both leave room for each other."""
    lengths = [len(line.label) for line in panel.lines]
    rows = math.ceil((len(lengths) + shows_wins(panel)) / 2)
    longest = max(lengths[:rows]) + max([*lengths[rows:], len(DENSE_IS_FASTER)])
    return 2 if 3.6 * longest + 2 * 34 <= 72 * inches else 1


def shows_wins(panel):
    return bool(panel.wins) or panel.level is not None


def draw_legend(axes, panel, lowest, inches):
    """Below the panel."""
    handles, labels = axes.get_legend_handles_labels()
    if panel.stacked:
        handles, labels = handles[::-1], labels[::-1]
    if shows_wins(panel):
        handles.append(matplotlib.patches.Patch(color=WINS))
        labels.append(DENSE_IS_FASTER)
    axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(-0.02, lowest),
                ncols=legend_columns(panel, inches), handlelength=2.2, columnspacing=1.2,
                labelspacing=0.35, borderaxespad=0)


def legend_rows(panel, inches):
    return math.ceil((len(panel.lines) + shows_wins(panel)) / legend_columns(panel, inches))


def draw(figure, path):
    """Writes the figure as an SVG. Its metadata has the figure's digest."""
    with plt.rc_context(STYLE):
        columns = min(figure.columns, len(figure.panels))
        starts = range(0, len(figure.panels), columns)
        rows = [figure.panels[start : start + columns] for start in starts]
        width, left, gap = 9.6, 0.7, 0.78
        each = (width - left - 0.15 - gap * (columns - 1)) / columns
        plot_height, above, legend_line = 2.5, 0.38, 0.155
        below = [0.55 + legend_line * max(legend_rows(panel, each) for panel in row) for row in rows]
        height = sum(above + plot_height + b for b in below)
        picture = plt.figure(figsize=(width, height))
        top = height
        for row, under in zip(rows, below):
            top -= above
            for index, panel in enumerate(row):
                x = left + index * (each + gap)
                axes = picture.add_axes(
                    (x / width, (top - plot_height) / height, each / width, plot_height / height))
                draw_panel(axes, panel)
                draw_legend(axes, panel, -0.44 / plot_height, each)
            top -= plot_height + under
        text = io.StringIO()
        picture.savefig(text, format="svg", metadata={
            "Date": None, "Creator": None, "Title": figure.title, "Description": DIGEST.format(figure.digest())})
        plt.close(picture)
    svg = re.sub(f"(['\"]?){MEASURED_WITH}\\1", SHOWN_WITH, text.getvalue())
    path.write_text(re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE), encoding="utf-8")
