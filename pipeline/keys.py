"""The request key: a versioned hash of what is asked, never of the key, the endpoint or a signature."""

from __future__ import annotations

from hashlib import blake2b

import orjson

from pipeline.media.urls import media_identity
from pipeline.records import Request

VERSION = "1"


def request_key(request: Request) -> str:
    """``<version>-<32 hex digits>``; equal for requests that ask the same.

    Media count by their ``media_key``, else by URL without signature parameters, a local file by its content,
    a ``data:`` URL by digest. Parameters, system prompt and schema that are not set take no part; nor does
    the size that images may have, where there are none.
    """
    asked: list[object] = [
        request.model,
        request.prompt,
        sorted(request.parameters.items()),
        [(media.modality, media_identity(media)) for media in request.media],
    ]
    if request.system is not None or request.schema is not None:
        asked.append([request.system, request.schema and request.schema.digest])
    if request.image_max_px is not None and any(media.modality == "image" for media in request.media):
        asked.append({"image_max_px": request.image_max_px})
    return f"{VERSION}-{blake2b(orjson.dumps(asked), digest_size=16).hexdigest()}"
