"""Makes the example media in ``data/media``: drawn pictures, spoken and sounded audio, short videos.

Run it from the project's folder, ``python data/make_media.py``. It needs espeak-ng for the speech (any recent
version; the shipped files are by 1.51) and otherwise Pillow and PyAV alone. Nothing is random and nothing is
fetched: the same versions make the same pictures, sounds and frames. Everything made here is free to use.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import wave
from array import array
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFilter, ImageFont

MEDIA = Path(__file__).parent / "media"
RATE_HZ = 16_000
FPS = 25

Frame = Callable[[float], Image.Image]  # seconds → picture


# Pictures


def font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, so that no machine's fonts matter."""
    return ImageFont.load_default(size_px)


def gradient(size: tuple[int, int], top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Image.Image:
    ramp = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), ramp)


def sunset(size: tuple[int, int] = (1280, 853)) -> Image.Image:
    """Sun half under the horizon of a sea, hills to the left."""
    width, height = size
    horizon = round(height * 0.62)
    picture = gradient(size, (92, 58, 120), (250, 170, 80))
    draw = ImageDraw.Draw(picture)
    centre = round(width * 0.62)
    glow = Image.new("L", size, 0)
    ImageDraw.Draw(glow).ellipse((centre - 330, horizon - 330, centre + 330, horizon + 330), fill=150)
    glow = glow.filter(ImageFilter.GaussianBlur(90))
    picture.paste((255, 214, 120), (0, 0), glow)
    draw.ellipse((centre - 110, horizon - 110, centre + 110, horizon + 110), fill=(255, 236, 170))
    picture.paste(gradient((width, height - horizon), (198, 110, 80), (38, 36, 84)), (0, horizon))
    for step in range(26):  # the light's road on the water
        y = horizon + 8 + round(step**1.55 * 1.9)
        half = 20 + step * 5 + (step * 37) % 40
        draw.rounded_rectangle((centre - half, y, centre + half, y + 3 + step // 6), 3, fill=(255, 208, 130))
    draw.polygon(
        [
            (0, horizon - 150),
            (150, horizon - 210),
            (330, horizon - 90),
            (470, horizon - 120),
            (680, horizon),
            (0, horizon),
        ],
        fill=(52, 34, 70),
    )
    for x, y in ((860, 170), (930, 140), (985, 185)):  # gulls
        draw.arc((x - 26, y, x, y + 18), 190, 350, fill=(50, 30, 60), width=4)
        draw.arc((x, y, x + 26, y + 18), 190, 350, fill=(50, 30, 60), width=4)
    return picture


def chart() -> Image.Image:
    """A bar chart with a trend line: twelve months of sales."""
    picture = Image.new("RGB", (960, 600), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((60, 24), "Monthly sales 2025 (thousand units)", fill=(30, 40, 60), font=font(30))
    values = (31, 28, 36, 42, 47, 45, 58, 61, 55, 66, 72, 84)
    for tick in range(0, 101, 20):
        y = 530 - tick * 4.4
        draw.line((60, y, 920, y), fill=(218, 222, 230), width=2)
        draw.text((22, y - 11), str(tick), fill=(110, 116, 130), font=font(18))
    points = []
    for index, (month, value) in enumerate(zip("JFMAMJJASOND", values, strict=True)):
        x = 90 + index * 70
        colour = (230, 120, 50) if value == max(values) else (60, 120, 200)
        draw.rectangle((x, 530 - value * 4.4, x + 42, 530), fill=colour)
        draw.text((x + 14, 540), month, fill=(70, 76, 90), font=font(20))
        points.append((x + 21, 530 - (value + 8) * 4.4))
    draw.line(points, fill=(210, 60, 70), width=4, joint="curve")
    for x, y in points:
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=(210, 60, 70))
    return picture


def street_sign() -> Image.Image:
    """A stop sign and a street name on a pole before houses."""
    picture = gradient((800, 1000), (150, 200, 240), (225, 238, 248))
    draw = ImageDraw.Draw(picture)
    walls = (
        (0, 470, 210, (196, 150, 120)),
        (210, 400, 270, (170, 120, 100)),
        (480, 510, 320, (205, 180, 140)),
    )
    for x, top, width, colour in walls:
        draw.rectangle((x, top, x + width, 850), fill=colour)
        for row in range(top + 40, 800, 110):
            for column in range(x + 28, x + width - 50, 80):
                draw.rectangle((column, row, column + 40, row + 60), fill=(80, 100, 130))
    draw.rectangle((0, 850, 800, 1000), fill=(92, 94, 100))
    draw.rectangle((0, 850, 800, 872), fill=(176, 176, 178))
    for x in range(40, 800, 190):
        draw.rectangle((x, 930, x + 110, 944), fill=(240, 240, 235))
    draw.rectangle((388, 150, 412, 880), fill=(120, 124, 130))
    draw.rounded_rectangle((190, 90, 610, 190), 12, fill=(30, 110, 70), outline="white", width=6)
    draw.text((400, 140), "HARBOUR ROAD", fill="white", font=font(48), anchor="mm")
    for radius, colour in ((190, (245, 245, 245)), (176, (196, 30, 42))):
        corners = [
            (
                400 + radius * math.cos(math.radians(22.5 + 45 * k)),
                410 + radius * math.sin(math.radians(22.5 + 45 * k)),
            )
            for k in range(8)
        ]
        draw.polygon(corners, fill=colour)
    draw.text((400, 410), "STOP", fill="white", font=font(120), anchor="mm")
    return picture


def receipt() -> Image.Image:
    """A till receipt, dark on light, with a total that adds up."""
    picture = Image.new("RGB", (420, 760), (246, 243, 234))
    draw = ImageDraw.Draw(picture)
    ink = (40, 40, 44)
    draw.text((210, 46), "CORNER CAFE", fill=ink, font=font(38), anchor="mm")
    draw.text((210, 88), "12 Harbour Road", fill=ink, font=font(20), anchor="mm")
    draw.text((210, 116), "2026-03-05  08:41", fill=ink, font=font(20), anchor="mm")
    goods = (
        ("Flat white", 380),
        ("Croissant", 290),
        ("Orange juice", 420),
        ("Egg sandwich", 650),
        ("Tea", 260),
    )
    y = 170
    for name, cents in goods:
        draw.text((34, y), name, fill=ink, font=font(24))
        draw.text((386, y), f"{cents / 100:.2f}", fill=ink, font=font(24), anchor="ra")
        y += 44
    for x in range(34, 386, 14):
        draw.line((x, y + 6, x + 7, y + 6), fill=ink, width=2)
    total = sum(cents for _, cents in goods)
    draw.text((34, y + 24), "TOTAL EUR", fill=ink, font=font(32))
    draw.text((386, y + 24), f"{total / 100:.2f}", fill=ink, font=font(32), anchor="ra")
    draw.text((34, y + 76), "Card **** 4821", fill=ink, font=font(20))
    for index in range(46):  # a bar code
        if (index * index * 7 + index * 3) % 5 < 3:
            draw.rectangle((60 + index * 6.5, y + 140, 63 + index * 6.5 + index % 3, y + 220), fill=ink)
    draw.text((210, y + 250), "Thank you!", fill=ink, font=font(24), anchor="mm")
    return picture


def product() -> Image.Image:
    """A labelled jar on a transparent ground, as a shop would show it."""
    picture = Image.new("RGBA", (700, 700), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((170, 600, 530, 660), fill=(60, 50, 40, 70))
    draw.rounded_rectangle((190, 170, 510, 630), 60, fill=(214, 130, 30, 255))
    draw.rounded_rectangle((190, 170, 250, 630), 30, fill=(236, 170, 80, 255))
    draw.rounded_rectangle((210, 90, 490, 180), 18, fill=(70, 74, 82, 255))
    for x in range(222, 490, 20):
        draw.line((x, 96, x, 174), fill=(104, 108, 116, 255), width=4)
    draw.rounded_rectangle(
        (205, 300, 495, 520), 14, fill=(252, 248, 236, 255), outline=(120, 70, 20, 255), width=5
    )
    draw.text((350, 355), "HONEY", fill=(120, 70, 20, 255), font=font(64), anchor="mm")
    draw.text((350, 420), "wild flower", fill=(120, 70, 20, 255), font=font(32), anchor="mm")
    draw.text((350, 475), "500 g", fill=(120, 70, 20, 255), font=font(36), anchor="mm")
    return picture


def mountain() -> Image.Image:
    """A mountain lake, upright; it is stored on its side, with an EXIF orientation that turns it up."""
    picture = gradient((600, 900), (60, 130, 210), (200, 228, 245))
    draw = ImageDraw.Draw(picture)
    draw.polygon(
        [(0, 520), (190, 210), (330, 430), (440, 290), (600, 500), (600, 620), (0, 620)], fill=(96, 104, 122)
    )
    draw.polygon([(128, 311), (190, 210), (252, 306), (216, 292), (190, 330), (160, 296)], fill="white")
    draw.polygon([(396, 342), (440, 290), (486, 345), (452, 334), (430, 352)], fill="white")
    draw.rectangle((0, 590, 600, 900), fill=(40, 100, 130))
    mirrored = picture.crop((0, 330, 600, 590)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    picture.paste(Image.blend(mirrored, Image.new("RGB", mirrored.size, (40, 100, 130)), 0.6), (0, 592))
    for x in range(-20, 620, 44):
        height = 70 + (x * 13) % 50
        draw.polygon([(x, 606), (x + 26, 606 - height), (x + 52, 606)], fill=(24, 74, 50))
    draw.ellipse((455, 70, 535, 150), fill=(255, 240, 190))
    return picture


def blurred_letter() -> Image.Image:
    """A letter out of focus: a picture that a person would ask to be taken again."""
    picture = Image.new("RGB", (640, 480), (120, 92, 66))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((120, 40, 520, 450), fill=(240, 236, 224))
    for row in range(12):
        draw.rectangle((150, 80 + row * 30, 490 - (row * 53) % 130, 90 + row * 30), fill=(70, 70, 80))
    return picture.filter(ImageFilter.GaussianBlur(7))


def traffic_light(lit: str) -> Image.Image:
    picture = Image.new("RGB", (160, 320), (196, 220, 236))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((72, 270, 88, 320), fill=(80, 80, 84))
    draw.rounded_rectangle((35, 20, 125, 280), 20, fill=(34, 36, 40))
    lamps = {"red": (220, 40, 40), "yellow": (245, 200, 50), "green": (50, 190, 90)}
    for index, (name, colour) in enumerate(lamps.items()):
        shade = colour if name == lit else tuple(channel // 5 for channel in colour)
        draw.ellipse((50, 35 + index * 80, 110, 95 + index * 80), fill=shade)
    return picture


def make_pictures() -> None:
    sunset().save(MEDIA / "sunset.jpg", quality=82)
    chart().save(MEDIA / "chart.png", optimize=True)
    street_sign().save(MEDIA / "street-sign.webp", quality=80)
    receipt().save(MEDIA / "receipt.png", optimize=True)
    product().save(MEDIA / "product.webp", quality=85)
    blurred_letter().save(MEDIA / "blurred-letter.jpg", quality=80)
    sunset().resize((320, 213)).save(MEDIA / "thumbnail.jpg", quality=80)  # 384 px and less count otherwise
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90° clockwise
    on_its_side = mountain().transpose(Image.Transpose.ROTATE_90)
    on_its_side.save(MEDIA / "mountain-sideways.jpg", quality=82, exif=exif)
    first, *others = [traffic_light(lit) for lit in ("red", "green", "yellow")]
    first.save(MEDIA / "traffic-light.gif", save_all=True, append_images=others, duration=900, loop=0)
    whole = (MEDIA / "sunset.jpg").read_bytes()
    (MEDIA / "broken.jpg").write_bytes(whole[: len(whole) // 3])  # deliberately: an upload that broke off


# Sounds


def speech(text: str, voice: str) -> array[int]:
    """Spoken text, mono, 16 bits, at RATE_HZ."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(["espeak-ng", "-v", voice, "-s", "150", "-w", str(path), text], check=True)
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
        samples = array("h")
        with av.open(str(path)) as container:
            for frame in [*container.decode(audio=0), None]:
                for part in resampler.resample(frame):
                    samples.frombytes(bytes(part.planes[0])[: part.samples * 2])
    return samples


def tone(hz: float, duration_s: float, level: float = 0.5) -> array[int]:
    """A sine that fades in and out over 20 ms, so that it does not click."""
    count = round(duration_s * RATE_HZ)
    fade = RATE_HZ // 50
    return array(
        "h",
        (
            round(
                32767
                * level
                * min(1, i / fade, (count - i) / fade)
                * math.sin(2 * math.pi * hz * i / RATE_HZ)
            )
            for i in range(count)
        ),
    )


def silence(duration_s: float) -> array[int]:
    return array("h", bytes(2 * round(duration_s * RATE_HZ)))


def joined(parts: Iterable[array[int]]) -> array[int]:
    whole = array("h")
    for part in parts:
        whole.extend(part)
    return whole


def audio_frames(samples: array[int], channels: int = 1) -> Iterator[av.AudioFrame]:
    """Frames of 1024 samples; with two channels the right one carries the same at half the level."""
    for start in range(0, len(samples), 1024):
        piece = samples[start : start + 1024]
        if channels == 2:
            piece = array(
                "h", (value for pair in zip(piece, piece, strict=True) for value in (pair[0], pair[1] // 2))
            )
        frame = av.AudioFrame(
            format="s16", layout="stereo" if channels == 2 else "mono", samples=len(piece) // channels
        )
        frame.planes[0].update(piece.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate = RATE_HZ
        frame.pts = start
        frame.time_base = Fraction(1, RATE_HZ)
        yield frame


def write_wav(name: str, samples: array[int]) -> None:
    with wave.open(str(MEDIA / name), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.tobytes())


def write_audio(
    name: str, codec: str, rate_hz: int, bit_rate: int, samples: array[int], channels: int = 1
) -> None:
    with av.open(str(MEDIA / name), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="stereo" if channels == 2 else "mono")
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = bit_rate
        for frame in [*audio_frames(samples, channels), None]:
            container.mux(stream.encode(frame))


def make_sounds() -> None:
    write_wav(
        "greeting-en.wav", speech("Good morning. The harbour ferry leaves at a quarter past eight.", "en-gb")
    )
    write_wav("beeps.wav", joined(part for _ in range(3) for part in (tone(880, 0.3), silence(0.5))))
    chinese = speech("早上好。太阳从东方升起，在西方落下。", "cmn")
    write_audio("greeting-zh.mp3", "libmp3lame", RATE_HZ, 48_000, chinese)
    notice = speech("Attention please. Platform four is closed today. Please use platform six.", "en-gb")
    write_audio("announcement.ogg", "libopus", 48_000, 32_000, joined((tone(660, 0.4), silence(0.3), notice)))
    scale = joined(tone(hz, 0.35, 0.4) for hz in (262, 294, 330, 349, 392, 440, 494, 523))
    write_audio("scale-stereo.mp3", "libmp3lame", RATE_HZ, 64_000, scale, channels=2)


# Videos


def bouncing_ball(at_s: float) -> Image.Image:
    picture = gradient((320, 240), (170, 210, 240), (235, 245, 250))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 205, 320, 240), fill=(90, 150, 80))
    x = 30 + 65 * at_s
    y = 180 - 130 * abs(math.sin(math.pi * at_s))
    draw.ellipse((x - 6, 200, x + 30, 210), fill=(70, 120, 64))
    draw.ellipse((x - 13, y - 25, x + 37, y + 25), fill=(220, 70, 50))
    return picture


def three_scenes(at_s: float) -> Image.Image:
    """Two seconds of sunset, two of chart, two of street: two cuts."""
    drawn = SCENES[min(2, int(at_s // 2))]
    zoom = 1 + 0.03 * (at_s % 2)
    width, height = round(384 / zoom), round(216 / zoom)
    left, top = (384 - width) // 2, (216 - height) // 2
    return drawn.crop((left, top, left + width, top + height)).resize((384, 216), Image.Resampling.BICUBIC)


def title_card(at_s: float) -> Image.Image:
    picture = Image.new("RGB", (320, 180), (24, 40, 78))
    draw = ImageDraw.Draw(picture)
    draw.text((160, 70), "Harbour ferry", fill="white", font=font(34), anchor="mm")
    draw.text((160, 112), "08:15", fill=(250, 210, 90), font=font(30), anchor="mm")
    draw.rectangle((40, 150, 40 + round(60 * at_s), 156), fill=(250, 210, 90))
    return picture


def countdown(at_s: float) -> Image.Image:
    picture = Image.new("RGB", (240, 240), (236, 230, 214))
    draw = ImageDraw.Draw(picture)
    draw.pieslice((40, 40, 200, 200), -90, -90 + 360 * (at_s % 1), fill=(200, 190, 168))
    draw.ellipse((40, 40, 200, 200), outline=(70, 64, 56), width=4)
    draw.text((120, 120), str(3 - min(2, int(at_s))), fill=(70, 64, 56), font=font(96), anchor="mm")
    return picture


def fitted(picture: Image.Image) -> Image.Image:
    """A scene in the video's format, cut to fill it."""
    scale = max(384 / picture.width, 216 / picture.height)
    larger = picture.convert("RGB").resize(
        (math.ceil(picture.width * scale), math.ceil(picture.height * scale))
    )
    top = (larger.height - 216) // 2
    return larger.crop((0, top, 384, top + 216))


SCENES = [fitted(sunset()), fitted(chart()), fitted(street_sign())]


def write_video(name: str, draw: Frame, duration_s: float, soundtrack: array[int] | None = None) -> None:
    """H.264 and AAC. One thread, so that the encoder's output does not depend on the machine."""
    with av.open(str(MEDIA / name), "w", options={"fflags": "+bitexact"}) as container:
        first = draw(0)
        pictures = container.add_stream("libx264", rate=FPS, options={"crf": "27", "threads": "1"})
        pictures.width, pictures.height, pictures.pix_fmt = first.width, first.height, "yuv420p"
        sound = None
        if soundtrack is not None:
            sound = container.add_stream("aac", rate=RATE_HZ, layout="mono")
            sound.bit_rate = 48_000
        for number in range(round(duration_s * FPS)):
            picture = av.VideoFrame.from_image(draw(number / FPS))  # type: ignore[no-untyped-call] # PyAV's stub
            container.mux(pictures.encode(picture))
        container.mux(pictures.encode(None))
        if sound is not None and soundtrack is not None:
            for frame in [*audio_frames(soundtrack), None]:
                container.mux(sound.encode(frame))


def make_videos() -> None:
    write_video("bouncing-ball.mp4", bouncing_ball, 4)
    write_video(
        "countdown.mov", countdown, 3, joined(joined((tone(700, 0.15), silence(0.85))) for _ in range(3))
    )
    story = speech("First the sunset. Then the sales. And then the street.", "en-gb")
    story = joined((story, silence(6)))[: 6 * RATE_HZ]
    write_video("three-scenes.mp4", three_scenes, 6, story)
    write_video("title-card.mov", title_card, 4)


def main() -> None:
    MEDIA.mkdir(exist_ok=True)
    make_pictures()
    make_sounds()
    make_videos()
    files = sorted(MEDIA.iterdir())
    for path in files:
        print(f"{path.stat().st_size:>8,}  {path.name}")
    print(f"{sum(path.stat().st_size for path in files):>8,}  in all", file=sys.stderr)


if __name__ == "__main__":
    main()
