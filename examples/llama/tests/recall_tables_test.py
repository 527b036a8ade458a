"""bench/recall_tables.py: means, spread and comparisons of results that are known, and a real file.

usage: recall_tables_test.py RECALL_JSON, which `llama recall --json` has written
"""

import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
import recall_tables


def run(attention, seed, codes, nll, reads):
    return {
        "context": 32768,
        "seed": seed,
        "attention": attention,
        "codes": 16,
        "codes_right": codes,
        "digits": 96,
        "digits_right": 6 * codes,
        "nll": nll,
        "search_reads": reads,
        "keys_per_row": 3000.0,
    }


REPORT = {
    "device": "a machine",
    "kv_type": "bfloat16",
    "commit": "1234567",
    "date": "2026-11-28",
    "command": "llama recall",
    "runs": [
        run("dense", 1, 16, 2.0, 0.0),
        run("hip infinite_hip", 1, 14, 2.01, 1000.0),
        run("hip landmark", 1, 16, 2.002, 500.0),
        run("dense", 2, 15, 3.0, 0.0),
        run("hip infinite_hip", 2, 13, 3.03, 3000.0),
        run("hip landmark", 2, 15, 2.999, 500.0),
    ],
}

text = recall_tables.markdown(REPORT)
for expected in (
    "32k, 2 texts:",
    "| attention | codes of 16 | digits of 96 |",
    "| dense | 15.5 (15 to 16) | 93.0 (90 to 96) | | 0 | | 3000 |",
    # 0.01 and 0.03 above dense of the same text.
    "| infinite_hip | 13.5 (13 to 14) | 81.0 (78 to 84) | +0.0200 (+0.0100 to +0.0300) | 2000 | 1.00",
    "| +0.0005 (-0.0010 to +0.0020) | 500 | 0.25 | 3000 |",
    "a machine, bfloat16 cache, commit 1234567, 2026-11-28: `llama recall`.",
):
    assert expected in text, f"{expected!r} is not in\n{text}"

summary = recall_tables.markdown(REPORT, "summary")
for expected in (
    "| codes found of 16, and nats above dense | 32k |",
    "| dense | 15.5 |",
    "| `landmark` | 15.5, +0.00",
    "| `infinite_hip` | 13.5, +0.020 |",
):
    assert expected in summary, f"{expected!r} is not in\n{summary}"

# A section is replaced where its file is there, and stays where it is not.
document = "a\n<!-- recall: there -->\nold\n<!-- recall end -->\nb\n"
other = document.replace("there", "absent")
with tempfile.TemporaryDirectory() as folder:
    (pathlib.Path(folder) / "there.json").write_text(json.dumps(REPORT))
    found = recall_tables.updated(document + other, pathlib.Path(folder))
assert found == document.replace("old\n", text) + other, found

# What the program writes has all fields but those that record_recall.py adds.
written = json.loads(pathlib.Path(sys.argv[1]).read_text())
tables = recall_tables.markdown({**written, "commit": "c", "date": "d", "command": "llama"})
assert "1k, 2 texts:" in tables and "\n1536, 2 texts:" in tables, tables
assert tables.count("| window infinite_hip |") == 2, tables
