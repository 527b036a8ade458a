"""The tables of the documents that are made of bench/results/ (report_sources.py)."""

import example_tables
import kv_tables
import landmark_tables
import offload_tables
import report_plots
from report_cells import Measured, Plain, Ratio, Table
from report_names import (
    DECODE_SHAPES,
    LONG,
    PREFILL_LENGTHS,
    attend,
    attend_floor,
    attend_rate,
    decode,
    decode_floor,
    decode_row,
    prefill,
    prefill_row,
    search,
    search_floor,
)

TABLES = {
    **example_tables.TABLES,
    **kv_tables.TABLES,
    **landmark_tables.TABLES,
    **offload_tables.TABLES,
    **report_plots.TABLES,
}


# ---- Decode --------------------------------------------------------------------------------------

DECODE_ROWS = {
    "refreshed": decode_row("every stage refreshed", decode, "from0"),
    "stages 2 and 3": decode_row("stages 2 and 3 refreshed", decode, "from1"),
    "stage 3": decode_row("stage 3 refreshed", decode, "from2"),
    "reused": decode_row("selection reused", decode, "reused"),
    "cycle": decode_row("mean over the refresh cycle 32/16/8", decode, "cycle"),
    "floor of refreshed": decode_row("floor, every stage refreshed", decode_floor, "from0"),
    "floor of reused": decode_row("floor, selection reused", decode_floor, "reused"),
    "dense": decode_row("the same kernel with `presets::dense()`", decode, "all", preset="dense"),
}


def decode_table(*rows):
    return Table("µs", ["µs per layer and step", *DECODE_SHAPES], [DECODE_ROWS[r] for r in rows])


TABLES["decode-summary-h200"] = decode_table("refreshed", "reused", "cycle", "dense")
TABLES["decode-h200"] = decode_table(*DECODE_ROWS)

TABLES["decode-budget-h200"] = Table(
    "µs",
    ["part of a refreshed step, µs", *DECODE_SHAPES],
    [
        [label] + [part(shape) for shape in DECODE_SHAPES.values()]
        for label, part in {
            "stage 1": lambda shape: decode("from0", shape) - decode("from1", shape),
            "stage 2": lambda shape: decode("from1", shape) - decode("from2", shape),
            "stage 3": lambda shape: decode("from2", shape) - decode("reused", shape),
            "what a reused step does": lambda shape: decode("reused", shape),
            "sum": lambda shape: decode("from0", shape),
        }.items()
    ],
)


def blocks_read(megabytes):
    """A kernel that does nothing but read so many bytes, in blocks of eight rows from anywhere."""
    return Measured("decode-h200", f"floor/blocks_MB/{megabytes}")


REUSED = {"128k": ("1x131072", 14), "8 x 128k": ("8x131072", 109)}
TABLES["decode-reused-budget-h200"] = Table(
    "µs",
    ["part of a reused step, µs", *REUSED],
    [
        [label] + [part(shape, megabytes) for shape, megabytes in REUSED.values()]
        for label, part in {
            "bytes at 4.3 TB/s": lambda shape, mb: decode_floor("reused", shape),
            "more for blocks from anywhere": lambda shape, mb: blocks_read(mb)
            - decode_floor("reused", shape),
            "lookups before, merges after": lambda shape, mb: decode("reused", shape)
            - blocks_read(mb),
            "sum": lambda shape, mb: decode("reused", shape),
        }.items()
    ],
)

DECODE_OTHERS = {
    "head dim 64": dict(rest="q32k8d64/p16"),
    "head dim 256": dict(rest="q32k8d256/p16"),
    "32 KV heads (MHA)": dict(rest="q32k32d128/p16"),
    "2 KV heads": dict(rest="q32k2d128/p16"),
    "pages of 1": dict(rest="q32k8d128/p1"),
    "pages of 256": dict(rest="q32k8d128/p256"),
    "pages of 16 by head (HND)": dict(rest="q32k8d128/p16hnd"),
    "8 x 128k by head (HND)": dict(shape="8x131072", rest="q32k8d128/p16hnd"),
    "float16": dict(type_name="float16"),
    "batch 64 at 8k": dict(shape="64x8192"),
    "4M tokens": dict(shape="1x4194304"),
    "`infinite_hip_5k`": dict(preset="infinite_hip_5k"),
    "4 query rows to a request": dict(rest="q32k8d128/p16r4"),
    "8 query rows to a request": dict(rest="q32k8d128/p16r8"),
    "behind `append_kv` of a token, its time included": dict(rest="q32k8d128/p16append"),
}
OTHER_SHAPE = dict(shape="1x131072", source="decode-shapes-h200")
TABLES["decode-shapes-h200"] = Table(
    "µs",
    ["128k unless said", "refreshed, µs", "reused, µs", "floor of reused, µs"],
    [
        [
            label,
            decode("from0", **{**OTHER_SHAPE, **options}),
            decode("reused", **{**OTHER_SHAPE, **options}),
            decode_floor("reused", **{**OTHER_SHAPE, **options}),
        ]
        for label, options in DECODE_OTHERS.items()
    ],
)


def torch_decode(shape):
    return Measured("decode-peers-h200", f"decode/bfloat16/dense/flash/{shape}/q32k8d128")


TABLES["decode-peers-h200"] = Table(
    "µs",
    ["dense decode through PyTorch, µs", *DECODE_SHAPES],
    [
        ["FlashAttention with split KV"] + [torch_decode(s) for s in DECODE_SHAPES.values()],
        ["times hip_attn, every stage refreshed"]
        + [Ratio(torch_decode(s), decode("from0", s)) for s in DECODE_SHAPES.values()],
        ["times hip_attn, mean over the refresh cycle"]
        + [Ratio(torch_decode(s), decode("cycle", s)) for s in DECODE_SHAPES.values()],
    ],
)


# ---- Prefill -------------------------------------------------------------------------------------

PREFILL_STAGES = {1: "infinite_hip_stage1", 2: "infinite_hip_stages12", 3: "infinite_hip"}


def prefill_dense(shape):
    return prefill(shape, preset="dense")


UP_TO_128K = ["8k", "16k", "32k", "64k", "128k"]
SUMMARY = ["8k", "32k", "128k", "256k", "1M"]
TABLES["prefill-summary-h200"] = Table(
    "ms",
    ["ms per layer", *SUMMARY],
    [
        prefill_row("default configuration", prefill, SUMMARY),
        prefill_row("the same library with `presets::dense()`", prefill_dense, SUMMARY, UP_TO_128K),
    ],
)
TABLES["prefill-h200"] = Table(
    "ms",
    ["ms per layer", *PREFILL_LENGTHS],
    [
        prefill_row("prefill", prefill, PREFILL_LENGTHS),
        prefill_row("of which attention", attend, PREFILL_LENGTHS),
        prefill_row("of which search", search, PREFILL_LENGTHS),
        prefill_row(
            "floor", lambda t: attend_floor(t) + search_floor(t), PREFILL_LENGTHS, LONG
        ),
        prefill_row("`presets::dense()`", prefill_dense, PREFILL_LENGTHS, UP_TO_128K),
    ],
)


def at_dense_rate(length):
    """The products of attention to the selection at the rate of dense attention of 128k."""
    rate = attend_rate(PREFILL_LENGTHS["128k"], preset="dense")
    return attend(length) * attend_rate(length) / rate


TABLES["prefill-attend-budget-h200"] = Table(
    "ms",
    ["part of attention, ms", *LONG],
    [
        prefill_row("products at 773 TFLOP/s", attend_floor, LONG),
        prefill_row(
            "more at the rate of dense attention at 128k",
            lambda t: at_dense_rate(t) - attend_floor(t),
            LONG,
        ),
        prefill_row(
            "more because units are short", lambda t: attend(t) - at_dense_rate(t), LONG
        ),
        prefill_row("sum", attend, LONG),
    ],
)


def stage(number):
    def time(length):
        until = search(length, preset=PREFILL_STAGES[number])
        return until if number == 1 else until - search(length, preset=PREFILL_STAGES[number - 1])

    return time


TABLES["prefill-search-h200"] = Table(
    "ms",
    ["part of the search, ms", *LONG],
    [prefill_row(f"stage {number}", stage(number), LONG) for number in PREFILL_STAGES]
    + [prefill_row("sum", search, LONG), prefill_row("floor", search_floor, LONG)],
)

GENERIC = ["32k", "128k"]
TABLES["prefill-generic-h200"] = Table(
    "ms",
    ["kernels for compute capability 8.0, ms", *GENERIC],
    [
        prefill_row("search", lambda t: search(t, preset="infinite_hip_generic"), GENERIC),
        prefill_row("attention", lambda t: attend(t, preset="infinite_hip_generic"), GENERIC),
    ],
)

WHOLE_128K = "1x131072/131072"
PREFILL_OTHERS = {
    "float16": dict(shape=131072, type_name="float16"),
    "pages of 1": dict(shape=f"{WHOLE_128K}/q32k8d128/p1"),
    "pages of 256": dict(shape=f"{WHOLE_128K}/q32k8d128/p256"),
    "head dim 64": dict(shape=f"{WHOLE_128K}/q32k8d64/p16"),
    "head dim 256": dict(shape=f"{WHOLE_128K}/q32k8d256/p16"),
    "32 KV heads (MHA)": dict(shape=f"{WHOLE_128K}/q32k32d128/p16"),
    "4 KV heads": dict(shape=f"{WHOLE_128K}/q32k4d128/p16"),
    "1 KV head (MQA)": dict(shape=f"{WHOLE_128K}/q32k1d128/p16"),
    "8 requests of 16k": dict(shape="8x16384/16384/q32k8d128/p16"),
    "64 rows behind 128k keys": dict(shape="1x131072/64/q32k8d128/p16"),
}
TABLES["prefill-shapes-h200"] = Table(
    "ms",
    ["128k unless said", "prefill, ms", "search, ms", "floor of the search, ms"],
    [
        [label] + [cell(**shape, source="prefill-shapes-h200")
                   for cell in (prefill, search, search_floor)]
        for label, shape in PREFILL_OTHERS.items()
    ],
)


def torch_prefill(backend):
    return lambda length: Measured(
        "prefill-peers-h200", f"prefill/bfloat16/dense/{backend}/1x{length}/q32k8d128"
    )


def times_hip_attn(backend):
    return lambda length: Ratio(torch_prefill(backend)(length), prefill(length))


PEER_LENGTHS = ["8k", "32k", "128k"]
TABLES["prefill-peers-h200"] = Table(
    "ms",
    ["dense prefill through PyTorch, ms", *PEER_LENGTHS],
    [
        prefill_row("cuDNN", torch_prefill("cudnn"), PEER_LENGTHS),
        prefill_row("times hip_attn", times_hip_attn("cudnn"), PEER_LENGTHS),
        prefill_row("FlashAttention-2", torch_prefill("flash"), PEER_LENGTHS),
        prefill_row("times hip_attn", times_hip_attn("flash"), PEER_LENGTHS),
    ],
)


PEER_SUMMARY = {"8k": None, "32k": DECODE_SHAPES["32k"], "128k": DECODE_SHAPES["128k"]}
TABLES["peers-summary-h200"] = Table(
    None,
    ["dense attention through PyTorch, times hip_attn", *PEER_SUMMARY],
    [
        prefill_row("prefill, cuDNN", times_hip_attn("cudnn"), PEER_SUMMARY),
        prefill_row("prefill, FlashAttention-2", times_hip_attn("flash"), PEER_SUMMARY),
        ["decode, FlashAttention, every stage refreshed"]
        + [s and Ratio(torch_decode(s), decode("from0", s)) for s in PEER_SUMMARY.values()],
        ["decode, FlashAttention, mean over the refresh cycle"]
        + [s and Ratio(torch_decode(s), decode("cycle", s)) for s in PEER_SUMMARY.values()],
    ],
)


# ---- CPU -----------------------------------------------------------------------------------------


def cpu(operation, preset, context, state=""):
    name = f"{operation}/float/{preset}/{state}{context}"
    return Measured("cpu-epyc", name)


def cpu_row(label, operation, context_label, context, dense_state="", state=""):
    dense = cpu(operation, "dense", context, dense_state)
    sparse = cpu(operation, "infinite_hip", context, state)
    return [label, context_label, dense, sparse, Ratio(dense, sparse)]


CPU_HEADER = ["", "context", "dense, ms", "hip_attn, ms", "dense / hip_attn"]
CPU_ROWS = [
    cpu_row("prefill, last 1024 rows", "prefill", "32k", 32768),
    cpu_row("prefill, last 1024 rows", "prefill", "128k", 131072),
    cpu_row("decode step, every stage refreshed", "decode", "128k", 131072, "refreshed/",
            "refreshed/"),
    cpu_row("decode step, selection reused", "decode", "128k", 131072, "refreshed/", "reused/"),
    cpu_row("decode step, every stage refreshed", "decode", "1M", 1048576, "refreshed/",
            "refreshed/"),
    cpu_row("decode step, selection reused", "decode", "1M", 1048576, "refreshed/", "reused/"),
]
TABLES["cpu"] = Table("ms", CPU_HEADER, CPU_ROWS)
TABLES["cpu-summary"] = Table("ms", CPU_HEADER, [CPU_ROWS[i] for i in (0, 1, 4, 5)])
TABLES["cpu-landmarks"] = Table(
    "ms",
    ["", "context", "`infinite_hip`, ms", "`landmark`, ms", "infinite_hip / landmark"],
    [
        [label, context_label, hip, landmark, Ratio(hip, landmark)]
        for label, operation, context_label, context, state in [
            ("prefill, last 1024 rows", "prefill", "32k", 32768, ""),
            ("prefill, last 1024 rows", "prefill", "128k", 131072, ""),
            ("decode step, every stage refreshed", "decode", "128k", 131072, "refreshed/"),
            ("decode step, every stage refreshed", "decode", "1M", 1048576, "refreshed/"),
        ]
        for hip in [cpu(operation, "infinite_hip", context, state)]
        for landmark in [cpu(operation, "landmark", context, state)]
    ],
)


def largest_ulp(function, isa):
    return Plain("exponential-epyc", f"{function}/{isa}", "largest_ulp", 1.0, "{:.1f} ulp")


TABLES["exponential"] = Table(
    None,
    ["function", "range", "baseline", "x86-64-v3", "x86-64-v4"],
    [
        [title, where, *(largest_ulp(function, isa) for isa in ("baseline", "x86-64-v3", "x86-64-v4"))]
        for title, where, function in (
            ("`exp(x)` of `x = logit - max`", "-87.2 to -1e-6", "exp"),
            ("`tanh(x)` of the soft cap", "1e-6 to 12", "tanh"),
        )
    ],
)

# Products of the last 1024 rows, in 10^9 operations: what a unit scores and attends to, times 32
# units, and what dense attention does (docs/guide/performance.md).
CPU_GFLOP = {"32k": (135, 32), "128k": (548, 37)}
TABLES["cpu-budget"] = Table(
    "ms",
    ["prefill, last 1024 rows, ms", *CPU_GFLOP],
    [
        ["products of hip_attn at the rate of its dense call"]
        + [
            cpu("prefill", "dense", PREFILL_LENGTHS[length]) * (sparse / dense)
            for length, (dense, sparse) in CPU_GFLOP.items()
        ],
        ["measured"]
        + [cpu("prefill", "infinite_hip", PREFILL_LENGTHS[length]) for length in CPU_GFLOP],
    ],
)
