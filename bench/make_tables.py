#!/usr/bin/env python3
"""Makes the tables of the documents from the measurements in bench/results/.

A table stands between two comments:

    <!-- table: decode-h200 -->
    ...
    <!-- end -->

Which tables there are, and what they show, is in report_tables.py; bench/record.py measures. A
table is made when all files that it needs are there, and stays as it is when one is missing.

    bench/make_tables.py            # writes README.md and docs/
    bench/make_tables.py --check    # says which document is stale, and fails
    bench/make_tables.py --list     # tables, and what they need
"""

import argparse
import difflib
import pathlib
import sys

import report_tables
from report_cells import ReportError, Results

ROOT = pathlib.Path(__file__).resolve().parent.parent
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


class Report:
    """The documents under `root`, as they are and as they should be."""

    def __init__(self, root, tables, sources):
        self.tables = tables
        self.results = read_results(root / "bench/results")
        unknown = set(self.results) - set(sources)
        if unknown:
            raise ReportError(
                f"bench/results/{min(unknown)}.json fills no table: report_tables.py knows "
                f"{', '.join(sorted(sources))}"
            )
        for name, results in self.results.items():
            results.check_provenance(sources[name])
        self.root = root
        self.documents = sorted([root / "README.md", *root.glob("docs/**/*.md")])
        self.shown = {}  # lines of a table, and the document that shows them
        self.before = {}
        self.after = {}
        for path in self.documents:
            self.before[path] = path.read_text(encoding="utf-8")
            self.after[path] = self.updated(path, self.before[path].split("\n"))
        unused = set(tables) - set(self.shown)
        if unused:
            raise ReportError(f"no document has the table {min(unused)}")

    def missing(self, name):
        return [s for s in self.tables[name].sources() if s not in self.results]

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
            print(f"{name:28} {needs:48} {self.shown[name][1].relative_to(self.root)}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="write nothing; fail where stale")
    mode.add_argument("--list", action="store_true", help="tables, and what they need")
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help="of the repository")
    options = parser.parse_args()
    try:
        report = Report(options.root, report_tables.TABLES, report_tables.SOURCES)
    except ReportError as error:
        sys.exit(f"make_tables.py: {error}")
    if options.list:
        return report.list()
    for path in report.stale():
        if options.check:
            print(report.difference(path))
        else:
            path.write_text(report.after[path], encoding="utf-8")
            print(f"wrote {path.relative_to(options.root)}")
    if options.check and report.stale():
        sys.exit("make_tables.py: stale; run bench/make_tables.py")


if __name__ == "__main__":
    main()
