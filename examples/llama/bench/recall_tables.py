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

import argparse
import json
import pathlib
import re
import sys

LLAMA = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = LLAMA.parent.parent / "docs/guide/demo.md"
SECTION = re.compile(r"(<!-- recall: (\S+) -->\n).*?(<!-- recall end -->\n)", re.DOTALL)

HEADER = [
    "attention",
    "codes of {codes}",
    "digits of {digits}",
    "nats above dense",
    "search reads per query block",
    "of those of infinite_hip",
    "keys attended per row",
]


def spread(values, form):
    """The mean of several values, the least and the most."""
    mean = form.format(sum(values) / len(values))
    if len(values) == 1:
        return mean
    return f"{mean} ({form.format(min(values))} to {form.format(max(values))})"


def counts(values):
    mean = f"{sum(values) / len(values):.1f}"
    return f"{mean} ({min(values)} to {max(values)})" if len(values) > 1 else str(values[0])


def mean_of(runs, field):
    return sum(run[field] for run in runs) / len(runs)


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
    by_attention = {}
    for run in runs:
        by_attention.setdefault(run["attention"], []).append(run)
    dense, default = by_attention.get("dense"), by_attention.get("hip infinite_hip")
    header = [title.format(**runs[0]) for title in HEADER]
    rows = [header, ["---"] * len(header)]
    rows += [row_of(of_one, dense, default) for of_one in by_attention.values()]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines[1] = lines[1].replace(" ", "")
    return "\n".join(re.sub(r"\|  (?=\|)", "| ", line) for line in lines)


def length(tokens):
    return f"{tokens // 1024}k" if tokens % 1024 == 0 else str(tokens)


def markdown(report):
    by_context = {}
    for run in report["runs"]:
        by_context.setdefault(run["context"], []).append(run)
    parts = []
    for context, runs in by_context.items():
        texts = len({run["seed"] for run in runs})
        title = f"{length(context)}, {texts} text{'s' if texts > 1 else ''}:"
        parts.append(f"{title}\n\n{table_of(runs)}\n")
    parts.append(
        f"{report['device']}, {report['kv_type']} cache, commit {report['commit']}, "
        f"{report['date']}: `{report['command']}`.\n"
    )
    return "\n".join(parts)


def updated(text, folder):
    def section(match):
        path = folder / f"{match[2]}.json"
        if not path.exists():
            return match[0]
        return match[1] + markdown(json.loads(path.read_text(encoding="utf-8"))) + match[3]

    return SECTION.sub(section, text)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail where stale")
    parser.add_argument("file", nargs="?", type=pathlib.Path, help="print its table")
    options = parser.parse_args()
    if options.file:
        print(markdown(json.loads(options.file.read_text(encoding="utf-8"))), end="")
        return
    before = DOCUMENT.read_text(encoding="utf-8")
    after = updated(before, LLAMA / "results")
    if before == after:
        return
    if options.check:
        sys.exit(f"{DOCUMENT} is stale; run {pathlib.Path(__file__).name}")
    DOCUMENT.write_text(after, encoding="utf-8")
    print(f"wrote {DOCUMENT}")


if __name__ == "__main__":
    main()
