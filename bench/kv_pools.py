"""Pools of equal slots with policies of replacement, and what reaches them over the link.

A pool is asked for many keys at once, by a search or a selection. Those that lie in no slot miss,
are copied, and take slots from keys that were not asked for now: as in the store, nothing that a
step reads is replaced in it. Where slots do not suffice, the rest is read where it lies and missed.
"""

import bisect
import heapq
import itertools
import random


class Pool:
    """`future`: the lists of keys that will be asked for, in order, for those who look ahead."""

    def __init__(self, slots, future=()):
        del future
        self.slots = max(slots, 0)
        self.held = {}  # key: what the policy knows of it
        self.asked = 0  # times
        self.hits = 0
        self.misses = 0

    def bring(self, keys):
        """Takes keys that lie on the device already: a prompt's last, or those that leave the
        window. They may be one list too many until something is asked for."""
        for key in keys:
            if key not in self.held:
                self.admit(key)

    def ask(self, keys):
        """The keys that miss."""
        missing = []
        for key in keys:
            if key in self.held:
                self.touch(key)
            else:
                missing.append(key)
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        excess = len(self.held) + len(missing) - self.slots
        if excess > 0:
            for victim in self.victims(excess, set(keys)):
                del self.held[victim]
        for key in missing[: max(self.slots - len(self.held), 0)]:
            self.admit(key)
        self.asked += 1
        return missing

    def admit(self, key):
        self.held[key] = None

    def touch(self, key):
        """Of a hit."""

    def unasked(self, asked):
        return (key for key in self.held if key not in asked)

    def victims(self, count, asked):
        """Up to `count` keys that give their slots, none of them in `asked`."""
        raise NotImplementedError


class Fifo(Pool):
    def victims(self, count, asked):
        return list(itertools.islice(self.unasked(asked), count))


class Lru(Fifo):
    """What the store has: the key that was not asked for longest, counted in askings. A dict keeps
    the order in which keys were put in."""

    def touch(self, key):
        self.held[key] = self.held.pop(key)


class SecondChance(Pool):
    """A clock: who was asked for since the hand came by last stays once more."""

    def admit(self, key):
        self.held[key] = False

    def touch(self, key):
        self.held[key] = True

    def victims(self, count, asked):
        taken = {}  # in order
        for _ in range(2 * len(self.held)):
            if len(taken) == count:
                break
            key = next(iter(self.held))
            was_asked_for = self.held.pop(key)
            if key not in asked and not was_asked_for:
                taken[key] = None
            self.held[key] = was_asked_for and key in asked
        return taken


class AgedLfu(Pool):
    """The key that was asked for least often, of these the one not asked for longest. Counts are
    halved every 8 askings."""

    HALVED_EVERY = 8

    def admit(self, key):
        self.held[key] = [1.0, self.asked]

    def touch(self, key):
        self.held[key][0] += 1.0
        self.held[key][1] = self.asked

    def victims(self, count, asked):
        return heapq.nsmallest(count, self.unasked(asked), key=lambda key: self.held[key])

    def ask(self, keys):
        missing = super().ask(keys)
        if self.asked % self.HALVED_EVERY == 0:
            for known in self.held.values():
                known[0] /= 2
        return missing


class Random(Pool):
    def __init__(self, slots, future=()):
        super().__init__(slots, future)
        self.random = random.Random(1)

    def victims(self, count, asked):
        unasked = list(self.unasked(asked))
        return self.random.sample(unasked, min(count, len(unasked)))


class Belady(Pool):
    """The optimum: keeps, of what it has and what was asked for now, what will be asked for next.
    It need not keep what it was just asked for, and no other policy misses less."""

    NEVER = float("inf")

    def __init__(self, slots, future=()):
        super().__init__(slots)
        self.uses = {}
        for number, keys in enumerate(future):
            for key in keys:
                self.uses.setdefault(key, []).append(number)

    def next_use(self, key):
        uses = self.uses.get(key, ())
        at = bisect.bisect_right(uses, self.asked)
        return uses[at] if at < len(uses) else self.NEVER

    def ask(self, keys):
        missing = [key for key in keys if key not in self.held]
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        self.held.update(dict.fromkeys(missing))
        excess = len(self.held) - self.slots
        if excess > 0:
            for key in heapq.nlargest(excess, self.held, key=self.next_use):
                del self.held[key]
        self.asked += 1
        return missing


POLICIES = {
    "LRU in searches": Lru,
    "FIFO": Fifo,
    "second chance": SecondChance,
    "LFU, aged": AgedLfu,
    "random": Random,
    "Belady": Belady,
}
