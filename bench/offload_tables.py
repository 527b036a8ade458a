"""The tables of decode and prefill with the cache in host memory."""

from report_cells import Measured, Plain, Ratio, Source, Table

SHAPES = (
    "(1x131072/.*/{0}/drift(2|10)/|1x131072/.*/{1}/drift5/"
    "|(1x524288|1x1048576|8x131072|1x4194304)/.*/{0}/drift5/)"
)
SOURCES = {
    # Blocks become hot beside the layers, or as these append.
    "offload-h200": Source(
        [
            "cuda_offload_bench",
            "--benchmark_filter="
            + SHAPES.format("(device.*|1of8[a-z]+)", "(device.*|1of[0-9]+[a-z]*)"),
        ],
        machine="H200",
    ),
    "offload-append-h200": Source(
        [
            "cuda_offload_bench",
            "--benchmark_filter=" + SHAPES.format("(device|1of8)", "(device|1of[18])"),
        ],
        machine="H200",
    ),
    "offload-prefill-h200": Source(["cuda_offload_prefill_bench"], machine="H200"),
}

CASES = {
    "128k, drift 0.02": ("1x131072/q32k8d128", 2),
    "128k, drift 0.05": ("1x131072/q32k8d128", 5),
    "128k, drift 0.1": ("1x131072/q32k8d128", 10),
    "512k, drift 0.05": ("1x524288/q32k8d128", 5),
    "1M, drift 0.05": ("1x1048576/q32k8d128", 5),
    "8 x 128k, drift 0.05": ("8x131072/q32k8d128", 5),
    "4M, 8 query and 2 KV heads, drift 0.05": ("1x4194304/q8k2d128", 5),
}


def cell(case, cache, field, source="offload-h200"):
    shape, drift = CASES[case]
    return Measured(source, f"offload/{shape}/{cache}/drift{drift}", f"{field}_us", 1e-6)


def row(case):
    device, ahead = (cell(case, cache, "mean") for cache in ("device", "1of8ahead"))
    return [
        case,
        device,
        ahead,
        Ratio(ahead, device),
        cell(case, "1of8ahead", "p99"),
        cell(case, "1of8staggered", "mean"),
        cell(case, "1of8beside", "mean"),
    ]


def append_row(case, cache="1of8", title=None):
    def of(where, field):
        return cell(case, where, field, "offload-append-h200")

    fields = [(of("device", field), of(cache, field)) for field in ("mean", "reused")]
    return [
        title or case,
        *(each for device, store in fields for each in (device, store, Ratio(store, device))),
        of(cache, "cold"),
        of(cache, "warm"),
    ]


def plain(case, cache, field, scale=1.0):
    shape, drift = CASES[case]
    return Plain("offload-h200", f"offload/{shape}/{cache}/drift{drift}", field, scale)


def budget_row(cache, title):
    case = "128k, drift 0.05"
    mean = cell(case, f"{cache}ahead", "mean")
    return [
        title,
        plain(case, cache, "device_MB"),
        mean,
        Ratio(mean, cell(case, "device", "mean")),
        cell(case, cache, "reused"),
        Ratio(cell(case, cache, "reused"), cell(case, "device", "reused")),
        plain(case, cache, "miss", 100.0),
    ]


PREFILL = {
    "128k whole": "131072of131072",
    "the last 32k of 128k": "32768of131072",
    "the last 8k of 128k": "8192of131072",
    "the last 1k of 128k": "1024of131072",
    "the last 64 of 128k": "64of131072",
    "the last 32k of 1M": "32768of1048576",
    "the last 1k of 1M": "1024of1048576",
}


def prefill_row(title, name):
    def of(field):
        return Measured(
            "offload-prefill-h200", f"offload_prefill/{name}/q32k8d128", f"{field}_ms", 1e-3
        )

    return [
        title,
        of("device"),
        of("distinct"),
        of("staged"),
        Ratio(of("staged"), of("bound")),
        of("staged_2"),
        Ratio(of("staged_2"), of("bound")),
        of("in_place"),
        of("link"),
    ]


TABLES = {
    "offload-h200": Table(
        "µs",
        [
            "µs per layer and step",
            "on the device",
            "store: ahead, staggered, beside",
            "ratio",
            "p99, ahead",
            "not ahead",
            "beside alone",
        ],
        [row(case) for case in CASES],
    ),
    "offload-append-h200": Table(
        "µs",
        [
            "µs per layer and step, blocks become hot as layers append",
            "on the device",
            "store",
            "ratio",
            "reused, on the device",
            "store",
            "ratio",
            "nothing hot",
            "refreshed two steps later",
        ],
        [
            *(append_row(case) for case in CASES),
            append_row("128k, drift 0.05", "1of1", "128k, drift 0.05, room for all"),
        ],
    ),
    "offload-budgets-h200": Table(
        "µs",
        [
            "budget, of the cache of 128k tokens",
            "MB of the device",
            "µs per layer and step, mean",
            "ratio",
            "reused",
            "ratio to reused on the device",
            "% not hot",
        ],
        [
            budget_row("1of8", "1/8"),
            budget_row("1of4", "1/4"),
            budget_row("1of2", "1/2"),
            budget_row("1of1", "all"),
        ],
    ),
    "offload-prefill-h200": Table(
        "ms",
        [
            "ms of a layer",
            "cache on the device",
            "what is read, once, at 55 GB/s",
            "store, staged by four heads",
            "ratio to the larger of both",
            "by two heads",
            "ratio",
            "store, read in place",
            "all keys and values at 55 GB/s",
        ],
        [prefill_row(*item) for item in PREFILL.items()],
    ),
}
