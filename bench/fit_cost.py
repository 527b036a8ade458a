#!/usr/bin/env python3
"""Fits the rates of the cost model (docs/guide/cost-model.md) to measurements.

    bench/fit_cost.py bench/results/*.json

Takes every benchmark of prefill and decode in the files, asks hip_attn-info for the work of each,
finds the rates >= 0 whose relative errors have the least squares, and writes them to
include/hip_attn/cost/GPU.hpp. Needs nothing but Python and a build of hip_attn-info. --check writes
nothing and fails where a prediction by the rates that are built in is further off than --within.
"""

import argparse
import pathlib
import random
import sys

import cost_points
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
WEIGHTS = {"search": 0.15, "attend": 1.0, "all_searched": 0.5, "total": 1.0}


def fit(points, names):
    rows = [[point.terms.get(name, 0.0) / point.measured_ms for name in names] for point in points]
    weights = [WEIGHTS.get(point.what, 1.0) for point in points]
    rates = least_squares(rows, [1.0] * len(points), weights)
    return dict(zip(names, (rate * 1e6 for rate in rates)))


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


def held_out(points, names, parts=5):
    """Every benchmark predicted by rates that were fitted without it: errors by point."""
    benchmarks = sorted({point.name for point in points})
    random.Random(1).shuffle(benchmarks)
    part_of = {name: i % parts for i, name in enumerate(benchmarks)}
    errors = []
    for part in range(parts):
        rates = fit([point for point in points if part_of[point.name] != part], names)
        for point in points:
            if part_of[point.name] == part:
                errors.append((time_of(point.terms, rates) / point.measured_ms - 1, point))
    return errors


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=pathlib.Path, help="JSON of Google Benchmark")
    parser.add_argument("--gpu", default="h200", help="the model to fit, by its name")
    parser.add_argument("--info", help="the program hip_attn-info; otherwise that of build/")
    parser.add_argument("--all", action="store_true", help="print every point")
    options = parser.parse_args()
    info = Info(find_program(options.info), options.gpu)
    points = read_points(options.results, info)
    built, units, gpu = info.rates()
    names = list(built)
    rates = fit(points, names)
    for name in names:
        print(f"{name:32}{rates[name]:14.6g} ns / {units[name]}")
    print_errors(points, rates)
    worst = sorted(points, key=lambda p: -abs(time_of(p.terms, rates) / p.measured_ms - 1))
    for p in worst if options.all else worst[:25]:
        print(f"{time_of(p.terms, rates) / p.measured_ms - 1:+7.1%} {time_of(p.terms, rates):9.4f} {p.measured_ms:9.4f} {p.what:12} {p.name} {p.source}")
    out = [abs(e) for e, p in held_out(points, names) if p.what != "search"]
    print(f"held out: mean {sum(out)/len(out):.1%} largest {max(out):.1%}")


if __name__ == "__main__":
    main()
