"""Runs measurements, and adds to their JSON on what machine, of which commit and how they ran."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

from report_cells import ReportError
from report_sources import MEASUREMENTS, QUICK

ROOT = pathlib.Path(__file__).resolve().parent.parent
OF_THIS_RUN = ("host_name", "executable", "load_avg", "json_schema_version")
CONFIGURATION = ("CMAKE_BUILD_TYPE", "HIP_ATTN_CUDA_ARCHITECTURES", "HIP_ATTN_HEAD_DIMS",
                 "HIP_ATTN_OPENMP", "BUILD_SHARED_LIBS")


def commit():
    describe = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    run = subprocess.run(describe, capture_output=True, text=True)
    if run.returncode != 0:
        raise ReportError("this folder has no git history: pass --commit")
    return run.stdout.strip()


def processor():
    """Its name and cores, of a benchmark that ran on no GPU."""
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = re.findall(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} cores"


def compiler_of(build):
    """The compilers of a build, from what CMake has found; empty where it is not there."""
    found = []
    for language, title in (("CXX", "{id} {version}"), ("CUDA", "CUDA {version}")):
        for path in build.glob(f"CMakeFiles/*/CMake{language}Compiler.cmake"):
            text = path.read_text(encoding="utf-8")
            get = lambda key: re.search(rf'set\(CMAKE_{language}_COMPILER_{key} "(.*?)"\)', text)[1]
            found.append(title.format(id=get("ID"), version=get("VERSION")))
    return ", ".join(found)


def configuration_of(build):
    """What a build was configured with, of what changes times; empty where it is not there."""
    cache = build / "CMakeCache.txt"
    if not cache.exists():
        return ""
    values = dict(
        re.findall(r"^(\w+):[A-Z]+=(.*)$", cache.read_text(encoding="utf-8"), re.MULTILINE))
    said = [f"{key}={values[key]}" for key in CONFIGURATION if values.get(key)]
    return " ".join(said)


def gpu_driver():
    """The version of NVIDIA's driver; empty where nvidia-smi does not say."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        run = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.split("\n")[0].strip() if run.returncode == 0 else ""


def salvaged(text):
    """The JSON of a benchmark that was ended before it had written all of it, or None."""
    end = text.rfind("\n    }")
    if end < 0:
        return None
    try:
        return json.loads(text[: end + len("\n    }")] + "\n  ]\n}")
    except ValueError:
        return None


class Measurement:
    """One command of report_sources.py, with `quick` its QUICK one. `build`: the folder of a CMake
    build. `filter`: a regular expression that names of benchmarks have to contain, or None."""

    def __init__(self, name, build, filter=None, extra=(), quick=False):
        self.name, self.build, self.filter = name, build, filter
        self.listed = (QUICK if quick else MEASUREMENTS)[name]
        self.program, *self.arguments = self.listed
        self.is_script = self.program.endswith(".py")
        self.arguments += extra

    def command(self, results):
        if self.is_script:
            chosen = ["--filter", self.filter] if self.filter else []
            folder = ROOT if "/" in self.program else ROOT / "bench"
            script = str(folder / self.program)
            return [sys.executable, script, *self.arguments, *chosen, "--json", results]
        out = [f"--benchmark_out={results}", "--benchmark_out_format=json"]
        return [self.path(), *self.arguments, *out]

    def path(self):
        return str(self.build / "bench" / self.program)

    def names(self):
        """Of all benchmarks that the command runs."""
        listing = [self.path(), *self.arguments, "--benchmark_list_tests=true"]
        run = subprocess.run(listing, capture_output=True, text=True)
        if run.returncode != 0:
            raise ReportError(f"{shlex.join(listing)}: {run.stderr.strip() or 'failed'}")
        return [line for line in run.stdout.split("\n") if line]

    def run(self, seconds):
        """The JSON, in `seconds` at most: what did not run is in its context's "skipped"."""
        if not self.is_script and not pathlib.Path(self.path()).exists():
            return self.skipped(f"{self.program} is not in {self.build / 'bench'}")
        wanted = []
        if not self.is_script:
            wanted = self.names()
            if self.filter:
                wanted = [name for name in wanted if re.search(self.filter, name)]
                exactly = "|".join(re.sub(r"([.+*?()\[\]{}^$|\\])", r"\\\1", n) for n in wanted)
                self.arguments = [a for a in self.arguments if "benchmark_filter" not in a]
                self.arguments.append(f"--benchmark_filter=^({exactly})$")
            if not wanted:
                return self.skipped(f"no benchmark is called {self.filter}")
        with tempfile.TemporaryDirectory() as folder:
            results = pathlib.Path(folder, "results.json")
            command = self.command(str(results))
            reason = "no time was left"
            try:
                run = subprocess.run(command, timeout=seconds, stderr=subprocess.PIPE, text=True)
                if run.returncode != 0:
                    last = run.stderr.strip().split("\n")[-1]
                    reason = last or f"{self.program} ended with status {run.returncode}"
            except subprocess.TimeoutExpired:
                pass
            text = results.read_text(encoding="utf-8") if results.exists() else ""
        try:
            content = json.loads(text)
        except ValueError:
            content = salvaged(text)
        if content is None:
            return self.skipped(reason)
        entries = content["benchmarks"]
        ran = {entry.get("run_name", entry["name"]) for entry in entries}
        context = content["context"]
        context["skipped"] = [*context.get("skipped", [])]
        context["skipped"] += [f"{entry['name']}: {entry.get('error_message')}"
                               for entry in entries if entry.get("error_occurred")]
        # JSON has no NaN, which Google Benchmark writes for the variation of a counter that is 0.
        content["benchmarks"] = [
            {key: value for key, value in entry.items() if value == value}
            for entry in entries if not entry.get("error_occurred")
        ]
        if "left_out" in context:
            context["skipped"] += context.pop("left_out").split("\n")
        context["skipped"] += [f"{name}: {reason}" for name in wanted if name not in ran]
        return content

    def skipped(self, reason):
        now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        return {"context": {"date": now, "skipped": [f"{self.name}: {reason}"]}, "benchmarks": []}


def add_provenance(content, measurement, at_commit):
    """Says on what machine, at which commit and how `content` was measured."""
    context = content["context"]
    command, build = measurement.listed, measurement.build
    for key in OF_THIS_RUN:
        context.pop(key, None)
    if "gpu" in context:
        context["machine"] = f"One {context['gpu']}"
        context.setdefault("driver", gpu_driver())
    elif "machine" not in context:
        instructions = context.get("instruction_set")
        context["machine"] = processor() + (f", {instructions}" if instructions else "")
    context["commit"] = at_commit
    context["measurement"] = measurement.name
    context["command"] = shlex.join(command)
    if measurement.filter:
        context["filter"] = measurement.filter
    if not measurement.is_script:
        context.setdefault("compiler", compiler_of(build))
        context["configuration"] = configuration_of(build)
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads and "gpu" not in context:
        context["OMP_NUM_THREADS"] = threads
    if not context.get("skipped"):
        context.pop("skipped", None)
    for key in [key for key, value in context.items() if value == ""]:
        context.pop(key)


def measure(names, output, suffix, build, at_commit, seconds, filter=None, extra=None, quick=False):
    """Writes output/NAME[-suffix].json for every name, and returns the paths. All of it takes
    `seconds` at most; `extra` are arguments by name. The other arguments are Measurement's."""
    at_commit = at_commit or commit()
    output.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    written = []
    for number, name in enumerate(names, 1):
        left = seconds - (time.monotonic() - begin)
        print(f"[{number}/{len(names)}] {name}, {left:.0f} s left", flush=True)
        measurement = Measurement(name, build, filter, (extra or {}).get(name, ()), quick)
        start = time.monotonic()
        content = measurement.run(left) if left > 1 else measurement.skipped("no time was left")
        add_provenance(content, measurement, at_commit)
        path = output / f"{name}{'-' if suffix else ''}{suffix}.json"
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        count = len(content["benchmarks"])
        print(f"{name}: {count} benchmarks in {time.monotonic() - start:.0f} s, {path}", flush=True)
        written.append(path)
    return written
