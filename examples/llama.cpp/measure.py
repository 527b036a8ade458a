#!/usr/bin/env python3
"""Compares llama.cpp with hip_attn in it to llama.cpp itself, and measures both.

    measure.py [--folder FOLDER] [--json FILE] [STEP...]

FOLDER is where `run`, which calls this, has built them. The steps, all of them without any: check
(logits), node (one node of attention), perplexity, prompts (of 8k and 32k) and decode (at 8k). The
JSON has the form of Google Benchmark's, which bench/report reads.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "examples/llama/bench"))
from benchmark_json import Report  # noqa: E402

TEXT = ROOT / "examples/llama/data/haystack.txt"
PRESETS = {"llama.cpp": None, "dense": "dense", "infinite_hip": "infinite_hip"}


def output_of(command, preset=None):
    """What a command prints on both channels, and the seconds of all processors in user mode."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    environment.pop("HIP_ATTN_PRESET", None)
    if preset:
        environment["HIP_ATTN_PRESET"] = preset
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    run = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    if run.returncode != 0:
        raise SystemExit(f"{run.stdout}{run.stderr}{command[0]} ended with {run.returncode}")
    return run.stdout, run.stderr, seconds


class Measuring:
    def __init__(self, folder, threads, path):
        self.folder, self.threads = folder, threads
        self.model = folder / "model.gguf"
        self.add = Report(path, **self.what_runs()).add

    def program(self, name):
        path = self.folder / name
        if not path.exists():
            raise SystemExit(f"{path} is not there; examples/llama.cpp/run builds it")
        return path

    def what_runs(self):
        said = "".join(output_of([self.program("build/bin/llama-bench"), "--version"])[:2])
        return {
            "compiler": f"llama.cpp {re.search('commit ([0-9a-f]+)', said)[1]}, "
                        f"{re.search('built with (.*) for', said)[1]}",
            "threads": self.threads,
        }

    def lines(self, text):
        for line in text.splitlines():
            entry = json.loads(line)
            self.add(entry.pop("name"), **entry)

    def check(self):
        said, _, _ = output_of([self.program("check"), self.model, TEXT])
        self.lines(said)

    def node(self):
        said, _, _ = output_of([self.program("node"), self.threads])
        self.lines(said)

    def perplexity(self):
        for name, preset in PRESETS.items():
            command = [self.program("build/bin/llama-perplexity"), "-m", self.model, "-f", TEXT,
                       "-c", 8192, "-b", 2048, "-fa", "on", "-t", self.threads, "--chunks", 4]
            estimate = re.search(r"Final estimate: PPL = ([\d.]+) \+/- ([\d.]+)",
                                 "".join(output_of(command, preset)[:2]))
            self.add(f"perplexity/{name}", perplexity=float(estimate[1]), error=float(estimate[2]))

    def bench(self, title, *arguments):
        """One run without a warm-up, so that the processor's seconds are those of the run."""
        for name, preset in PRESETS.items():
            command = [self.program("build/bin/llama-bench"), "-m", self.model, "-fa", 1, "-t",
                       self.threads, "-r", 1, "--no-warmup", "-o", "json", *arguments]
            said, _, processor_seconds = output_of(command, preset)
            (run,) = json.loads(said)
            self.add(f"{title}/{name}", run["avg_ns"] * 1e-9, processor_seconds=processor_seconds,
                     tokens_per_second=run["avg_ts"])

    def prompts(self):
        for length in (8192, 32768):
            self.bench(f"prompt/{length}", "-p", length, "-n", 0)

    def decode(self):
        self.bench("decode/8192", "-p", 0, "-n", 64, "-d", 8192)


STEPS = {step.__name__: step for step in (Measuring.check, Measuring.node, Measuring.perplexity,
                                          Measuring.prompts, Measuring.decode)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/llama.cpp")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    for step in options.steps:
        if step not in STEPS:
            parser.error(f"no step is called {step}; there are {', '.join(STEPS)}")
    measuring = Measuring(options.folder.resolve(), options.threads, options.json)
    for step in options.steps or STEPS:
        STEPS[step](measuring)


if __name__ == "__main__":
    main()
