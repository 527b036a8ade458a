#!/usr/bin/env python3
"""Draws tree_search.svg and descent.svg beside this file. Needs nothing but Python 3.

Both pictures are made by running the search of docs/algorithm.md on a made-up score of every key,
so what they show is what the algorithm does.
"""

import math
import pathlib

# class: (light, dark)
COLOURS = {
    "card": ("#ffffff", "#0d1117"),
    "text": ("#1f2328", "#e6edf3"),
    "muted": ("#59636e", "#9198a1"),
    "dropped": ("#e2e6ea", "#262c34"),
    "dropped-score": ("#b7bfc8", "#545d68"),
    "kept": ("#fbdcc0", "#5a3418"),
    "kept-score": ("#d9620f", "#f0883e"),
    "band": ("#fdefe2", "#2b1f16"),
    "sink": ("#1a8a6e", "#2ea887"),
    "window": ("#2f74d0", "#4493f8"),
    "query": ("#8250df", "#ab7df8"),
}


def style():
    def rules(theme):
        fills = [f".{name}{{fill:{pair[theme]}}}" for name, pair in COLOURS.items()]
        return "".join(fills) + (
            f".line{{fill:none;stroke:{COLOURS['muted'][theme]};stroke-width:1.2}}"
            f".frame{{fill:none;stroke:{COLOURS['dropped'][theme]};stroke-width:1.5}}"
        )

    return (
        "<style>text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;"
        "font-size:13px}.bold{font-weight:600}.small{font-size:12px}"
        ".white{fill:#ffffff}.middle{text-anchor:middle}.end{text-anchor:end}"
        + rules(0)
        + "@media (prefers-color-scheme:dark){"
        + rules(1)
        + "}</style>"
    )


class Drawing:
    def __init__(self, width, height, title):
        self.size = (width, height)
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-label="{title}">',
            f"<title>{title}</title>",
            style(),
            f'<rect class="card" width="{width}" height="{height}" rx="10"/>',
            f'<rect class="frame" x="0.75" y="0.75" width="{width - 1.5}" '
            f'height="{height - 1.5}" rx="10"/>',
        ]

    def rect(self, css, x, y, width, height, radius=0.0):
        self.parts.append(
            f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" rx="{radius:g}"/>'
        )

    def text(self, css, x, y, words):
        self.parts.append(f'<text class="{css}" x="{x:.1f}" y="{y:.1f}">{words}</text>')

    def path(self, css, d):
        self.parts.append(f'<path class="{css}" d="{d}"/>')

    def circle(self, css, x, y, radius):
        self.parts.append(f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>')

    def save(self, name):
        path = pathlib.Path(__file__).with_name(name)
        path.write_text("\n".join(self.parts) + "\n</svg>\n", encoding="utf-8")


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


def draw_tree_search():
    pic = Drawing(960, 540, "The tree search of one query block in three stages")
    left, unit = 146.0, 784 / (SINK + CANDIDATES + WINDOW)
    first = left + SINK * unit  # x of the first candidate
    window = first + CANDIDATES * unit
    right = window + WINDOW * unit
    scores = key_scores()

    def label(y, name, *notes):
        pic.text("text bold", 20, y, name)
        for i, note in enumerate(notes):
            pic.text("muted small", 20, y + 17 * (i + 1), note)

    # The score of every key, which the search never sees as a whole.
    base = 108.0
    points = " ".join(
        f"L{first + (i + 0.5) * unit:.1f} {base - 64 * score:.1f}" for i, score in enumerate(scores)
    )
    pic.path("dropped", f"M{first:.1f} {base} {points} L{window:.1f} {base} Z")
    pic.path("line", "M" + points[1:])
    label(62, "score a(j)", "of every key;", "few are read")

    # The keys.
    y = 122.0
    pic.rect("sink", left, y, SINK * unit - 2, 24, 4)
    pic.rect("dropped", first, y, CANDIDATES * unit - 2, 24, 4)
    pic.rect("window", window, y, WINDOW * unit - 12, 24, 4)
    pic.rect("query", right - 10, y, 10, 24, 4)
    label(y + 17, "keys")
    pic.text("text small middle", (first + window) / 2, y + 17, "candidates [sink, W0)")
    pic.text("white small middle", left + SINK * unit / 2 - 1, y + 17, "sink")
    pic.text("white small middle", window + WINDOW * unit / 2 - 6, y + 17, "window")
    pic.text("query small bold end", right, y - 10, "query block")

    chunks = list(range(0, CANDIDATES, STAGES[0][0]))
    y += 52
    for stage, (size, keep) in enumerate(STAGES):
        scored = [(descent(scores, c, c + size)[0], c) for c in chunks]
        kept = {c for _, c in sorted(scored, key=lambda s: (-s[0], s[1]))[:keep]}
        height = 52.0
        for score, c in scored:
            x, width = first + c * unit, size * unit
            if c in kept:
                pic.rect("band", x + 0.5, y + height + 2, width - 1, 36)
            pic.rect("kept" if c in kept else "dropped", x + 0.5, y, width - 1, height, 3)
            bar = min(1.0, score / 1.15) * (height - 8)
            inset = min(3.0, width / 6)
            css = "kept-score" if c in kept else "dropped-score"
            top = y + height - 4 - bar
            pic.rect(css, x + 0.5 + inset, top, width - 1 - 2 * inset, bar, 1.5)
        label(
            y + 17,
            f"stage {stage + 1}",
            f"{len(chunks)} chunks of {size} keys,",
            f"{2 * int(math.log2(size))} keys read in each,",
            f"best {keep} survive",
        )
        if stage + 1 < len(STAGES):
            step = STAGES[stage + 1][0]
            chunks = [c + i for c in sorted(kept) for i in range(0, size, step)]
        y += height + 40

    # What the rows attend to.
    pic.rect("frame", left, y, right - left, 24, 4)
    pic.rect("sink", left, y, SINK * unit - 2, 24, 4)
    for c in kept:
        pic.rect("kept-score", first + c * unit + 0.5, y, BLOCK_K * unit - 1, 24, 2)
    pic.rect("window", window, y, WINDOW * unit, 24, 4)
    label(y + 17, "attended")
    attended = SINK + len(kept) * BLOCK_K + WINDOW
    caption = (
        f"sink + {len(kept)} selected blocks of block_k = {BLOCK_K} keys + window: {attended} keys "
        f"of {SINK + CANDIDATES + WINDOW}. Bars: what the descent found in each chunk.",
        "Orange survives its stage, grey is dropped and never looked at again.",
    )
    pic.text("muted small", left, y + 46, caption[0])
    pic.text("muted small", left, y + 64, caption[1])
    pic.save("tree_search.svg")


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
            pic.text("white middle bold" if chosen else "text middle", x, y + 18.5, a[centre])
        best = max(best, a[lc], a[rc])
        pic.text("text bold", 20, y + 19, f"level {n + 1}")
        pic.text("muted small", left + len(a) * cell + 14, y + 19, f"best so far {best}")
    caption = (
        "Circles: the keys that are read, the centres of both halves. "
        f"Orange: the half that goes on. Score of the chunk: {score}."
    )
    pic.text("muted small", left, top + row * (len(steps) + 1) + 18, caption)
    pic.save("descent.svg")


if __name__ == "__main__":
    draw_tree_search()
    draw_descent()
