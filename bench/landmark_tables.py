"""The tables of the presets with landmarks on a GPU, beside infinite_hip in the same run."""

from report_cells import Measured, Ratio, Table
from report_names import (
    LONG,
    DECODE_SHAPES,
    PREFILL_LENGTHS,
    attend,
    attend_floor,
    decode,
    decode_floor,
    prefill,
    prefill_row,
    search,
    search_floor,
)

TABLES = {}


def landmark_stages(context):
    """Stages of presets::landmark: two up to 256k tokens, one more for each factor of 4 above."""
    stages = 2
    while context > 4096 * 4 ** (stages + 1):
        stages += 1
    return stages


# ---- Decode --------------------------------------------------------------------------------------


def last_stage(shape):
    """The state in which the last stage of presets::landmark alone runs."""
    return f"from{landmark_stages(int(shape.split('x')[1])) - 1}"


def row(label, cell):
    return [label] + [cell(shape) for shape in DECODE_SHAPES.values()]


def state(name, preset):
    return lambda shape: decode(name, shape, preset=preset)


def floor(name, preset):
    return lambda shape: decode_floor(name, shape, preset=preset)


TABLES["landmark-decode-h200"] = Table(
    "µs",
    ["landmarks, µs per layer and step", *DECODE_SHAPES],
    [
        row("`landmark`, every stage refreshed", state("from0", "landmark")),
        row(
            "last stage refreshed",
            lambda shape: decode(last_stage(shape), shape, preset="landmark"),
        ),
        row("selection reused", state("reused", "landmark")),
        row("mean over the refresh cycle 16/8", state("cycle", "landmark")),
        row("floor, every stage refreshed", floor("from0", "landmark")),
        row("`infinite_hip`, every stage refreshed", state("from0", "infinite_hip")),
        row("selection reused", state("reused", "infinite_hip")),
        row("mean over the refresh cycle 32/16/8", state("cycle", "infinite_hip")),
    ],
)

LANDMARK_DECODE_OTHERS = {
    "head dim 64": dict(rest="q32k8d64/p16"),
    "head dim 256": dict(rest="q32k8d256/p16"),
    "32 KV heads (MHA)": dict(rest="q32k32d128/p16"),
    "2 KV heads": dict(rest="q32k2d128/p16"),
    "1 KV head (MQA)": dict(rest="q32k1d128/p16"),
    "pages of 1": dict(rest="q32k8d128/p1"),
    "pages of 256": dict(rest="q32k8d128/p256"),
    "pages of 16 by head (HND)": dict(rest="q32k8d128/p16hnd"),
    "float16": dict(type_name="float16"),
    "batch 64 at 8k": dict(shape="64x8192"),
    "4M tokens": dict(shape="1x4194304"),
    "4 query rows to a request": dict(rest="q32k8d128/p16r4"),
    "8 query rows to a request": dict(rest="q32k8d128/p16r8"),
    "behind `append_kv` of a token and its landmarks, its time included": dict(
        rest="q32k8d128/p16append"
    ),
}


def decode_other(name, preset, options):
    shape = {"shape": "1x131072", **options}
    return decode(name, source="decode-shapes-h200", preset=preset, **shape)


TABLES["landmark-decode-shapes-h200"] = Table(
    "µs",
    [
        "landmarks, 128k unless said",
        "`landmark` refreshed, µs",
        "reused, µs",
        "mean, µs",
        "`infinite_hip` refreshed, µs",
        "mean, µs",
    ],
    [
        [label]
        + [decode_other(name, "landmark", options) for name in ("from0", "reused", "cycle")]
        + [decode_other(name, "infinite_hip", options) for name in ("from0", "cycle")]
        for label, options in LANDMARK_DECODE_OTHERS.items()
    ]
    + [
        ["`landmark_1k`"]
        + [decode_other(name, "landmark_1k", {}) for name in ("from0", "reused", "cycle")]
        + [None, None]
    ],
)


# ---- Upkeep --------------------------------------------------------------------------------------


def upkeep(name):
    return Measured("landmark-upkeep-h200", name)


def append(levels, step):
    return upkeep(f"append_kv/{levels}/{step}")


LEVELS = {"64": "64", "64 and 256": "64_256"}
TABLES["landmark-upkeep-h200"] = Table(
    "µs",
    ["keeping landmarks, µs per layer", "none", *(f"of {title} keys" for title in LEVELS)],
    [
        ["`update_landmarks` of 128k keys", None]
        + [upkeep(f"update_landmarks/{levels}/131072") for levels in LEVELS.values()],
        ["`append_kv` of a token that completes no chunk", append("none", "within")]
        + [append(levels, "within") for levels in LEVELS.values()],
        ["`append_kv` of a token that completes a chunk of every level", None]
        + [append(levels, "completes") for levels in LEVELS.values()],
    ],
)


# ---- Prefill -------------------------------------------------------------------------------------


def prefill_rows(label, cell, preset):
    return prefill_row(label, cell, LONG, preset=preset)


def times_landmark(shape, preset):
    return Ratio(prefill(shape, preset=preset), prefill(shape, preset="landmark"))


TABLES["landmark-prefill-h200"] = Table(
    "ms",
    ["landmarks, ms per layer", *LONG],
    [
        prefill_rows("`landmark`", prefill, "landmark"),
        prefill_rows("of which attention", attend, "landmark"),
        prefill_rows("of which search", search, "landmark"),
        prefill_rows(
            "floor",
            lambda shape, **options: attend_floor(shape, **options)
            + search_floor(shape, **options),
            "landmark",
        ),
        prefill_rows("`landmark_1k`", prefill, "landmark_1k"),
        prefill_rows("of which attention", attend, "landmark_1k"),
        prefill_rows("of which search", search, "landmark_1k"),
        prefill_rows("`infinite_hip`", prefill, "infinite_hip"),
        prefill_rows("times `landmark`", times_landmark, "infinite_hip"),
    ],
)

OF_SHAPES = "prefill-shapes-h200"

WHOLE_128K = "1x131072/131072"
LANDMARK_PREFILL_OTHERS = {
    "8k": 8192,
    "16k": 16384,
    "head dim 64": f"{WHOLE_128K}/q32k8d64/p16",
    "head dim 256": f"{WHOLE_128K}/q32k8d256/p16",
    "32 KV heads (MHA)": f"{WHOLE_128K}/q32k32d128/p16",
    "4 KV heads": f"{WHOLE_128K}/q32k4d128/p16",
    "1 KV head (MQA)": f"{WHOLE_128K}/q32k1d128/p16",
    "pages of 1": f"{WHOLE_128K}/q32k8d128/p1",
    "pages of 256": f"{WHOLE_128K}/q32k8d128/p256",
    "8 requests of 16k": "8x16384/16384/q32k8d128/p16",
    "64 rows behind 128k keys": "1x131072/64/q32k8d128/p16",
    "the last 32k rows of 4M": "1x4194304/32768/q32k8d128/p16",
}
TABLES["landmark-prefill-shapes-h200"] = Table(
    "ms",
    [
        "landmarks, 128k unless said",
        "`landmark`, ms",
        "search, ms",
        "floor of the search, ms",
        "`landmark_1k`, ms",
        "`infinite_hip`, ms",
    ],
    [
        [label]
        + [cell(shape, source=OF_SHAPES, preset="landmark")
           for cell in (prefill, search, search_floor)]
        + [prefill(shape, source=OF_SHAPES, preset=p) for p in ("landmark_1k", "infinite_hip")]
        for label, shape in LANDMARK_PREFILL_OTHERS.items()
    ],
)
