"""What can be said of an image without a model: its main colours, how bright and how sharp it is.

Owns the decoding of images and its limit; blocking, so it runs in a worker thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageFilter, ImageStat

from pipeline.media.probing import ImageFacts, UnreadableMedia, open_image

MAX_IMAGE_PIXELS = 89_000_000  # Pillow's own alarm for decompression bombs begins here

_PALETTE_SIZE = 8
_COLOURS_NAMED = 3
_THUMBNAIL_PX = 160
_SHARPNESS_PX = 640
# A Laplacian, scaled by 8 and shifted to the middle so that Pillow's bytes do not clip it.
_LAPLACIAN = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=8, offset=128)

_GREY_SPREAD = 24  # a colour whose channels are further apart is no grey
_GREY_NAMES = {
    "black": (15, 15, 15),
    "dark grey": (70, 70, 70),
    "grey": (128, 128, 128),
    "light grey": (200, 200, 200),
    "white": (250, 250, 250),
}
_COLOUR_NAMES = {
    "red": (210, 40, 40),
    "dark red": (120, 20, 25),
    "pink": (240, 160, 180),
    "orange": (240, 140, 40),
    "brown": (120, 75, 40),
    "tan": (190, 150, 115),
    "beige": (230, 210, 175),
    "yellow": (245, 220, 60),
    "olive": (120, 120, 40),
    "green": (50, 160, 70),
    "dark green": (20, 80, 40),
    "light green": (160, 220, 150),
    "teal": (30, 130, 130),
    "light blue": (150, 200, 240),
    "blue": (45, 95, 205),
    "dark blue": (20, 35, 95),
    "mauve": (145, 95, 115),
    "plum": (105, 65, 100),
    "slate": (95, 105, 125),
    "purple": (120, 60, 160),
    "dark purple": (60, 30, 80),
    "magenta": (210, 60, 160),
}


@dataclass(frozen=True, slots=True)
class Colour:
    """``share`` is the part of the picture that is nearest to it, 0 to 1."""

    name: str
    hex: str
    share: float


@dataclass(frozen=True, slots=True)
class ImageAnalysis:
    """``brightness`` is 0 to 1; ``sharpness`` the deviation of the Laplacian in grey levels, 0 if plain."""

    facts: ImageFacts
    colours: tuple[Colour, ...]
    brightness: float
    sharpness: float


def analyse_image(content: bytes, facts: ImageFacts) -> ImageAnalysis:
    if facts.width_px * facts.height_px > MAX_IMAGE_PIXELS:
        raise UnreadableMedia("image", f"it has more than {MAX_IMAGE_PIXELS / 1e6:g} megapixels")
    with open_image(content) as image:
        image.draft(
            "RGB", (_SHARPNESS_PX, _SHARPNESS_PX)
        )  # a JPEG decodes at a fraction of its size; others ignore it
        image.load()
        picture = _flattened(image)
        picture.thumbnail((_SHARPNESS_PX, _SHARPNESS_PX))
        grey = picture.convert("L")
        return ImageAnalysis(
            facts=facts,
            colours=dominant_colours(picture),
            brightness=ImageStat.Stat(grey).mean[0] / 255,
            sharpness=sharpness(grey),
        )


def _flattened(image: Image.Image) -> Image.Image:
    """RGB; what is transparent lies on white, as a page shows it."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(ground, layer).convert("RGB")


def sharpness(grey: Image.Image) -> float:
    """The deviation of the Laplacian, in grey levels."""
    if min(grey.size) < 3:
        return 0.0
    edges = grey.filter(_LAPLACIAN)
    # Pillow leaves the outermost pixels as they were: they are no edges.
    inner = edges.crop((1, 1, edges.width - 1, edges.height - 1))
    return ImageStat.Stat(inner).stddev[0] * 8


def dominant_colours(picture: Image.Image) -> tuple[Colour, ...]:
    """The largest colours, named; shades of one name are counted together under the largest of them."""
    small = picture.copy()
    small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    quantized = small.quantize(_PALETTE_SIZE, method=Image.Quantize.MEDIANCUT)
    palette = quantized.getpalette() or []
    counts = sorted(quantized.getcolors() or [], reverse=True)
    shares: dict[str, float] = {}
    hexes: dict[str, str] = {}
    for count, index in counts:
        assert isinstance(index, int)  # a palette image's colours are indices
        red, green, blue = palette[index * 3 : index * 3 + 3]
        name = colour_name(red, green, blue)
        hexes.setdefault(name, f"#{red:02x}{green:02x}{blue:02x}")
        shares[name] = shares.get(name, 0.0) + count / (small.width * small.height)
    largest = sorted(shares, key=lambda name: -shares[name])[:_COLOURS_NAMED]
    return tuple(Colour(name, hexes[name], shares[name]) for name in largest)


def colour_name(red: int, green: int, blue: int) -> str:
    """The nearest name. Green differences weigh most, as they do to the eye."""
    is_grey = max(red, green, blue) - min(red, green, blue) <= _GREY_SPREAD
    names = _GREY_NAMES if is_grey else _COLOUR_NAMES

    def distance(name: str) -> int:
        r, g, b = names[name]
        return 3 * (red - r) ** 2 + 4 * (green - g) ** 2 + 2 * (blue - b) ** 2

    return min(names, key=distance)
