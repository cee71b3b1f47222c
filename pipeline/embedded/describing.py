"""Analyses → the answer's text: a few plain sentences a medium, and who is speaking."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.embedded.analysis import Analysis, DocumentAnalysis
from pipeline.embedded.images import ImageAnalysis
from pipeline.embedded.sounds import QUIETEST_DBFS, AudioAnalysis
from pipeline.embedded.videos import VideoAnalysis

_ECHOED_CHARS = 60
_CUTS_LISTED = 8
_SOFT_BELOW = 10.0
_SHARP_FROM = 30.0

_ORIENTATIONS = {
    1: "upright",
    2: "mirrored left to right",
    3: "upside down",
    4: "mirrored top to bottom",
    5: "mirrored and turned by 90°",
    6: "to be turned 90° clockwise",
    7: "mirrored and turned by 270°",
    8: "to be turned 90° counterclockwise",
}


def describe(prompt: str, analyses: Sequence[Analysis]) -> str:
    """The whole answer. It says first that no model wrote it."""
    lines = [
        "This is mediabatch's embedded endpoint: it opened and measured what was sent; no model was asked.",
        f"The prompt begins: {_echo(prompt)}" if prompt.strip() else "There was no prompt.",
    ]
    numbers: dict[str, int] = {}
    for analysis in analyses:
        kind, sentence = _describe_one(analysis)
        numbers[kind] = numbers.get(kind, 0) + 1
        lines.append(f"{kind} {numbers[kind]}: {sentence}")
    if not analyses:
        lines.append("No medium came with it.")
    return "\n".join(lines)


def _describe_one(analysis: Analysis) -> tuple[str, str]:
    match analysis:
        case ImageAnalysis():
            return "Image", describe_image(analysis)
        case AudioAnalysis():
            return "Audio", describe_audio(analysis)
        case VideoAnalysis():
            return "Video", describe_video(analysis)
        case DocumentAnalysis():
            return "Document", describe_document(analysis)


def describe_image(image: ImageAnalysis) -> str:
    facts = image.facts
    frames = f", {facts.frames} frames, the first of them measured" if facts.frames > 1 else ""
    colours = ", ".join(f"{colour.name} {colour.hex} ({colour.share:.0%})" for colour in image.colours)
    return (
        f"{facts.format}, {facts.width_px} x {facts.height_px} px, "
        f"{_orientation(facts.orientation)}{frames}. "
        f"Main colours: {colours}. "
        f"Brightness {image.brightness:.0%}, "
        f"sharpness {image.sharpness:.0f} ({_sharpness_word(image.sharpness)})."
    )


def describe_audio(audio: AudioAnalysis) -> str:
    return _sound(audio, f"{audio.facts.container} ({audio.facts.codec})")


def _sound(audio: AudioAnalysis, named: str) -> str:
    facts = audio.facts
    channels = {1: "mono", 2: "stereo"}.get(facts.channels, f"{facts.channels} channels")
    partly = f" (of the first {audio.listened_s:.0f} s)" if audio.listened_s < facts.duration_s - 1 else ""
    return (
        f"{named}, {facts.duration_s:.1f} s, {facts.sample_rate_hz:,} Hz, {channels}. "
        f"{_loudness(audio.loudness_dbfs)}, {audio.silence_share:.0%} silence{partly}."
    )


def describe_video(video: VideoAnalysis) -> str:
    facts = video.facts
    rate = "unknown frame rate" if facts.frame_rate is None else f"{facts.frame_rate:.4g} frames/s"
    partly = f" in the first {video.watched_s:.0f} s" if video.watched_s < facts.duration_s - 1 else ""
    sound = "none." if video.soundtrack is None else _sound(video.soundtrack, video.soundtrack.facts.codec)
    return (
        f"{facts.container} ({facts.codec}), {facts.width_px} x {facts.height_px} px, "
        f"{facts.duration_s:.1f} s, {rate}. "
        f"{_cuts(video.cuts_s)}{partly}. Soundtrack: {sound}"
    )


def describe_document(document: DocumentAnalysis) -> str:
    facts = document.facts
    pages = (
        "an unknown number of pages"
        if facts.pages is None
        else f"{facts.pages} page{'s'[: facts.pages != 1]}"
    )
    return f"{facts.format}, {pages}, {facts.size_bytes:,} bytes. Its text was not read."


def _echo(prompt: str) -> str:
    one_line = " ".join(prompt.split())
    return f"“{one_line[:_ECHOED_CHARS]}{'…' if len(one_line) > _ECHOED_CHARS else ''}”"


def _orientation(orientation: int) -> str:
    return _ORIENTATIONS[orientation] + ("" if orientation == 1 else f" (EXIF orientation {orientation})")


def _sharpness_word(sharpness: float) -> str:
    if sharpness < _SOFT_BELOW:
        return "soft"
    return "sharp" if sharpness >= _SHARP_FROM else "clear"


def _loudness(dbfs: float) -> str:
    return "No sound at all" if dbfs <= QUIETEST_DBFS else f"Loudness {dbfs:.1f} dBFS"


def _cuts(cuts_s: Sequence[float]) -> str:
    if not cuts_s:
        return "No scene cut"
    times = ", ".join(f"{cut:.1f} s" for cut in cuts_s[:_CUTS_LISTED])
    more = ", …" if len(cuts_s) > _CUTS_LISTED else ""
    return f"{len(cuts_s)} scene cut{'s'[: len(cuts_s) != 1]} (at {times}{more})"
