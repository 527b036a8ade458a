"""bench/make_tables.py: what it reads, what it writes, and what it refuses."""

import json
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))

import make_tables
import report_tables
from report_cells import Arithmetic, Measured, Ratio, ReportError, Source, Table, three_digits

PAGE = pathlib.PurePath("docs", "guide", "page.md")
CONTEXT = {"date": "2026-01-02T03:04:05+00:00", "machine": "A GPU", "commit": "abc1234"}


def run(name, time, unit="us", **fields):
    return {"name": name, "run_type": "iteration", "real_time": time, "time_unit": unit, **fields}


def aggregate(name, which, time):
    return {
        "name": f"{name}_{which}",
        "run_name": name,
        "run_type": "aggregate",
        "aggregate_name": which,
        "real_time": time,
        "time_unit": "ms",
    }


def measured_cells(cells):
    """The measured values that cells of a table are made of."""
    for cell in cells:
        if isinstance(cell, Measured):
            yield cell
        elif isinstance(cell, Arithmetic):
            yield from measured_cells([cell.left, cell.right])


class MakeTables(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        (self.root / "bench/results").mkdir(parents=True)
        (self.root / "docs/guide").mkdir(parents=True)
        a, b = Measured("first", "a"), Measured("second", "b")
        self.tables = {"times": Table("µs", ["time, µs", "32k"], [["of a", a], ["none", None]])}
        self.both = {"both": Table("ms", ["", "a, ms", "b / a"], [["x", a, Ratio(b, a)]])}
        self.write("README.md", "text")

    def write(self, name, text):
        (self.root / name).write_text(text, encoding="utf-8")

    def measure(self, name, *benchmarks, context=CONTEXT):
        content = {"context": context, "benchmarks": benchmarks}
        self.write(f"bench/results/{name}.json", json.dumps(content))

    def document(self, name, before="old"):
        table = f"<!-- table: {name} -->\n{before}\n<!-- end -->"
        self.write(PAGE, f"above\n{table}\nbelow\n")

    def report(self, tables=None):
        sources = {name: Source([], machine="A GPU") for name in ("first", "second")}
        return make_tables.Report(self.root, tables or self.tables, sources)

    def page(self, report):
        return report.after[self.root / PAGE]

    def refuses(self, words, tables=None):
        with self.assertRaisesRegex(ReportError, words):
            self.report(tables)

    def test_a_table_is_made_between_its_comments_with_its_provenance(self):
        self.document("times")
        self.measure("first", run("a/min_time:0.020/manual_time", 1.5, "ms"))
        report = self.report()
        self.assertEqual(
            self.page(report),
            "above\n<!-- table: times -->\n"
            "| time, µs | 32k |\n|---|---|\n| of a | 1500 |\n| none | |\n\n"
            "A GPU, commit abc1234, 2026-01-02: `bench/record.py first`.\n"
            "<!-- end -->\nbelow\n",
        )
        self.assertEqual(len(report.stale()), 1)
        self.assertIn("-old", report.difference(report.stale()[0]))

    def test_a_table_that_was_made_is_not_stale(self):
        self.document("times")
        self.measure("first", run("a", 1.5))
        self.write(PAGE, self.page(self.report()))
        self.assertEqual(self.report().stale(), [])

    def test_another_measurement_makes_it_stale(self):
        self.test_a_table_that_was_made_is_not_stale()
        self.measure("first", run("a", 1.6))
        self.assertEqual(len(self.report().stale()), 1)

    def test_without_one_of_its_files_a_table_stays_as_it_is(self):
        self.document("both")
        self.measure("first", run("a", 1.5))
        report = self.report(self.both)
        self.assertEqual(report.stale(), [])
        self.assertEqual(report.missing("both"), ["second"])

    def test_ratios_have_no_unit(self):
        self.document("both")
        self.measure("first", run("a", 1.5, "ms"))
        self.measure("second", run("b", 4500))
        self.assertIn("| x | 1.50 | 3.00 |", self.page(self.report(self.both)))

    def test_of_repetitions_the_median_counts(self):
        self.document("times")
        self.measure("first", run("a", 1), run("a", 9), run("a", 2))
        self.assertIn("| of a | 2.00 |", self.page(self.report()))
        self.measure("first", aggregate("a", "mean", 7), aggregate("a", "median", 3), run("a", 1))
        self.assertIn("| of a | 3000 |", self.page(self.report()))

    def test_a_missing_benchmark_or_field_is_named(self):
        self.document("times")
        self.measure("first", run("b", 1))
        self.refuses("first.json has no benchmark a")
        counter = {"c": Table("µs", ["c, µs"], [[Measured("first", "b", "c_us")]])}
        self.document("c")
        self.refuses("b has no field c_us", counter)

    def test_a_failed_benchmark_is_refused(self):
        self.document("times")
        self.measure("first", run("a", 0, error_occurred=True, error_message="no memory"))
        self.refuses("a failed: no memory")

    def test_measurements_from_nobody_knows_where_or_elsewhere_are_refused(self):
        self.document("times")
        for key in CONTEXT:
            rest = {other: value for other, value in CONTEXT.items() if other != key}
            self.measure("first", run("a", 1), context=rest)
            self.refuses(f"lacks {key}")
        self.measure("first", run("a", 1), context={**CONTEXT, "machine": "Another"})
        self.refuses("measured on Another, not on A GPU")
        self.write("bench/results/first.json", "{")
        self.refuses("is not the JSON of a benchmark")

    def test_a_file_that_fills_no_table_is_refused(self):
        self.document("times")
        self.measure("third", run("a", 1))
        self.refuses("third.json fills no table")

    def test_comments_that_do_not_match_are_refused(self):
        self.document("other")
        self.refuses("has no table other")
        self.write(PAGE, "<!-- table: times -->\n")
        self.refuses("table times has no")
        self.write(PAGE, "<!-- end -->\n")
        self.refuses("page.md:1: .* ends no table")
        self.write(PAGE, "<!-- table: times -->\n" * 2 + "<!-- end -->")
        self.refuses("page.md:2: table times begins inside times")

    def test_a_table_that_no_document_shows_is_refused(self):
        self.refuses("no document has the table times")

    def test_one_table_in_two_documents_says_the_same(self):
        self.document("times")
        self.write("README.md", "<!-- table: times -->\nnew\n<!-- end -->")
        self.refuses("table times is not the same in")

    def test_headers_say_the_unit(self):
        with self.assertRaisesRegex(ReportError, "says the unit ms"):
            Table("ms", ["forms", "32k"], [])

    def test_three_significant_digits(self):
        shown = {0.1724: "0.172", 7.04: "7.04", 36.06: "36.1", 261.6: "262", 1034.4: "1034",
                 9.996: "10.0", 99.96: "100", 0.00671: "0.00671", 0: "0", -0.12: "-0.120"}
        self.assertEqual({n: three_digits(n) for n in shown}, shown)

    def test_the_tables_of_the_repository_are_made_of_their_sources(self):
        for name, table in report_tables.TABLES.items():
            self.assertTrue(set(table.sources()) <= set(report_tables.SOURCES), name)

    def test_a_source_measures_what_its_tables_show(self):
        for name, table in report_tables.TABLES.items():
            for cell in measured_cells(cell for row in table.rows for cell in row):
                for argument in report_tables.SOURCES[cell.source].command[1:]:
                    option, _, pattern = argument.partition("=")
                    if option == "--benchmark_filter":
                        self.assertRegex(f"{cell.name}/", pattern, name)


if __name__ == "__main__":
    unittest.main()
