"""The tables of docs/guide/cost-model.md, between `<!-- cost: NAME -->` and `<!-- cost end -->`."""

import re

import fit_cost
from cost_points import ROOT, time_of

PAGE = ROOT / "docs/guide/cost-model.md"

KINDS = [  # kind, what, title
    ("prefill", "total", "prefill"),
    ("prefill", "all_searched", "prefill, every query block searched"),
    ("prefill", "attend", "attention of prefill"),
    ("prefill", "search", "search of prefill, a difference"),
    ("decode", "from", "decode, stages refreshed"),
    ("decode", "cycle", "decode, mean over the refresh cycle"),
    ("decode", "reused", "decode, selection reused"),
    ("decode", "all", "decode, dense"),
]
PRESETS = ("infinite_hip", "infinite_hip_5k", "landmark", "landmark_1k", "hip_classic")
HEADS = (32, 8, 4, 1)
CONTEXTS = (8192, 131072)


def is_kind(point, kind, what):
    return point.kind == kind and (point.what.startswith("from") if what == "from" else point.what == what)


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def errors(points, info):
    rates, _, _ = info.rates()
    out = fit_cost.held_out(points, list(rates), rates)
    rows = []
    for kind, what, title in KINDS:
        of = [point for point in points if is_kind(point, kind, what)]
        if not of:
            continue
        found = [abs(time_of(point.terms, rates) / point.measured_ms - 1) for point in of]
        left = [abs(error) for error, point in out if is_kind(point, kind, what)]
        shown = [f"{sum(e) / len(e):.1%} | {max(e):.1%}".replace("%", "") for e in (found, left)]
        rows.append([title, len(of), *shown])
    return table(
        ["times of an H200", "points", "mean error, %", "largest, %", "mean, left out of the fit, %",
         "largest, left out, %"],
        [[*row[:2], *row[2].split(" | "), *row[3].split(" | ")] for row in rows],
    )


def rates(points, info):
    values, units, _ = info.rates()
    used = {name for point in points for name in point.terms if point.terms[name]}
    rows = [[f"`{name}`", f"{values[name]:.4g}" if values[name] < 1e4 else f"{values[name]:.0f}",
             units[name] + ("" if name in used else " (of no point: kept as it was)")]
            for name in values]
    return table(["term", "ns", "for one"], rows)


def dense_until(points, info):
    def until(preset, heads, context):
        words = ("--op", "prefill", "--context", str(context), "--preset", preset, "--kv-heads", str(heads))
        return info.ask(words)["plans"][0]["dense_until"]

    rows = [
        [f"`{preset}`, plans of {context // 1024}k"] + [until(preset, heads, context) for heads in HEADS]
        for preset in PRESETS
        for context in CONTEXTS
    ]
    return table(["`dense_until` with 32 query heads", *(f"{heads} KV heads" for heads in HEADS)], rows)


TABLES = {"errors": errors, "rates": rates, "dense_until": dense_until}


def written(text, points, info):
    """The page with its tables as they are now."""
    for name, make in TABLES.items():
        block = re.compile(rf"(<!-- cost: {name} -->\n).*?(<!-- cost end -->)", re.DOTALL)
        assert block.search(text), f"{PAGE} has no table {name}"
        text = block.sub(lambda match: match[1] + make(points, info) + "\n" + match[2], text)
    return text
