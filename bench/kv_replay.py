"""Replays a trace of decode against pools of slots: what is asked for, what misses, and how many
bytes come over the link, for each layer, KV head and step.

Sink and window are always on the device, and the budget holds them first. What leaves the window
stays until its slot is taken. Of the prompt, what came last is on the device when decode begins.
"""

import dataclasses
import math
from collections.abc import Callable

from kv_pools import Lru

BLOCK = 8  # tokens of a block of the cache
ELEMENT_BYTES = 2
OWNER_BYTES = 12  # that a store keeps for each slot
ENTRY_BYTES = 4  # of its table


@dataclasses.dataclass
class PoolShape:
    """`tokens` of `parts` (keys and values: 2) are a slot, and `share` of the budget behind sink
    and window is for this pool. wanted(step): the numbers of what a step asks for, or None."""

    tokens: int
    parts: int
    share: float
    wanted: Callable

    def holds_keys_alone(self):
        return self.wanted in (_key_chunks, _key_blocks)

    def slot_bytes(self, head_dim):
        return self.tokens * self.parts * head_dim * ELEMENT_BYTES + OWNER_BYTES


def blocks_of(step):
    """Blocks of the chunks that the last stage cuts."""
    each = max(step.chunk_tokens // BLOCK, 1)
    blocks = (start // BLOCK + i for start in step.chunks for i in range(each))
    return list(dict.fromkeys(b for b in blocks if b * BLOCK < step.window_start))


def _whole_blocks(step):
    return blocks_of(step) if step.searched else None


def _key_chunks(step):
    return [start // 64 for start in step.chunks] if step.searched or step.selected else None


def _key_blocks(step):
    return blocks_of(step) if step.searched or step.selected else None


def _value_blocks(step):
    return step.blocks if step.searched or step.selected else None


def _halves(step):
    if not (step.searched or step.selected):
        return None
    return [2 * b for b in blocks_of(step)] + [2 * b + 1 for b in step.blocks]


LAYOUTS = {
    "blocks of 8, K and V together": [PoolShape(BLOCK, 2, 1.0, _whole_blocks)],
    "K of chunks of 64, V of blocks of 8": [
        PoolShape(64, 1, 0.75, _key_chunks),
        PoolShape(BLOCK, 1, 0.25, _value_blocks),
    ],
    "K and V of blocks of 8 apart, two pools": [
        PoolShape(BLOCK, 1, 0.75, _key_blocks),
        PoolShape(BLOCK, 1, 0.25, _value_blocks),
    ],
    "K and V of blocks of 8 apart, one pool": [PoolShape(BLOCK, 1, 1.0, _halves)],
}
AS_NOW = "blocks of 8, K and V together"
ONE_POOL = "K and V of blocks of 8 apart, one pool"


class Unit:
    """The requests of one layer and KV head to the pools of a layout, made once for all policies
    and budgets."""

    def __init__(self, steps, layout, header):
        self.layout = layout
        self.halves = layout[0].wanted is _halves
        self.sink = header["sink"]
        first_length = header["prompt_tokens"]
        head_dim = header["head_dim"]
        length = first_length + len(steps)
        self.slot_bytes = [shape.slot_bytes(head_dim) for shape in layout]
        near_tokens = max(
            first_length + i + 1 - step.window_start for i, step in enumerate(steps)
        )
        self.near_bytes = self.table_bytes = 0
        # Of each pool: (step, what leaves the window, what is asked for, how much of it counts,
        # what of it was not asked for before). A last stage that runs again reads the keys of its
        # search again, which counts once.
        self.events = []
        self.first = []  # of each pool: what was on the device before, the latest last
        for shape, slot_bytes in zip(layout, self.slot_bytes):
            parts = 2 if self.halves else 1
            near = self.sink // shape.tokens + math.ceil(near_tokens / shape.tokens) + 1
            self.near_bytes += near * slot_bytes * parts
            self.table_bytes += math.ceil(length / shape.tokens) * ENTRY_BYTES * parts
            start = steps[0].window_start // shape.tokens
            self.first.append(self.numbers(self.sink // shape.tokens, start))
            events, known = [], set()
            for i, step in enumerate(steps):
                wanted = shape.wanted(step)
                if wanted is None:
                    continue
                now = step.window_start // shape.tokens
                # A chunk that the window's start cuts is on the device with the window.
                if shape.tokens > BLOCK:
                    wanted = [number for number in wanted if number < now]
                counts = len(wanted)
                if not step.searched:
                    counts = 0 if shape.holds_keys_alone() else len(step.blocks)
                new = set(wanted) - known
                known |= new
                events.append((i, self.numbers(start, now), wanted, counts, new))
                start = now
            self.events.append(events)

    def numbers(self, begin, end):
        if not self.halves:
            return list(range(begin, end))
        return list(range(2 * begin, 2 * end))

    def least_budget(self):
        """That holds what a step asks for."""
        most = (max(len(asked) for _, _, asked, *_ in events) for events in self.events)
        return self.table_bytes + self.near_bytes + max(
            count * slot_bytes / shape.share
            for count, slot_bytes, shape in zip(most, self.slot_bytes, self.layout)
        )

    def slots(self, budget):
        rest = budget - self.table_bytes - self.near_bytes
        return [
            int(rest * shape.share) // slot_bytes
            for shape, slot_bytes in zip(self.layout, self.slot_bytes)
        ]

    def replay(self, policy, budget):
        """By pool: (step, missing keys, how many were asked for, which of them the first time)."""
        for slots, events, first in zip(self.slots(budget), self.events, self.first):
            pool = policy(slots, [asked for _, _, asked, *_ in events])
            pool.bring(first[-slots:] if slots > 0 else [])
            yield [
                (step, (pool.bring(left), pool.ask(asked))[1], counts, new)
                for step, left, asked, counts, new in events
            ]


@dataclasses.dataclass
class Traffic:
    """Of one layer and KV head, by step."""

    asked: list  # bytes
    missed: list  # bytes, each of which comes over the link once
    new: list  # bytes asked for that were not asked for before
    new_missed: list

    @staticmethod
    def of(unit, policy, budget, num_steps):
        traffic = Traffic(*([0] * num_steps for _ in range(4)))
        for slot_bytes, events in zip(unit.slot_bytes, unit.replay(policy, budget)):
            each = slot_bytes - OWNER_BYTES
            for step, missing, count, new in events:
                traffic.asked[step] += count * each
                traffic.missed[step] += len(missing) * each
                traffic.new[step] += len(new) * each
                traffic.new_missed[step] += len(new.intersection(missing)) * each
        return traffic


def link_bytes_as_built(unit, steps, budget, head_dim):
    """By step, of the store as it is: a search reads keys that are not hot where they lie,
    attention behind it keys and values of selected blocks, and the step after it copies all that
    missed."""
    half = BLOCK * head_dim * ELEMENT_BYTES
    result = [0] * (len(steps) + 1)
    for step, missing, *_ in next(unit.replay(Lru, budget)):
        selected = len(set(missing) & set(steps[step].blocks))
        result[step] += (len(missing) + 2 * selected) * half
        result[step + 1] += 2 * len(missing) * half
    return result[:-1]
