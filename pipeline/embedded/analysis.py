"""A medium's bytes → what can be said of it without a model.

Only chooses: the content decides what a medium is, and ``images``, ``sounds`` and ``videos`` measure it.
``describing`` makes sentences of the results.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.embedded.images import ImageAnalysis, analyse_image
from pipeline.embedded.sounds import AudioAnalysis, analyse_audio
from pipeline.embedded.videos import VideoAnalysis, analyse_video
from pipeline.media.probing import AudioFacts, DocumentFacts, ImageFacts, VideoFacts, probe


@dataclass(frozen=True, slots=True)
class DocumentAnalysis:
    """A document is counted, not read."""

    facts: DocumentFacts


Analysis = ImageAnalysis | AudioAnalysis | VideoAnalysis | DocumentAnalysis


def analyse(content: bytes) -> Analysis:
    """Open a medium and measure it. Blocking: for a worker thread.

    Raises:
        UnreadableMedia: it cannot be decoded, or is larger or longer than this endpoint takes.
    """
    match probe(content):
        case ImageFacts() as facts:
            return analyse_image(content, facts)
        case VideoFacts() as facts:
            return analyse_video(content, facts)
        case AudioFacts() as facts:
            return analyse_audio(content, facts)
        case DocumentFacts() as facts:
            return DocumentAnalysis(facts)
