"""What a media URL is, once its signature is taken off: the same picture, signed tonight or tomorrow.

Owns which parameters are signatures, how a URL is stored, and by what a media counts in a request key.
Refuses to judge URLs: the manifest has done that. Request keys, records and default ids come from here.
"""

from __future__ import annotations

import hashlib
import os
import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from pipeline.records import Media


@dataclass(frozen=True, slots=True)
class Signature:
    """One way of signing URLs. Where every one of ``marks`` stands in a query, ``parameters`` are left out.

    All names are in lower case; a parameter that ends in ``*`` stands for all that begin so.
    """

    marks: frozenset[str]
    parameters: frozenset[str]


def _signature(marks: str, parameters: str = "") -> Signature:
    return Signature(frozenset(marks.split()), frozenset((marks + " " + parameters).split()))


_SAS: Final = "se sp spr st sr sip si ss srt sv skoid sktid skt ske sks skv sdd ses saoid suoid scid sduoid"

# Parameters that change what is served (x-oss-process, versionId, response-content-type, …) are no signature.
SIGNATURES: Final[tuple[Signature, ...]] = (
    # AWS Signature Version 4, "Authenticating Requests: Using Query Parameters" (also R2, MinIO, B2, Spaces).
    _signature("x-amz-signature", "x-amz-*"),
    # AWS Signature Version 2, "Query String Request Authentication Alternative".
    _signature("awsaccesskeyid signature", "expires x-amz-security-token"),
    # Google Cloud Storage, "V4 signing process" and "V2 signing process".
    _signature("x-goog-signature", "x-goog-*"),
    _signature("googleaccessid signature", "expires"),
    # Google Cloud CDN and Media CDN, "Use signed URLs".
    _signature("keyname signature", "expires urlprefix"),
    # Azure Storage, "Create a service SAS", "account SAS", "user delegation SAS".
    _signature("sig sv", _SAS),
    _signature("sig se", _SAS),
    # Amazon CloudFront, "Use signed URLs" (canned and custom policies).
    _signature("key-pair-id signature", "expires policy hash-algorithm"),
    # Alibaba Cloud OSS, "Add signatures to URLs", V1; V4 below.
    _signature("ossaccesskeyid signature", "expires security-token"),
    _signature(
        "x-oss-signature",
        "x-oss-signature-version x-oss-credential x-oss-date x-oss-expires x-oss-additional-headers "
        "x-oss-security-token",
    ),
    # Tencent Cloud COS, "Request signature".
    _signature(
        "q-signature",
        "q-sign-algorithm q-ak q-sign-time q-key-time q-header-list q-url-param-list x-cos-security-token",
    ),
    # Huawei Cloud OBS, "Authentication of signature in a URL".
    _signature("accesskeyid signature", "expires x-obs-security-token"),
    # Volcengine TOS, "URL signing".
    _signature(
        "x-tos-signature",
        "x-tos-algorithm x-tos-credential x-tos-date x-tos-expires x-tos-signedheaders x-tos-security-token "
        "x-tos-policy",
    ),
    # Qiniu Kodo, "Download tokens".
    _signature("e token"),
    # Alibaba Cloud CDN, "URL signing type A".
    _signature("auth_key"),
    # Baidu BOS, "Authorization in the URL".
    _signature("authorization"),
)

_MARKS: Final = frozenset(mark for signature in SIGNATURES for mark in signature.marks)
_PASSWORD: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://[^/?#@:]*):[^/?#]*@")


def without_signature(url: str) -> str:
    """The URL without what signs it and without a password; all else stays, in its order.

    A local path and a ``data:`` URL come back as they are.
    """
    if "@" in url and "://" in url:
        url = _PASSWORD.sub(lambda found: found[1] if found[1].endswith("//") else found[1] + "@", url)
    if "?" not in url or "://" not in url:
        return url
    address, hash_mark, fragment = url.partition("#")
    address, question_mark, query = address.partition("?")
    pairs = query.split("&")
    names = [pair.partition("=")[0].lower() for pair in pairs]
    if _MARKS.isdisjoint(names):
        return url
    present = frozenset(names)
    dropped: set[str] = set()
    for signature in SIGNATURES:
        if signature.marks <= present:
            for name in signature.parameters:
                dropped.update(n for n in present if n.startswith(name[:-1])) if name[
                    -1
                ] == "*" else dropped.add(name)
    kept = "&".join(pair for pair, name in zip(pairs, names, strict=True) if name not in dropped)
    return address + (question_mark + kept if kept else "") + hash_mark + fragment


def storable(url: str) -> str:
    """How a media URL stands in records: no signature, no password; a ``data:`` URL by its digest."""
    if url[:5].lower() != "data:":
        return without_signature(url)
    header, _, payload = url[5:].partition(",")
    return f"data:{header.partition(';')[0].strip().lower()};sha256={_payload_digest(header, payload)}"


def media_identity(media: Media) -> str:
    """By what a media counts in a request key.

    Its key where the manifest has one; else its URL without signature, a ``data:`` URL by digest, a local
    file by its content.

    Raises:
        OSError: the local file cannot be read (any more).
    """
    if media.key is not None:
        return media.key
    if not media.is_local:
        return storable(media.url)
    status = os.stat(media.url)
    return "blake2b:" + _content_digest(media.url, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _content_digest(path: str, size_bytes: int, mtime_ns: int) -> str:
    """Digest of a file as it was at that size and time; the cache is bounded, not the manifest."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


def _payload_digest(header: str, payload: str) -> str:
    """Of the decoded bytes, so that the same file counts once however it was encoded."""
    content = unquote_to_bytes(payload)
    if header.lower().endswith(";base64"):
        # What is not well-formed has only its text to be told by.
        with suppress(Base64Error):
            content = a2b_base64(content)
    return hashlib.sha256(content).hexdigest()
