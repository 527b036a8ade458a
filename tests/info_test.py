"""hip_attn-info: its text, its JSON, and what it says of arguments that it cannot honour.

    info_test.py HIP_ATTN_INFO VERSION
"""

import json
import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = VERSION = None


def run(*words):
    return subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True)


class InfoTest(unittest.TestCase):
    def text(self, *words):
        result = run(*words)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, "")
        return result.stdout

    def json(self, *words):
        return json.loads(self.text("--json", *words))


class Build(InfoTest):
    def test_without_arguments_it_says_what_was_built(self):
        text = self.text()
        self.assertIn(f"hip_attn {VERSION}\n", text)
        for label in ("types", "CPU kernels", "OpenMP", "CUDA", "device"):
            self.assertRegex(text, rf"(?m)^  {label} ")
        self.assertNotIn("predicted", text)

    def test_the_json_says_the_same(self):
        report = self.json()
        self.assertEqual(report["hip_attn"], VERSION)
        build = report["build"]
        text = self.text()
        self.assertIn(" ".join(build["element_types"]), text)
        self.assertIn(" ".join(map(str, build["head_dims"])), text)
        self.assertIn(build["cpu_instruction_set_here"], text)
        self.assertEqual("no_device" in report, not report["devices"])
        self.assertNotIn("plans", report)

    def test_the_version_alone(self):
        self.assertEqual(self.text("--version").strip(), VERSION)

    def test_the_citation_has_the_version(self):
        citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
        self.assertIn(f"\nversion: {VERSION}\n", citation)


class Plans(InfoTest):
    def test_both_operators_are_reported_unless_one_is_asked_for(self):
        both = self.json("--gpu", "h200", "--context", 65536)
        self.assertEqual([plan["op"] for plan in both["plans"]], ["prefill", "decode"])
        for op in ("prefill", "decode"):
            one = self.json("--gpu", "h200", "--context", 65536, "--op", op)
            self.assertEqual([plan["op"] for plan in one["plans"]], [op])

    def test_a_long_prompt_is_sparse_and_says_from_where(self):
        report = self.json("--gpu", "h200", "--op", "prefill", "--context", 131072)
        (plan,) = report["plans"]
        times = plan["predicted"]
        self.assertEqual(plan["choice"], "sparse")
        self.assertIn(f"from position {plan['dense_until']} on", plan["why"])
        self.assertAlmostEqual(times["total_ms"], times["search_ms"] + times["attend_ms"])
        self.assertLessEqual(sum(times["stages_ms"]), times["search_ms"])
        self.assertGreater(times["dense_ms"], 5 * times["total_ms"])
        self.assertEqual(plan["kernels"]["search"], "search_sm90_kernel")

    def test_a_short_prompt_is_dense_and_takes_as_long_as_dense(self):
        (plan,) = self.json("--gpu", "h200", "--op", "prefill", "--context", 2048)["plans"]
        self.assertEqual(plan["choice"], "dense")
        self.assertAlmostEqual(plan["predicted"]["total_ms"], plan["predicted"]["dense_ms"])

    def test_decode_advises_dense_attention_where_the_mean_step_is_longer(self):
        def plan(context):
            (one,) = self.json("--gpu", "h200", "--op", "decode", "--context", context)["plans"]
            return one

        until = plan(131072)["dense_until"]
        self.assertGreater(until, 256)
        for context, choice in ((until, "dense"), (4 * until, "sparse")):
            of = plan(context)
            times = of["predicted"]
            self.assertEqual(of["choice"], choice)
            self.assertEqual(times["mean_us"] < times["dense_us"], choice == "sparse")
            self.assertLessEqual(times["reused_us"], times["mean_us"])
            self.assertLessEqual(times["mean_us"], times["refreshed_us"])

    def test_kernels_follow_the_configuration_and_the_gpu(self):
        for words, search in (
            (("--preset", "landmark"), "search_dense_kernel"),
            (("--preset", "infinite_hip_softmax_sum"), "search_rows_kernel"),
            (("--kv-heads", 1), "search_in_workspace_kernel"),
            (("--kernels", "portable"), "search_kernel"),
            (("--preset", "dense"), "none"),
        ):
            report = self.json("--gpu", "h200", "--op", "prefill", "--context", 131072, *words)
            self.assertEqual(report["plans"][0]["kernels"]["search"], search, words)
        other = self.json("--gpu", "a100-sxm-80gb", "--context", 131072)
        self.assertEqual(other["plans"][0]["kernels"]["search"], "search_kernel")
        self.assertEqual(other["plans"][1]["kernels"]["decode"], "decode_kernel, cooperative")

    def test_a_gpu_that_was_not_measured_is_called_a_guess(self):
        self.assertIn("scaled from those of the h200", self.text("--gpu", "l40s", "--context", 9999))
        self.assertIn("fitted to measurements on it", self.text("--gpu", "h200", "--context", 9999))
        slow = self.json("--gpu", "a100-sxm-80gb", "--context", 1 << 20, "--op", "decode")
        fast = self.json("--gpu", "h200", "--context", 1 << 20, "--op", "decode")
        of = lambda report: report["plans"][0]["predicted"]["dense_us"]
        self.assertGreater(of(slow), 2 * of(fast))

    def test_memory_of_landmarks_and_cache(self):
        (plan,) = self.json(
            "--op", "decode", "--context", 131072, "--preset", "landmark", "--batch", 2,
            "--gpu", "h200",
        )["plans"]
        cache = 2 * 2 * 131072 * 8 * 128 * 2
        self.assertEqual(plan["kv_cache_bytes"], cache)
        self.assertEqual(plan["landmark_bytes"], cache / 64)
        self.assertGreater(plan["selection_cache_bytes"], 0)

    def test_offload_helps_where_the_cache_does_not_fit(self):
        words = ("--gpu", "h200", "--op", "decode", "--preset", "landmark")
        fits = self.json(*words, "--context", 131072)["offload"]
        self.assertTrue(fits["fits"])
        self.assertFalse(fits["helps"])
        large = self.json(*words, "--context", 1 << 20, "--batch", 8, "--miss", 0.1)["offload"]
        self.assertFalse(large["fits"])
        self.assertTrue(large["helps"])
        self.assertLess(large["share_on_gpu"], 1)
        self.assertGreater(large["nothing_hot_us"], large["link_us"])
        dense = self.json(
            "--gpu", "h200", "--op", "decode", "--preset", "dense", "--context", 1 << 20,
            "--batch", 8,
        )["offload"]
        self.assertFalse(dense["helps"])

    def test_a_configuration_from_a_file(self):
        path = ROOT / "examples/llama/config/small.json"
        (plan,) = self.json("--gpu", "h200", "--op", "decode", "--context", 8192, "--config", path)[
            "plans"
        ]
        self.assertEqual(plan["config"]["window"], 256)
        self.assertEqual(len(plan["config"]["stages"]), 2)
        self.assertEqual(plan["preset"], str(path))

    def test_stages_as_arguments_are_those_of_the_preset(self):
        preset = self.json("--gpu", "h200", "--op", "prefill", "--context", 65536)["plans"][0]
        words = []
        for stage in preset["config"]["stages"]:
            keys = ("chunk_size", "keep", "query_stride", "rule", "reduction")
            words += ["--stage", ":".join(str(stage[key]) for key in keys)]
        own = self.json("--gpu", "h200", "--op", "prefill", "--context", 65536, *words)["plans"][0]
        self.assertEqual(own["predicted"], preset["predicted"])

    def test_without_a_gpu_it_says_what_can_be_said(self):
        report = self.json()
        if report["devices"]:
            self.skipTest("there is a GPU")
        built = report["build"]
        report = self.json(
            "--op", "prefill", "--context", 4096, "--head-dim", built["head_dims"][0],
            "--type", built["element_types"][0],
        )
        (plan,) = report["plans"]
        self.assertIn("--gpu names none", plan["why"])
        self.assertIn("CPU", plan["workspace_of"])
        self.assertEqual(plan["last_unit"]["attended_keys"], 256 + 2048 + 1024 + 64)
        self.assertNotIn("predicted", plan)

    def test_the_text_has_the_times_of_the_json(self):
        words = ("--gpu", "h200", "--context", 131072, "--preset", "landmark")
        text = self.text(*words)
        prefill, decode = self.json(*words)["plans"]
        for value in (
            prefill["predicted"]["total_ms"], prefill["predicted"]["dense_ms"],
            decode["predicted"]["mean_us"], decode["predicted"]["reused_us"],
        ):
            self.assertIn(f"{value:.3g}", text)
        self.assertIn(prefill["why"], text)
        self.assertIn(decode["why"], text)


class BadArguments(InfoTest):
    def test_the_message_names_argument_value_and_what_is_accepted(self):
        gpu = ("--gpu", "h200")
        for words, argument, value, accepted in (
            (("--context", 0), "--context", "0", "from 1 to 2147483647"),
            (("--context", "many"), "--context", "many", "whole number"),
            (("--batch", -1, "--context", 1), "--batch", "-1", "from 1 to 65535"),
            (("--preset", "best", "--context", 1), "--preset", "best", "infinite_hip, "),
            (("--gpu", "h300", "--context", 1), "--gpu", "h300", "h200, h100-sxm"),
            (("--type", "int8", "--context", 1), "--type", "int8", "bfloat16, float16, float32"),
            (("--op", "both", "--rows", 3, "--context", 9), "--rows", "3", "prefill or decode"),
            (("--op", "prefill", "--rows", 30, "--context", 9), "--rows", "30", "up to --context"),
            (("--op", "decode", "--rows", 9, "--context", 99), "--rows", "9", "1 to 8"),
            (("--q-heads", 3, "--kv-heads", 2, "--context", 9), "--q-heads", "3", "multiple of"),
            ((*gpu, "--head-dim", 100, "--context", 9), "--head-dim", "100", "multiple of 32"),
            ((*gpu, "--type", "float32", "--context", 9), "--type", "float32", "float16 or bfloat16"),
            (("--stage", "1:2", "--context", 9), "--stage", "1:2", "CHUNK:KEEP:STRIDE"),
            (("--stage", "8:64:1:best", "--context", 9), "--stage", "best", "descent"),
            (("--config", "/no/such", "--context", 9), "--config", "/no/such", "JSON"),
            (("--miss", 2), "--miss", "2", "from 0 to 1"),
            (("--kernels", "fast"), "--kernels", "fast", "chosen, portable"),
            ((*gpu, "--stage", "100:200:1", "--context", 999), "chunk_size", "100", "power of two"),
            ((*gpu, "--sink", 3, "--context", 999), "sink", "3", "multiple of"),
        ):
            with self.subTest(words=words):
                result = run(*words)
                self.assertEqual(result.returncode, 2)
                self.assertEqual(result.stdout, "")
                for part in (argument, value, accepted):
                    self.assertIn(part, result.stderr)

    def test_unknown_and_contradicting_arguments(self):
        self.assertIn("--nonsense", run("--nonsense").stderr)
        result = run("--preset", "landmark", "--stage", "8:64:1", "--context", 9)
        self.assertEqual(result.returncode, 2)
        self.assertIn("--preset", result.stderr)
        self.assertIn("--stage", result.stderr)

    def test_help_lists_the_options(self):
        text = self.text("--help")
        for option in ("--json", "--op", "--batch", "--context", "--rows", "--q-heads", "--gpu",
                       "--kv-heads", "--head-dim", "--type", "--preset", "--config", "--page-size"):
            self.assertTrue(re.search(rf"{option}\b", text), option)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("info_test.py: takes the program hip_attn-info and its version")
    PROGRAM, VERSION = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main()
