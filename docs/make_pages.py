"""``python -m docs.make_pages``: docs/fortnight.html, the page of the played fortnight, and pictures of it.

It needs Chromium: the pictures (docs/pictures/report-*.png and gallery-*.png) are of real pages.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import anyio
from PIL import Image

from tests.end_to_end.nights import invoke
from tests.fortnight.checking import check
from tests.fortnight.nights import play
from tests.pages.browsing import CHROMIUM, WHY_NOT, chromium, visit

DOCS = Path(__file__).resolve().parent
PICTURES = (
    *(("report", width, theme, 1900) for width in (360, 800, 1600) for theme in ("light", "dark")),
    *(("gallery", width, theme, 1100) for width, theme in ((1600, "light"), (800, "dark"), (360, "light"))),
)
"""(page, how wide, theme, how high)"""


def main() -> None:
    if CHROMIUM is None:
        sys.exit(WHY_NOT)
    with tempfile.TemporaryDirectory() as folder:
        played = anyio.run(partial(play, Path(folder) / "played", seed=1))
        wrong = check(played)
        if wrong:
            sys.exit("\n".join(wrong))
        os.chdir(played.out.parent)  # the commands on the pages name the store as everybody has it
        if played.out.name != "out":
            played.out.rename("out")
        invoke("report", "--html", "report.html", "--gallery", "gallery.html")
        (DOCS / "fortnight.html").write_bytes(Path("report.html").read_bytes())
        _take_pictures()


def _take_pictures() -> None:
    with chromium() as browser:
        for name, width, theme, height in PICTURES:
            with visit(browser, Path(f"{name}.html").resolve(), width, color_scheme=theme) as seen:
                seen.page.set_viewport_size({"width": width, "height": height})
                seen.page.wait_for_timeout(500)
                picture = Image.open(io.BytesIO(seen.page.screenshot())).convert("RGB")
                small = picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
                small.save(DOCS / "pictures" / f"{name}-{width}-{theme}.png", optimize=True)


if __name__ == "__main__":
    main()
