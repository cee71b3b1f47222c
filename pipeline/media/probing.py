"""What a medium is, read from its bytes: kind, size, duration, codec. Nothing is decoded here.

Owns the facts that a container or header states; refuses to fetch anything and sets no limits. The content
decides what a medium is, never a file name or a MIME type. The embedded endpoint builds its analysis on these
facts, an estimate its token counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream
from PIL import Image, UnidentifiedImageError

from pipeline.errors import MediabatchError

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO")

# Only containers that hold their media themselves: a playlist (hls, concat, dash) names other files and
# addresses, and a hostile one would have us read them.
CONTAINER_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,mp3,wav,w64,flac,aac,ac3,aiff,amr,au,avi,asf,flv,mpeg,mpegts"
)

# Stills in a film's container. Pillow reads AVIF; HEIC is refused as the image it is, not taken for a video.
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heif", b"mif1", b"msf1")

_EXIF_ORIENTATION = 0x0112
_PDF_MAGIC = b"%PDF-"
_PDF_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")


class UnreadableMedia(MediabatchError):
    """Bytes that are no medium, or a broken one; ``kind`` is what they set out to be."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"the {kind} cannot be read: {reason}")
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """``width_px`` and ``height_px`` are as stored; ``orientation`` is EXIF's 1 to 8, 1 being upright."""

    size_bytes: int
    format: str
    width_px: int
    height_px: int
    orientation: int
    frames: int


@dataclass(frozen=True, slots=True)
class AudioFacts:
    size_bytes: int
    container: str
    codec: str
    duration_s: float
    sample_rate_hz: int
    channels: int


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """``frame_rate`` is in frames a second, None where none is stated; ``soundtrack`` None: silent."""

    size_bytes: int
    container: str
    codec: str
    width_px: int
    height_px: int
    duration_s: float
    frame_rate: float | None
    soundtrack: AudioFacts | None


@dataclass(frozen=True, slots=True)
class DocumentFacts:
    """``pages`` is None where counting them would need a PDF library."""

    size_bytes: int
    format: str
    pages: int | None


MediaFacts = ImageFacts | AudioFacts | VideoFacts | DocumentFacts


def probe(content: bytes | Path) -> MediaFacts:
    """The facts of a medium, given as its bytes or as the path of its file.

    Raises:
        UnreadableMedia: the bytes are empty, of no known kind, or their header is broken.
        OSError: the path cannot be read.
    """
    if isinstance(content, Path):
        content = content.read_bytes()
    if not content:
        raise UnreadableMedia("medium", "it is empty")
    if content.startswith(_PDF_MAGIC):
        return probe_document(content)
    if looks_like_image(content):
        return probe_image(content)
    return probe_sound_or_video(content)


def check_whole(content: bytes) -> None:
    """Decode an image, for a header tells nothing of what follows it. Other media are taken as they are.

    Raises:
        UnreadableMedia: it breaks off, or is broken.
    """
    if looks_like_image(content):
        with open_image(content) as image:
            image.load()


def looks_like_image(content: bytes) -> bool:
    """Whether the first bytes are those of an image format; the rest may still be broken."""
    return (
        content.startswith(
            (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")
        )
        or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")
        or (content[4:8] == b"ftyp" and content[8:12] in _STILL_BRANDS)
    )


def probe_image(content: bytes) -> ImageFacts:
    with open_image(content) as image:
        width_px, height_px = image.size
        return ImageFacts(
            size_bytes=len(content),
            format=image.format or "unknown",
            width_px=width_px,
            height_px=height_px,
            orientation=_orientation(image),
            frames=getattr(image, "n_frames", 1),
        )


@contextmanager
def open_image(content: bytes) -> Iterator[Image.Image]:
    """An image opened for reading; what Pillow raises inside is mapped, and that may be anything."""
    try:
        with Image.open(BytesIO(content), formats=IMAGE_FORMATS) as image:
            yield image
    except UnreadableMedia:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableMedia("image", "it has too many pixels") from error
    except UnidentifiedImageError as error:
        raise UnreadableMedia("image", "no image format is recognised in it") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, IndexError and more
        raise UnreadableMedia("image", str(error) or type(error).__name__) from error


def probe_sound_or_video(content: bytes) -> AudioFacts | VideoFacts:
    with open_container(content) as container:
        soundtrack = _sound_facts(container, content)
        pictures = moving_pictures(container)
        if not pictures:
            if soundtrack is None:
                raise UnreadableMedia("medium", "it holds neither sound nor pictures")
            return soundtrack
        stream = pictures[0]
        # A stream's codec context is None where this build has no decoder for it, although its type says
        # otherwise.
        if getattr(stream, "codec_context", None) is None or not stream.width or not stream.height:
            raise UnreadableMedia("video", "its codec is unknown or its picture has no size")
        rate = stream.average_rate or stream.guessed_rate
        return VideoFacts(
            size_bytes=len(content),
            container=_container_name(container),
            codec=stream.codec_context.codec.canonical_name,
            width_px=stream.width,
            height_px=stream.height,
            duration_s=_duration_s(container, content, stream),
            frame_rate=float(rate) if rate else None,
            soundtrack=soundtrack,
        )


def moving_pictures(container: InputContainer) -> list[VideoStream]:
    """The video streams that are film: a song's cover art is a video stream too, of one picture."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


@contextmanager
def open_container(content: bytes) -> Iterator[InputContainer]:
    """A sound or video opened for reading; what PyAV raises inside is mapped."""
    try:
        whitelist = {"format_whitelist": CONTAINER_FORMATS}
        with av.open(BytesIO(content), "r", options=whitelist, metadata_errors="replace") as container:
            yield container
    except UnreadableMedia:
        raise
    except av.error.FFmpegError as error:
        raise UnreadableMedia("medium", error.strerror or type(error).__name__) from error
    except (ValueError, LookupError, OverflowError, UnicodeError) as error:
        # Seen on damaged files: absurd time bases, missing streams, metadata that is no text.
        raise UnreadableMedia("medium", str(error) or type(error).__name__) from error


def probe_document(content: bytes) -> DocumentFacts:
    pages = len(_PDF_PAGE.findall(content))
    return DocumentFacts(size_bytes=len(content), format="PDF", pages=pages or None)


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(_EXIF_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _sound_facts(container: InputContainer, content: bytes) -> AudioFacts | None:
    if not container.streams.audio:
        return None
    stream = container.streams.audio[0]
    if getattr(stream, "codec_context", None) is None or not stream.rate:
        raise UnreadableMedia("audio", "its codec is unknown or states no sample rate")
    return AudioFacts(
        size_bytes=len(content),
        container=_container_name(container),
        codec=stream.codec_context.codec.canonical_name,
        duration_s=_duration_s(container, content, stream),
        sample_rate_hz=stream.rate,
        channels=stream.channels,
    )


def _container_name(container: InputContainer) -> str:
    """One word for the container: libav names families such as ``mov,mp4,m4a,3gp,3g2,mj2``."""
    name = container.format.name
    if name.startswith("mov,"):
        return "mov" if container.metadata.get("major_brand", "").startswith("qt") else "mp4"
    return name.partition(",")[0]


def _duration_s(container: InputContainer, content: bytes, stream: Stream) -> float:
    """A stream's own duration, else its container's, else where its last packet ends."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return container.duration / av.time_base
    return _demuxed_duration_s(content, stream.index)


def _demuxed_duration_s(content: bytes, stream_index: int) -> float:
    """Where the last packet ends. Opened anew, since demuxing moves a container on."""
    end_s = 0.0
    with open_container(content) as container:
        for packet in container.demux(container.streams[stream_index]):
            if packet.pts is not None and packet.time_base:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return end_s
