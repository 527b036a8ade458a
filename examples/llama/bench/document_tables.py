"""Tables in a document that are made of files of measurements.

A table stands between two comments,

    <!-- KEYWORD: NAME -->
    ...
    <!-- KEYWORD end -->

or `<!-- KEYWORD: NAME VIEW -->` where a file has several. It shows NAME.json of
examples/llama/results/; where there is no such file, it stays as it is.
"""

import argparse
import json
import pathlib
import re
import sys

LLAMA = pathlib.Path(__file__).resolve().parent.parent


def spread(values, form):
    """The mean of several values, the least and the most."""
    mean = form.format(sum(values) / len(values))
    if len(values) == 1:
        return mean
    return f"{mean} ({form.format(min(values))} to {form.format(max(values))})"


def mean_of(runs, field):
    return sum(run[field] for run in runs) / len(runs)


def grouped(runs, field):
    """Lists of the runs that have the same value, by it, in the order of the runs."""
    groups = {}
    for run in runs:
        groups.setdefault(run[field], []).append(run)
    return groups


def length(tokens):
    return f"{tokens // 1024}k" if tokens % 1024 == 0 else str(tokens)


def heading(context, runs):
    texts = len({run["seed"] for run in runs})
    return f"{length(context)}, {texts} text{'s' if texts > 1 else ''}:"


def table(rows):
    """Markdown of rows of cells, the first of which are the titles."""
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines[1] = lines[1].replace(" ", "")
    return "\n".join(re.sub(r"\|  (?=\|)", "| ", line) for line in lines)


def signature(report):
    return (
        f"{report['device']}, {report['kv_type']} cache, commit {report['commit']}, "
        f"{report['date']}: `{report['command']}`.\n"
    )


def updated(text, folder, keyword, markdown):
    """The text with its tables made anew; markdown(report, view) makes one."""
    section = re.compile(
        rf"(<!-- {keyword}: (\S+)(?: (\S+))? -->\n).*?(<!-- {keyword} end -->\n)", re.DOTALL
    )

    def replacement(match):
        path = folder / f"{match[2]}.json"
        if not path.exists():
            return match[0]
        return (
            match[1] + markdown(json.loads(path.read_text(encoding="utf-8")), match[3]) + match[4]
        )

    return section.sub(replacement, text)


def main(description, documents, keyword, markdown, whole):
    """whole(report) is what is printed of a single file."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail where stale")
    parser.add_argument("file", nargs="?", type=pathlib.Path, help="print its tables")
    options = parser.parse_args()
    if options.file:
        print(whole(json.loads(options.file.read_text(encoding="utf-8"))), end="")
        return
    for document in documents:
        before = document.read_text(encoding="utf-8")
        after = updated(before, LLAMA / "results", keyword, markdown)
        if before == after:
            continue
        if options.check:
            sys.exit(f"{document} is stale; run {pathlib.Path(sys.argv[0]).name}")
        document.write_text(after, encoding="utf-8")
        print(f"wrote {document}")
