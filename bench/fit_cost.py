#!/usr/bin/env python3
"""Fits the rates of the cost model (docs/guide/cost-model.md) to measurements.

    bench/fit_cost.py bench/results/*.json

Takes every benchmark of prefill and decode in the files, asks hip_attn-info for the work of each,
finds the rates >= 0 whose relative errors are least, and writes them to
include/hip_attn/cost/GPU.hpp. Needs nothing but Python and a build of hip_attn-info. --check writes
nothing and fails where a prediction by the rates that are built in is further off than --within.
A rate that no benchmark in the files depends on stays as it is built in. Build again afterwards.
"""

import argparse
import pathlib
import random
import re
import sys

from cost_points import ROOT, Info, find_program, read_points, time_of


def solve(matrix, vector):
    """Gaussian elimination with the largest pivot."""
    n = len(vector)
    rows = [row[:] + [value] for row, value in zip(matrix, vector)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(i + 1, n):
            factor = rows[r][i] / rows[i][i]
            if factor:
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i])]
    result = [0.0] * n
    for i in reversed(range(n)):
        known = sum(rows[i][j] * result[j] for j in range(i + 1, n))
        result[i] = (rows[i][n] - known) / rows[i][i]
    return result


def least_squares(rows, targets, weights):
    """The x >= 0 that minimises the weighted squares of rows x - targets (Lawson and Hanson)."""
    n = len(rows[0])
    scale = [max((abs(row[j]) for row in rows), default=0.0) or 1.0 for j in range(n)]
    rows = [[value / scale[j] for j, value in enumerate(row)] for row in rows]
    gram = [[0.0] * n for _ in range(n)]
    right = [0.0] * n
    for row, target, weight in zip(rows, targets, weights):
        used = [j for j in range(n) if row[j]]
        for i in used:
            right[i] += weight * row[i] * target
            for j in used:
                gram[i][j] += weight * row[i] * row[j]
    for i in range(n):
        gram[i][i] += 1e-9  # terms that no point has
    x = [0.0] * n
    free = []
    for _ in range(10 * n):
        gradient = [right[i] - sum(gram[i][j] * x[j] for j in free) for i in range(n)]
        candidates = [i for i in range(n) if i not in free and gradient[i] > 1e-9]
        if not candidates:
            break
        free.append(max(candidates, key=lambda i: gradient[i]))
        while True:
            part = solve([[gram[i][j] for j in free] for i in free], [right[i] for i in free])
            if min(part) > 0:
                for i, value in zip(free, part):
                    x[i] = value
                break
            step = min(
                x[i] / (x[i] - value) for i, value in zip(free, part) if value <= 0
            )
            for i, value in zip(free, part):
                x[i] += step * (value - x[i])
            gone = [i for i in free if x[i] <= 1e-12]
            for i in gone:
                x[i] = 0.0
            free = [i for i in free if i not in gone]
    return [value / scale[j] for j, value in enumerate(x)]


# Searches are differences of two times, which have the errors of both.
WEIGHTS = {"search": 0.15, "from0": 3.0, "attend": 1.0, "all_searched": 0.5, "total": 1.0}

# Then points weigh the more the further off they are, so that none is off by much: about the fit
# with the least sixth powers.
ROUNDS = 60


def fit(points, names, before):
    """Rates by name. A term that no point has keeps its rate."""
    names = [name for name in names if any(point.terms.get(name) for point in points)]
    rows = [[point.terms.get(name, 0.0) / point.measured_ms for name in names] for point in points]
    weights = [WEIGHTS.get(point.what, 1.0) for point in points]
    rates = least_squares(rows, [1.0] * len(points), weights)
    for _ in range(ROUNDS):
        errors = [sum(a * b for a, b in zip(row, rates)) - 1 for row in rows]
        stressed = [w * (0.02 + abs(e)) ** 4 for w, e in zip(weights, errors)]
        better = least_squares(rows, [1.0] * len(points), stressed)
        rates = [a + (b - a) / 5 for a, b in zip(rates, better)]  # a whole step overshoots
    return {**before, **dict(zip(names, (rate * 1e6 for rate in rates)))}


def errors_by(points, rates, key):
    groups = {}
    for point in points:
        error = time_of(point.terms, rates) / point.measured_ms - 1
        groups.setdefault(key(point), []).append(error)
    return groups


def print_errors(points, rates):
    print(f"{'':28}{'points':>7}{'mean |error|':>14}{'largest':>9}")
    for group, errors in sorted(errors_by(points, rates, lambda p: f"{p.kind} {p.what}").items()):
        largest = max(errors, key=abs)
        mean = sum(map(abs, errors)) / len(errors)
        print(f"{group:28}{len(errors):7}{mean:13.1%} {largest:+8.1%}")


def held_out(points, names, before, parts=5):
    """Every benchmark predicted by rates that were fitted without it: errors by point."""
    benchmarks = sorted({point.name for point in points})
    random.Random(1).shuffle(benchmarks)
    part_of = {name: i % parts for i, name in enumerate(benchmarks)}
    errors = []
    for part in range(parts):
        rates = fit([point for point in points if part_of[point.name] != part], names, before)
        for point in points:
            if part_of[point.name] == part:
                errors.append((time_of(point.terms, rates) / point.measured_ms - 1, point))
    return errors


HEADER = """\
/// Written by bench/fit_cost.py: the rates of {title} that fit {count} measured times.
#pragma once

#include "hip_attn/cost/gpu.hpp"

namespace hip_attn {{

inline constexpr Gpu {constant} = {{
    {{.name = "{name}",
     .multiprocessors = {multiprocessors},
     .compute_capability = {compute_capability},
     .clock_ghz = {clock_ghz},
     .memory_tb_per_s = {memory_tb_per_s},
     .memory_gb = {memory_gb},
     .link_gb_per_s = {link_gb_per_s},
     .shared_bytes = {shared_bytes},
     .l2_bytes = {l2_bytes},
     .cluster_multiprocessors = {cluster_multiprocessors}}},
    {{{{{{
{rates}
    }}}}}},
    "{name}"}};

}}  // namespace hip_attn
"""


def header_of(gpu, rates, units, count):
    """The C++ header of a GPU's model, as scripts/format has it."""
    numbers = {name: f"{rates[name]:.5g}," for name in rates}
    width = max(map(len, numbers.values()))
    lines = [f"        {numbers[name]:{width}}  // {name}: ns / {units[name]}" for name in rates]
    facts = {key: gpu[key] for key in gpu if isinstance(gpu[key], (int, float, str))}
    facts["compute_capability"] = round(10 * gpu["compute_capability"])
    constant = "k" + re.sub(r"[^A-Za-z0-9]", "", facts["name"].upper())
    return HEADER.format(
        **facts,
        title=f"the GPU {facts['name']}",
        count=count,
        constant=constant,
        rates="\n".join(lines),
    )


def properties(options, gpu):
    """The GPU's properties: those that the model has, but for what the options say."""
    facts = dict(gpu, name=options.name or gpu["name"])
    for change in options.property:
        key, _, value = change.partition("=")
        if key not in facts or not value:
            sys.exit(f'--property is "{change}"; it takes NAME=VALUE, NAME one of ' + ", ".join(
                key for key, value in gpu.items() if isinstance(value, (int, float))))
        facts[key] = float(value) if "." in value else int(value)
    return facts


def summary(points, rates, names):
    """What the fit is worth, for people."""
    print_errors(points, rates)
    out = [(error, point) for error, point in held_out(points, names, rates)]
    timed = [abs(error) for error, point in out if point.what != "search"]
    good = sum(error <= 0.15 for error in timed) / len(timed)
    print(f"held out a fifth at a time: mean |error| {sum(timed) / len(timed):.1%}, "
          f"{good:.0%} of the points within 15 %, worst:")
    for error, point in sorted(out, key=lambda pair: -abs(pair[0]))[:5]:
        print(f"  {error:+7.1%} {point.what:12} {point.name}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=pathlib.Path, help="JSON of Google Benchmark")
    parser.add_argument("--gpu", default="h200", help="the model to begin with, by its name")
    parser.add_argument("--name", help="of the GPU that was measured; otherwise that of --gpu")
    parser.add_argument(
        "--property", action="append", default=[], metavar="NAME=VALUE",
        help="of the GPU that was measured, where it is another one than --gpu",
    )
    parser.add_argument("--info", help="the program hip_attn-info; otherwise that of build/")
    parser.add_argument("--output", type=pathlib.Path, help="instead of include/hip_attn/cost/")
    parser.add_argument("--check", action="store_true", help="fit nothing: errors as they are")
    parser.add_argument("--within", type=float, default=0.15, help="the largest error of --check")
    parser.add_argument("--plot", type=pathlib.Path, help="write this SVG too (takes matplotlib)")
    parser.add_argument(
        "--docs", action="store_true", help="with --check: write the tables of docs/guide/cost-model.md"
    )
    parser.add_argument("--all", action="store_true", help="print every point")
    options = parser.parse_args()
    info = Info(find_program(options.info), options.gpu)
    points = read_points(options.results, info)
    if not points:
        sys.exit("fit_cost.py: no benchmark of prefill or decode in " + " ".join(map(str, options.results)))
    built, units, gpu = info.rates()
    names = list(built)
    rates = built if options.check else fit(points, names, built)
    for point in points:
        point.predicted_ms = time_of(point.terms, rates)
    if options.all:
        for point in sorted(points, key=lambda point: -abs(point.error)):
            print(f"{point.error:+7.1%} {point.predicted_ms:10.4f} ms for {point.measured_ms:10.4f} "
                  f"{point.what:12} {point.name}  {point.source}")
    if options.check:
        print_errors(points, rates)
    else:
        summary(points, rates, names)
        facts = properties(options, gpu)
        output = options.output or ROOT / "include/hip_attn/cost" / f"{facts['name'].replace('-', '_')}.hpp"
        output.write_text(header_of(facts, rates, units, len(points)), encoding="utf-8")
        print(f"wrote {output}")
    if options.plot:
        import cost_plot

        cost_plot.draw(points, options.plot)
        print(f"wrote {options.plot}")
    if options.check and options.docs:
        import cost_docs

        page = cost_docs.PAGE
        page.write_text(cost_docs.written(page.read_text("utf-8"), points, info), encoding="utf-8")
        print(f"wrote {page}")
    if options.check:
        bad = [p for p in points if p.what != "search" and abs(p.error) > options.within]
        for point in bad:
            print(f"{point.error:+.1%}: {point.what} of {point.name} in {point.source}")
        if bad:
            sys.exit(f"{len(bad)} of {len(points)} predictions are off by more than {options.within:.0%}")


if __name__ == "__main__":
    main()
