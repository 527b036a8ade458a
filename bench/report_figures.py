"""What a plot shows, as data: its panels, and the Markdown of the same numbers.

report_draw.py draws it. What it draws is known without matplotlib, so that a test can say whether a
picture is stale.
"""

import dataclasses
import hashlib
import json
import math
import pathlib

from report_cells import ReportError, three_digits

# Pictures of the documents. What the metadata of one says; {} is the digest of the figure.
DIGEST = "bench/report {}"
PICTURES = pathlib.PurePath("docs/images/bench")
PICTURES_FROM_GUIDE = "../images/bench"
DRAWING = pathlib.Path(__file__).with_name("report_draw.py")


def length_name(length):
    """8192 as 8k, 1048576 as 1M."""
    for unit, size in (("M", 1 << 20), ("k", 1 << 10)):
        if length % size == 0:
            return f"{length // size}{unit}"
    return str(length)


@dataclasses.dataclass
class Line:
    """`series` chooses the colour, `kind` the stroke: bold, solid, dashed, dotted or dots."""

    label: str
    series: str
    points: list  # of (x, y), x rising
    kind: str = "solid"

    def at(self, x):
        return dict(self.points).get(x)


@dataclasses.dataclass
class Panel:
    """Lines over x, or with `stacked` parts on top of each other. `names` are those of the x that
    have a tick and a column. `wins`: (from, to) of x where dense attention is faster; `marks`:
    (x, words) of places. `notes` are sentences for the table."""

    title: str
    x_label: str
    y_label: str
    lines: list
    names: dict
    stacked: bool = False
    log_y: bool = False
    log_x: bool = True
    y_from: float = 0.0  # of an axis that is not logarithmic
    y_to: float | None = None
    level: float | None = None  # a horizontal line
    wins: list = dataclasses.field(default_factory=list)
    marks: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)

    def __post_init__(self):
        self.lines = [line for line in self.lines if line.points]

    def columns(self):
        there = {x for line in self.lines for x, _ in line.points}
        return [x for x in self.names if x in there]

    def table(self):
        """Lines of Markdown."""
        columns = self.columns()
        header = [f"{self.title}: {self.y_label}", *(self.names[x] for x in columns)]
        rows = [[line.label] + [_shown(line.at(x)) for x in columns] for line in self.lines]
        if self.stacked:
            sums = [sum(line.at(x) or 0 for line in self.lines) for x in columns]
            rows.append(["sum", *map(_shown, sums)])
        lines = ["| " + " | ".join(row) + " |" for row in [header, *rows]]
        lines.insert(1, "|---" * len(header) + "|")
        lines = [line.replace("|  |", "| |").replace("|  |", "| |") for line in lines]
        return lines + ([""] + [" ".join(self.notes)] if self.notes else [])


def _shown(number):
    return "" if number is None else three_digits(number)


@dataclasses.dataclass
class Figure:
    """`words` say what it shows, for those who cannot see it."""

    title: str
    words: str
    panels: list
    columns: int = 2

    def __post_init__(self):
        self.panels = [panel for panel in self.panels if panel.lines]

    def digest(self):
        """Of all that the picture depends on."""
        plain = json.dumps(_rounded(dataclasses.asdict(self)), sort_keys=True)
        drawing = DRAWING.read_text(encoding="utf-8")
        return hashlib.sha256((plain + drawing).encode()).hexdigest()[:16]

    def tables(self):
        """Lines of Markdown: a table for each panel."""
        lines = []
        for panel in self.panels:
            lines += [*panel.table(), ""]
        return lines[:-1]


def _rounded(data):
    """Numbers with four digits, which are more than a picture can show."""
    if isinstance(data, dict):
        return {str(key): _rounded(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_rounded(value) for value in data]
    return f"{data:.4g}" if isinstance(data, float) else data


class Points:
    """Measured values by name, of one measurement; of none, where it is not there."""

    def __init__(self, results=None):
        self.results = results

    def get(self, name, field="real_time", scale=1.0):
        """None where there is no such benchmark, or none with such a field."""
        if self.results is None or name not in self.results.runs:
            return None
        if field != "real_time" and field not in self.results.runs[name][0]:
            return None
        return self.results.value(name, field) * scale

    def line(self, label, series, name_of, xs, field="real_time", scale=1.0, kind="solid"):
        """A line over those `xs` that were measured. `name_of(x)`: the benchmark."""
        values = [(x, self.get(name_of(x), field, scale)) for x in xs]
        return Line(label, series, [(x, y) for x, y in values if y is not None], kind)


def lowest(label, lines):
    """The lowest of several lines, at every x that one of them has."""
    least = {}
    for line in lines:
        for x, y in line.points:
            least[x] = min(y, least.get(x, math.inf))
    return Line(label, "dense", sorted(least.items()))


def ratio(label, series, above, below, kind="solid"):
    return Line(label, series, [(x, y / below.at(x)) for x, y in above.points if below.at(x)], kind)


def merged(lines, within=0.01):
    """Lines of one kind that lie on each other are one, with all their labels."""
    kept = []
    for line in lines:
        for other in kept:
            same = [x for x, _ in other.points] == [x for x, _ in line.points]
            if same and line.kind == other.kind and all(
                abs(y - other.at(x)) <= within * y for x, y in line.points
            ):
                other.label += f", {line.label}"
                break
        else:
            kept.append(dataclasses.replace(line))
    return kept


def crossover(ratios):
    """Where a line of ratios last passes 1 on its way up, between measured x by powers of x: None where
    it begins above and stays there, infinity where it ends below."""
    if not ratios or all(y >= 1 for _, y in ratios):
        return None
    if ratios[-1][1] < 1:
        return math.inf
    pairs = list(zip(ratios, ratios[1:]))
    (x0, y0), (x1, y1) = [(a, b) for a, b in pairs if a[1] < 1 <= b[1]][-1]
    part = math.log(1 / y0) / math.log(y1 / y0)
    return x0 * (x1 / x0) ** part


def fitted_exponent(points):
    """The power of x that y grows with: the slope of least squares in logarithms; None of fewer than
    three points."""
    logs = [(math.log(x), math.log(y)) for x, y in points if y > 0]
    if len(logs) < 3:
        return None
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return slope / sum((x - mean_x) ** 2 for x, _ in logs)


class FigureTable:
    """A figure of the documents with its numbers, where report_cells.Table has numbers alone.
    `make(points)` is the figure of {measurement: Points}; `files`: those of bench/results/ by
    measurement."""

    def __init__(self, name, make, files):
        self.name, self.make, self.files = name, make, files

    def sources(self):
        return sorted(self.files.values())

    def figure(self, results):
        figure = self.make({name: Points(results[file]) for name, file in self.files.items()})
        if not figure.panels:
            raise ReportError(f"{', '.join(self.sources())} have nothing that {figure.title} shows")
        return figure

    def lines(self, results):
        """For a page of docs/guide/: the picture, and its numbers to be unfolded."""
        figure = self.figure(results)
        said = [results[file].provenance() for file in self.sources()]
        return ["", f"![{figure.title}]({PICTURES_FROM_GUIDE}/{self.name}.svg)", "",
                "<details><summary>Numbers</summary>", "", *figure.tables(), "", "</details>", "",
                *(f"{sentence}  " for sentence in said[:-1]), said[-1]]
