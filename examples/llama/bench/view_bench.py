#!/usr/bin/env python3
"""How long `llama view` takes, and how large its pages are.

    view_bench.py --llama build/llama --json FILE

The time is that of the whole command.
"""

import argparse
import pathlib
import subprocess
import tempfile
import time

from benchmark_json import Report

LLAMA = pathlib.Path(__file__).resolve().parent.parent
CASES = {
    "1536/one layer": ["--layers", "5", "--heads", "0,7"],
    "8192/two KV heads": ["--layers", "2,5", "--heads", "0,7"],
    "16384/one KV head": ["--layers", "2,5", "--heads", "0,1"],
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--device", default="cpu", help="cpu, gpu or auto; default: %(default)s")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    report = Report(options.json)
    with tempfile.TemporaryDirectory() as folder:
        page = pathlib.Path(folder, "view.html")
        for name, choices in CASES.items():
            command = [options.llama, "view", "--device", options.device, "--model", LLAMA / "model",
                       "--prompt-file", LLAMA / "data/haystack.txt", "--context",
                       name.partition("/")[0], *choices, "--out", page]
            begin = time.perf_counter()
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            report.context["device"] = run.stderr.strip().split("\n")[0]
            report.add(f"view/{name}", time.perf_counter() - begin, bytes=page.stat().st_size)


if __name__ == "__main__":
    main()
