#!/usr/bin/env python3
"""Makes the tables of the recall test from the files in examples/llama/results/.

A table stands in docs/guide/demo.md or README.md between two comments:

    <!-- recall: recall-h200 -->
    ...
    <!-- recall end -->

and shows the file of that name, which record_recall.py has written; where there is no such file, it
stays as it is. `recall-h200 summary` has a row for each of a few kinds of attention alone.

    recall_tables.py                # writes the documents
    recall_tables.py --check        # says which is stale, and fails
    recall_tables.py FILE.json      # prints the table of a file
"""

import document_tables
from document_tables import LLAMA, grouped, heading, length, mean_of, signature, spread, table

ROOT = LLAMA.parent.parent
DOCUMENTS = [ROOT / "docs/guide/demo.md", ROOT / "README.md"]

HEADER = [
    "attention",
    "codes of {codes}",
    "digits of {digits}",
    "nats above dense",
    "search reads per query block",
    "of those of infinite_hip",
    "keys attended per row",
]


def counts(values):
    mean = f"{sum(values) / len(values):.1f}"
    return f"{mean} ({min(values)} to {max(values)})" if len(values) > 1 else str(values[0])


def row_of(runs, dense, default):
    """One attention at one length; `dense` and `default` are the runs to compare with, or None."""
    above = ""
    if dense and runs is not dense:
        nll = {run["seed"]: run["nll"] for run in dense}
        above = spread([run["nll"] - nll[run["seed"]] for run in runs], "{:+.4f}")
    reads = mean_of(runs, "search_reads")
    share = f"{reads / mean_of(default, 'search_reads'):.2f}" if default and reads else ""
    return [
        runs[0]["attention"].removeprefix("hip "),
        counts([run["codes_right"] for run in runs]),
        counts([run["digits_right"] for run in runs]),
        above,
        f"{reads:.0f}",
        share,
        f"{mean_of(runs, 'keys_per_row'):.0f}",
    ]


def table_of(runs):
    """Markdown of all runs at one length."""
    by_attention = grouped(runs, "attention")
    dense, default = by_attention.get("dense"), by_attention.get("hip infinite_hip")
    header = [title.format(**runs[0]) for title in HEADER]
    return table([header, *(row_of(of_one, dense, default) for of_one in by_attention.values())])


SUMMARY = {
    "dense": "dense",
    "hip landmark": "`landmark`",
    "hip landmark_1k": "`landmark_1k`",
    "hip infinite_hip": "`infinite_hip`",
    "window infinite_hip": "a window of the size of `infinite_hip`'s selection",
}


def summary_cell(runs, dense):
    """Codes that were found and nats above dense, means over the texts."""
    cell = f"{mean_of(runs, 'codes_right'):.1f}"
    above = mean_of(runs, "nll") - mean_of(dense, "nll")
    return cell if runs is dense else f"{cell}, {above:+.3f}"


def summary(report):
    by_context = {
        context: grouped(runs, "attention")
        for context, runs in grouped(report["runs"], "context").items()
    }
    codes = report["runs"][0]["codes"]
    header = [f"codes found of {codes}, and nats above dense", *map(length, by_context)]
    rows = [
        [title, *(summary_cell(of[kind], of["dense"]) for of in by_context.values())]
        for kind, title in SUMMARY.items()
        if all(kind in of for of in by_context.values())
    ]
    return f"{table([header, *rows])}\n\n{signature(report)}"


def markdown(report, view=None):
    if view == "summary":
        return summary(report)
    parts = [
        f"{heading(context, runs)}\n\n{table_of(runs)}\n"
        for context, runs in grouped(report["runs"], "context").items()
    ]
    return "\n".join([*parts, signature(report)])


def updated(text, folder):
    return document_tables.updated(text, folder, "recall", markdown)


if __name__ == "__main__":
    document_tables.main(__doc__, DOCUMENTS, "recall", markdown, markdown)
