"""A media part's source → its bytes: ``data:`` URLs are decoded, ``http(s)://`` ones fetched.

Owns the limits on size and time and the sentences of failed downloads; refuses every other scheme, so that
nobody reads this machine's files through the endpoint. What the bytes mean is for ``analysis`` to say.
"""

from __future__ import annotations

import binascii
import os
from base64 import b64decode
from urllib.parse import unquote_to_bytes

import aiohttp

from pipeline.embedded.question import MediaPart
from pipeline.embedded.refusals import download_failed, invalid_argument

MAX_MEDIA_BYTES = 64 * 1024**2  # the newer gateways' own limit
DOWNLOAD_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
MAX_REDIRECTS = 5
_CHUNK_BYTES = 256 * 1024
_SHOWN_URL_CHARS = 200


def decode_data_url(part: MediaPart) -> bytes:
    """The bytes of a ``data:`` URL, base64 or percent-encoded.

    Raises:
        Refusal: it is no data URL, its base64 is broken, or it is too large.
    """
    header, comma, encoded = part.source.partition(",")
    if not comma:
        raise invalid_argument(f"{part.place} is no valid data URL: it has no comma")
    if header.lower().endswith(";base64"):
        try:
            # Some clients wrap lines or percent-encode; the plain case must not pay for them.
            plain = unquote_to_bytes(encoded) if "%" in encoded else encoded.encode("ascii")
            content = b64decode(b"".join(plain.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise invalid_argument(f"Base64 decoding failed for {part.place}: {error}") from error
    else:
        content = unquote_to_bytes(encoded)
    if len(content) > MAX_MEDIA_BYTES:
        raise download_failed(shown(part.source), _too_large(MAX_MEDIA_BYTES))
    return content


class Fetcher:
    """Downloads media for as long as it is open; one connection pool."""

    def __init__(self, *, max_bytes: int = MAX_MEDIA_BYTES, timeout_s: float = DOWNLOAD_TIMEOUT_S) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s, CONNECT_TIMEOUT_S))
        # trust_env: behind a company's proxy the media are behind it too.
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=True)

    async def close(self) -> None:
        await self._session.close()

    async def fetch(self, url: str) -> bytes:
        """The bytes at a URL.

        Raises:
            Refusal: the scheme is not served, the host cannot be reached, answers anything but 200, is too
            slow,
                or sends too much; the sentence says which.
        """
        if not url.lower().startswith(("http://", "https://")):
            raise download_failed(
                shown(url), "unsupported protocol scheme, only http, https and data are served"
            )
        try:
            async with self._session.get(url, max_redirects=MAX_REDIRECTS) as response:
                if response.status != 200:
                    raise download_failed(
                        shown(url), f"failed to download file, status code: {response.status}"
                    )
                return await _read_limited(response, self._max_bytes)
        except TimeoutError as error:
            raise download_failed(shown(url), f"timeout after {self._timeout_s:g} s") from error
        except aiohttp.ClientConnectorDNSError as error:
            raise download_failed(shown(url), f"dial tcp: lookup {error.host}: no such host") from error
        except aiohttp.ClientConnectorError as error:
            reason = os.strerror(error.errno).lower() if error.errno else "connection failed"
            raise download_failed(shown(url), f"dial tcp {error.host}:{error.port}: {reason}") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise download_failed(shown(url), f"{type(error).__name__}: {error}") from error


async def _read_limited(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The body, given up as soon as it is known to be too large: a stated length may lie, or be missing."""
    url = shown(str(response.url))
    if (response.content_length or 0) > max_bytes:
        raise download_failed(url, _too_large(max_bytes))
    content = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        content += chunk
        if len(content) > max_bytes:
            raise download_failed(url, _too_large(max_bytes))
    return bytes(content)


def shown(url: str) -> str:
    """A URL as an error message shows it: without the query, which may be a signature, or inline content."""
    if url.startswith("data:"):
        return url.partition(",")[0] + ",…"
    return url.partition("?")[0][:_SHOWN_URL_CHARS]


def _too_large(max_bytes: int) -> str:
    return f"file size exceeds maximum allowed size: {max_bytes / 1024**2:g} MB"
