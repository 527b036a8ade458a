"""The tables of decode with the cache in host memory."""

from report_cells import Measured, Ratio, Source, Table

SOURCES = {
    "offload-h200": Source(
        [
            "cuda_offload_bench",
            "--benchmark_filter=1x(131072|1048576)/|/drift5|1x65536/.*/drift2",
        ],
        machine="H200",
    ),
}

CASES = {
    "64k, drift 0.02": ("1x65536/q32k8d128", 2),
    "128k, drift 0.02": ("1x131072/q32k8d128", 2),
    "128k, drift 0.05": ("1x131072/q32k8d128", 5),
    "128k, drift 0.1": ("1x131072/q32k8d128", 10),
    "512k, drift 0.05": ("1x524288/q32k8d128", 5),
    "1M, drift 0.02": ("1x1048576/q32k8d128", 2),
    "1M, drift 0.05": ("1x1048576/q32k8d128", 5),
    "1M, drift 0.1": ("1x1048576/q32k8d128", 10),
    "8 x 128k, drift 0.05": ("8x131072/q32k8d128", 5),
    "4M, 2 KV heads, drift 0.05": ("1x4194304/q8k2d128", 5),
}


def cell(case, cache, field):
    shape, drift = CASES[case]
    name = f"offload/{shape}/{cache}/drift{drift}"
    return Measured("offload-h200", name, f"{field}_us", 1e-6)


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
