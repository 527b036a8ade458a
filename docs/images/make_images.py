#!/usr/bin/env python3
"""Draws the pictures beside this file. Needs nothing but Python 3.

tree_search.svg, landmark_search.svg and descent.svg are made by running the search of
docs/guide/algorithm.md on a made-up score of every key, so what they show is what the algorithm
does. kv_policies.svg and kv_working_set.svg show bench/results. The schedules of the kernels, in
schedules.py, are drawn by hand and not to scale.
"""

import argparse
import math
import pathlib
import sys

import kv_store
import schedules
from drawing import Drawing


def descent(a, l, r):
    """(score, steps); a step is (l, r, left centre, right centre, goes left)."""
    if r - l == 1:
        return a[l], []
    best, steps = -math.inf, []
    while r - l > 1:
        m = l + (r - l) // 2
        left, right = l + (m - l) // 2, m + (r - m) // 2
        best = max(best, a[left], a[right])
        steps.append((l, r, left, right, a[left] >= a[right]))
        l, r = (l, m) if a[left] >= a[right] else (m, r)
    return best, steps


BLOCK_K = 8
SINK, CANDIDATES, WINDOW = 4 * BLOCK_K, 96 * BLOCK_K, 12 * BLOCK_K
STAGES = [(64, 5), (16, 8), (8, 6)]  # chunk size, chunks that survive


def key_scores():
    """Smooth bumps over a low ripple, for the candidates only."""
    bumps = [  # centre, width, height
        (0.095, 0.011, 0.78),
        (0.27, 0.016, 0.45),
        (0.345, 0.008, 0.93),
        (0.52, 0.013, 0.52),
        (0.615, 0.006, 0.70),
        (0.80, 0.012, 1.0),
        (0.905, 0.015, 0.42),
    ]
    scores = []
    for i in range(CANDIDATES):
        x = i / CANDIDATES
        ripple = 35 * math.sin(61 * x) + 25 * math.sin(143 * x + 1) + 12 * math.sin(517 * x)
        y = 0.10 + ripple / 1000 + sum(h * math.exp(-(((x - c) / w) ** 2)) for c, w, h in bumps)
        scores.append(y)
    return scores


class SearchPicture:
    """Scores and keys of one query block above, stages in the middle, what is attended below."""

    def __init__(self, height, title, note):
        self.pic = Drawing(960, height, title)
        self.left, self.unit = 146.0, 784 / (SINK + CANDIDATES + WINDOW)
        self.first = self.left + SINK * self.unit  # x of the first candidate
        self.window = self.first + CANDIDATES * self.unit
        self.right = self.window + WINDOW * self.unit
        self.scores = key_scores()
        self.draw_scores(note)
        self.draw_keys(122.0)
        self.y = 174.0  # of the first stage

    def label(self, y, name, *notes):
        self.pic.text("text bold", 20, y, name)
        for i, note in enumerate(notes):
            self.pic.text("muted small", 20, y + 17 * (i + 1), note)

    def draw_scores(self, note):
        """The score of every key, which the search never sees as a whole."""
        base = 108.0
        points = " ".join(
            f"L{self.first + (i + 0.5) * self.unit:.1f} {base - 64 * score:.1f}"
            for i, score in enumerate(self.scores)
        )
        self.pic.path(
            "dropped", f"M{self.first:.1f} {base} {points} L{self.window:.1f} {base} Z"
        )
        self.pic.path("line", "M" + points[1:])
        self.label(62, "score a(j)", "of every key;", note)

    def draw_keys(self, y):
        pic, unit = self.pic, self.unit
        pic.rect("sink", self.left, y, SINK * unit - 2, 24, 4)
        pic.rect("dropped", self.first, y, CANDIDATES * unit - 2, 24, 4)
        pic.rect("window", self.window, y, WINDOW * unit - 12, 24, 4)
        pic.rect("query", self.right - 10, y, 10, 24, 4)
        self.label(y + 17, "keys")
        middle = (self.first + self.window) / 2
        pic.text("text small middle", middle, y + 17, "candidates [sink, W0)")
        pic.text("on-strong small middle", self.left + SINK * unit / 2 - 1, y + 17, "sink")
        pic.text(
            "on-strong small middle", self.window + WINDOW * unit / 2 - 6, y + 17, "window"
        )
        pic.text("query small bold end", self.right, y - 10, "query block")

    def draw_stage(self, name, notes, scored, size, keep, spreads=None):
        """scored: (score, first key) of every chunk; spreads: by first key, (lowest, highest) of
        the chunk, where a bar shows a landmark. Returns the first keys of the chunks that
        survive."""
        pic, y = self.pic, self.y
        kept = {c for _, c in sorted(scored, key=lambda s: (-s[0], s[1]))[:keep]}
        height = 52.0

        def bar_of(score):
            return min(1.0, score / 1.15) * (height - 8)

        for score, c in scored:
            x, width = self.first + c * self.unit, size * self.unit
            if c in kept:
                pic.rect("band", x + 0.5, y + height + 2, width - 1, 36)
            pic.rect("kept" if c in kept else "dropped", x + 0.5, y, width - 1, height, 3)
            bar = bar_of(score)
            inset = min(3.0, width / 6)
            css = "kept-score" if c in kept else "dropped-score"
            top = y + height - 4 - bar
            pic.rect(css, x + 0.5 + inset, top, width - 1 - 2 * inset, bar, 1.5)
            for value in spreads[c] if spreads else ():
                tick = y + height - 4 - bar_of(value)
                pic.path("line", f"M{x + inset:.1f} {tick:.1f} h{width - 2 * inset:.1f}")
        self.label(y + 17, name, *notes)
        self.y += height + 40
        return kept

    def draw_attended(self, kept, caption):
        """caption: a function of the numbers of attended and of all keys, which gives lines."""
        pic, unit, y = self.pic, self.unit, self.y
        pic.rect("frame", self.left, y, self.right - self.left, 24, 4)
        pic.rect("sink", self.left, y, SINK * unit - 2, 24, 4)
        for c in kept:
            pic.rect("kept-score", self.first + c * unit + 0.5, y, BLOCK_K * unit - 1, 24, 2)
        pic.rect("window", self.window, y, WINDOW * unit, 24, 4)
        self.label(y + 17, "attended")
        attended = SINK + len(kept) * BLOCK_K + WINDOW
        for line, words in enumerate(caption(attended, SINK + CANDIDATES + WINDOW)):
            pic.text("muted small", self.left, y + 46 + 18 * line, words)


def cut(kept, size, step):
    return [c + i for c in sorted(kept) for i in range(0, size, step)]


def draw_tree_search():
    title = "The tree search of one query block in three stages"
    picture = SearchPicture(540, title, "few are read")
    chunks = list(range(0, CANDIDATES, STAGES[0][0]))
    for stage, (size, keep) in enumerate(STAGES):
        scored = [(descent(picture.scores, c, c + size)[0], c) for c in chunks]
        notes = (
            f"{len(chunks)} chunks of {size} keys,",
            f"{2 * int(math.log2(size))} keys read in each,",
            f"best {keep} survive",
        )
        kept = picture.draw_stage(f"stage {stage + 1}", notes, scored, size, keep)
        if stage + 1 < len(STAGES):
            chunks = cut(kept, size, STAGES[stage + 1][0])
    picture.draw_attended(
        kept,
        lambda attended, keys: (
            f"sink + {len(kept)} selected blocks of block_k = {BLOCK_K} keys + window: {attended} "
            f"keys of {keys}. Bars: what the descent found in each chunk.",
            "Orange survives its stage, grey is dropped and never looked at again.",
        ),
    )
    return picture.pic


LANDMARK_STAGES = [(32, 8), (BLOCK_K, 8)]  # chunk size, chunks that survive
SPREAD = 0.5
SCALE = 12  # of logits: what a row's score is multiplied with before the exponential


def draw_landmark_search():
    """One row, the number 1, and keys of one element: a score is a product of the two."""
    title = "The landmark search of one query block in two stages"
    picture = SearchPicture(466, title, "few are read")
    scores = picture.scores
    (size, keep), (block, selected) = LANDMARK_STAGES
    chunks = range(0, CANDIDATES, size)
    spreads = {}
    for c in chunks:
        keys = scores[c : c + size]
        spreads[c] = (sum(keys) / size, max(keys))
    scored = [(mean + SPREAD * (best - mean), c) for c, (mean, best) in spreads.items()]
    notes = (
        f"{len(scored)} chunks of {size} keys,",
        "a landmark each,",
        f"best {keep} survive",
    )
    kept = picture.draw_stage("stage 1", notes, scored, size, keep, spreads)

    def every_key(c):
        mass = sum(math.exp(SCALE * score) for score in scores[c : c + block])
        return math.log(mass / block) / SCALE

    scored = [(every_key(c), c) for c in cut(kept, size, block)]
    notes = (
        f"{len(scored)} chunks of {block} keys,",
        "all keys read,",
        f"best {selected} survive",
    )
    kept = picture.draw_stage("stage 2", notes, scored, block, selected)
    picture.draw_attended(
        kept,
        lambda attended, keys: (
            f"sink + {len(kept)} selected blocks of block_k = {BLOCK_K} keys + window: {attended} "
            f"keys of {keys}. No key is read in stage 1.",
            "Stage 1: the bar is the landmark's score, half way between the mean and the maximum "
            "of the chunk's scores (lines).",
            "Stage 2: the bar is the attention mass of all keys of the chunk, as a logit. The "
            "narrow peak at two thirds of the width is found.",
        ),
    )
    return picture.pic


def draw_descent():
    a = [1, 3, 2, 1, 2, 1, 3, 2, 4, 3, 5, 7, 4, 2, 3, 1]
    score, steps = descent(a, 0, len(a))
    cell, left, top, row = 40.0, 140.0, 46.0, 54.0
    height = int(top + row * (len(steps) + 1) + 44)
    pic = Drawing(960, height, "The binary descent through a chunk of sixteen keys")
    pic.text("text bold", 20, top + 19, "a(j) of 16 keys")
    for i, value in enumerate(a):
        pic.rect("dropped", left + i * cell + 1, top, cell - 2, 28, 3)
        pic.text("text middle", left + (i + 0.5) * cell, top + 19, value)
        pic.text("muted small middle", left + (i + 0.5) * cell, top - 8, f"l+{i}" if i else "l")
    best = -math.inf
    for n, (l, r, lc, rc, goes_left) in enumerate(steps):
        y = top + row * (n + 1)
        m = l + (r - l) // 2
        for lo, hi, chosen in ((l, m, goes_left), (m, r, not goes_left)):
            width = (hi - lo) * cell - 2
            pic.rect("kept" if chosen else "dropped", left + lo * cell + 1, y, width, 28, 4)
        for centre, chosen in ((lc, goes_left), (rc, not goes_left)):
            x = left + (centre + 0.5) * cell
            pic.circle("kept-score" if chosen else "dropped-score", x, y + 14, 12.5)
            pic.text("on-strong middle bold" if chosen else "text middle", x, y + 18.5, a[centre])
        best = max(best, a[lc], a[rc])
        pic.text("text bold", 20, y + 19, f"level {n + 1}")
        pic.text("muted small", left + len(a) * cell + 14, y + 19, f"best so far {best}")
    caption = (
        "Circles: the keys that are read, the centres of both halves. "
        f"Orange: the half that goes on. Score of the chunk: {score}."
    )
    pic.text("muted small", left, top + row * (len(steps) + 1) + 18, caption)
    return pic


PICTURES = {
    "tree_search.svg": draw_tree_search,
    "landmark_search.svg": draw_landmark_search,
    "descent.svg": draw_descent,
    "kv_policies.svg": kv_store.draw_policies,
    "kv_working_set.svg": kv_store.draw_working_set,
    "decode_schedule.svg": schedules.draw_decode,
    "prefill_attend_schedule.svg": schedules.draw_prefill_attend,
    "prefill_search_schedule.svg": schedules.draw_prefill_search,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where one is not")
    options = parser.parse_args()
    for name, draw in PICTURES.items():
        path = pathlib.Path(__file__).with_name(name)
        svg = draw().svg()
        if not options.check:
            path.write_text(svg, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != svg:
            sys.exit(f"{path} is not what make_images.py draws: run it")


if __name__ == "__main__":
    main()
