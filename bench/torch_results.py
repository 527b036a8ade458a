"""What the scripts of peers beside this one share: times, what could not run, and JSON of both.

The JSON has the form of Google Benchmark's; what could not run is in its context, with the reason.
"""

import argparse
import datetime
import json
import re
import statistics

import torch

SECONDS_OF_CALLS = 1.0


def parser_of(documentation):
    parser = argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--filter", metavar="REGEX", default="", help="names contain this")
    parser.add_argument("--json", metavar="FILE", help="also write the results here")
    parser.add_argument("--q-heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--hip-authors", metavar="DIR", help="a checkout of the authors' hip-attention")
    return parser


def heads_of(options):
    return f"q{options.q_heads}k{options.kv_heads}d{options.head_dim}"


def milliseconds(call):
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop)


def median_seconds(call, most=50):
    """Of about a second of calls, at least three and at most `most`, behind one that is not counted."""
    call()
    first = milliseconds(call) * 1e-3
    more = max(2, min(most - 1, int(SECONDS_OF_CALLS / max(first, 1e-6))))
    return statistics.median([first, *(milliseconds(call) * 1e-3 for _ in range(more))])


class Results:
    """Runs peers by name. One that fails does not end the others."""

    def __init__(self, filter=""):
        self.filter, self.benchmarks, self.skipped = filter, [], []

    def wants(self, name):
        return re.search(self.filter, name) is not None

    def run(self, name, measure):
        """`measure()`: seconds of a call. The most memory that it takes of the GPU is kept too."""
        if not self.wants(name):
            return
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            seconds = measure()
        except Exception as error:  # whatever a peer has raised is the reason
            first_line = (str(error).strip() or "no message").split("\n")[0]
            self.skip(name, f"{type(error).__name__}: {first_line}")
            return
        megabytes = torch.cuda.max_memory_allocated() * 1e-6
        self.benchmarks.append({"name": name, "run_type": "iteration", "real_time": seconds * 1e6,
                                "time_unit": "us", "memory_MB": megabytes})
        print(f"{name:64} {seconds * 1e6:12.1f} us {megabytes:9.0f} MB", flush=True)

    def skip(self, name, reason):
        self.skipped.append(f"{name}: {reason}")
        print(f"{name:64} skipped: {reason}", flush=True)

    def write(self, path):
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        context = {
            "date": now,
            "gpu": torch.cuda.get_device_name(),
            "compiler": f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}",
            "skipped": self.skipped,
        }
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"context": context, "benchmarks": self.benchmarks}, file, indent=1)
