"""Line charts in the style of drawing.py."""

import math

from drawing import COLOURS

# Lines of a chart, in order: (light, dark).
LINES = [
    COLOURS["kept-score"],
    COLOURS["window"],
    COLOURS["sink"],
    COLOURS["query"],
    COLOURS["muted"],
    ("#b35900", "#d4a72c"),
]


def style():
    def rules(theme):
        return "".join(
            f".line{n}{{fill:none;stroke:{pair[theme]};stroke-width:2}}.dot{n}{{fill:{pair[theme]}}}"
            for n, pair in enumerate(LINES)
        )

    return (
        f"<style>{rules(0)}.dashed{{stroke-dasharray:5 4;stroke-width:1.4}}"
        f"@media (prefers-color-scheme:dark){{{rules(1)}}}</style>"
    )


class Chart:
    """A chart in a rectangle of a picture. The horizontal axis is logarithmic; `marks` are the
    numbers on the axes, and their first and last are where these end."""

    def __init__(self, pic, box, title, x_marks, y_marks, y_words=str):
        self.pic = pic
        self.left, self.top, self.width, self.height = box
        self.x_ends = (math.log2(x_marks[0][0]), math.log2(x_marks[-1][0]))
        self.y_ends = (y_marks[0], y_marks[-1])
        pic.text("text bold", self.left, self.top - 14, title)
        for mark in y_marks:
            y = self.y(mark)
            pic.path("frame", f"M{self.left:.1f} {y:.1f}h{self.width:.1f}")
            pic.text("muted small end", self.left - 8, y + 4, y_words(mark))
        for mark, words in x_marks:
            pic.text("muted small middle", self.x(mark), self.top + self.height + 18, words)

    def x(self, value):
        low, high = self.x_ends
        return self.left + self.width * (math.log2(value) - low) / (high - low)

    def y(self, value):
        low, high = self.y_ends
        return self.top + self.height * (1 - (value - low) / (high - low))

    def line(self, number, points, dashed=False):
        """Those points that lie in the chart, joined."""
        low, high = self.y_ends
        places = [(self.x(x), self.y(y)) for x, y in points if low <= y <= high]
        steps = " ".join(f"{x:.1f} {y:.1f}" for x, y in places)
        self.pic.path(f"line{number}" + (" dashed" if dashed else ""), f"M{steps}")
        if not dashed:
            for x, y in places:
                self.pic.circle(f"dot{number}", x, y, 3)


def legend(pic, left, top, names, row=20):
    for number, (words, dashed) in enumerate(names):
        y = top + row * number
        pic.path(f"line{number}" + (" dashed" if dashed else ""), f"M{left:.1f} {y:.1f}h26")
        pic.text("text small", left + 34, y + 4, words)
