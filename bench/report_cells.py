"""What a table of measurements is made of: measured values, arithmetic on them, and rows.

Times are in seconds until a table shows them in its unit.
"""

import dataclasses
import json
import math
import operator
import pathlib
import re
import statistics

SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}

# What Google Benchmark writes behind the name that a benchmark was registered with.
NAME_SUFFIX = re.compile(
    r"(/(min_time:[^/]+|min_warmup_time:[^/]+|iterations:\d+|repeats:\d+|threads:\d+"
    r"|manual_time|real_time|process_time))+$"
)


# What the name of a file of bench/results/ ends with: the machine that it was measured on, whose name
# contains this.
MACHINES = {"h200": "H200", "epyc": "EPYC"}


def measurement_of(name):
    """The name of the measurement (report_sources.py) that fills bench/results/NAME.json."""
    for machine in MACHINES:
        name = name.removesuffix(f"-{machine}")
    return name


class ReportError(Exception):
    """A sentence for the user."""


@dataclasses.dataclass
class Source:
    """What fills a file of bench/results: a program of the build's bench folder or a script of
    ours with its arguments, on a machine whose name contains `machine`."""

    command: list
    machine: str


class Results:
    """One file of Google Benchmark's JSON. Where a benchmark was repeated, the median counts."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            self.context = content["context"]
            entries = content["benchmarks"]
        except (ValueError, KeyError, TypeError) as error:
            raise ReportError(f"{path} is not the JSON of a benchmark: {error!r}") from error
        runs = {}
        for entry in entries:
            if entry.get("error_occurred"):
                raise ReportError(f"{path}: {entry['name']} failed: {entry.get('error_message')}")
            if entry.get("run_type", "iteration") == "aggregate":
                if entry["aggregate_name"] != "median":
                    continue
            name = NAME_SUFFIX.sub("", entry.get("run_name", entry["name"]))
            runs.setdefault(name, []).append(entry)
        # Of an aggregate and the runs that it was made of, the aggregate.
        self.runs = {
            name: [e for e in of_name if e.get("run_type") == "aggregate"] or of_name
            for name, of_name in runs.items()
        }

    def with_field(self, field):
        """Names of benchmarks that have it; the fitted complexity of several has no time."""
        return [name for name, entries in self.runs.items() if field in entries[0]]

    def value(self, name, field):
        if name not in self.runs:
            raise ReportError(f"{self.path} has no benchmark {name}")
        values = []
        for entry in self.runs[name]:
            if field not in entry:
                raise ReportError(f"{self.path}: {name} has no field {field}")
            scale = SECONDS[entry.get("time_unit", "ns")] if field == "real_time" else 1.0
            values.append(entry[field] * scale)
        return statistics.median(values)

    def check_provenance(self, source):
        """Refuses what was measured nobody knows where, or elsewhere."""
        for key in ("machine", "commit", "date"):
            if key not in self.context:
                raise ReportError(f"{self.path}: context lacks {key}, which bench/report writes")
        if source.machine not in self.context["machine"]:
            raise ReportError(
                f"{self.path} was measured on {self.context['machine']}, not on {source.machine}"
            )

    def measurement(self):
        return self.context.get("measurement", measurement_of(self.path.stem))

    def provenance(self):
        """On what, at which commit, when and how this was measured: one sentence."""
        context = self.context
        compiler = f", {context['compiler']}" if "compiler" in context else ""
        return (
            f"{context['machine']}{compiler}, commit {context['commit']}, {context['date'][:10]}: "
            f"`bench/report measure {self.measurement()}`."
        )


class Cell:
    """A number of a table. `ratio`: it has no unit."""

    ratio = False

    def sources(self):
        raise NotImplementedError

    def value(self, results):
        raise NotImplementedError

    def shown(self, results, unit):
        """As the text of a table whose times are in `unit`."""
        scale = 1.0 if self.ratio else 1.0 / SECONDS[unit]
        return three_digits(self.value(results) * scale)

    def __add__(self, other):
        return Arithmetic(operator.add, self, other)

    def __sub__(self, other):
        return Arithmetic(operator.sub, self, other)

    def __mul__(self, factor):
        return Arithmetic(operator.mul, self, factor)

    def __truediv__(self, other):
        return Arithmetic(operator.truediv, self, other)


class Measured(Cell):
    """A field of a benchmark: its time, or a counter that is `scale` times a number in SI units."""

    def __init__(self, source, name, field="real_time", scale=1.0):
        self.source, self.name, self.field, self.scale = source, name, field, scale

    def sources(self):
        return {self.source}

    def value(self, results):
        return results[self.source].value(self.name, self.field) * self.scale


class Plain(Measured):
    """A number that is no time, or whose column has a unit of its own. `form` is how it is shown,
    where that is not with three digits."""

    ratio = True

    def __init__(self, source, name, field, scale=1.0, form=None):
        super().__init__(source, name, field, scale)
        self.form = form

    def shown(self, results, unit):
        return self.form.format(self.value(results)) if self.form else super().shown(results, unit)


class OfAsked(Plain):
    """A count beside what was asked for, of the field with `_asked` behind its name: 15/16."""

    def shown(self, results, unit):
        asked = results[self.source].value(self.name, f"{self.field}_asked")
        return f"{self.value(results):.0f}/{asked:.0f}"


class Arithmetic(Cell):
    def __init__(self, operation, left, right):
        self.operation, self.left, self.right = operation, left, right

    def sources(self):
        right = self.right.sources() if isinstance(self.right, Cell) else set()
        return self.left.sources() | right

    def value(self, results):
        right = self.right.value(results) if isinstance(self.right, Cell) else self.right
        return self.operation(self.left.value(results), right)


class Ratio(Arithmetic):
    ratio = True

    def __init__(self, left, right):
        super().__init__(operator.truediv, left, right)


def three_digits(number):
    """Three significant digits, all of those before the point: 0.172, 7.04, 36.1, 262, 1034."""
    if number == 0 or abs(number) < 5e-3:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(number))))
    rounded = round(number, digits)
    digits = max(0, 2 - math.floor(math.log10(abs(rounded))))  # 9.996 becomes 10.0
    return f"{rounded:.{digits}f}"


class Table:
    """`rows` hold words, cells and None, which stays empty. The header says the unit of times;
    a table of ratios has None."""

    def __init__(self, unit, header, rows):
        if unit and not any(unit in re.split("[ ,]+", title) for title in header):
            raise ReportError(f"no header of {header} says the unit {unit}")
        if any(len(row) != len(header) for row in rows):
            raise ReportError(f"a row under {header} has another length")
        self.unit, self.header, self.rows = unit, header, rows

    def sources(self):
        cells = (cell for row in self.rows for cell in row if isinstance(cell, Cell))
        return sorted(set().union(*(cell.sources() for cell in cells)))

    def lines(self, results):
        """Markdown, with a sentence for each source below."""

        def shown(cell):
            if cell is None:
                return ""
            if isinstance(cell, str):
                return cell
            return cell.shown(results, self.unit)

        rows = [self.header, ["---"] * len(self.header)]
        rows += [[shown(cell) for cell in row] for row in self.rows]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines[1] = lines[1].replace(" ", "")
        return [line.replace("|  |", "| |").replace("|  |", "| |") for line in lines] + [""] + [
            results[source].provenance() for source in self.sources()
        ]
