"""Measurements as JSON of Google Benchmark's form, which bench/report reads."""

import datetime
import json


class Report:
    def __init__(self, path, **context):
        """`path`: of the file, or None."""
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        self.path, self.context, self.benchmarks = path, {"date": now, **context}, []

    def add(self, name, seconds=None, **fields):
        """Prints, and writes the file: a measurement that is ended loses nothing."""
        time = {} if seconds is None else {"real_time": seconds, "time_unit": "s"}
        print(f"{name:40}", *(f"{key} {value:.5g}" for key, value in {**time, **fields}.items()
                              if isinstance(value, float)), flush=True)
        self.benchmarks.append({"name": name, "run_type": "iteration", **time, **fields})
        if self.path:
            content = {"context": self.context, "benchmarks": self.benchmarks}
            self.path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
