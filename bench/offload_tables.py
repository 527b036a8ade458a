"""The tables of decode with the cache in host memory."""

from report_cells import Measured, Ratio, Source, Table

SOURCES = {
    "offload-h200": Source(
        [
            "cuda_offload_bench",
            "--benchmark_filter=1x131072/.*drift(2|10)|1x1048576/.*drift5",
        ],
        machine="H200",
    ),
}

CASES = {
    "128k, drift 0.02": ("1x131072/q32k8d128", 2),
    "128k, drift 0.1": ("1x131072/q32k8d128", 10),
    "1M, drift 0.05": ("1x1048576/q32k8d128", 5),
}


def measured(case, cache, field, scale):
    shape, drift = CASES[case]
    return Measured("offload-h200", f"offload/{shape}/{cache}/drift{drift}", field, scale)


def cell(case, cache, field):
    return measured(case, cache, f"{field}_us", 1e-6)


def row(case):
    mean = [cell(case, cache, "mean") for cache in ("device", "1of8", "1of8beside")]
    return [
        case,
        *mean,
        Ratio(mean[2], mean[0]),
        cell(case, "1of8beside", "p99"),
        cell(case, "device", "reused"),
        cell(case, "1of8beside", "reused"),
        cell(case, "1of8", "cold"),
        cell(case, "1of8", "warm"),
    ]


TABLES = {
    "offload-h200": Table(
        "µs",
        [
            "µs per layer and step",
            "mean, on the device",
            "mean, store",
            "mean, store on a stream beside",
            "ratio",
            "its p99",
            "reused, on the device",
            "reused, store",
            "nothing hot",
            "refreshed two steps later",
        ],
        [row(case) for case in CASES],
    ),
}
