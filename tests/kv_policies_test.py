"""bench/kv_trace.py, kv_pools.py, kv_replay.py: what is read, what is replaced, what is counted."""

import pathlib
import random
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
BENCH = pathlib.Path(__file__).resolve().parent.parent / "bench"
sys.path.insert(0, str(BENCH))

import kv_policies
import kv_pools
import kv_replay
import kv_trace
from kv_trace import Step

SHAPE = {"layers": [0], "kv_heads": 1, "head_dim": 128, "sink": 64, "window": 128}


def trace_of(steps, prompt_tokens):
    header = {"format": "hip_attn selection trace 1", "prompt_tokens": prompt_tokens, **SHAPE}
    return kv_trace.Trace(header, {(0, 0): steps})


def searching_steps(count, every=4):
    """Chunks that drift, in a text of 4096 tokens, and blocks of them that change more often."""
    drawn = random.Random(3)
    chunks, steps = set(), []
    for i in range(count):
        if i % every == 0:
            w0 = 64 + (4096 + i + 1 - 128 - 64) // 8 * 8
            for chunk in drawn.sample(sorted(chunks), len(chunks) // 4):
                chunks.remove(chunk)
            while len(chunks) < 16:
                chunks.add(64 * drawn.randrange(1, w0 // 64))
        selected = i % (every // 2) == 0
        if selected:
            blocks = sorted(drawn.sample([c // 8 + b for c in chunks for b in range(8)], 32))
            blocks = [b for b in blocks if b < w0 // 8]
        steps.append(Step(w0, 64, sorted(chunks), blocks, i % every == 0, selected))
    return steps


class Traces(unittest.TestCase):
    def test_what_is_written_is_read(self):
        trace = trace_of(searching_steps(20), 4096)
        with tempfile.TemporaryDirectory() as folder:
            for name in ("a.trace", "a.trace.gz"):
                path = pathlib.Path(folder) / name
                kv_trace.write(path, trace)
                self.assertEqual(kv_trace.read(path), trace)

    def test_what_is_no_trace_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "a.trace"
            kv_trace.write(path, trace_of(searching_steps(3), 4096))
            whole = path.read_bytes()
            header = whole.index(b"\n") + 1
            for content, words in (
                (b"{}\n", "is not a trace"),
                (b"text", "is not a trace"),
                (whole[:-1], "within a record"),
                (whole[:header] + b"\0", "is not whole"),
            ):
                path.write_bytes(content)
                with self.assertRaisesRegex(kv_trace.TraceError, words):
                    kv_trace.read(path)

    def test_recorded_traces_select_blocks_of_their_chunks(self):
        paths = sorted((BENCH / "traces").glob("*.trace.gz"))
        self.assertTrue(paths)
        trace = kv_trace.read(min(paths, key=lambda path: path.stat().st_size))
        for steps in trace.units.values():
            for step in steps:
                if not step.selected:
                    continue
                self.assertEqual(step.blocks, sorted(set(step.blocks)))
                self.assertLessEqual(set(step.blocks), set(kv_replay.blocks_of(step)))


def misses(policy, slots, askings):
    pool = kv_pools.POLICIES[policy](slots, askings)
    return [pool.ask(keys) for keys in askings]


class Pools(unittest.TestCase):
    def test_lru_on_a_trace_by_hand(self):
        askings = [[1, 2], [3], [1], [4], [2], [3]]
        self.assertEqual(misses("LRU in searches", 3, askings), [[1, 2], [3], [], [4], [2], [3]])

    def test_fifo_forgets_that_a_key_was_asked_for_again(self):
        askings = [[1, 2], [3], [1], [4], [2], [1]]
        self.assertEqual(misses("FIFO", 3, askings), [[1, 2], [3], [], [4], [], [1]])

    def test_a_second_chance_is_one(self):
        askings = [[1, 2], [3], [1], [4], [1], [5], [6], [1]]
        # 4 takes the slot of 2, since 1 was asked for again; 6 that of 4, since 1 was once more.
        expected = [[1, 2], [3], [], [4], [], [5], [6], []]
        self.assertEqual(misses("second chance", 3, askings), expected)

    def test_the_optimum_knows_what_comes(self):
        askings = [[1, 2], [3], [1], [2], [3]]
        self.assertEqual(misses("Belady", 2, askings), [[1, 2], [3], [], [], [3]])

    def test_what_was_asked_for_stays_while_others_come(self):
        for policy, of_policy in kv_pools.POLICIES.items():
            if policy == "Belady":
                continue
            pool = of_policy(8)
            for i in range(50):
                asked = [3 * i + j for j in range(8 - i % 3)]
                pool.ask(asked)
                self.assertLessEqual(set(asked), set(pool.held), policy)
                self.assertLessEqual(len(pool.held), 8, policy)

    def test_no_policy_misses_less_than_the_optimum(self):
        drawn = random.Random(1)
        for slots in (6, 10, 20):
            askings = [drawn.sample(range(30), 5) for _ in range(300)]
            least = sum(map(len, misses("Belady", slots, askings)))
            for policy in kv_pools.POLICIES:
                self.assertGreaterEqual(sum(map(len, misses(policy, slots, askings))), least)

    def test_more_slots_never_miss_more_with_lru(self):
        drawn = random.Random(2)
        askings = [drawn.sample(range(40), 6) for _ in range(200)]
        counts = [sum(map(len, misses("LRU in searches", n, askings))) for n in range(6, 41)]
        self.assertEqual(counts, sorted(counts, reverse=True))
        self.assertEqual(counts[-1], 40)


class Replays(unittest.TestCase):
    def test_everything_is_hot_with_room_for_all(self):
        trace = trace_of(searching_steps(64), 4096)
        for layout in kv_replay.LAYOUTS:
            replays = kv_policies.Replays(trace, layout)
            self.assertEqual(replays.hit_rate(kv_pools.Lru, 8 << 20), 1.0, layout)

    def test_the_optimum_brings_least_in_every_layout(self):
        trace = trace_of(searching_steps(64), 4096)
        for layout in kv_replay.LAYOUTS:
            replays = kv_policies.Replays(trace, layout)
            budget = 1.2 * replays.least_budget
            rates = {
                name: replays.hit_rate(policy, budget)
                for name, policy in kv_pools.POLICIES.items()
            }
            self.assertEqual(max(rates.values()), rates["Belady"], layout)
            self.assertLess(rates["Belady"], 1.0, layout)

    def test_bytes_of_a_search_by_hand(self):
        # Chunks 1 and 2 of a cold text, block 9 of them selected, then chunk 3 for chunk 1.
        first = Step(3968, 64, [64, 128], [9], True, True)
        second = Step(3976, 64, [128, 192], [25], True, True)
        trace = trace_of([first, second], 4096)
        replays = kv_policies.Replays(trace, kv_replay.AS_NOW)
        (unit,) = replays.units
        budget = replays.least_budget
        self.assertEqual(unit.slots(budget), [16])
        (traffic,) = replays.traffic(kv_pools.Lru, budget)
        self.assertEqual(traffic.missed, [16 * 4096, 8 * 4096])
        self.assertEqual(traffic.asked, [16 * 4096, 16 * 4096])
        self.assertEqual(traffic.new, [16 * 4096, 8 * 4096])
        self.assertEqual(traffic.new_missed, traffic.missed)
        # Keys where they lie, the selected block whole, and a step later all of them copied.
        built = kv_replay.link_bytes_as_built(unit, trace.units[0, 0], budget, 128)
        self.assertEqual(built, [16 * 2048 + 4096, 16 * 4096 + 8 * 2048 + 4096])

    def test_keys_and_values_apart_bring_values_of_selected_blocks_alone(self):
        trace = trace_of([Step(3968, 64, [64, 128], [9], True, True)], 4096)
        for layout in kv_replay.LAYOUTS:
            if layout == kv_replay.AS_NOW:
                continue
            replays = kv_policies.Replays(trace, layout)
            (traffic,) = replays.traffic(kv_pools.Lru, replays.least_budget)
            self.assertEqual(traffic.missed, [16 * 2048 + 2048], layout)

    def test_a_fit_finds_the_law_that_made_the_numbers(self):
        lengths = [1 << n for n in range(14, 21)]
        by_log = kv_policies.fits(lengths, [2 + 0.5 * n for n in range(14, 21)])
        self.assertAlmostEqual(by_log["mib_per_doubling"], 0.5)
        self.assertAlmostEqual(by_log["log_error"], 0)
        by_power = kv_policies.fits(lengths, [2 ** (n / 2) for n in range(14, 21)])
        self.assertAlmostEqual(by_power["power"], 0.5)
        self.assertLess(by_power["power_error"], by_power["log_error"])


if __name__ == "__main__":
    unittest.main()
