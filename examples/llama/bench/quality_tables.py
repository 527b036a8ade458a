#!/usr/bin/env python3
"""Makes the tables of `llama evaluate` from the files in examples/llama/results/.

A table stands in docs/guide/quality.md between two comments:

    <!-- quality: quality-h200 text -->
    ...
    <!-- quality end -->

and shows a view of the file of that name, which record_quality.py has written: `text`, `answers`,
`right` or `scores`. Where there is no such file, it stays as it is.

    quality_tables.py                # writes docs/guide/quality.md
    quality_tables.py --check        # says that it is stale, and fails
    quality_tables.py FILE.json      # prints the tables of a file
"""

import json

import document_tables
from document_tables import LLAMA, grouped, heading, mean_of, signature, spread, table

DOCUMENT = LLAMA.parent.parent / "docs/guide/quality.md"


def label(attention):
    return attention.removeprefix("hip ")


def above_dense(runs, dense, field, same):
    """The differences of a field from that of dense attention in the run that agrees in `same`."""
    of_dense = {tuple(run[key] for key in same): run[field] for run in dense}
    return [run[field] - of_dense[tuple(run[key] for key in same)] for run in runs]


def mean_by_head(runs, field):
    """[layer][head], means over the runs."""
    layers = zip(*(run[field] for run in runs))
    return [[sum(values) / len(values) for values in zip(*heads)] for heads in layers]


def share(runs, field):
    heads = [value for layer in mean_by_head(runs, field) for value in layer]
    return f"{sum(heads) / len(heads):.4f}"


def least_share(runs, field):
    value, layer, head = min(
        (value, layer, head)
        for layer, heads in enumerate(mean_by_head(runs, field))
        for head, value in enumerate(heads)
    )
    return f"{value:.3f} ({layer}.{head})"


def text_row(runs, dense):
    same = dense is None or runs is dense
    above = "" if same else spread(above_dense(runs, dense, "nll", ["seed"]), "{:+.4f}")
    return [
        label(runs[0]["attention"]),
        f"{mean_of(runs, 'keys_per_row'):.0f}",
        f"{mean_of(runs, 'search_reads'):.0f}",
        above,
        share(runs, "mass"),
        least_share(runs, "mass"),
        share(runs, "top"),
        least_share(runs, "top"),
    ]


def text_table(runs, report):
    by_attention = grouped(runs, "attention")
    header = ["attention", "keys attended per row", "search reads per query block"]
    header += ["nats above dense", "mass", "least head"]
    header += [f"top {report['top_keys']}", "least head"]
    dense = by_attention.get("dense")
    return table([header, *(text_row(of_one, dense) for of_one in by_attention.values())])


def percent_table(runs, field):
    rows = [["attention", *grouped(runs, "task"), "mean"]]
    for attention, of_one in grouped(runs, "attention").items():
        shares = [100 * mean_of(of_task, field) for of_task in grouped(of_one, "task").values()]
        shares.append(sum(shares) / len(shares))
        rows.append([label(attention), *(f"{share:.1f}" for share in shares)])
    return table(rows)


def score_table(runs, _report):
    return percent_table(runs, "all")


def right_table(runs, _report):
    return percent_table(runs, "answer_right")


def answer_table(runs, _report):
    """Nats per token of the given answer; of other attention than dense, above it."""
    by_attention = grouped(runs, "attention")
    dense = by_attention.get("dense")
    rows = [["attention", *grouped(runs, "task"), "mean"]]
    for attention, of_one in by_attention.items():
        values = []
        for of_task in grouped(of_one, "task").values():
            if dense is None or of_one is dense:
                values.append(mean_of(of_task, "answer_nll"))
            else:
                differences = above_dense(of_task, dense, "answer_nll", ["task", "seed"])
                values.append(sum(differences) / len(differences))
        values.append(sum(values) / len(values))
        form = "{:.3f}" if dense is None or of_one is dense else "{:+.3f}"
        rows.append([label(attention), *(form.format(value) for value in values)])
    return table(rows)


VIEWS = {
    "text": ("texts", text_table),
    "answers": ("tasks", answer_table),
    "right": ("tasks", right_table),
    "scores": ("tasks", score_table),
}


def markdown(report, view):
    runs, make = VIEWS[view]
    parts = [
        f"{heading(context, at_one)}\n\n{make(at_one, report)}\n"
        for context, at_one in grouped(report[runs], "context").items()
    ]
    return "\n".join([*parts, signature(report)])


def whole(report):
    return "\n".join(markdown(report, view) for view, (runs, _) in VIEWS.items() if report[runs])


def updated(text, folder):
    return document_tables.updated(text, folder, "quality", markdown)


def compact(report):
    """JSON with a run a line."""
    lists = {name: value for name, value in report.items() if isinstance(value, list)}
    rest = {name: value for name, value in report.items() if name not in lists}
    text = json.dumps(rest, indent=1)[:-2]
    for name, runs in lists.items():
        text += f',\n "{name}": [\n' + ",\n".join(f"  {json.dumps(run)}" for run in runs) + "\n ]"
    return text + "\n}\n"


if __name__ == "__main__":
    document_tables.main(__doc__, [DOCUMENT], "quality", markdown, whole)
