"""The cost model against every committed measurement of prefill and decode, and bench/fit_cost.py.

    cost_model_test.py HIP_ATTN_INFO
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import cost_docs
import cost_points
import fit_cost

PROGRAM = None
WITHIN = 0.15
SEARCH_WITHIN = 0.25  # the difference of two times, with the errors of both


def results():
    return sorted((ROOT / "bench/results").glob("*-h200.json"))


class CommittedMeasurements(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.info = cost_points.Info(PROGRAM, "h200")
        cls.points = cost_points.read_points(results(), cls.info)

    def plan_of(self, point):
        return self.info.ask(point.arguments)["plans"][0]

    def test_there_are_points_of_every_kind(self):
        kinds = {(point.kind, point.what) for point in self.points}
        for what in ("total", "attend", "all_searched", "search"):
            self.assertIn(("prefill", what), kinds)
        for what in ("from0", "from1", "reused", "cycle", "all"):
            self.assertIn(("decode", what), kinds)
        self.assertGreater(len(self.points), 400)

    def test_every_time_is_predicted_within_15_percent(self):
        for point in self.points:
            with self.subTest(source=point.source, name=point.name, what=point.what):
                most = SEARCH_WITHIN if point.what == "search" else WITHIN
                self.assertLess(
                    abs(point.error), most, f"{point.predicted_ms} for {point.measured_ms} ms"
                )

    def test_the_predicted_times_are_those_of_the_report(self):
        for point in self.points:
            times = self.plan_of(point)["predicted"]
            if point.kind == "prefill" and point.what != "search":
                told = times[point.what + "_ms"]
            elif point.what == "cycle":
                told = times["mean_us"] * 1e-3
            elif point.what == "from0":
                told = times["refreshed_us"] * 1e-3
            else:
                continue
            self.assertAlmostEqual(told / point.predicted_ms, 1, 9, point.name)

    def measured_runs(self):
        """Benchmarks with what the library counted while they ran."""
        seen = {(point.source, point.name): point for point in self.points}
        for path in results():
            for run in json.loads(path.read_text(encoding="utf-8"))["benchmarks"]:
                name = run["name"].split("/min_time")[0].split("/iterations")[0]
                point = seen.get((path.name, name))
                if point:
                    yield run, point

    def test_reads_are_those_that_the_library_counted(self):
        checked = 0
        for run, point in self.measured_runs():
            reads = self.plan_of(point)["reads"]
            if "Mkeys1" in run:
                for s, count in enumerate(reads["stages"]):
                    # A chunk that the window cuts short has fewer levels.
                    counted = run[f"Mkeys{s + 1}"]
                    self.assertAlmostEqual(count * 1e-6, counted, delta=0.002 * counted + 1e-6)
            elif run.get("keys_scored"):
                scored = run["keys_scored"] + run.get("landmarks_scored", 0)
                # Requests grow by some tokens in a benchmark of decode.
                for told, counted in (
                    (sum(reads["stages"]), scored), (reads["attended"], run["keys_attended"])
                ):
                    self.assertAlmostEqual(told / counted, 1, delta=0.02, msg=point.name)
            else:
                continue
            checked += 1
        self.assertGreater(checked, 80)

    def test_the_workspace_is_that_of_the_plan(self):
        checked = 0
        for run, point in self.measured_runs():
            # Of a plan that is set to the portable kernels the workspace is still for the others.
            if "workspace_MB" not in run or "_generic" in point.name:
                continue
            told = self.plan_of(point)["workspace_bytes"] * 1e-6
            self.assertLess(abs(told / run["workspace_MB"] - 1), 0.001, f"{point.name} {told}")
            checked += 1
        self.assertGreater(checked, 80)

    def test_teams_are_those_of_the_plan(self):
        for run, point in self.measured_runs():
            if "team" not in run:
                continue
            # hip_attn 0.1 took teams above the resident ones where they have up to eight blocks.
            kernels = self.plan_of(point)["kernels"]
            at = point.arguments.index("--team")
            chosen = self.info.ask(point.arguments[:at] + point.arguments[at + 2 :])
            team = chosen["plans"][0]["kernels"]["team_size"]
            if kernels["units_at_once"] == kernels["units"] or kernels["team_size"] == 1:
                self.assertEqual(team, run["team"], point.name)
            else:
                self.assertLess(team, run["team"], point.name)

    def test_what_the_model_chooses_is_never_slower_than_measured_dense_attention(self):
        dense = {}
        for run, point in self.measured_runs():
            if point.name.startswith("prefill/bfloat16/dense/"):
                dense[point.name.split("/", 3)[3]] = point.measured_ms
        self.assertGreater(len(dense), 3)
        for shape, time in dense.items():
            context = shape.split("x")[1].split("/")[0]
            for preset in ("infinite_hip", "infinite_hip_5k", "landmark", "landmark_1k"):
                words = ("--op", "prefill", "--context", context, "--preset", preset)
                plan = self.info.ask(words)["plans"][0]
                told = plan["predicted"]
                with self.subTest(shape=shape, preset=preset):
                    self.assertLess(told["total_ms"], time * 1.05)
                    self.assertLessEqual(told["total_ms"], told["dense_ms"])

    def test_benchmarks_that_were_left_out_of_the_fit_are_predicted_too(self):
        rates, _, _ = self.info.rates()
        errors = fit_cost.held_out(self.points, list(rates), rates)
        timed = [abs(error) for error, point in errors if point.what != "search"]
        self.assertLess(sum(timed) / len(timed), 0.05)
        self.assertGreater(sum(error <= WITHIN for error in timed) / len(timed), 0.95)

    def test_the_tables_of_the_guide_are_those_of_the_measurements(self):
        text = cost_docs.PAGE.read_text(encoding="utf-8")
        self.assertEqual(
            text,
            cost_docs.written(text, self.points, self.info),
            "bench/fit_cost.py --check --docs bench/results/*-h200.json writes them",
        )

    def test_a_fit_writes_a_header_with_the_rates_that_fit(self):
        with tempfile.TemporaryDirectory() as folder:
            output = pathlib.Path(folder) / "other.hpp"
            words = [sys.executable, "-B", str(ROOT / "bench/fit_cost.py"), *map(str, results())]
            words += ["--info", PROGRAM, "--output", str(output), "--name", "other"]
            words += ["--property", "multiprocessors=100"]
            run = subprocess.run(words, capture_output=True, text=True)
            self.assertEqual(run.returncode, 0, run.stderr)
            text = output.read_text(encoding="utf-8")
        self.assertIn("inline constexpr Gpu kOTHER", text)
        self.assertIn(".multiprocessors = 100,", text)
        rates, _, _ = self.info.rates()
        for name in rates:
            self.assertIn(f"// {name}: ", text)


class LeastSquares(unittest.TestCase):
    def test_finds_the_rates_that_made_the_times(self):
        rows = [[1.0, 0.0, 2.0], [0.0, 3.0, 1.0], [1.0, 1.0, 1.0], [2.0, 0.5, 0.0]]
        rates = [5.0, 0.0, 7.0]
        times = [sum(a * b for a, b in zip(row, rates)) for row in rows]
        found = fit_cost.least_squares(rows, times, [1.0] * 4)
        for a, b in zip(found, rates):
            self.assertAlmostEqual(a, b, 4)

    def test_no_rate_is_negative(self):
        found = fit_cost.least_squares([[1.0, 0.0], [1.0, 1.0]], [2.0, 1.0], [1.0, 1.0])
        self.assertEqual(found[1], 0.0)
        self.assertAlmostEqual(found[0], 1.5, 4)


class Names(unittest.TestCase):
    def test_names_of_benchmarks_become_arguments(self):
        for name, words in (
            ("decode/bfloat16/landmark/cycle/8x131072/q32k8d128/p16/min_time:0.020", "--rows 1"),
            ("decode/bfloat16/infinite_hip/reused/1x131072/q32k8d128/p16r4/x", "--rows 4"),
            ("decode/bfloat16/infinite_hip/from0/1x131072/q32k8d128/p16hnd/x", "--page-size 16"),
            ("prefill/float16/dense/1x8192/64/q32k8d128/p1/x", "--rows 64"),
            ("decode/bfloat16/landmark/from0/1x8192/q32k8d128/p16append/x", "--behind-append"),
            ("decode/bfloat16/landmark/cycle/1x8192/q32k8d128/p16/iterations:40/x", "--rows 1"),
        ):
            match = cost_points.NAME.match(name)
            self.assertIsNotNone(match, name)
            self.assertIn(words, " ".join(cost_points.arguments_of(match)))

    def test_changed_presets_become_stages(self):
        stage = dict(chunk_size=8, keep=2048, query_stride=1, rule="descent", reduction="maximum")
        config = {"stages": [dict(stage, chunk_size=32, keep=8192), stage], "block_q": 64}
        for how, number, last in (
            ("keep", "512", dict(stage, keep=512)),
            ("block", "16", dict(stage, chunk_size=16)),
            ("stage", "1", dict(stage, chunk_size=32, query_stride=64, rule="centre")),
        ):
            stages = cost_points.changed_stages(config, how, number)
            self.assertEqual(len(stages), 2)
            self.assertEqual(stages[-1], last)

    def test_other_benchmarks_are_no_points(self):
        for name in (
            "floor/blocks_MB/14/x",
            "append_kv/64/within",
            "offload/1x131072/q32k8d128/1of8",
            "decode/bfloat16/dense/flash/1x8192/q32k8d128/p16",
            "prefill/bfloat16/cudnn/1x8192/q32k8d128",
        ):
            self.assertIsNone(cost_points.NAME.match(name))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("cost_model_test.py: takes the program hip_attn-info")
    PROGRAM = sys.argv.pop(1)
    unittest.main()
