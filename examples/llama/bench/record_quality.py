#!/usr/bin/env python3
"""Runs `llama evaluate` over presets, baselines and lengths, and records the results.

    record_quality.py --llama build/llama --output OUT               # 8k to 128k: wants a GPU
    record_quality.py --llama build/llama --output OUT --device cpu --context 8k --seeds 1

Writes OUT/quality.json, with every run, the commit, the date and the command, and OUT/quality.md,
the tables. A copy of the JSON in examples/llama/results/ is what quality_tables.py makes those of
docs/guide/quality.md from, and quality_plots.py its plots. What the model generated is left out.
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys

import quality_tables
import record_recall

PRESETS = (
    "infinite_hip,infinite_hip_fast,infinite_hip_5k,infinite_hip_softmax_sum,landmark,landmark_1k,"
    "hip_classic"
)
ATTENTION = "dense,hip,window,random,block_means,quest,best"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--llama", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="a folder")
    parser.add_argument("--model", type=pathlib.Path, help="default: the bundled one")
    parser.add_argument("--haystack", type=pathlib.Path, help="default: the bundled one")
    parser.add_argument("--context", default="8k,16k,32k,64k,128k", help="default: %(default)s")
    parser.add_argument("--seeds", default="2", help="texts of each kind; default: %(default)s")
    parser.add_argument("--preset", default=PRESETS, help="default: %(default)s")
    parser.add_argument("--attention", default=ATTENTION, help="default: %(default)s")
    parser.add_argument("--tasks", help="default: all")
    parser.add_argument("--device", default="auto", help="cpu, gpu or auto; default: %(default)s")
    parser.add_argument("--commit", help="that was built; otherwise git says")
    options = parser.parse_args()
    built = options.commit or record_recall.commit()
    options.output.mkdir(parents=True, exist_ok=True)
    results = options.output / "quality.json"
    llama = quality_tables.LLAMA
    choices = ["--device", options.device, "--context", options.context, "--seeds", options.seeds]
    choices += ["--attention", options.attention, "--preset", options.preset]
    choices += ["--tasks", options.tasks] if options.tasks else []
    places = ["--model", options.model or llama / "model"]
    places += ["--haystack", options.haystack or llama / "data/haystack.txt", "--json", results]
    command = [str(part) for part in (options.llama, "evaluate", *choices, *places)]
    if subprocess.run(command).returncode != 0:
        sys.exit(f"record_quality.py: {shlex.join(command)} failed")
    report = json.loads(results.read_text(encoding="utf-8"))
    record_recall.sign(report, built, ["llama", "evaluate", *choices])
    for run in report["tasks"]:
        run.pop("generated")
    results.write_text(quality_tables.compact(report), encoding="utf-8")
    tables = quality_tables.whole(report)
    (options.output / "quality.md").write_text(tables, encoding="utf-8")
    print(tables)


if __name__ == "__main__":
    main()
