"""An SVG that is readable on light and dark pages: colours by class, and little else."""

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
    "on-strong": ("#ffffff", "#0d1117"),
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
        ".middle{text-anchor:middle}.end{text-anchor:end}"
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

    def svg(self):
        return "\n".join(self.parts) + "\n</svg>\n"
