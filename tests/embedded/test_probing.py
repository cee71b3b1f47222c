"""What a medium is, from its bytes alone."""

from __future__ import annotations

import struct
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.embedded.analysis import analyse
from pipeline.media.probing import (
    AudioFacts,
    DocumentFacts,
    ImageFacts,
    UnreadableMedia,
    VideoFacts,
    probe,
)
from tests.embedded.conftest import BROKEN, MEDIA


def test_an_images_size_is_as_stored_and_its_orientation_beside_it():
    facts = probe(MEDIA / "mountain-sideways.jpg")
    assert isinstance(facts, ImageFacts)
    assert (facts.format, facts.width_px, facts.height_px, facts.orientation) == ("JPEG", 900, 600, 6)


def test_an_animations_frames_are_counted():
    facts = probe(MEDIA / "traffic-light.gif")
    assert isinstance(facts, ImageFacts)
    assert (facts.format, facts.frames) == ("GIF", 3)


@pytest.mark.parametrize(
    ("name", "container", "codec", "duration_s", "rate_hz", "channels"),
    [
        ("greeting-en.wav", "wav", "pcm_s16le", 4.16, 16_000, 1),
        ("greeting-zh.mp3", "mp3", "mp3", 8.16, 16_000, 1),
        ("announcement.ogg", "ogg", "opus", 6.9, 48_000, 1),
        ("scale-stereo.mp3", "mp3", "mp3", 2.8, 16_000, 2),
    ],
)
def test_a_sounds_facts_come_from_its_container(
    name: str, container: str, codec: str, duration_s: float, rate_hz: int, channels: int
):
    facts = probe(MEDIA / name)
    assert isinstance(facts, AudioFacts)
    assert (facts.container, facts.codec, facts.sample_rate_hz, facts.channels) == (
        container,
        codec,
        rate_hz,
        channels,
    )
    assert facts.duration_s == pytest.approx(duration_s, abs=0.1)


def test_a_videos_soundtrack_is_a_fact_of_its_own():
    facts = probe(MEDIA / "three-scenes.mp4")
    assert isinstance(facts, VideoFacts)
    assert (facts.container, facts.codec, facts.width_px, facts.height_px) == ("mp4", "h264", 384, 216)
    assert (facts.duration_s, facts.frame_rate) == (6.0, 25.0)
    assert facts.soundtrack is not None
    assert facts.soundtrack.duration_s == pytest.approx(6.0, abs=0.1)


def test_a_silent_video_has_no_soundtrack():
    facts = probe(MEDIA / "title-card.mov")
    assert isinstance(facts, VideoFacts)
    assert (facts.container, facts.soundtrack) == ("mov", None)


def test_the_content_decides_what_a_medium_is_not_its_name(tmp_path: Path):
    misnamed = tmp_path / "picture.jpg"
    misnamed.write_bytes((MEDIA / "beeps.wav").read_bytes())
    assert isinstance(probe(misnamed), AudioFacts)


def test_a_song_with_cover_art_is_no_video():
    cover = BytesIO()
    Image.new("RGB", (64, 64), "red").save(cover, "PNG")
    picture = (
        b"\0image/png\0\x03\0" + cover.getvalue()
    )  # the frame's encoding, MIME, kind (front cover), no name
    frame = b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture
    size = len(frame)
    syncsafe = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    song = b"ID3\x03\0\0" + syncsafe + frame + (MEDIA / "greeting-zh.mp3").read_bytes()
    with av.open(BytesIO(song)) as container:
        assert container.streams.video  # so the test would notice if the cover were not there
    assert isinstance(probe(song), AudioFacts)


def test_a_stream_that_states_no_duration_is_measured_by_its_packets():
    adts = BytesIO()
    with (
        av.open(str(MEDIA / "three-scenes.mp4")) as source,
        av.open(adts, "w", format="matroska", options={"live": "1"}) as target,
    ):
        sound = source.streams.audio[0]
        copy = target.add_stream_from_template(sound)
        for packet in source.demux(sound):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    facts = probe(adts.getvalue())
    assert isinstance(facts, AudioFacts)
    assert facts.duration_s == pytest.approx(6.0, abs=0.2)


def test_a_pdfs_pages_are_counted_where_they_stand_in_the_open():
    pdf = b"%PDF-1.4\n1 0 obj <</Type /Pages /Count 2>>\n2 0 obj <</Type /Page>>\n3 0 obj <</Type/Page>>"
    facts = probe(pdf)
    assert facts == DocumentFacts(size_bytes=len(pdf), format="PDF", pages=2)


def test_a_playlist_is_not_followed_to_the_files_it_names():
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
    with pytest.raises(UnreadableMedia):
        probe(playlist)


@pytest.mark.parametrize(
    "content", [b"", b"plain text", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"<html></html>"]
)
def test_bytes_that_are_no_medium_are_refused_with_a_sentence(content: bytes):
    with pytest.raises(UnreadableMedia, match="cannot be read: "):
        probe(content)


def test_a_broken_off_image_has_a_header_but_cannot_be_analysed():
    content = (MEDIA / BROKEN).read_bytes()
    assert isinstance(probe(content), ImageFacts)
    with pytest.raises(UnreadableMedia, match=r"the image cannot be read: .*truncated"):
        analyse(content)


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\xff\xd8\xff", b"RIFF", b"OggS", b"%PDF-", b"GIF89a", b"ID3"]),
)
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_facts_or_unreadable(rest: bytes, magic: bytes):
    with suppress(UnreadableMedia):
        assert probe(magic + rest).size_bytes == len(magic + rest)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_medium_is_analysed_or_unreadable_never_an_accident(data: st.DataObject):
    name = data.draw(st.sampled_from(sorted(path.name for path in MEDIA.iterdir())))
    content = bytearray((MEDIA / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    kept = data.draw(st.integers(0, len(content)))
    with suppress(UnreadableMedia):
        assert analyse(bytes(content[:kept])).facts.size_bytes == kept
