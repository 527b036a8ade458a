#!/usr/bin/env python3
"""What the time of `llama generate` goes to, behind a long prompt, dense and sparse.

    generate_bench.py --llama build/llama --json FILE        # wants a GPU

Of the bundled model, and of four layers of the shape of Llama 3 8B, whose weights are random: its
folder of 1.8 GB is made where --folder says, or for the time of the run.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import random_model
from benchmark_json import Report

LLAMA = pathlib.Path(__file__).resolve().parent.parent
PREFILL_ROWS = 8192


def measure(report, options, name, model, max_tokens):
    for attention in ("dense", "hip"):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "times.json")
            command = [options.llama, "generate", "--device", options.device, "--model", model,
                       "--prompt-file", LLAMA / "data/haystack.txt", "--prompt-tokens",
                       options.prompt_tokens, "--prefill-rows", PREFILL_ROWS, "--max-tokens",
                       max_tokens, "--attention", attention, "--json", path]
            subprocess.run(list(map(str, command)), check=True, capture_output=True)
            content = json.loads(path.read_text(encoding="utf-8"))
        report.context["hip_attn"] = content["hip_attn"]
        report.context["device"] = content["device"]
        if not content["device"].startswith("CPU"):
            report.context["gpu"] = content["device"].partition(",")[0]
        for run in content["runs"]:
            report.add(f"generate/{name}/{run.pop('label')}/{attention}", run.pop("seconds"), **run)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--device", default="gpu", help="cpu, gpu or auto; default: %(default)s")
    parser.add_argument("--prompt-tokens", type=int, default=56765,
                        help="of the haystack; default: its first chapters, %(default)s")
    parser.add_argument("--folder", type=pathlib.Path, help="of the model with random weights")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    report = Report(options.json)
    measure(report, options, "bundled", LLAMA / "model", 256)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or pathlib.Path(temporary)
        if not (folder / "config.json").exists():
            random_model.write(folder, layers=4, **random_model.LLAMA_3_8B)
        measure(report, options, "llama3_8b_4_layers", folder, 128)


if __name__ == "__main__":
    main()
