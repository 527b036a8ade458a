"""The tables of what replayed traces ask of a store (docs/lab/offload.md)."""

from kv_pools import POLICIES
from kv_replay import AS_NOW, LAYOUTS, ONE_POOL
from report_cells import Plain, Source, Table

SOURCES = {"kv-policies": Source(["kv_policies.py"], machine="Replayed traces")}

TEXT = {"16k": "text-16k", "32k": "text-32k", "64k": "text-64k", "114k": "text-114k"}
RANDOM = {length: f"random-0.05-{length}" for length in ("64k", "128k", "256k", "512k", "1M")}
LONGEST = TEXT["114k"]
BUDGETS = [5, 6, 8, 12, 16, 24]
LRU = "LRU in searches"
WORKING_SETS = {
    "90": "90 %",
    "95": "95 %",
    "99": "99 %",
    "99-again": "99 % of what was asked for before",
}


class Number(Plain):
    def __init__(self, name, field, scale=1.0):
        super().__init__("kv-policies", name, field, scale)


def of_budgets(layout, policy, field, scale=1.0, budgets=BUDGETS):
    return [Number(f"{LONGEST}/{layout}/{policy}/{budget}", field, scale) for budget in budgets]


def missed(layout, policy):
    return of_budgets(layout, policy, "kib_per_search")


def working_set_rows(traces, field, scale=1.0):
    return [
        [f"{layout}, {words}"]
        + [Number(f"{t}/{layout}/working-set/{which}", field, scale) for t in traces.values()]
        for layout in (AS_NOW, ONE_POOL)
        for which, words in WORKING_SETS.items()
    ]


def new_row(layout, traces):
    return [f"{layout}, % asked for the first time"] + [
        Number(f"{trace}/{layout}/new", "of_asked", 100) for trace in traces.values()
    ]


MIB_HEADER = [f"{budget} MiB" for budget in BUDGETS]

TABLES = {
    "kv-policies": Table(
        None,
        ["KiB over the link for a search", *MIB_HEADER],
        [[policy, *missed(AS_NOW, policy)] for policy in POLICIES],
    ),
    "kv-policies-one-pool": Table(
        None,
        ["KiB over the link for a search", *MIB_HEADER],
        [[policy, *missed(ONE_POOL, policy)] for policy in POLICIES],
    ),
    "kv-layouts": Table(
        None,
        ["KiB over the link for a search", *MIB_HEADER],
        [["as the store is: read where they lie, then copied", *missed(AS_NOW, "as built")]]
        + [[layout, *missed(layout, LRU)] for layout in LAYOUTS],
    ),
    "kv-layouts-p99": Table(
        None,
        ["KiB over the link, 99 % of steps bring less", *MIB_HEADER],
        [["as the store is", *of_budgets(AS_NOW, "as built", "p99_step_kib")]]
        + [[layout, *of_budgets(layout, LRU, "p99_step_kib")] for layout in LAYOUTS],
    ),
    "kv-layouts-hit-rate": Table(
        None,
        ["bytes asked for that are hot, %", *MIB_HEADER],
        [[layout, *of_budgets(layout, LRU, "hit_rate", 100)] for layout in LAYOUTS]
        + [["as its counters say", *of_budgets(AS_NOW, LRU, "store_hit_rate", 100)]],
    ),
    "kv-link-time": Table(
        None,
        ["µs over the link for a search, predicted", *MIB_HEADER],
        [["as the store is", *of_budgets(AS_NOW, "as built", "link_us_per_search")]]
        + [[layout, *of_budgets(layout, LRU, "link_us_per_search")] for layout in LAYOUTS],
    ),
    "kv-working-set-text": Table(
        None, ["text: MiB for a hit rate", *TEXT], working_set_rows(TEXT, "mib")
    ),
    "kv-working-set-text-share": Table(
        None,
        ["text: % of the cache", *TEXT],
        [
            *working_set_rows(TEXT, "of_cache", 100),
            *(new_row(layout, TEXT) for layout in (AS_NOW, ONE_POOL)),
        ],
    ),
    "kv-working-set-random": Table(
        None,
        ["random keys: MiB for a hit rate", *RANDOM],
        [
            *working_set_rows(RANDOM, "mib"),
            *(new_row(layout, RANDOM) for layout in (AS_NOW, ONE_POOL)),
        ],
    ),
    "kv-working-set-fit": Table(
        None,
        [
            "",
            "MiB at 64k, a + b log T",
            "MiB more with twice the length",
            "its error, %",
            "power of T",
            "its error, %",
        ],
        [
            [f"{title}, {layout}, {WORKING_SETS[which]}"]
            + [
                Number(f"fit/{family}/{layout}/{which}", field, scale)
                for field, scale in (
                    ("mib_at_64k", 1),
                    ("mib_per_doubling", 1),
                    ("log_error", 100),
                    ("power", 1),
                    ("power_error", 100),
                )
            ]
            for family, title in (("text", "text"), ("random-0.05", "random keys"))
            for layout in (AS_NOW, ONE_POOL)
            for which in ("99", "99-again")
        ],
    ),
}
