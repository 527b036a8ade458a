"""What is measured: the files of bench/results/, and the commands that fill them.

`bench/report measure decode` runs what fills decode-h200.json: a name is a file's without its machine.
"""

import example_tables
import kv_tables
import offload_tables
from report_cells import MACHINES, Source, measurement_of

_LENGTHS = "1x[0-9]+"
_PRESETS = "(infinite_hip|landmark|landmark_1k|dense)"
_STATES = "(from0|reused|cycle|all)"
_MAIN = "q32k8d128/p16/"

# In the order of their worth, should time run out: eight minutes of one H200 together.
GPU = {
    "decode": [
        "cuda_decode_bench",
        f"--benchmark_filter=floor/|bfloat16/{_PRESETS}/[a-z0-9]+/({_LENGTHS}|8x131072)/{_MAIN}",
    ],
    "prefill": [
        "cuda_prefill_bench",
        "--benchmark_filter=bfloat16/(infinite_hip(_stages?[12]+)?|landmark|landmark_1k|dense)"
        f"/1x[0-9]+/[0-9]{{4,}}/{_MAIN}|infinite_hip_generic/1x(32768|131072)/",
    ],
    "prefill-peers": ["torch_prefill.py"],
    "decode-peers": ["torch_decode.py"],
    "decode-variations": [
        "cuda_decode_bench",
        "--benchmark_filter=bfloat16/[a-z0-9_]+_(keep|block)[0-9]+/(from0|reused|cycle)/"
        f"|bfloat16/{_PRESETS}/{_STATES}/1x131072/q32k[0-9]+d128/p16/",
    ],
    "prefill-variations": [
        "cuda_prefill_bench",
        "--benchmark_filter=bfloat16/[a-z0-9_]+_(keep|block)[0-9]+/"
        f"|bfloat16/{_PRESETS}/1x131072/131072/q32k[0-9]+d128/p16/",
    ],
    "landmark-upkeep": [
        "cuda_landmark_bench",
        "--benchmark_filter=update_landmarks/.*/131072|append_kv",
    ],
}

# Other head dims, pages, types and chunks, for the kernels' pages: two minutes.
SHAPES = {
    "prefill-shapes": [
        "cuda_prefill_bench",
        "--benchmark_filter=/(infinite_hip|landmark|landmark_1k)/"
        "(1x8192|1x16384|1x131072|8x16384|1x4194304/32768)/",
    ],
    "decode-shapes": [
        "cuda_decode_bench",
        "--benchmark_filter=/(infinite_hip|infinite_hip_5k|landmark|landmark_1k)/"
        "(from0|reused|cycle)/(1x131072|8x131072|64x8192|1x4194304)/q32k(8|32|2|1)d",
    ],
}

CPU = {
    "cpu": [
        "attention_bench",
        "--benchmark_filter=float/.*(32768|131072|1048576)",
        "--benchmark_repetitions=3",
        "--benchmark_report_aggregates_only=true",
    ],
}

# What no machine changes.
ERRORS = {"exponential": ["exponential_bench"]}

GROUPS = {"gpu": GPU, "shapes": SHAPES, "cpu": CPU}

# Commands that take seconds, instead of those of the same name: whether all of it still works.
QUICK = {
    "decode": [
        "cuda_decode_bench",
        f"--benchmark_filter=bfloat16/{_PRESETS}/{_STATES}/1x(8192|32768)/{_MAIN}",
    ],
    "prefill": [
        "cuda_prefill_bench",
        f"--benchmark_filter=bfloat16/{_PRESETS}/1x(8192|32768)/[0-9]{{4,}}/{_MAIN}",
    ],
    "prefill-peers": ["torch_prefill.py", "--lengths", "8192", "32768"],
    "decode-peers": ["torch_decode.py", "--shapes", "1x8192", "1x32768"],
    "cpu": [
        "attention_bench",
        "--benchmark_filter=decode/float/.*/(4096|32768)/",
        "--benchmark_min_time=0.01",
    ],
}

SOURCES = {
    **{
        f"{name}-h200": Source(command, MACHINES["h200"])
        for name, command in {**GPU, **SHAPES}.items()
    },
    **{f"{name}-epyc": Source(command, MACHINES["epyc"]) for name, command in {**CPU, **ERRORS}.items()},
    **example_tables.SOURCES,
    **kv_tables.SOURCES,
    **offload_tables.SOURCES,
}


MEASUREMENTS = {measurement_of(name): source.command for name, source in SOURCES.items()}
