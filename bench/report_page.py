"""A page of Markdown with tables and plots of files that `bench/report measure` has written."""

import collections

from report_cells import NAME_SUFFIX, ReportError, Results, three_digits
from report_figures import Points
from report_plots import PLOTS

NO_MATPLOTLIB = "no plots, because matplotlib is missing: pip install matplotlib"


def read(paths):
    """{measurement: Results} of the files."""
    found = {}
    for path in paths:
        results = Results(path)
        other = found.setdefault(results.measurement(), results)
        if other is not results:
            raise ReportError(f"{other.path} and {path} both have the measurement "
                              f"{results.measurement()}: give one of them")
    return found


def figures_of(found):
    """{name: Figure} of all that the files have something for."""
    points = collections.defaultdict(Points, {name: Points(r) for name, r in found.items()})
    figures = {name: make(points) for name, (make, _) in PLOTS.items()}
    return {name: figure for name, figure in figures.items() if figure.panels}


def draw(figures, folder):
    """Draws them; False, with a sentence, where matplotlib is missing."""
    try:
        import report_draw
    except ImportError as error:
        if error.name != "matplotlib":
            raise
        print(NO_MATPLOTLIB)
        return False
    for name, figure in figures.items():
        report_draw.draw(figure, folder / f"{name}.svg")
    return True


def plain_table(results):
    """Times of everything in a file, of those that no plot shows."""
    lines = ["| benchmark | time, µs |", "|---|---|"]
    for name in results.with_field("real_time"):
        lines.append(f"| `{NAME_SUFFIX.sub('', name)}` | {three_digits(1e6 * results.value(name, 'real_time'))} |")
    return lines


def said_of(results):
    """On what a file was measured, and what was skipped."""
    context = results.context
    lines = [f"- `{results.path.name}`: {results.provenance()}"]
    more = [f"{key} {context[key]}" for key in ("driver", "cuda", "gpu_properties", "configuration",
                                                 "filter", "OMP_NUM_THREADS") if key in context]
    if more:
        lines.append(f"  {'; '.join(more)}.")
    return lines


def skipped_of(found):
    return [line for results in found.values() for line in results.context.get("skipped", [])]


def page(found, figures, drawn):
    lines = ["# Benchmarks of hip_attn", ""]
    for results in found.values():
        lines += said_of(results)
    for name, figure in figures.items():
        lines += ["", f"## {figure.title}", "", figure.words, ""]
        if drawn:
            lines += [f"![{figure.title}]({name}.svg)", ""]
        lines += figure.tables()
    shown = {measurement for name in figures for measurement in PLOTS[name][1]}
    for name, results in found.items():
        if name not in shown and results.runs:
            lines += ["", f"## {name}", "", *plain_table(results)]
    skipped = skipped_of(found)
    if skipped:
        lines += ["", "## Skipped", "", *(f"- {line}" for line in skipped)]
    return "\n".join(lines) + "\n"


def summary(figures):
    """Lines for a terminal: how many times faster than dense, or times where that is not known."""
    panels = [panel for name in ("prefill_time", "decode_time") if name in figures
              for panel in figures[name].panels if panel.level is not None]
    if not panels:
        panels = [panel for figure in figures.values() for panel in figure.panels][:4]
    lines = []
    for panel in panels:
        rows = [[cell.strip() for cell in line.strip("| ").split("|")]
                for line in panel.table() if line.startswith("| ")]
        widths = [max(len(row[i]) if i < len(row) else 0 for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            row += [""] * (len(widths) - len(row))
            first, *others = row
            lines.append("  ".join([first.ljust(widths[0]),
                                    *(cell.rjust(w) for cell, w in zip(others, widths[1:]))]).rstrip())
        lines.append("")
    return lines


def write(paths, output):
    """Writes output/report.md and its plots, prints a summary; returns the page's path."""
    found = read(paths)
    figures = figures_of(found)
    output.mkdir(parents=True, exist_ok=True)
    drawn = draw(figures, output)
    path = output / "report.md"
    path.write_text(page(found, figures, drawn), encoding="utf-8")
    print()
    print("\n".join(summary(figures)))
    skipped = skipped_of(found)
    if skipped:
        print(f"{len(skipped)} skipped; why is in the report")
    print(f"wrote {path}")
    return path
