"""Plots of what time, memory and reads of a GPU's calls are made of, against length."""

import dataclasses

from figures_time import LENGTHS, NAMES, PRESETS, X_LABEL, decode_name, prefill_name, prefill_peer
from report_figures import Figure, Line, Panel, fitted_exponent, merged

MOST_STAGES = 4


def difference(label, series, above, below):
    return Line(label, series, [(x, max(0.0, y - below.at(x)))
                                for x, y in above.points if below.at(x) is not None])


# ---- Stages --------------------------------------------------------------------------------------


def decode_stages(points):
    """Of a refreshed step: what it takes more to begin at a stage than behind it."""
    decode = points["decode"]

    def panel(preset):
        state = lambda name: decode.line(name, "", decode_name(preset, name), LENGTHS, scale=1e6)
        reused = state("reused")
        begins = [state(f"from{stage}") for stage in range(MOST_STAGES)]
        parts = [dataclasses.replace(reused, label="what a reused step does", series="attend")]
        for stage, line in enumerate(begins):
            # Where a preset has fewer stages at a length, its last is followed by a reused step.
            behind = begins[stage + 1] if stage + 1 < MOST_STAGES else Line("", "", [])
            rest = Line("", "", [(x, behind.at(x) or reused.at(x)) for x, _ in line.points
                                 if behind.at(x) or reused.at(x)])
            parts.append(difference(f"stage {stage + 1}", f"stage{stage + 1}", line, rest))
        return Panel(preset, X_LABEL, "µs of a refreshed step", parts, NAMES, stacked=True)

    return Figure("Decode: time of a refreshed step by stage",
                  "What each stage adds to a step that reuses its selection.", [panel(p) for p in PRESETS[:2]])


def prefill_stages(points):
    prefill = points["prefill"]
    of = lambda field, preset: prefill.line(field, "", prefill_name(preset), LENGTHS, field)

    def searches(preset):
        """Search times of the first stage alone, of the first two, and so on to all."""
        names = [f"{preset}_stage1", f"{preset}_stages12", preset]
        return [of("search_ms", name) for name in names]

    def by_stage(preset):
        until = searches(preset)
        parts = [dataclasses.replace(of("attend_ms", preset), label="attention", series="attend"),
                 dataclasses.replace(until[0], label="stage 1", series="stage1")]
        parts += [difference(f"stage {n + 1}", f"stage{n + 1}", until[n], until[n - 1])
                  for n in range(1, len(until))]
        return relative(Panel(preset, X_LABEL, "µs per 1000 tokens", parts, NAMES, stacked=True))

    def whole(preset):
        parts = [dataclasses.replace(of("attend_ms", preset), label="attention", series="attend"),
                 dataclasses.replace(of("search_ms", preset), label="search", series="landmark")]
        return relative(Panel(preset, X_LABEL, "µs per 1000 tokens", parts, NAMES, stacked=True))

    def relative(panel):
        for line in panel.lines:
            line.points = [(x, 1e6 * y / x) for x, y in line.points]
        return panel

    return Figure("Prefill: time by stage, for each thousand tokens of the prompt",
                  "Attention, and what the search adds: by stage, or in all where one kernel runs several "
                  "stages.", [by_stage("infinite_hip"), whole("landmark")])


# ---- Memory --------------------------------------------------------------------------------------


def memory(points):
    decode, prefill, peers = points["decode"], points["prefill"], points["prefill-peers"]
    prefills, decodes = [], []
    for preset in (*PRESETS, "dense"):
        prefills.append(prefill.line(preset, preset, prefill_name(preset), LENGTHS, "workspace_MB",
                                     kind="bold"))
        state = "all" if preset == "dense" else "from0"
        decodes.append(decode.line(preset, preset, decode_name(preset, state), LENGTHS, "workspace_MB",
                                   kind="dashed"))
    workspaces = [
        dataclasses.replace(line, label=f"{operation}: {line.label}")
        for operation, lines in (("prefill", prefills), ("decode", decodes)) for line in merged(lines)]
    peaks = merged([prefill.line(preset, preset, prefill_name(preset), LENGTHS, "memory_MB", 1e-3, "bold")
                    for preset in PRESETS])
    peaks.append(prefill.line("dense", "dense", prefill_name("dense"), LENGTHS, "memory_MB", 1e-3))
    peaks += merged(
        [peers.line(label, series, prefill_peer(peer), LENGTHS, "memory_MB", 1e-3)
         for label, peer, series in (
             ("cuDNN", "dense/cudnn", "cudnn"), ("FlashAttention-2", "dense/flash", "flash"),
             ("FlexAttention", "infinite_hip/flex", "flex"))])
    parts = [
        decode.line(label, series, decode_name("landmark", "from0"), LENGTHS, field, kind=kind)
        for label, series, field, kind in (
            ("keys and values", "dense", "cache_MB", "bold"),
            ("landmarks", "landmark", "landmarks_MB", "bold"),
            ("selection cache", "landmark", "selection_MB", "dashed"))
    ]
    return Figure(
        "Memory against length",
        "The workspace of a call; all that a prefill of one layer takes of the device, with keys, values, "
        "queries and output; and what a layer of decode keeps.",
        [Panel("Workspace", X_LABEL, "MB", workspaces, NAMES, log_y=True),
         Panel("All of a layer's prefill", X_LABEL, "GB", peaks, NAMES, log_y=True),
         Panel("A layer's decode, landmark", X_LABEL, "MB", parts, NAMES, log_y=True)], columns=3)


# ---- Reads ---------------------------------------------------------------------------------------

READS = (("keys scored", "keys_scored", "solid"), ("landmarks scored", "landmarks_scored", "bold"),
         ("keys attended, with their values", "keys_attended", "dashed"))
FIT_FROM = 32768  # below, all candidates fit the last stages


def fitted(line):
    """Says in its label with which power of the length it grows from FIT_FROM on."""
    power = fitted_exponent([(x, y) for x, y in line.points if x >= FIT_FROM])
    grows = "" if power is None else f", T^{abs(power) if abs(power) < 0.005 else power:.2f}"
    return dataclasses.replace(line, label=line.label + grows)


def reads(points):
    kv_heads, block_q = 8, 64
    decode, prefill = points["decode"], points["prefill"]
    decoded, prefilled = [], []
    for preset in PRESETS[:2]:
        for label, field, kind in READS:
            decoded.append(decode.line(f"{preset}, {label}", preset, decode_name(preset, "from0"), LENGTHS,
                                       field, 1 / kv_heads, kind))
            line = prefill.line(f"{preset}, {label}", preset, prefill_name(preset), LENGTHS, field,
                                1 / kv_heads, kind)
            prefilled.append(Line(line.label, preset,
                                  [(x, y / (x / block_q)) for x, y in line.points], kind))
    for lines in (decoded, prefilled):
        for line in lines:
            line.points = [(x, y) for x, y in line.points if y > 0]
        lines[:] = [fitted(line) for line in merged(lines) if line.points]
    note = f"Powers of the length T are fitted from {NAMES[FIT_FROM]} on; dense attention reads T^1."
    return Figure(
        "Rows that a search and attention read, against length",
        "Counted by the operators themselves, for one KV head and query block. A landmark is two rows.",
        [Panel("Decode, every stage refreshed", X_LABEL, "rows read for a KV head", decoded, NAMES,
               log_y=True, notes=[note]),
         Panel("Prefill, mean over a prompt's query blocks of 64", X_LABEL, "rows read for a KV head",
               prefilled, NAMES, log_y=True, notes=[note])])
