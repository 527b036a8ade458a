"""The recall test: codes hidden in a long text, and the questions for them.

The texts are those of `llama recall` (examples/llama/src/recall_task.cpp), token for token.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable


@dataclass
class Fact:
    """A sentence of the text that the model is asked about later."""

    word: str
    code: str  # decimal digits
    question: list[int] = field(default_factory=list)


@dataclass
class RecallTask:
    context: int
    text: list[int]
    facts: list[Fact]  # in order of their places in the text


def make_recall_task(tokenizer: Any, data: Path, context: int, seed: int) -> RecallTask:
    """Hides a sentence for each word of reference.json in the beginning of haystack.txt.

    One lies at a seeded place in each of as many equal parts, in seeded order, each with one of the
    codes. Text, question and answer are at most `context` tokens.
    """

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False).input_ids

    reference = json.loads((data / "reference.json").read_text())
    words_and_codes = zip(reference["passkey_words"], reference["passkey_codes"])
    facts = [Fact(word, code) for word, code in words_and_codes]
    below = _mt19937_64(seed)
    for i in range(len(facts), 1, -1):
        j = below(i)
        facts[i - 1], facts[j] = facts[j], facts[i - 1]
        j = below(i)
        facts[i - 1].code, facts[j].code = facts[j].code, facts[i - 1].code
    for fact in facts:
        fact.question = encode(f"\nQuestion: What is the secret code for {fact.word}? Answer: ")
    sentences = [
        encode(f"\nThe secret code for {fact.word} is {fact.code}. Remember it.\n")
        for fact in facts
    ]
    reserve = max(len(fact.question) + len(fact.code) for fact in facts)

    before = tokens_before(tokenizer)
    haystack = before + encode((data / "haystack.txt").read_text())
    others = sum(map(len, sentences)) + reserve
    if not 2 * others <= context <= len(haystack) + others:
        raise ValueError(
            f"context is {context}; it must be {2 * others} (twice what the facts and a question "
            f"take) to {len(haystack) + others} tokens (what the haystack fills)"
        )
    length = context - others
    text: list[int] = []
    taken = 0
    for i, sentence in enumerate(sentences):
        begin, end = length * i // len(facts), length * (i + 1) // len(facts)
        place = max(len(before), begin + below(end - begin))
        text += haystack[taken:place] + sentence
        taken = place
    return RecallTask(context, text + haystack[taken:length], facts)


def tokens_before(tokenizer: Any) -> list[int]:
    """The special tokens that the tokenizer puts before a text."""
    bare = tokenizer("x", add_special_tokens=False).input_ids
    whole = tokenizer("x").input_ids
    return whole[: whole.index(bare[0])]


def _mt19937_64(seed: int) -> Callable[[int], int]:
    """std::mt19937_64 of C++, as a function that draws a number below n."""
    mask = (1 << 64) - 1
    state = [seed & mask]
    for i in range(1, 312):
        last = state[-1]
        state.append((6364136223846793005 * (last ^ (last >> 62)) + i) & mask)
    used = 312

    def below(n: int) -> int:
        nonlocal used
        if used == 312:
            for i in range(312):
                x = (state[i] & 0xFFFFFFFF80000000) | (state[(i + 1) % 312] & 0x7FFFFFFF)
                odd = 0xB5026F5AA96619E9 if x & 1 else 0
                state[i] = state[(i + 156) % 312] ^ (x >> 1) ^ odd
            used = 0
        x = state[used]
        used += 1
        x ^= (x >> 29) & 0x5555555555555555
        x ^= (x << 17) & 0x71D67FFFEDA60000
        x ^= (x << 37) & 0xFFF7EEE000000000
        return (x ^ (x >> 43)) % n

    return below
