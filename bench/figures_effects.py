"""Plots of what budget, block size and group do, and of the cache in host memory."""

from figures_time import HEADS
from report_figures import Figure, Line, Panel

LENGTH = 131072
BUDGETS = [512, 1024, 2048, 4096, 8192]
BLOCKS = [4, 8, 16, 32, 64]
GROUPS = [1, 2, 4, 8, 16, 32]
Q_HEADS = 32
SEARCHES = ("infinite_hip", "landmark")
STATES = (("refreshed", "from0", "solid"), ("mean", "cycle", "bold"), ("reused", "reused", "dashed"))


def decode_lines(points, name_of, xs, presets):
    return [
        points.line(f"{preset}, {label}", preset,
                    lambda x: f"decode/bfloat16/{name_of(preset, x)[0]}/{state}/1x{LENGTH}/"
                              f"{name_of(preset, x)[1]}/p16", xs, scale=1e6, kind=kind)
        for preset in presets for label, state, kind in STATES
    ]


def prefill_lines(points, name_of, xs, presets, field="ms", word="", kind="bold"):
    return [
        points.line(preset + word, preset,
                    lambda x: f"prefill/bfloat16/{name_of(preset, x)[0]}/1x{LENGTH}/{LENGTH}/"
                              f"{name_of(preset, x)[1]}/p16", xs, field, kind=kind)
        for preset in presets
    ]


def effects(points):
    decode, prefill = points["decode-variations"], points["prefill-variations"]
    keeps = lambda preset, keep: (f"{preset}_keep{keep}", HEADS)
    blocks = lambda preset, block: (f"{preset}_block{block}", HEADS)
    groups = lambda preset, group: (preset, f"q{Q_HEADS}k{Q_HEADS // group}d128")
    varied = (
        ("Budget", "tokens that the last stage keeps", keeps, BUDGETS),
        ("Block", "keys of a selected block", blocks, BLOCKS),
        ("Group", "query heads for a KV head", groups, GROUPS),
    )
    panels = []
    for title, x_label, name_of, xs in varied:
        presets = SEARCHES
        lines = decode_lines(decode, name_of, xs, presets)
        if name_of is groups:
            lines.append(decode.line(
                "dense", "dense", lambda x: f"decode/bfloat16/dense/all/1x{LENGTH}/"
                f"{groups('', x)[1]}/p16", xs, scale=1e6))
        panels.append(Panel(f"{title}, decode", x_label, "µs per layer and step", lines,
                            {x: str(x) for x in xs}, log_y=name_of is groups))
    for title, x_label, name_of, xs in varied:
        lines = prefill_lines(prefill, name_of, xs, SEARCHES)
        lines += prefill_lines(prefill, name_of, xs, SEARCHES, "search_ms", ", search", "dashed")
        if name_of is groups:
            lines += prefill_lines(prefill, name_of, xs, ("dense",))
        panels.append(Panel(f"{title}, prefill", x_label, "ms per layer", lines,
                            {x: str(x) for x in xs}, log_y=name_of is groups))
    return Figure("Effect of budget, block size and group at 128k tokens",
                  "Both searches with other numbers of tokens kept and other blocks in their last stage, and "
                  "with other numbers of KV heads for 32 query heads.", panels, columns=3)


# ---- Offload -------------------------------------------------------------------------------------

SHARES = {0.125: "1/8", 0.25: "1/4", 0.5: "1/2", 1.0: "all"}


def offload(points):
    measured = points["offload"]
    name = lambda cache: f"offload/1x{LENGTH}/{HEADS}/{cache}/drift5"
    cache_of = lambda share: f"1of{round(1 / share)}"
    of = lambda label, kind, field, way="", series="landmark": measured.line(
        label, series, lambda share: name(cache_of(share) + way), SHARES, field, kind=kind)
    times = [of("mean", "bold", "mean_us", "ahead"), of("selection reused", "dashed", "reused_us"),
             of("99 % of steps take less", "solid", "p99_us", "ahead")]
    for label, field, kind in (("mean, cache on the device", "mean_us", "bold"),
                               ("reused, cache on the device", "reused_us", "dashed")):
        value = measured.get(name("device"), field)
        if value is not None:
            times.append(Line(label, "dense", [(share, value) for share in SHARES], kind))
    hits = of("blocks that were hot when asked for", "bold", "miss")
    hits.points = [(x, 100 * (1 - y)) for x, y in hits.points]
    x_label = "budget: part of the cache of 128k tokens that fits the device"
    return Figure(
        "Offload: time and hit rate against the budget",
        "Decode with the cache in host memory and its hot blocks on the device, which holds a part of "
        "the cache. Means and slowest steps are of 32 layers with searches ahead, staggered, that make "
        "blocks hot beside; reused selections of eight layers that do so as they append.",
        [Panel("Decode with landmark, drift 0.05", x_label, "µs per layer and step",
               times, SHARES),
         Panel("Hit rate", x_label, "%", [hits], SHARES, y_from=90.0, y_to=100.0)])
