"""The schedules of the kernels, as lanes of bars over time. Not to scale."""

from drawing import Drawing

LEFT, RIGHT = 196, 940  # of the bars
BAR = 26


class Lanes:
    """Lanes under one another from `top` on; time goes from 0 to `end`."""

    def __init__(self, pic, title, top, end):
        self.pic, self.y, self.unit = pic, top, (RIGHT - LEFT) / end
        pic.text("text bold", 20, top, title)
        self.y += 14

    def x(self, time):
        return LEFT + time * self.unit

    def lane(self, name, note, bars):
        """`bars`: (begin, end, class, words)."""
        self.pic.text("text", 20, self.y + (17 if not note else 12), name)
        if note:
            self.pic.text("muted small", 20, self.y + 26, note)
        for begin, end, css, words in bars:
            x, width = self.x(begin), (end - begin) * self.unit
            self.pic.rect(css, x + 1, self.y, width - 2, BAR, 4)
            strong = css in ("kept-score", "sink", "window", "query")
            style = "on-strong small middle" if strong else "text small middle"
            self.pic.text(style, x + width / 2, self.y + 17.5, words)
        self.y += BAR + 10

    def note(self, words):
        self.pic.text("muted small", LEFT, self.y + 8, words)
        self.y += 20


def legend(pic, y, entries):
    x = LEFT
    for css, words in entries:
        pic.rect(css, x, y - 10, 14, 12, 3)
        pic.text("muted small", x + 20, y, words)
        x += 40 + 7 * len(words)


def draw_decode():
    pic = Drawing(960, 530, "Schedule of the decode kernel")
    reused = Lanes(pic, "A step that reuses its selection", 34, 100)
    reused.lane("upstream kernel", "", [(0, 24, "dropped", "decode of the layer before")])
    reused.lane(
        "4 warps of early teams", "prefetch, by hints", [(8, 24, "window", "keys into L2")]
    )
    reused.lane(
        "each lane of 16 warps",
        "one key of each tile",
        [
            (24, 37, "kept", "cached words"),
            (37, 45, "kept", "pages"),
            (45, 49, "kept", "ask"),
        ],
    )
    reused.lane(
        "shared memory",
        "up to 27 tiles",
        [(49, 82, "window", "keys and values arrive, tile by tile")],
    )
    reused.lane(
        "each warp",
        "1 or 2 tiles of 16 keys",
        [
            (24, 36, "kept", "queries"),
            (57, 66, "kept-score", "tile 1"),
            (72, 83, "kept-score", "tile 2"),
        ],
    )
    reused.lane(
        "thread block, team",
        "combine",
        [
            (83, 90, "sink", "warps"),
            (90, 92.5, "window", ""),
            (92.5, 100, "sink", "blocks"),
        ],
    )
    reused.lane("downstream kernel", "", [(26, 100, "dropped", "starts, looks ahead, waits")])

    y = reused.y + 34
    refreshed = Lanes(pic, "A step that refreshes every stage", y, 100)
    bars = []
    for number, (begin, scan, end) in enumerate(((0, 21, 27), (27, 46, 52), (52, 68, 74))):
        bars.append((begin, scan, "kept-score", f"scan, stage {number + 1}"))
        bars.append((scan, end, "sink", "select"))
    bars += [(74, 91, "window", "attend"), (91, 100, "sink", "combine")]
    refreshed.lane("a team", "barrier after each scan", bars)
    refreshed.lane(
        "a warp: group A",
        "eight chunks",
        [
            (0, 18, "window", "keys of level 1 arrive"),
            (18, 25, "kept-score", "product"),
            (25, 27, "kept", ""),
            (27, 45, "window", "keys of level 2 arrive"),
            (45, 52, "kept-score", "product"),
            (52, 54, "kept", ""),
            (54, 72, "window", "keys of level 3 arrive"),
            (72, 79, "kept-score", "product"),
        ],
    )
    refreshed.lane(
        "pages of group A",
        "for both outcomes",
        [
            (3, 17, "kept", "look up 4 keys"),
            (30, 44, "kept", "look up 4 keys"),
            (57, 71, "kept", "look up 4 keys"),
        ],
    )
    refreshed.lane(
        "a warp: group B",
        "eight more chunks",
        [
            (9, 29, "window", "keys of level 1 arrive"),
            (29, 36, "kept-score", "product"),
            (36, 38, "kept", ""),
            (38, 56, "window", "keys of level 2 arrive"),
            (56, 63, "kept-score", "product"),
            (63, 65, "kept", ""),
            (65, 83, "window", "keys of level 3 arrive"),
            (83, 90, "kept-score", "product"),
        ],
    )
    legend(
        pic,
        refreshed.y + 16,
        [
            ("kept", "lookups, addresses"),
            ("window", "memory at work"),
            ("kept-score", "tensor cores"),
            ("sink", "select, merges"),
            ("dropped", "another kernel"),
        ],
    )
    pic.text("muted small", 20, refreshed.y + 16, "Not to scale.")
    return pic


def draw_prefill_attend():
    pic = Drawing(960, 340, "Schedule of prefill's attention")
    lanes = Lanes(pic, "One unit in a persistent thread block: 256 rows, tiles of 64 keys", 34, 100)
    lanes.lane(
        "producer warpgroup",
        "gathers by cp.async",
        [
            (0, 14, "window", "K 2"),
            (14, 28, "window", "V 1"),
            (28, 42, "window", "K 3"),
            (42, 56, "window", "V 2"),
            (56, 70, "window", "K 4"),
            (70, 84, "window", "V 3"),
            (84, 98, "window", "K 5"),
        ],
    )
    lanes.lane(
        "its lookups",
        "2 tiles, 1 tile ahead",
        [
            (0, 12, "kept", "positions 4"),
            (14, 26, "kept", "pages 3"),
            (28, 40, "kept", "positions 5"),
            (42, 54, "kept", "pages 4"),
            (56, 68, "kept", "positions 6"),
            (70, 82, "kept", "pages 5"),
        ],
    )
    for group, shift in (("consumer warpgroup 0", 0), ("consumer warpgroup 1", 6)):
        tensor, softmax = [], []
        # (tile of rows, tile of keys) of the values and of the logits that are multiplied ahead
        for step, (values, logits) in enumerate(
            (("a", "b"), ("b", "a"), ("a", "b"), ("b", "a"))
        ):
            keys = step // 2 + 1
            next_keys = keys if values == "a" else keys + 1
            at = shift + step * 22.5
            tensor.append((at, at + 7, "kept-score", f"{logits}·K {next_keys}"))
            tensor.append((at + 7, at + 22.5, "sink", f"P {values}·V {keys}"))
            softmax.append((at + 7, at + 19, "kept", f"softmax {logits} {next_keys}"))
        lanes.lane(group, "tensor cores", tensor)
        lanes.lane("", "its softmax", softmax)
    lanes.note(
        "a, b: the two tiles of 64 rows of a warpgroup. The logits of the next step are multiplied "
        "first and become"
    )
    lanes.note(
        "probabilities while the product with the values of this step still runs. The other "
        "warpgroup fills what is left."
    )
    legend(
        pic,
        lanes.y + 14,
        [
            ("window", "keys (K) and values (V) into the ring"),
            ("kept-score", "logits"),
            ("sink", "output"),
            ("kept", "lookups, softmax"),
        ],
    )
    pic.text("muted small", 20, lanes.y + 14, "Not to scale.")
    return pic


def draw_prefill_search():
    pic = Drawing(960, 380, "Schedule of prefill's search")
    title = "Two thread blocks share a multiprocessor, each with a unit of its own"
    units = Lanes(pic, title, 34, 100)
    units.lane(
        "thread block 0",
        "unit of the last rows",
        [
            (0, 6, "kept", "pool"),
            (6, 32, "kept-score", "scan, stage 1"),
            (32, 40, "sink", "select"),
            (40, 60, "kept-score", "scan, stage 2"),
            (60, 68, "sink", "select"),
            (68, 72, "kept", ""),
            (72, 94, "kept-score", "scan, stage 3"),
            (94, 100, "sink", ""),
        ],
    )
    units.lane(
        "thread block 1",
        "another stage",
        [
            (0, 14, "kept-score", "stage 3"),
            (14, 22, "sink", "select"),
            (22, 28, "kept", "pool"),
            (28, 52, "kept-score", "scan, stage 1"),
            (52, 59, "sink", "select"),
            (59, 80, "kept-score", "scan, stage 2"),
            (80, 88, "sink", "select"),
            (88, 100, "kept-score", "stage 3"),
        ],
    )
    title = "A level of a scan: 64 keys of 32 chunks by four warps"
    level = Lanes(pic, title, units.y + 30, 100)
    level.lane(
        "each warp: copies",
        "16 keys by cp.async",
        [
            (4, 34, "window", "keys arrive in shared memory"),
            (66, 96, "window", "keys of the next level"),
        ],
    )
    level.lane(
        "each quad: lookups",
        "its chunk's next 4 keys",
        [
            (0, 4, "kept", "ask"),
            (6, 30, "kept", "pages for both outcomes"),
            (62, 66, "kept", "ask"),
            (68, 92, "kept", "pages for both outcomes"),
        ],
    )
    level.lane(
        "each warp: ldmatrix",
        "order of wgmma",
        [(34, 40, "kept", "read")],
    )
    level.lane(
        "four warps: products",
        "tiles of 64 pooled rows",
        [(40, 48, "kept-score", "rows 0 –"), (48, 57, "kept-score", "rows 64 –")],
    )
    level.lane(
        "each quad",
        "no barrier",
        [(57, 62, "sink", "turn")],
    )
    legend(
        pic,
        level.y + 14,
        [
            ("kept", "pooling, lookups"),
            ("window", "memory at work"),
            ("kept-score", "tensor cores"),
            ("sink", "select, left or right"),
        ],
    )
    pic.text("muted small", 20, level.y + 14, "Not to scale.")
    return pic
