"""Images that go inline: local files, read and encoded for every request."""

from __future__ import annotations

import random
from base64 import b64encode
from pathlib import Path

from benchmarks import work

SMALLEST_BYTES, LARGEST_BYTES = 1_000_000, 5_000_000
"""Of a body, nearly all of it base64."""
SEED = 7


class Images:
    """A folder of them; item n has the n-th, and from the last on the first again."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob("*.jpg"))

    def path(self, number: int) -> Path:
        return self._paths[number % len(self._paths)]

    def request_body(self, number: int) -> bytes:
        image = f"data:image/jpeg;base64,{b64encode(self.path(number).read_bytes()).decode()}"
        return work.rendered(image, *work.media_urls(number)[1:])

    def body_bytes(self, items: int) -> int:
        """Of so many items, encoded images alone."""
        encoded = [-(-path.stat().st_size // 3) * 4 for path in self._paths]
        return sum(encoded[number % len(encoded)] for number in range(items))


def make_images(folder: Path, count: int) -> Images:
    """Random bytes, always the same: nobody looks at them."""
    dice = random.Random(SEED)
    folder.mkdir(exist_ok=True)
    for number in range(count):
        size_bytes = dice.randint(SMALLEST_BYTES, LARGEST_BYTES) * 3 // 4
        (folder / f"{number:03d}.jpg").write_bytes(dice.randbytes(size_bytes))
    return Images(folder)
