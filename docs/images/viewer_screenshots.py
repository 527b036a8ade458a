#!/usr/bin/env python3
"""Takes the screenshots of docs/guide/viewer.md, with Chromium and Pillow (pip install pillow):

    llama view --model examples/llama/model --data examples/llama/data --device cpu --context 16k \\
      --preset infinite_hip --layers 4,5 --heads 6,7 --out view.html
    docs/images/viewer_screenshots.py view.html
"""

import io
import pathlib
import sys

try:
    from PIL import Image
except ImportError:
    sys.exit("viewer_screenshots.py takes Pillow: pip install pillow")

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1] / "python/tests"))
import chromium

# The name of the picture, and what is done before it is taken.
SHOTS = {
    "viewer_whole": "hipView.point(14400, 9000)",
    "viewer_missed": "document.querySelector('#missed button').click()",
    "viewer_found": """hipView.setTheme('dark');
        document.querySelectorAll('#marks button')[5].click()""",
    "viewer_between": """hipView.view.scale = 3.5;
        hipView.glide(hipView.view.centred(13300, 9400, 3.5)); hipView.point(13350, 9300)""",
}


def main():
    if chromium.find() is None:
        sys.exit(chromium.SKIPPED)
    page = pathlib.Path(sys.argv[1])
    with chromium.Page(width=1400, height=880) as browser:
        for name, action in SHOTS.items():
            browser.open(page, "#layer=5&head=7")
            browser.run(f"{{ {action}; }}")
            idle = "!hipView.stale && !hipView.motion && hipView.store.wanted.length === 0"
            browser.wait(idle)
            picture = Image.open(io.BytesIO(browser.screenshot()))
            # Half of the bytes, with colours chosen so that rare ones, as of the legend, stay.
            few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
            few.save(FOLDER / f"{name}.png", optimize=True)


main()
