"""What can be said of a sound without a model: how loud it is, and how much of it is silence.

Owns the decoding of sound, a video's soundtrack included, and its limits; blocking, so it runs in a worker
thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from math import log10
from operator import mul

from av.audio.resampler import AudioResampler

from pipeline.embedded.decoding import audio_frames
from pipeline.media.probing import AudioFacts, UnreadableMedia, open_container

MAX_AUDIO_S = 34_200.0  # 9.5 hours: what Gemini takes in one prompt
MAX_SAMPLE_RATE_HZ = 768_000  # damaged headers state billions, and resampling those takes many seconds
MAX_CHANNELS = 64
MAX_LISTENED_S = 600.0  # longer sound is measured on its beginning

_LISTENING_RATE_HZ = 16_000
_WINDOW_S = 0.05
_SILENCE_DBFS = -50.0
QUIETEST_DBFS = -96.0  # what 16 bits can tell from nothing


@dataclass(frozen=True, slots=True)
class AudioAnalysis:
    """``loudness_dbfs`` is RMS over all channels; ``silence_share`` of 50 ms windows is below -50 dBFS."""

    facts: AudioFacts
    listened_s: float
    loudness_dbfs: float
    silence_share: float


def analyse_audio(content: bytes, facts: AudioFacts) -> AudioAnalysis:
    """Measure the first sound of a container.

    Raises:
        UnreadableMedia: it is longer than ``MAX_AUDIO_S``, or nothing of it can be decoded.
    """
    if facts.duration_s > MAX_AUDIO_S:
        raise UnreadableMedia("audio", f"it is longer than {MAX_AUDIO_S:g} s")
    if facts.sample_rate_hz > MAX_SAMPLE_RATE_HZ or facts.channels > MAX_CHANNELS:
        raise UnreadableMedia(
            "audio", f"{facts.channels} channels of {facts.sample_rate_hz:,} Hz are no sound"
        )
    rate_hz = min(facts.sample_rate_hz, _LISTENING_RATE_HZ)
    windows = list(_windows(content, rate_hz))
    values = sum(count for count, _ in windows)
    if not values:
        raise UnreadableMedia("audio", "not one sample of it can be decoded")
    silent = sum(count for count, squares in windows if _dbfs(squares, count) < _SILENCE_DBFS)
    return AudioAnalysis(
        facts=facts,
        listened_s=len(windows) * _WINDOW_S if len(windows) > 1 else facts.duration_s,
        loudness_dbfs=_dbfs(sum(squares for _, squares in windows), values),
        silence_share=silent / values,
    )


def _windows(content: bytes, rate_hz: int) -> Iterator[tuple[int, int]]:
    """For each 50 ms the number of values, all channels together, and the sum of their squares."""
    samples = max(1, round(rate_hz * _WINDOW_S))
    # The resampler hands out frames of exactly one window; only the last may be shorter.
    resampler = AudioResampler(format="s16", rate=rate_hz, frame_size=samples)
    most_windows = round(MAX_LISTENED_S / _WINDOW_S)
    with open_container(content) as container:
        seen = 0
        for frame in chain(audio_frames(container, container.streams.audio[0]), (None,)):
            for window in resampler.resample(frame):
                values = window.samples * window.layout.nb_channels
                # A plane may be padded beyond its samples.
                levels = memoryview(bytes(window.planes[0])[: values * 2]).cast("h").tolist()
                yield values, sum(map(mul, levels, levels))
                seen += 1
            if seen >= most_windows:
                return


def _dbfs(square_sum: int, values: int) -> float:
    mean = square_sum / values / 32768**2
    return max(QUIETEST_DBFS, 10 * log10(mean)) if mean else QUIETEST_DBFS
