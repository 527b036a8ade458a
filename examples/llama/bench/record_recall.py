#!/usr/bin/env python3
"""Runs the recall test at several lengths, over several texts, and records the results.

    record_recall.py --llama build/llama --output OUT                # all lengths: wants a GPU
    record_recall.py --llama build/llama --output OUT --device cpu --context 8k,16k

Writes OUT/recall.json, with every run, the commit, the date and the command, and OUT/recall.md, the
tables. A copy of the JSON in examples/llama/results/ is what recall_tables.py makes those of
docs/guide/demo.md from. OUT/selection.svg is the picture of the first run.
"""

import argparse
import datetime
import json
import pathlib
import shlex
import subprocess
import sys

import recall_tables

PRESETS = "infinite_hip,infinite_hip_softmax_sum,landmark,landmark_1k"


def commit():
    describe = ["git", "-C", recall_tables.LLAMA, "describe", "--always", "--dirty", "--abbrev=7"]
    run = subprocess.run([*describe, "--exclude=*"], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit("record_recall.py: this folder has no git history: pass --commit")
    return run.stdout.strip()


def sign(report, built, command):
    """Adds what was measured, when, and how."""
    report["commit"] = built
    report["date"] = datetime.date.today().isoformat()
    report["command"] = shlex.join(command)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--llama", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="a folder")
    parser.add_argument("--context", default="8k,16k,32k,128k", help="default: %(default)s")
    parser.add_argument("--seeds", default="3", help="texts of each length; default: %(default)s")
    parser.add_argument("--device", default="auto", help="cpu, gpu or auto; default: %(default)s")
    parser.add_argument("--commit", help="that was built; otherwise git says")
    options = parser.parse_args()
    built = options.commit or commit()
    options.output.mkdir(parents=True, exist_ok=True)
    results = options.output / "recall.json"
    choices = ["--device", options.device, "--context", options.context, "--seeds", options.seeds]
    choices += ["--attention", "dense,hip,window,random", "--preset", PRESETS]
    places = ["--model", recall_tables.LLAMA / "model", "--data", recall_tables.LLAMA / "data"]
    places += ["--picture", options.output / "selection.svg", "--json", results]
    command = [str(part) for part in (options.llama, "recall", *choices, *places)]
    if subprocess.run(command).returncode != 0:
        sys.exit(f"record_recall.py: {shlex.join(command)} failed")
    report = json.loads(results.read_text(encoding="utf-8"))
    sign(report, built, ["llama", "recall", *choices])
    results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    tables = recall_tables.markdown(report)
    (options.output / "recall.md").write_text(tables, encoding="utf-8")
    print(tables)


if __name__ == "__main__":
    main()
