"""What can be said of a video without a model: where its scenes are cut, and how its soundtrack is.

Owns the decoding of moving pictures and its limits; blocking, so it runs in a worker thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from av.container import InputContainer
from av.video.frame import VideoFrame
from PIL import Image, ImageChops, ImageStat

from pipeline.embedded.decoding import video_frames
from pipeline.embedded.sounds import AudioAnalysis, analyse_audio
from pipeline.media.probing import UnreadableMedia, VideoFacts, moving_pictures, open_container

MAX_VIDEO_S = 3_600.0
MAX_WATCHED_S = 120.0  # longer videos are watched from their beginning
MAX_FRAME_PIXELS = 40_000_000  # 8K video has 33 million

_COMPARED_SIZE = (48, 27)
_CUT_DIFFERENCE = 0.10  # mean change of a pixel between neighbouring frames, as a share of full scale
_SHORTEST_SCENE_S = 0.4


@dataclass(frozen=True, slots=True)
class VideoAnalysis:
    """``cuts_s`` are the instants where a scene cuts to the next, within the first ``watched_s`` seconds."""

    facts: VideoFacts
    watched_s: float
    cuts_s: tuple[float, ...]
    soundtrack: AudioAnalysis | None


def analyse_video(content: bytes, facts: VideoFacts) -> VideoAnalysis:
    """Watch a video's beginning and listen to its soundtrack.

    Raises:
        UnreadableMedia: it is too long or its frames too large, or no frame can be decoded.
    """
    if facts.duration_s > MAX_VIDEO_S:
        raise UnreadableMedia("video", f"it is longer than {MAX_VIDEO_S:g} s")
    if facts.width_px * facts.height_px > MAX_FRAME_PIXELS:
        raise UnreadableMedia("video", f"its frames have more than {MAX_FRAME_PIXELS / 1e6:g} megapixels")
    with open_container(content) as container:
        watched_s, cuts_s = _watch(container, facts)
    return VideoAnalysis(
        facts=facts,
        watched_s=watched_s,
        cuts_s=cuts_s,
        soundtrack=None if facts.soundtrack is None else analyse_audio(content, facts.soundtrack),
    )


def _watch(container: InputContainer, facts: VideoFacts) -> tuple[float, tuple[float, ...]]:
    """Up to which second was watched, and the cuts until there."""
    cuts_s: list[float] = []
    previous: Image.Image | None = None
    scene_began_s = at_s = 0.0
    began_s: float | None = None
    for frame in video_frames(container, moving_pictures(container)[0]):
        if frame.width * frame.height > MAX_FRAME_PIXELS:
            raise UnreadableMedia("video", "its frames grow too large")
        time_s = float(frame.time or 0.0)
        began_s = time_s if began_s is None else began_s
        at_s = time_s - began_s
        if at_s > MAX_WATCHED_S:
            return MAX_WATCHED_S, tuple(cuts_s)
        picture = _small(frame)
        if previous is not None and _difference(previous, picture) > _CUT_DIFFERENCE:
            if at_s - scene_began_s >= _SHORTEST_SCENE_S:
                cuts_s.append(round(at_s, 2))
            # A flash of a few frames is no scene, but the next cut is measured from its end.
            scene_began_s = at_s
        previous = picture
    if previous is None:
        raise UnreadableMedia("video", "not one frame of it can be decoded")
    return max(at_s, facts.duration_s), tuple(cuts_s)


def _small(frame: VideoFrame) -> Image.Image:
    width, height = _COMPARED_SIZE
    picture: Image.Image = frame.to_image(width=width, height=height)  # type: ignore[no-untyped-call] # PyAV's stub
    return picture


def _difference(before: Image.Image, after: Image.Image) -> float:
    """The mean change of a pixel's channels, 0 to 1."""
    return sum(ImageStat.Stat(ImageChops.difference(before, after)).mean) / 3 / 255
