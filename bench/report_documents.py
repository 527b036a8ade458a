"""Tables and plots of the documents, from the measurements in bench/results/.

A table stands between two comments:

    <!-- table: decode-h200 -->
    ...
    <!-- end -->

A plot is a file of docs/images/bench/, which says in its metadata of which data it is made. Which
tables there are, and what they show, is in report_tables.py, and which plots in report_plots.py. A
table or a plot is made when all files that it needs are there, and stays as it is when one is
missing.
"""

import difflib
import pathlib
import re

from report_cells import ReportError, Results
from report_figures import DIGEST, PICTURES

END = "<!-- end -->"


def marker_of(line):
    """The table that a line begins, or None."""
    before, _, name = line.partition("<!-- table: ")
    return name[: -len(" -->")] if not before and name.endswith(" -->") else None


def read_results(folder):
    return {path.stem: Results(path) for path in sorted(folder.glob("*.json"))}


def sections_of(path, lines):
    """(name, first, last) of every table: lines [first, last) are between its comments."""
    found, name, first = [], None, 0
    for number, line in enumerate(lines):
        begins = marker_of(line)
        if begins is not None:
            if name is not None:
                raise ReportError(f"{path}:{number + 1}: table {begins} begins inside {name}")
            name, first = begins, number + 1
        elif line == END:
            if name is None:
                raise ReportError(f"{path}:{number + 1}: {END} ends no table")
            found.append((name, first, number))
            name = None
    if name is not None:
        raise ReportError(f"{path}: table {name} has no {END}")
    return found


def digest_of(path):
    """The digest of the figure that a picture shows, which report_draw.py has written; None of a file
    that is not there."""
    if not path.exists():
        return None
    found = re.search(DIGEST.format("([0-9a-f]+)"), path.read_text(encoding="utf-8"))
    return found[1] if found else ""


class Documents:
    """The documents under `root`, as they are and as they should be. `figures`: FigureTables by the
    name of the picture."""

    def __init__(self, root, tables, sources, figures=None):
        self.tables = tables
        self.figures = figures or {}
        self.results = read_results(root / "bench/results")
        unknown = set(self.results) - set(sources)
        if unknown:
            raise ReportError(
                f"bench/results/{min(unknown)}.json fills no table: report_sources.py knows "
                f"{', '.join(sorted(sources))}"
            )
        for name, results in self.results.items():
            results.check_provenance(sources[name])
        self.root = root
        folders = ("docs", "examples")
        self.documents = sorted(
            [root / "README.md", *(path for f in folders for path in root.glob(f"{f}/**/*.md"))])
        self.shown = {}  # lines of a table, and the document that shows them
        self.before = {}
        self.after = {}
        for path in self.documents:
            self.before[path] = path.read_text(encoding="utf-8")
            self.after[path] = self.updated(path, self.before[path].split("\n"))
        unused = set(tables) - set(self.shown)
        if unused:
            raise ReportError(f"no document has the table {min(unused)}")
        self.pictures = {  # paths by name, of those whose files are all there
            name: root / PICTURES / f"{name}.svg" for name, figure in self.figures.items()
            if not self.lacks(figure)
        }
        self.check_pictures()

    def check_pictures(self):
        """Every picture is drawn by us, and shown."""
        for path in sorted((self.root / PICTURES).glob("*")):
            if path.stem not in self.figures or path.suffix != ".svg":
                raise ReportError(f"{path}: report_plots.py draws no {path.name}")
        for name in self.pictures:
            if not any(f"{PICTURES.name}/{name}.svg)" in text for text in self.after.values()):
                raise ReportError(f"no document shows {PICTURES / name}.svg")

    def lacks(self, table):
        return [s for s in table.sources() if s not in self.results]

    def missing(self, name):
        return self.lacks(self.tables[name])

    def stale_pictures(self):
        """{path: figure} of those that show something else than bench/results/."""
        figures = {path: self.figures[name].figure(self.results) for name, path in self.pictures.items()}
        return {path: f for path, f in figures.items() if digest_of(path) != f.digest()}

    def updated(self, path, lines):
        result, copied = [], 0
        for name, first, last in sections_of(path, lines):
            if name not in self.tables:
                raise ReportError(f"{path}: report_tables.py has no table {name}")
            result += lines[copied:first]
            new = lines[first:last] if self.missing(name) else self.tables[name].lines(self.results)
            other, where = self.shown.setdefault(name, (new, path))
            if other != new:
                raise ReportError(f"table {name} is not the same in {where} and {path}")
            result += new
            copied = last
        return "\n".join(result + lines[copied:])

    def stale(self):
        return [path for path in self.documents if self.before[path] != self.after[path]]

    def difference(self, path):
        lines = difflib.unified_diff(
            self.before[path].splitlines(),
            self.after[path].splitlines(),
            f"{path.relative_to(self.root)}, as it is",
            "as bench/results says",
            lineterm="",
            n=0,
        )
        return "\n".join(lines)

    def list(self):
        for name in sorted(self.tables):
            missing = self.missing(name)
            needs = f"needs {', '.join(missing)}" if missing else "made"
            print(f"{name:28} {needs:56} {self.shown[name][1].relative_to(self.root)}")
