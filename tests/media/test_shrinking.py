"""Images made smaller."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from pipeline.media.probing import UnreadableMedia
from pipeline.media.shrinking import shrunk
from tests.media.contents import picture


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize(("format", "mime"), [("JPEG", "jpeg"), ("PNG", "png"), ("WEBP", "webp")])
def test_the_longer_side_is_what_was_asked_for_and_the_format_stays(format: str, mime: str):
    made = shrunk(picture(format, (400, 100)), 200)
    assert made is not None
    assert (made.mime, made.before_px, made.after_px) == (f"image/{mime}", (400, 100), (200, 50))
    with opened(made.content) as image:
        assert (image.format, image.size) == (format, (200, 50))


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (10, 10)])
def test_what_is_no_longer_stays_as_it_is(size: tuple[int, int]):
    assert shrunk(picture("PNG", size), 200) is None


@pytest.mark.parametrize(("format", "becomes"), [("BMP", "jpeg"), ("TIFF", "jpeg"), ("GIF", "jpeg")])
def test_formats_that_few_endpoints_take_become_common_ones(format: str, becomes: str):
    made = shrunk(picture(format, (400, 100)), 200)
    assert made is not None
    assert made.mime == f"image/{becomes}"


def test_what_a_camera_held_sideways_took_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to see it
    lying = Image.new("RGB", (400, 200), "black")
    lying.paste("white", (0, 0, 200, 200))  # its left half, which is the upper one as it is seen
    made = io.BytesIO()
    lying.save(made, "JPEG", exif=exif)
    upright = shrunk(made.getvalue(), 100)
    assert upright is not None
    assert (upright.before_px, upright.after_px) == ((200, 400), (50, 100))
    with opened(upright.content) as image:
        assert image.getexif().get(0x0112, 1) == 1
        grey = image.convert("L")
        assert grey.getpixel((25, 10)) > 200
        assert grey.getpixel((25, 90)) < 50


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_a_png_can_be_made_smaller(mode: str):
    made = io.BytesIO()
    Image.new(mode, (400, 200)).save(made, "PNG")
    smaller = shrunk(made.getvalue(), 100)
    assert smaller is not None
    assert smaller.after_px == (100, 50)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_mode_of_a_jpeg_can_be_made_smaller(mode: str):
    smaller = shrunk(picture("JPEG", (400, 200), mode), 100)
    assert smaller is not None
    assert smaller.after_px == (100, 50)


def test_transparency_stays():
    made = shrunk(picture("PNG", (400, 200), "RGBA"), 100)
    assert made is not None
    with opened(made.content) as image:
        assert image.mode == "RGBA"


def test_what_moves_is_left_alone():
    frames = [Image.new("RGB", (400, 200), colour) for colour in ("red", "green", "blue")]
    made = io.BytesIO()
    frames[0].save(made, "GIF", save_all=True, append_images=frames[1:])
    assert shrunk(made.getvalue(), 100) is None


def test_a_broken_image_says_so():
    with pytest.raises(UnreadableMedia):
        shrunk(picture("PNG", (400, 200), noise=True)[:-3000], 100)
