#!/usr/bin/env python3
"""Replays traces of decode (kv_trace.py) against policies of replacement (kv_pools.py) and layouts
of a store's slots (kv_replay.py). Needs nothing but Python 3, and takes minutes.

    bench/kv_policies.py --json results.json     # those of bench/traces
    bench/kv_policies.py TRACE... --json results.json

Names are TRACE/LAYOUT/POLICY/BUDGET, the budget in MiB for one layer and KV head, with tables,
sink and window. The first two cycles of searches, 32 steps, count in store_hit_rate alone.
TRACE/LAYOUT/working-set/PERCENT has the least budget with such a hit rate, 99-again with one of
99 % of what was asked for before, TRACE/LAYOUT/new the share of what was not, and
fit/FAMILY/LAYOUT/PERCENT how budgets grow with the length over the traces FAMILY-LENGTH. Elements
have 16 bits.
"""

import argparse
import datetime
import functools
import json
import math
import multiprocessing
import pathlib
import statistics
import sys

import kv_trace
from kv_pools import POLICIES, Belady, Lru
from kv_replay import AS_NOW, BLOCK, LAYOUTS, ONE_POOL, Traffic, Unit, link_bytes_as_built

TRACES = pathlib.Path(__file__).resolve().parent / "traces"
RATES = [90, 95, 99]  # %
BUDGETS = [4, 5, 6, 8, 10, 12, 16, 24]  # MiB
WARM_UP = 32  # steps
CYCLE = 16  # steps from a search to the next
LINK_BYTES_PER_S = 51e9  # of reads of pinned memory in place, in runs of 2 KiB and more, on an H200
MIB = 1 << 20


def totals(traffic):
    """Bytes asked for, missed, asked for the first time, and missed of these."""
    return [
        sum(sum(getattr(of, field)[WARM_UP:]) for of in traffic)
        for field in ("asked", "missed", "new", "new_missed")
    ]


class Replays:
    """Of one trace and layout."""

    def __init__(self, trace, layout):
        self.trace = trace
        self.units = [Unit(steps, LAYOUTS[layout], trace.header) for steps in trace.units.values()]
        self.least_budget = max(unit.least_budget() for unit in self.units)
        self.cache_bytes = 4 * trace.header["head_dim"] * self.length

    @property
    def length(self):
        return self.trace.header["prompt_tokens"] + self.trace.num_steps

    def traffic(self, policy, budget):
        steps = self.trace.num_steps
        return [Traffic.of(unit, policy, budget, steps) for unit in self.units]

    def hit_rate(self, policy, budget, again=False):
        """again: of what was asked for before, alone."""
        asked, missed, new, new_missed = totals(self.traffic(policy, budget))
        return 1 - (missed - again * new_missed) / (asked - again * new)

    def link(self, by_step):
        """What bytes over the link, of each unit by step, say of a search."""
        late = [steps[WARM_UP:] for steps in by_step]
        per_step = statistics.fmean(bytes_ for steps in late for bytes_ in steps)
        ordered = sorted(bytes_ for steps in late for bytes_ in steps)
        return {
            "kib_per_search": per_step * CYCLE / 1024,
            "kib_per_step": per_step / 1024,
            "p99_step_kib": ordered[len(ordered) * 99 // 100] / 1024,
            "link_us_per_search": per_step * CYCLE / LINK_BYTES_PER_S * 1e6,
        }

    def measure(self, policy, budget):
        traffic = self.traffic(policy, budget)
        asked, missed, *_ = totals(traffic)
        return {"hit_rate": 1 - missed / asked, **self.link([of.missed for of in traffic])}

    def store_hit_rate(self, budget):
        """As read_kv_store_counters counts: from the first step, with sink and window."""
        asked = missed = 0
        for unit, steps in zip(self.units, self.trace.units.values()):
            first = self.trace.header["prompt_tokens"] + 1
            for step, missing, count, _ in next(unit.replay(Lru, budget)):
                near = unit.sink + first + step - steps[step].window_start
                asked += count + near // BLOCK
                missed += len(missing)
        return 1 - missed / asked

    def as_built(self, budget):
        head_dim = self.trace.header["head_dim"]
        return self.link(
            [
                link_bytes_as_built(unit, steps, budget, head_dim)
                for unit, steps in zip(self.units, self.trace.units.values())
            ]
        )

    def working_set(self, rate, again=False):
        """The least budget of the store's policy with such a hit rate, to 1/64 MiB."""
        low, high = 0, math.ceil(2 * self.cache_bytes * 64 / MIB)
        while low + 1 < high:
            middle = (low + high) // 2
            if self.hit_rate(Lru, middle * MIB / 64, again) >= rate:
                high = middle
            else:
                low = middle
        return high * MIB / 64


def line_through(x, y):
    """(a, b) of the least squares of a + b x."""
    line = statistics.linear_regression(x, y)
    return line.intercept, line.slope


def fits(lengths, mib):
    """a + b log2 T, and c T^p, with the relative error of each."""
    logs = [math.log2(length) for length in lengths]
    a, b = line_through(logs, mib)
    log_c, p = line_through(logs, [math.log2(value) for value in mib])

    def error(predicted):
        return math.sqrt(statistics.fmean((f / m - 1) ** 2 for f, m in zip(predicted, mib)))

    return {
        "mib_at_64k": a + 16 * b,
        "mib_per_doubling": b,
        "log_error": error([a + b * x for x in logs]),
        "power": p,
        "power_error": error([2 ** (log_c + p * x) for x in logs]),
    }


def policies_of(layout):
    """All of the two layouts that are compared closely; of others, the store's and the optimum."""
    if layout in (AS_NOW, ONE_POOL):
        return POLICIES
    return {name: pool for name, pool in POLICIES.items() if pool in (Lru, Belady)}


def replay(trace, name, budgets):
    """(name, fields) of everything about a trace. Budgets that do not hold what a step asks for are
    left out, and those that hold more than the cache."""
    for layout in LAYOUTS:
        replays = Replays(trace, layout)
        for budget in budgets:
            if not replays.least_budget <= budget * MIB <= replays.cache_bytes:
                continue
            for policy, pool in policies_of(layout).items():
                fields = replays.measure(pool, budget * MIB)
                if layout == AS_NOW and pool is Lru:
                    fields["store_hit_rate"] = replays.store_hit_rate(budget * MIB)
                yield f"{name}/{layout}/{policy}/{budget:g}", fields
            if layout == AS_NOW:
                yield f"{name}/{layout}/as built/{budget:g}", replays.as_built(budget * MIB)
        if layout not in (AS_NOW, ONE_POOL):
            continue
        asked, _, new, _ = totals(replays.traffic(Lru, replays.least_budget))
        yield f"{name}/{layout}/new", {"of_asked": new / asked}
        sets = {f"{percent}": replays.working_set(percent / 100) for percent in RATES}
        sets["99-again"] = replays.working_set(0.99, again=True)
        for which, least in sets.items():
            yield f"{name}/{layout}/working-set/{which}", {
                "length": replays.length,
                "mib": least / MIB,
                "of_cache": least / replays.cache_bytes,
                "least_mib": replays.least_budget / MIB,
            }


def replay_file(path, budgets):
    """The header of a trace, and a dict of what replay says."""
    trace = kv_trace.read(path)
    found = dict(replay(trace, trace_name(path), budgets))
    print(trace_name(path), file=sys.stderr)
    return trace.header, found


def trace_name(path):
    return path.name.split(".trace")[0]


def fits_of(found):
    """(name, fields) of the growth of each family of working sets."""
    sets = {}
    for name, fields in found.items():
        trace, _, rest = name.partition("/")
        if "/working-set/" in rest:
            family = f"fit/{trace.rsplit('-', 1)[0]}/{rest.replace('working-set/', '')}"
            sets.setdefault(family, []).append((fields["length"], fields["mib"]))
    return {name: fits(*zip(*points)) for name, points in sets.items() if len(points) > 2}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("traces", nargs="*", type=pathlib.Path, help="instead of bench/traces")
    parser.add_argument("--budgets", nargs="+", type=float, default=BUDGETS, help="MiB")
    parser.add_argument("--json", required=True)
    options = parser.parse_args()
    paths = options.traces or sorted(TRACES.glob("*.trace.gz"))
    try:
        with multiprocessing.Pool(2) as processes:
            replay_one = functools.partial(replay_file, budgets=options.budgets)
            replayed = processes.map(replay_one, paths, chunksize=1)
    except (OSError, kv_trace.TraceError) as error:
        sys.exit(f"kv_policies.py: {error}")
    found = {name: fields for _, of_trace in replayed for name, fields in of_trace.items()}
    found.update(fits_of(found))
    devices = {header["device"] for header, _ in replayed if "device" in header}
    context = {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": f"Replayed traces; those of text are from {' and '.join(sorted(devices))}",
        "runs": {trace_name(path): header for path, (header, _) in zip(paths, replayed)},
    }
    benchmarks = [
        {"name": name, "run_type": "iteration", **fields} for name, fields in found.items()
    ]
    with open(options.json, "w", encoding="utf-8") as file:
        json.dump({"context": context, "benchmarks": benchmarks}, file, indent=1)


if __name__ == "__main__":
    main()
