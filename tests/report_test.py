"""bench/report: what it reads, what it writes, and what it refuses."""

import json
import math
import pathlib
import re
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))

import report_documents
import report_measure
import report_page
import report_plots
import report_sources
import report_tables
from report_cells import (Arithmetic, Measured, OfAsked, Plain, Ratio, ReportError, Results, Source,
                          Table, measurement_of, three_digits)
from report_figures import (DIGEST, PICTURES, Figure, FigureTable, Line, Panel, Points, crossover,
                            fitted_exponent, lowest, merged)

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


class InFolder(unittest.TestCase):
    """A repository with a page and measurements."""

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

    def report(self, tables=None, figures=None):
        sources = {name: Source([], machine="A GPU") for name in ("first", "second")}
        tables = self.tables if tables is None else tables
        return report_documents.Documents(self.root, tables, sources, figures)

    def page(self, report):
        return report.after[self.root / PAGE]

    def refuses(self, words, *arguments):
        with self.assertRaisesRegex(ReportError, words):
            self.report(*arguments)


class Tables(InFolder):
    def test_a_table_is_made_between_its_comments_with_its_provenance(self):
        self.document("times")
        self.measure("first", run("a/min_time:0.020/manual_time", 1.5, "ms"))
        report = self.report()
        self.assertEqual(
            self.page(report),
            "above\n<!-- table: times -->\n"
            "| time, µs | 32k |\n|---|---|\n| of a | 1500 |\n| none | |\n\n"
            "A GPU, commit abc1234, 2026-01-02: `bench/report measure first`.\n"
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

    def test_a_cell_may_have_a_form_or_say_what_was_asked_for(self):
        cells = [Plain("first", "a", "bytes", 2.0**-20, "{:.0f}"), OfAsked("first", "a", "codes")]
        self.document("forms")
        self.measure("first", run("a", 1, bytes=1 << 30, codes=15, codes_asked=16))
        report = self.report({"forms": Table(None, ["MiB", "codes"], [cells])})
        self.assertIn("| 1024 | 15/16 |", self.page(report))

    def test_the_pages_of_examples_are_documents(self):
        self.measure("first", run("a", 1))
        (self.root / "examples/one").mkdir(parents=True)
        self.write("examples/one/README.md", "<!-- table: times -->\n<!-- end -->")
        self.assertIn("| of a | 1.00 |", self.report().after[self.root / "examples/one/README.md"])

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
            self.assertTrue(set(table.sources()) <= set(report_sources.SOURCES), name)

    def test_a_source_measures_what_its_tables_show(self):
        for name, table in report_tables.TABLES.items():
            rows = table.rows if isinstance(table, Table) else []
            for cell in measured_cells(cell for row in rows for cell in row):
                for argument in report_sources.SOURCES[cell.source].command[1:]:
                    option, _, pattern = argument.partition("=")
                    if option == "--benchmark_filter":
                        self.assertRegex(f"{cell.name}/", pattern, name)


def panel(*lines, **options):
    names = {x: str(x) for line in lines for x, _ in line.points}
    return Panel("times", "keys", "ms", list(lines), names, **options)


def times(points):
    """A figure of two benchmarks a/1 and a/2."""
    return Figure("A figure", "words", [panel(points["first"].line("a", "dense", "a/{}".format, [1, 2],
                                                                  scale=1e3))])


class Figures(InFolder):
    FIGURES = {"times": FigureTable("times", times, {"first": "first"})}

    def setUp(self):
        super().setUp()
        self.measure("first", run("a/1", 1500), run("a/2", 3000))
        self.write(PAGE, "![times](../images/bench/times.svg)")
        (self.root / PICTURES).mkdir(parents=True)

    def picture(self, figure):
        self.write(PICTURES / "times.svg", f"<svg>{DIGEST.format(figure.digest())}</svg>")

    def stale(self):
        return self.report({}, self.FIGURES).stale_pictures()

    def test_a_picture_of_the_same_data_is_not_stale(self):
        (figure,) = self.stale().values()
        self.picture(figure)
        self.assertEqual(self.stale(), {})

    def test_another_measurement_makes_a_picture_stale(self):
        (figure,) = self.stale().values()
        self.picture(figure)
        self.measure("first", run("a/1", 1500), run("a/2", 3010))
        self.assertEqual(len(self.stale()), 1)

    def test_a_picture_of_other_words_or_without_a_digest_is_stale(self):
        (figure,) = self.stale().values()
        self.picture(figure)
        figure.panels[0].lines[0].label = "b"
        self.picture(figure)
        self.assertEqual(len(self.stale()), 1)
        self.write(PICTURES / "times.svg", "<svg></svg>")
        self.assertEqual(len(self.stale()), 1)

    def test_without_one_of_its_files_a_picture_stays_as_it_is(self):
        (self.root / "bench/results/first.json").unlink()
        self.assertEqual(self.stale(), {})

    def test_a_picture_that_no_document_shows_or_nobody_draws_is_refused(self):
        self.write(PAGE, "text")
        self.refuses(f"no document shows {PICTURES}/times.svg", {}, self.FIGURES)
        self.write(PAGE, "![times](../images/bench/times.svg)")
        self.write(PICTURES / "old.svg", "<svg></svg>")
        self.refuses("draws no old.svg", {}, self.FIGURES)

    def test_the_table_of_a_figure_has_its_numbers_and_where_they_are_from(self):
        self.document("plot-times")
        self.write("README.md", f"![times]({PICTURES}/times.svg)")
        page = self.page(self.report({"plot-times": self.FIGURES["times"]}, self.FIGURES))
        self.assertIn("| times: ms | 1 | 2 |\n|---|---|---|\n| a | 1.50 | 3.00 |\n\n</details>", page)
        self.assertIn("![A figure](../images/bench/times.svg)", page)
        self.assertIn("A GPU, commit abc1234", page)

    def test_what_was_not_measured_is_left_out_of_a_figure(self):
        self.measure("first", run("a/1", 1500))
        results = Results(self.root / "bench/results/first.json")
        self.assertEqual(times({"first": Points(results)}).panels[0].columns(), [1])
        self.assertEqual(times({"first": Points()}).panels, [])

    def test_stacked_parts_add_up_in_their_table(self):
        parts = [Line("a", "attend", [(1, 2.0), (2, 3.0)]), Line("b", "stage1", [(1, 1.0)])]
        self.assertEqual(panel(*parts, stacked=True).table()[-1], "| sum | 3.00 | 3.00 |")

    def test_dense_attention_wins_up_to_where_the_last_ratio_passes_one(self):
        self.assertAlmostEqual(crossover([(1024, 0.5), (4096, 2.0)]), 2048)
        self.assertAlmostEqual(crossover([(1, 2.0), (2, 0.5), (8, 2.0)]), 4)
        self.assertIsNone(crossover([(1, 1.5), (2, 3.0)]))
        self.assertEqual(crossover([(1, 0.2), (2, 0.9)]), math.inf)

    def test_the_exponent_of_a_power_is_found(self):
        self.assertAlmostEqual(fitted_exponent([(x, 7 * x**0.35) for x in (1, 2, 8, 64)]), 0.35)
        self.assertIsNone(fitted_exponent([(1, 1), (2, 2)]))

    def test_the_fastest_of_several_lines_is_the_lowest_at_each_x(self):
        lines = [Line("a", "dense", [(1, 5.0), (2, 1.0)]), Line("b", "dense", [(1, 3.0), (4, 9.0)])]
        self.assertEqual(lowest("", lines).points, [(1, 3.0), (2, 1.0), (4, 9.0)])

    def test_lines_on_each_other_are_one_with_both_labels(self):
        lines = [Line("a", "dense", [(1, 5.0)]), Line("b", "flash", [(1, 5.01)]),
                 Line("c", "flash", [(1, 6.0)])]
        self.assertEqual([line.label for line in merged(lines)], ["a, b", "c"])

    def test_a_measurement_measures_what_its_plots_show(self):
        class Asked(Points):
            def __init__(self):
                super().__init__()
                self.names = set()

            def get(self, name, *arguments):
                self.names.add(name)

        for plot, (make, measurements) in report_plots.PLOTS.items():
            asked = {measurement: Asked() for measurement in measurements}
            make(asked)
            for measurement, points in asked.items():
                self.assertTrue(points.names, f"{plot} asks {measurement} for nothing")
                commands = [report_sources.MEASUREMENTS[measurement],
                            report_sources.QUICK.get(measurement, [])]
                filters = [argument.partition("=")[2] for command in commands
                           for argument in command if "benchmark_filter" in argument]
                for name in points.names if filters else ():
                    self.assertRegex(f"{name}/", "|".join(filters), plot)

    def test_the_measurements_of_plots_exist(self):
        for name, (_, measurements) in report_plots.PLOTS.items():
            self.assertTrue(set(measurements) <= set(report_sources.MEASUREMENTS), name)


class Measuring(InFolder):
    def program(self, body):
        """A benchmark that lists a/1 and a/2, and then runs `body` with OUT, where its JSON goes."""
        folder = self.root / "build/bench"
        folder.mkdir(parents=True)
        path = folder / report_sources.MEASUREMENTS["cpu"][0]
        path.write_text('#!/bin/bash\nfor a in "$@"; do case $a in --benchmark_list_tests*) echo a/1; echo a/2; '
                        f'exit;; --benchmark_out=*) OUT=${{a#*=}};; esac; done\n{body}\n')
        path.chmod(0o755)

    def run_it(self, seconds=20, **options):
        measured = report_measure.Measurement("cpu", self.root / "build", **options)
        content = measured.run(seconds)
        report_measure.add_provenance(content, measured, "abc1234")
        return content

    WHOLE = '{"context": {"instruction_set": "x"},\n  "benchmarks": [\n    {\n "name": "a/1"\n    },\n'

    def test_what_an_ended_program_has_written_is_kept_and_the_rest_is_skipped(self):
        self.program(f"printf '%s' '{self.WHOLE}    {{ \"na' > $OUT; exec sleep 20")
        content = self.run_it(seconds=1)
        self.assertEqual([b["name"] for b in content["benchmarks"]], ["a/1"])
        self.assertEqual(content["context"]["skipped"], ["a/2: no time was left"])

    def test_the_reason_of_a_failure_is_what_the_program_said_last(self):
        self.program("echo first >&2; echo 'out of memory' >&2; exit 3")
        self.assertEqual(self.run_it()["context"]["skipped"], ["cpu: out of memory"])

    def test_a_benchmark_that_failed_is_skipped_with_its_message(self):
        failed = '"name": "a/2", "error_occurred": true, "error_message": "no plan"'
        self.program(f"printf '%s' '{self.WHOLE[:-2]},\n    {{ {failed} }} ]}}' > $OUT")
        content = self.run_it()
        self.assertEqual(len(content["benchmarks"]), 1)
        self.assertEqual(content["context"]["skipped"], ["a/2: no plan"])

    def test_a_counter_that_is_no_number_is_left_out(self):
        counted = '"name": "a/2", "real_time": 1.5, "keys_scored": NaN'
        self.program(f"printf '%s' '{self.WHOLE[:-2]},\n    {{ {counted} }} ]}}' > $OUT")
        self.assertEqual(self.run_it()["benchmarks"][1], {"name": "a/2", "real_time": 1.5})

    def test_what_is_not_built_is_skipped_with_the_reason(self):
        self.assertRegex(self.run_it()["context"]["skipped"][0], "attention_bench is not in")

    def test_a_filter_chooses_by_the_name(self):
        self.program('echo "$*" >&2; exit 1')
        said = self.run_it(filter="2$")["context"]
        self.assertRegex(said["skipped"][0], r"--benchmark_filter=\^\(a/2\)\$")
        self.assertEqual(said["filter"], "2$")
        self.assertEqual(self.run_it(filter="3$")["context"]["skipped"],
                         ["cpu: no benchmark is called 3$"])

    def test_the_context_says_machine_commit_command_and_configuration(self):
        self.program(f"printf '%s' '{self.WHOLE[:-2]}  ]}}' > $OUT")
        self.write("build/CMakeCache.txt", "CMAKE_BUILD_TYPE:STRING=Release\n")
        context = self.run_it()["context"]
        self.assertIn("cores", context["machine"])
        self.assertEqual(context["commit"], "abc1234")
        self.assertEqual(context["measurement"], "cpu")
        self.assertEqual(context["configuration"], "CMAKE_BUILD_TYPE=Release")
        self.assertIn("a/2: no time was left", context["skipped"])

    def test_a_page_says_what_was_skipped(self):
        context = {**CONTEXT, "skipped": ["peer: no module named torch"], "measurement": "x"}
        self.measure("first", run("a", 1), context=context)
        found = report_page.read([self.root / "bench/results/first.json"])
        page = report_page.page(found, report_page.figures_of(found), False)
        self.assertIn("- peer: no module named torch", page)
        self.assertIn("| `a` | 1.00 |", page)

    def test_two_files_of_one_measurement_are_refused(self):
        self.measure("decode-h200", run("a", 1))
        self.measure("decode-epyc", run("a", 1))
        self.assertEqual(measurement_of("decode-h200"), "decode")
        with self.assertRaisesRegex(ReportError, "both have the measurement decode"):
            report_page.read(sorted((self.root / "bench/results").glob("*.json")))


if __name__ == "__main__":
    unittest.main()
