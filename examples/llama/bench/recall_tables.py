#!/usr/bin/env python3
"""Makes the tables of the recall test from the files in examples/llama/results/.

A table stands in docs/guide/demo.md between two comments:

    <!-- recall: recall-h200 -->
    ...
    <!-- recall end -->

and shows the file of that name, which record_recall.py has written; where there is no such file, it
stays as it is.

    recall_tables.py                # writes docs/guide/demo.md
    recall_tables.py --check        # says that it is stale, and fails
    recall_tables.py FILE.json      # prints the table of a file
"""

import document_tables
from document_tables import LLAMA, grouped, heading, mean_of, signature, spread, table

DOCUMENT = LLAMA.parent.parent / "docs/guide/demo.md"

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


def markdown(report, _view=None):
    parts = [
        f"{heading(context, runs)}\n\n{table_of(runs)}\n"
        for context, runs in grouped(report["runs"], "context").items()
    ]
    return "\n".join([*parts, signature(report)])


def updated(text, folder):
    return document_tables.updated(text, folder, "recall", markdown)


if __name__ == "__main__":
    document_tables.main(__doc__, DOCUMENT, "recall", markdown, markdown)
