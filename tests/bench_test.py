"""scripts/bench on a finished build, in its quick setting: what it measures, writes and says.

    bench_test.py BUILD
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(sys.argv.pop(1)).resolve()


def bench(*arguments):
    command = [ROOT / "scripts/bench", "--device", "cpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


class Quick(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.output = pathlib.Path(folder.name)
        cls.ran = bench("--quick", "--build", BUILD, "--output", cls.output)
        assert cls.ran.returncode == 0, cls.ran.stdout + cls.ran.stderr

    def test_the_json_says_how_it_was_measured_and_has_dense_and_sparse_times(self):
        content = json.loads((self.output / "cpu.json").read_text(encoding="utf-8"))
        for key in ("machine", "commit", "compiler", "configuration", "command", "date"):
            self.assertTrue(content["context"].get(key), key)
        self.assertNotIn("skipped", content["context"])
        names = " ".join(entry["name"] for entry in content["benchmarks"])
        for preset in ("dense", "infinite_hip", "landmark", "landmark_1k"):
            self.assertIn(f"decode/float/{preset}/refreshed/32768", names)

    def test_the_report_has_tables_and_plots_and_the_terminal_a_table(self):
        page = (self.output / "report.md").read_text(encoding="utf-8")
        self.assertRegex(page, r"\| landmark \| +\| \d|\| landmark \| \| \d|\| landmark \| \d")
        plots = sorted(path.name for path in self.output.glob("*.svg"))
        if "no plots" in self.ran.stdout + self.ran.stderr:
            self.assertEqual(plots, [])
        else:
            self.assertEqual(plots, ["cpu_time.svg"])
            self.assertIn("(cpu_time.svg)", page)
        self.assertRegex(self.ran.stdout, r"(?m)^infinite_hip +[\d.]+$")

    def test_an_argument_that_is_wrong_is_named(self):
        for arguments, words in ((("--fast",), "unknown argument --fast"),
                                 (("--output",), "--output needs a value"),
                                 (("--device", "tpu"), "--device is tpu; expected cpu, gpu or auto")):
            refused = bench(*arguments)
            self.assertEqual(refused.returncode, 2)
            self.assertIn(words, refused.stderr)


if __name__ == "__main__":
    unittest.main()
