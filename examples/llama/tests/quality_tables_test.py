"""bench/quality_tables.py: comparisons of results that are known, and what the program writes.

usage: quality_tables_test.py QUALITY_JSON TASKS_JSONL, which `llama evaluate` has written with
--json and --dump-tasks
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
import quality_tables


def text(attention, seed, nll, mass):
    return {
        "context": 8192,
        "seed": seed,
        "attention": attention,
        "nll": nll,
        "search_reads": 100.0 * seed,
        "attention_reads": 3000.0,
        "keys_per_row": 2900.0,
        "mass": [[1.0, 1.0], [mass, 1.0]],
        "top": [[1.0, mass], [1.0, 1.0]],
    }


def task(attention, name, seed, score, nll):
    return {
        "task": name,
        "context": 8192,
        "seed": seed,
        "attention": attention,
        "all": score,
        "answer_nll": nll,
        "answer_right": score / 2,
    }


REPORT = {
    "device": "a machine",
    "kv_type": "bfloat16",
    "commit": "1234567",
    "date": "2026-11-28",
    "command": "llama evaluate",
    "top_keys": 64,
    "texts": [
        text("dense", 1, 2.0, 1.0),
        text("dense", 2, 3.0, 1.0),
        text("hip landmark", 1, 2.01, 0.8),
        text("hip landmark", 2, 3.03, 0.6),
    ],
    "tasks": [
        task("dense", "vt", 1, 1.0, 1.0),
        task("dense", "vt", 2, 0.5, 2.0),
        task("dense", "fwe", 1, 0.0, 4.0),
        task("window infinite_hip", "vt", 1, 0.2, 1.5),
        task("window infinite_hip", "vt", 2, 0.0, 2.1),
        task("window infinite_hip", "fwe", 1, 0.0, 3.9),
    ],
}

EXPECTED = {
    "text": [
        "8k, 2 texts:",
        "| top 64 | least head |",
        "| dense | 2900 | 150 | | 1.0000 | 1.000 (0.0) | 1.0000 | 1.000 (0.0) |",
        # Of four heads one has 0.7 in the mean.
        "| landmark | 2900 | 150 | +0.0200 (+0.0100 to +0.0300) | 0.9250 | 0.700 (1.0) | 0.9250 | "
        "0.700 (0.1) |",
        "a machine, bfloat16 cache, commit 1234567, 2026-11-28: `llama evaluate`.",
    ],
    "answers": [
        "| attention | vt | fwe | mean |",
        "| dense | 1.500 | 4.000 | 2.750 |",
        "| window infinite_hip | +0.300 | -0.100 | +0.100 |",
    ],
    "right": ["| window infinite_hip | 5.0 | 0.0 | 2.5 |"],
    "scores": ["| dense | 75.0 | 0.0 | 37.5 |", "| window infinite_hip | 10.0 | 0.0 | 5.0 |"],
}
for view, lines in EXPECTED.items():
    table = quality_tables.markdown(REPORT, view)
    for line in lines:
        assert line in table, f"{line!r} is not in\n{table}"
assert json.loads(quality_tables.compact(REPORT)) == REPORT
assert quality_tables.compact(REPORT).count("\n") < 30

# What the program writes has all fields but those that record_quality.py adds.
written = json.loads(pathlib.Path(sys.argv[1]).read_text())
tables = quality_tables.whole({**written, "commit": "c", "date": "d", "command": "llama"})
for line in ("1k, 2 texts:", "| dense |", "| window small |", "| quest small |", "| fwe | mean |"):
    assert line in tables, f"{line!r} is not in\n{tables}"
for run in written["texts"]:
    assert 0 < min(map(min, run["mass"])) and max(map(max, run["top"])) <= 1, run

tasks = [json.loads(line) for line in pathlib.Path(sys.argv[2]).read_text().splitlines()]
assert len(tasks) == 6 * 2 * 2, len(tasks)
for each in tasks:
    assert each["length"] <= each["context"], each["length"]
    assert all(output in each["input"] for output in each["outputs"]), each["outputs"]
    assert each["answer_prefix"] and each["new_tokens"] > 0 and each["answer"], each["task"]
