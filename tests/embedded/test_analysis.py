"""What is measured, on media whose answer is known because they were made for the question."""

from __future__ import annotations

import wave
from array import array
from fractions import Fraction
from io import BytesIO
from math import pi, sin

import av
import pytest
from PIL import Image

from pipeline.embedded.analysis import Analysis, analyse
from pipeline.embedded.describing import describe
from pipeline.embedded.images import ImageAnalysis, colour_name
from pipeline.embedded.sounds import AudioAnalysis
from pipeline.embedded.videos import VideoAnalysis
from pipeline.media.probing import UnreadableMedia
from tests.embedded.conftest import BROKEN, MEDIA


def analysed(name: str) -> Analysis:
    return analyse((MEDIA / name).read_bytes())


def image(picture: Image.Image, format: str = "PNG") -> bytes:
    content = BytesIO()
    picture.save(content, format)
    return content.getvalue()


def wav(samples: array[int], rate_hz: int = 8000) -> bytes:
    content = BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())
    return content.getvalue()


SHIPPED = {
    "announcement.ogg": "Audio 1: ogg (opus), 6.9 s, 48,000 Hz, mono.",
    "beeps.wav": "Audio 1: wav (pcm_s16le), 2.4 s, 16,000 Hz, mono. Loudness -13.7 dBFS, 62% silence.",
    "blurred-letter.jpg": "(soft).",
    "bouncing-ball.mp4": "mp4 (h264), 320 x 240 px, 4.0 s, 25 frames/s. No scene cut. Soundtrack: none.",
    "chart.png": "Image 1: PNG, 960 x 600 px, upright. Main colours: white",
    "countdown.mov": "No scene cut. Soundtrack: aac, 3.0 s, 16,000 Hz, mono.",
    "greeting-en.wav": "Audio 1: wav (pcm_s16le), 4.2 s, 16,000 Hz, mono.",
    "greeting-zh.mp3": "Audio 1: mp3 (mp3),",
    "mountain-sideways.jpg": "900 x 600 px, to be turned 90° clockwise (EXIF orientation 6).",
    "product.webp": "Image 1: WEBP, 700 x 700 px, upright. Main colours: white #ffffff",
    "receipt.png": "(sharp).",
    "scale-stereo.mp3": "2.8 s, 16,000 Hz, stereo.",
    "street-sign.webp": "Main colours: light blue",
    "sunset.jpg": "Image 1: JPEG, 1280 x 853 px, upright. Main colours: plum",
    "three-scenes.mp4": "2 scene cuts (at 2.0 s, 4.0 s). Soundtrack: aac, 6.0 s,",
    "thumbnail.jpg": "320 x 213 px",
    "title-card.mov": "Soundtrack: none.",
    "traffic-light.gif": "Image 1: GIF, 160 x 320 px, upright, 3 frames, the first of them measured.",
}


def test_every_shipped_medium_but_the_broken_one_has_an_expected_sentence():
    assert {path.name for path in MEDIA.iterdir()} == {*SHIPPED, BROKEN}


@pytest.mark.parametrize(("name", "sentence"), SHIPPED.items())
def test_a_shipped_medium_is_described(name: str, sentence: str):
    assert sentence in describe("", [analysed(name)])


def test_the_text_says_first_that_no_model_was_asked_and_echoes_the_prompt():
    lines = describe("Describe\nthis picture, please, in " + "x" * 100, []).splitlines()
    assert lines[0].endswith("no model was asked.")
    assert lines[1].startswith("The prompt begins: “Describe this picture, please, in xxx")
    assert len(lines[1]) < 90


def test_media_of_one_kind_are_numbered():
    text = describe("", [analysed("sunset.jpg"), analysed("beeps.wav"), analysed("thumbnail.jpg")])
    assert [line.partition(":")[0] for line in text.splitlines()[2:]] == ["Image 1", "Audio 1", "Image 2"]


def test_a_plain_image_has_one_colour_and_no_sharpness():
    analysis = analyse(image(Image.new("RGB", (200, 100), (255, 255, 255))))
    assert isinstance(analysis, ImageAnalysis)
    assert [(colour.name, colour.hex, colour.share) for colour in analysis.colours] == [
        ("white", "#ffffff", 1.0)
    ]
    assert (analysis.brightness, analysis.sharpness) == (1.0, 0.0)


def test_colours_come_with_their_share():
    picture = Image.new("RGB", (100, 100), (210, 40, 40))
    picture.paste((45, 95, 205), (0, 0, 100, 25))
    analysis = analyse(image(picture))
    assert isinstance(analysis, ImageAnalysis)
    assert [(colour.name, round(colour.share, 2)) for colour in analysis.colours] == [
        ("red", 0.75),
        ("blue", 0.25),
    ]


def test_what_is_transparent_counts_as_white():
    analysis = analyse(image(Image.new("RGBA", (50, 50), (0, 0, 0, 0))))
    assert isinstance(analysis, ImageAnalysis)
    assert analysis.colours[0].name == "white"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_pixel_mode_is_measured(mode: str):
    format = "TIFF" if mode == "CMYK" else "PNG"
    assert isinstance(analyse(image(Image.new(mode, (40, 30)), format)), ImageAnalysis)


def test_an_image_of_one_pixel_is_measured():
    assert isinstance(analyse(image(Image.new("RGB", (1, 1), "red"))), ImageAnalysis)


def test_blurred_is_less_sharp_than_printed():
    blurred, printed = analysed("blurred-letter.jpg"), analysed("receipt.png")
    assert isinstance(blurred, ImageAnalysis)
    assert isinstance(printed, ImageAnalysis)
    assert blurred.sharpness < 5 < 30 < printed.sharpness


@pytest.mark.parametrize(
    ("rgb", "name"),
    [((255, 0, 0), "red"), ((0, 0, 0), "black"), ((130, 128, 126), "grey"), ((250, 150, 40), "orange")],
)
def test_colours_have_everyday_names(rgb: tuple[int, int, int], name: str):
    assert colour_name(*rgb) == name


def test_a_full_scale_sine_is_three_decibels_below_full_scale():
    """The RMS of a sine is its peak / √2: 20 x log10(0.7071) = -3.01 dBFS."""
    analysis = analyse(wav(array("h", (round(32767 * sin(2 * pi * 440 * i / 8000)) for i in range(8000)))))
    assert isinstance(analysis, AudioAnalysis)
    assert analysis.loudness_dbfs == pytest.approx(-3.01, abs=0.02)
    assert analysis.silence_share == 0


def test_silence_is_counted_in_windows():
    """1 s of tone and 3 s of nothing: 75 % silence, and a quarter of the power, 6 dB less than -3.01."""
    sound = array("h", (round(32767 * sin(2 * pi * 440 * i / 8000)) for i in range(8000)))
    analysis = analyse(wav(sound + array("h", bytes(2 * 24_000))))
    assert isinstance(analysis, AudioAnalysis)
    assert analysis.silence_share == pytest.approx(0.75, abs=0.01)
    assert analysis.loudness_dbfs == pytest.approx(-9.03, abs=0.05)


def test_digital_silence_is_called_no_sound():
    assert "No sound at all, 100% silence." in describe("", [analyse(wav(array("h", bytes(16_000))))])


def test_long_sound_is_measured_on_its_beginning_and_says_so():
    """700 s at 100 Hz: 600 s of it are listened to, and the duration stays that of the whole."""
    analysis = analyse(wav(array("h", [1000]) * 70_000, rate_hz=100))
    assert isinstance(analysis, AudioAnalysis)
    assert (analysis.facts.duration_s, analysis.listened_s) == (700.0, pytest.approx(600.0))
    assert "silence (of the first 600 s)." in describe("", [analysis])


def test_sound_of_more_than_nine_and_a_half_hours_is_refused():
    with pytest.raises(UnreadableMedia, match="longer than 34200 s"):
        analyse(wav(array("h", [0]) * 342_100, rate_hz=10))


def test_an_absurd_sample_rate_is_refused_before_it_is_resampled():
    with pytest.raises(UnreadableMedia, match="are no sound"):
        analyse(wav(array("h", [0]) * 100, rate_hz=2_000_000_011))


def test_a_song_with_a_damaged_stretch_is_still_measured():
    song = bytearray((MEDIA / "greeting-zh.mp3").read_bytes())
    song[20_000:21_000] = b"\xff" * 1000
    analysis = analyse(bytes(song))
    assert isinstance(analysis, AudioAnalysis)
    assert analysis.listened_s > 7


def test_a_heic_picture_is_refused_as_an_image():
    with pytest.raises(UnreadableMedia, match="the image cannot be read"):
        analyse(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))


def test_cuts_are_found_to_the_frame():
    analysis = analysed("three-scenes.mp4")
    assert isinstance(analysis, VideoAnalysis)
    assert analysis.cuts_s == (2.0, 4.0)


def test_a_flash_is_no_scene():
    """White for 2 frames of 50, then black again: a scene of 0.08 s, so only one change is a cut."""
    analysis = analyse(video([255 if number in (25, 26) else 0 for number in range(50)]))
    assert isinstance(analysis, VideoAnalysis)
    assert analysis.cuts_s == (1.0,)


def test_a_video_of_more_than_an_hour_is_refused_before_it_is_decoded():
    with pytest.raises(UnreadableMedia, match="longer than 3600 s"):
        analyse(video([0, 255], seconds_between=3700))


@pytest.mark.parametrize("side_px", [9_440, 9_600, 14_000])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(side_px: int):
    """A one-colour PNG of 89 megapixels is a few kilobytes: a bomb."""
    bomb = image(Image.new("1", (side_px, side_px)))
    assert len(bomb) < 40_000
    with pytest.raises(UnreadableMedia, match="pixels"):
        analyse(bomb)


def video(greys: list[int], seconds_between: float = 0.04) -> bytes:
    """One frame for each grey level."""
    content = BytesIO()
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for number, grey in enumerate(greys):
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48), (grey, grey, grey)))
            frame.pts = round(number * seconds_between * 25)
            frame.time_base = Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return content.getvalue()
