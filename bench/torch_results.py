"""Results of the scripts beside this one, in the form of Google Benchmark's JSON."""

import datetime
import json

import torch


def write_results(path, seconds):
    """`seconds`: time by name of benchmark."""
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    context = {
        "date": now,
        "gpu": torch.cuda.get_device_name(),
        "compiler": f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}",
    }
    benchmarks = [
        {"name": name, "run_type": "iteration", "real_time": time * 1e6, "time_unit": "us"}
        for name, time in seconds.items()
    ]
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"context": context, "benchmarks": benchmarks}, file, indent=1)
