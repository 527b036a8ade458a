"""Plots of time against length: decode and prefill of a GPU, with dense peers."""

import math

from report_figures import Figure, Line, Panel, crossover, length_name, lowest, ratio

LENGTHS = [8192 << i for i in range(10)]
NAMES = {length: length_name(length) for length in LENGTHS}
HEADS = "q32k8d128"
PRESETS = ("infinite_hip", "landmark", "landmark_1k")
X_LABEL = "tokens of context"


def crossing(line, words):
    """A sentence and a mark: where `line`, of ratios to the fastest dense attention, passes 1."""
    where = crossover(line.points)
    if where is None:
        first = length_name(line.points[0][0]) if line.points else "the first length"
        return f"{words}: faster than dense from {first} on, the shortest that was measured.", []
    if math.isinf(where):
        last = length_name(line.points[-1][0])
        return f"{words}: slower than dense up to {last}, the longest where both were measured.", []
    name = rounded_length(where)
    return f"{words}: dense is faster below {name}.", [(where, name)]


def rounded_length(length):
    return f"{length / 1024:.3g}k" if length < 1 << 20 else f"{length / (1 << 20):.3g}M"


def wins_of(line):
    """Where dense attention is faster than what `line` compares with it: ranges of x."""
    where = crossover(line.points)
    if where is None or not line.points:
        return []
    return [(line.points[0][0], min(where, line.points[-1][0]))]


# ---- Decode --------------------------------------------------------------------------------------


def decode_name(preset, state):
    return lambda length: f"decode/bfloat16/{preset}/{state}/1x{length}/{HEADS}/p16"


def decode_peer(peer):
    return lambda length: f"decode/bfloat16/{peer}/1x{length}/{HEADS}"


STATES = [("every stage refreshed", "from0", "solid"), ("mean over the refresh cycle", "cycle", "bold"),
          ("selection reused", "reused", "dashed")]
DECODE_PEERS = [
    ("FlashAttention, PyTorch", "dense/flash", "flash"),
    ("cuDNN, PyTorch", "dense/cudnn", "cudnn"),
]
AUTHORS = [
    ("the authors' package, refreshed", "hip_authors/refreshed", "solid"),
    ("the authors' package, reused", "hip_authors/reused", "dashed"),
]


def decode_time(points):
    us = dict(xs=LENGTHS, scale=1e6)
    decode, peers = points["decode"], points["decode-peers"]
    ours = decode.line("dense, this library", "dense", decode_name("dense", "all"), **us)
    others = [peers.line(label, series, decode_peer(peer), **us)
              for label, peer, series in DECODE_PEERS]
    authors = [peers.line(label, "authors", decode_peer(peer), kind=kind, **us)
               for label, peer, kind in AUTHORS]
    fastest = lowest("fastest dense", [ours, *others])
    panels, ratios = [], []
    for preset in PRESETS:
        lines = [decode.line(label, preset, decode_name(preset, state), kind=kind, **us)
                 for label, state, kind in STATES]
        floor = decode.line("floor, refreshed: bytes at 4.3 TB/s", "floor",
                            decode_name(preset, "from0"), LENGTHS, "floor_us", kind="dotted")
        if not any(line.points for line in lines):
            continue
        compared = [ratio(f"{preset}, {line.label}", preset, fastest, line, line.kind)
                    for line in lines]
        ratios += compared[:2]
        found = [crossing(c, line.label.capitalize()) for c, line in zip(compared, lines) if c.points]
        panels.append(Panel(
            preset, X_LABEL, "µs per layer and step", [ours, *others, *authors, *lines, floor], NAMES,
            log_y=True, wins=wins_of(compared[0]), notes=[note for note, _ in found],
            marks=[mark for _, marks in found for mark in marks]))
    panels.append(Panel("Speed-up over the fastest dense", X_LABEL, "times", ratios, NAMES, log_y=True,
                        level=1.0))
    return Figure("Decode: time of a layer and step against length",
                  "A step that refreshes every stage, one that reuses its selection, and the mean over "
                  "the preset's refresh cycle, beside dense attention. The fastest of the "
                  "dense ones counts for the speed-up. Shaded: a refreshed step takes longer than dense.", panels)


# ---- Prefill -------------------------------------------------------------------------------------


def prefill_name(preset):
    return lambda length: f"prefill/bfloat16/{preset}/1x{length}/{length}/{HEADS}/p16"


def prefill_peer(peer):
    return lambda length: f"prefill/bfloat16/{peer}/1x{length}/{HEADS}"


PREFILL_DENSE = [("cuDNN, PyTorch", "dense/cudnn", "cudnn"),
                 ("FlashAttention-2, PyTorch", "dense/flash", "flash")]
PREFILL_SPARSE = [
    ("FlexAttention, infinite_hip's selection", "infinite_hip/flex", "flex", "dots"),
    ("the authors' package", "hip_authors", "authors", "solid"),
    ("FlashPrefill V2", "flashprefill_v2", "flashprefill", "solid"),
]


def prefill_floor(points, preset):
    """Of search and attention: products at 773 TFLOP/s, as the kernels' pages count them."""
    line = []
    for length in LENGTHS:
        get = lambda field: points.get(prefill_name(preset)(length), field)
        parts = [get("attend_ms"), get("attend_TFLOPs"), get("search_floor_ms")]
        if None not in parts:
            line.append((length, parts[0] * parts[1] / 773 + parts[2]))
    return Line(f"floor of {preset}", preset, line, "dotted")


def prefill_time(points):
    prefill, peers = points["prefill"], points["prefill-peers"]
    peer_ms = dict(xs=LENGTHS, scale=1e3)
    ours = prefill.line("dense, this library", "dense", prefill_name("dense"), LENGTHS, "ms")
    others = [peers.line(label, series, prefill_peer(peer), **peer_ms)
              for label, peer, series in PREFILL_DENSE]
    sparse = [peers.line(label, series, prefill_peer(peer), kind=kind, **peer_ms)
              for label, peer, series, kind in PREFILL_SPARSE]
    presets = [prefill.line(preset, preset, prefill_name(preset), LENGTHS, "ms", kind="bold")
               for preset in PRESETS]
    fastest = lowest("fastest dense", [ours, *others])
    compared = [ratio(line.label, line.series, fastest, line, "bold") for line in presets]
    compared += [ratio(line.label, line.series, fastest, line, line.kind) for line in sparse]
    found = [crossing(line, line.label) for line in compared[: len(presets)] if line.points]
    marks = [(x, f"{words}, {line.label}") for line, (_, marks) in zip(compared, found)
             for x, words in marks]
    wins = wins_of(compared[0])
    floors = [prefill_floor(prefill, preset) for preset in ("infinite_hip", "landmark")]
    return Figure(
        "Prefill: time of a layer against length",
        "Whole prompts, search and attention together, beside dense attention. Shaded: infinite_hip takes "
        "longer than the fastest dense attention.",
        [Panel("Whole prompts", X_LABEL, "ms per layer", [ours, *others, *sparse, *presets, *floors], NAMES,
               log_y=True, wins=wins, marks=marks, notes=[note for note, _ in found]),
         Panel("Speed-up over the fastest dense", X_LABEL, "times", compared, NAMES, log_y=True,
               level=1.0)])
