"""What replayed traces ask of a store, from bench/results/kv-policies.json: docs/lab/offload.md."""

import json
import math
import pathlib

import charts
from charts import Chart
from drawing import Drawing

RESULTS = pathlib.Path(__file__).resolve().parents[2] / "bench/results/kv-policies.json"
LONGEST = "text-114k"
BUDGETS = [4, 5, 6, 8, 12, 16, 24]  # MiB
BUDGET_MARKS = [(n, f"{n}") for n in (4, 6, 8, 12, 16, 24)]
TOGETHER = "blocks of 8, K and V together"
ONE_POOL = "K and V of blocks of 8 apart, one pool"
LRU = "LRU in searches"
LAYOUTS = {
    TOGETHER: "K and V of a block of 8 together",
    ONE_POOL: "K and V of a block of 8 apart, one pool",
    "K and V of blocks of 8 apart, two pools": "the same, two pools, 3 : 1",
    "K of chunks of 64, V of blocks of 8": "K of a chunk of 64, V of a block of 8, 3 : 1",
}
FAMILIES = {"text": "text", "random-0.05": "random keys, drift 0.05"}
POLICIES = [LRU, "second chance", "LFU, aged", "random", "FIFO", "Belady"]


def read_results():
    entries = json.loads(RESULTS.read_text(encoding="utf-8"))["benchmarks"]
    return {entry["name"]: entry for entry in entries}


def by_budget(results, layout, policy, field, scale=1.0):
    points = [(n, results.get(f"{LONGEST}/{layout}/{policy}/{n}")) for n in BUDGETS]
    return [(n, entry[field] * scale) for n, entry in points if entry]


def draw_policies():
    results = read_results()
    pic = Drawing(1120, 470, "Hit rate and bytes over the link against the budget of a store")
    pic.parts.append(charts.style())
    boxes = [(70, 56, 270, 240), (440, 56, 270, 240), (810, 56, 270, 240)]
    percents = [50, 60, 70, 80, 90, 100]
    rates = Chart(pic, boxes[0], "hot of what is asked for, %", BUDGET_MARKS, percents)
    times = Chart(pic, boxes[1], "link for a search, µs", BUDGET_MARKS, [0, 20, 40, 60, 80])
    kib = Chart(pic, boxes[2], "link for a search, KiB", BUDGET_MARKS, [0, 500, 1000, 1500, 2000])
    for number, layout in enumerate(LAYOUTS):
        rates.line(number, by_budget(results, layout, LRU, "hit_rate", 100))
        times.line(number, by_budget(results, layout, LRU, "link_us_per_search"))
    built = len(LAYOUTS)
    times.line(built, by_budget(results, TOGETHER, "as built", "link_us_per_search"), dashed=True)
    for number, policy in enumerate(POLICIES):
        kib.line(number, by_budget(results, TOGETHER, policy, "kib_per_search"))
    for left, _, width, _ in boxes:
        pic.text("muted small middle", left + width / 2, 332, "budget, MiB a layer and KV head")
    names = [(words, False) for words in LAYOUTS.values()]
    charts.legend(pic, 70, 360, [*names, ("as the store is: misses are read, then copied", True)])
    charts.legend(pic, 810, 360, [(policy, False) for policy in POLICIES], row=18)
    pic.text("muted small", 440, 364, "Left and middle: LRU in searches.")
    pic.text("muted small", 440, 384, "Right: K and V of a block together.")
    pic.text("muted small", 440, 404, "117132 tokens, 57 MiB a layer and KV head.")
    return pic


def working_set_chart(pic, results, box, which, title, y_marks):
    marks = [(1 << n, f"{1 << n - 10}k" if n < 20 else "1M") for n in range(14, 21)]
    chart = Chart(pic, box, title, marks, y_marks)
    number = 0
    for family in FAMILIES:
        for layout in (TOGETHER, ONE_POOL):
            sets = [
                (entry["length"], entry["mib"])
                for name, entry in results.items()
                if name.startswith(f"{family}-") and name.endswith(f"{layout}/working-set/{which}")
            ]
            chart.line(number, sorted(sets))
            fit = results[f"fit/{family}/{layout}/{which}"]
            law = [
                (n, fit["mib_at_64k"] + fit["mib_per_doubling"] * (math.log2(n) - 16))
                for n, _ in marks
                if min(sets)[0] <= n <= max(sets)[0]
            ]
            chart.line(number, law, dashed=True)
            number += 1
    pic.text("muted small middle", box[0] + box[2] / 2, box[1] + box[3] + 38, "tokens")


def draw_working_set():
    results = read_results()
    pic = Drawing(1000, 450, "Bytes on the GPU for a hit rate of 99 % against length")
    pic.parts.append(charts.style())
    all_box, again_box = (70, 56, 380, 250), (560, 56, 380, 250)
    working_set_chart(
        pic,
        results,
        all_box,
        "99",
        "MiB for 99 % of all that is asked for",
        [0, 100, 200, 300, 400, 500],
    )
    working_set_chart(
        pic,
        results,
        again_box,
        "99-again",
        "MiB for 99 % of what was asked for before",
        [0, 5, 10, 15, 20],
    )
    names = [
        (f"{title}: {LAYOUTS[layout]}", False)
        for title in FAMILIES.values()
        for layout in (TOGETHER, ONE_POOL)
    ]
    charts.legend(pic, 70, 372, names, row=18)
    caption = "Dashed: a + b log T. A layer and KV head, without landmarks."
    pic.text("muted small", 560, 376, caption)
    return pic
