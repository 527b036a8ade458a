"""The points of benchmarks that the cost model predicts, and what hip_attn-info says of them."""

import json
import pathlib
import re
import subprocess
import sys
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parent.parent

NAME = re.compile(
    r"(?P<op>prefill|decode)/(?P<type>bfloat16|float16)/(?P<preset>\w+)/(?:(?P<state>from\d+|reused|cycle|all)/)?"
    r"(?P<batch>\d+)x(?P<context>\d+)/(?:(?P<rows>\d+)/)?"
    r"q(?P<q>\d+)k(?P<k>\d+)d(?P<d>\d+)/p(?P<page>\d+)(?P<hnd>hnd)?"
    r"(?:/?r(?P<decode_rows>\d+))?(?P<append>/?append)?(?:/|$)"
)

# Presets that a benchmark cuts short behind some stages (bench/cuda_prefill_bench.cpp,
# first_stages), or whose last stage keeps other tokens or has other blocks.
CHANGED = re.compile(r"(?P<preset>\w+?)_(?P<how>stages?|keep|block)(?P<number>\d+)$")

MILLISECONDS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass
class Point:
    """A time that was measured, and the words of hip_attn-info that mean it."""

    source: str
    name: str
    what: str  # total, attend, search, all_searched, or the state of decode
    measured_ms: float
    arguments: tuple
    predicted_ms: float = 0.0
    terms: dict = field(default_factory=dict)

    @property
    def error(self):
        return self.predicted_ms / self.measured_ms - 1

    @property
    def kind(self):
        return self.name.split("/")[0]


def arguments_of(match):
    """The arguments of hip_attn-info for a benchmark's name, without its preset."""
    get = match.groupdict()
    rows = get["rows"] if get["op"] == "prefill" else get["decode_rows"] or "1"
    words = ["--op", get["op"], "--type", get["type"], "--batch", get["batch"]]
    words += ["--context", get["context"], "--rows", rows, "--q-heads", get["q"]]
    words += ["--kv-heads", get["k"], "--head-dim", get["d"], "--page-size", get["page"]]
    if get["append"]:
        words.append("--behind-append")
    return words


def changed_stages(config, how, number):
    """The stages of a preset's config that a benchmark changed."""
    *before, last = config["stages"]
    if how == "keep":
        return [*before, dict(last, keep=int(number))]
    if how == "block":
        return [*before, dict(last, chunk_size=int(number))]
    kept = config["stages"][: len(number)]
    narrow = dict(keep=last["keep"], query_stride=config["block_q"])
    return [*kept, dict(kept[-1], **narrow, rule="centre", reduction="maximum")]


class Info:
    """hip_attn-info of one build, asked once for each set of arguments."""

    def __init__(self, program, gpu):
        self.program = str(program)
        self.gpu = gpu
        self.answers = {}

    def ask(self, arguments):
        key = tuple(arguments)
        if key not in self.answers:
            words = [self.program, "--json", "--terms", "--gpu", self.gpu, *key]
            run = subprocess.run(words, capture_output=True, text=True)
            if run.returncode != 0:
                raise SystemExit(f"{' '.join(words)} failed: {run.stderr.strip()}")
            self.answers[key] = json.loads(run.stdout)
        return self.answers[key]

    def rates(self):
        gpu = self.ask(["--context", "1024"])["gpu"]
        return gpu["rates"], gpu["units"], gpu

    def preset_words(self, preset, words):
        """The preset as arguments. Of a preset that a benchmark changed, its stages."""
        if preset.endswith("_generic"):
            return ["--preset", preset.removesuffix("_generic"), "--kernels", "portable"]
        changed = CHANGED.match(preset)
        if not changed:
            return ["--preset", preset]
        config = self.ask([*words, "--preset", changed["preset"]])["plans"][0]["config"]
        stages = changed_stages(config, changed["how"], changed["number"])
        result = ["--sink", str(config["sink"]), "--window", str(config["window"])]
        for stage in stages:
            fields = ("chunk_size", "keep", "query_stride", "rule", "reduction")
            result += ["--stage", ":".join(str(stage[name]) for name in fields)]
        for steps in config["refresh_interval"] if len(config["stages"]) == len(stages) else []:
            result += ["--refresh", str(steps)]
        return result


def points_of(path, info):
    """All points of a JSON file of Google Benchmark that the model is about."""
    content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    for run in content.get("benchmarks", []):
        match = NAME.match(run["name"])
        failed = run.get("error_occurred") or run.get("skipped")
        if run.get("run_type") == "aggregate" or not match or failed or "time_unit" not in run:
            continue
        if (match["op"] == "decode") != (match["state"] is not None):
            continue
        words = arguments_of(match)
        words += info.preset_words(match["preset"], words)
        if "team" in run:  # a library before or after may have chosen others
            words += ["--team", str(int(run["team"]))]
        if "dense_until" in run:
            words += ["--dense-until", str(int(run["dense_until"]))]
        scale = MILLISECONDS[run["time_unit"]]
        yield from points_of_run(pathlib.Path(path).name, run, match, tuple(words), scale)


def points_of_run(source, run, match, words, scale):
    name = run["name"].split("/min_time")[0].split("/iterations")[0]
    if match["op"] == "decode":
        yield Point(source, name, match["state"], run["real_time"] * scale, words)
        return
    yield Point(source, name, "total", run.get("ms", run["real_time"] * scale), words)
    if "attend_ms" in run:
        yield Point(source, name, "attend", run["attend_ms"], words)
    if "search_ms" in run and run["search_ms"] > 0:
        searched = run.get("all_searched_ms", run["search_ms"] + run["attend_ms"])
        yield Point(source, name, "all_searched", searched, words)
        yield Point(source, name, "search", run["search_ms"], words)


def predict(points, info):
    """Fills terms and predictions."""
    rates, _, _ = info.rates()
    for point in points:
        terms = info.ask(point.arguments)["plans"][0]["terms"]
        point.terms = terms_of(point.what, terms)
        point.predicted_ms = time_of(point.terms, rates)


def terms_of(what, terms):
    if what != "search":
        return terms[what]
    # What searching everything takes longer than attention to what was found.
    keys = {*terms["all_searched"], *terms["attend"]}
    return {k: terms["all_searched"].get(k, 0.0) - terms["attend"].get(k, 0.0) for k in keys}


def time_of(terms, rates):
    return sum(quantity * rates[name] for name, quantity in terms.items()) * 1e-6


def read_points(paths, info):
    points = [point for path in paths for point in points_of(path, info)]
    predict(points, info)
    return points


def find_program(given=None):
    """hip_attn-info of a build folder of this tree."""
    if given:
        return given
    found = sorted(ROOT.glob("build*/src/info/hip_attn-info")) + sorted(
        ROOT.glob("build/*/src/info/hip_attn-info")
    )
    if not found:
        sys.exit(
            "there is no build/src/info/hip_attn-info: cmake -S . -B build && "
            "cmake --build build --target hip_attn_info, or pass --info PROGRAM"
        )
    return max(found, key=lambda path: path.stat().st_mtime)
