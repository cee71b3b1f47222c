"""Signatures come off, everything else stays."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.media.urls import media_identity, storable, without_signature
from pipeline.records import Media

BASE = "https://bucket.example/a.jpg"
SIGNED = {
    "aws v4": "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c&X-Amz-Date=d&X-Amz-Expires=9"
    "&X-Amz-SignedHeaders=host&X-Amz-Security-Token=t&X-Amz-Signature=s",
    "aws v2": "AWSAccessKeyId=k&Expires=9&Signature=s",
    "gcs v4": "X-Goog-Algorithm=a&X-Goog-Credential=c&X-Goog-Date=d&X-Goog-Expires=9&X-Goog-Signature=s",
    "gcs v2": "GoogleAccessId=k&Expires=9&Signature=s",
    "azure sas": "sv=2022-11-02&st=a&se=b&sr=b&sp=r&spr=https&sig=s",
    "cloudfront": "Policy=p&Signature=s&Key-Pair-Id=k",
    "cloudfront canned": "Expires=9&Signature=s&Key-Pair-Id=k",
    "oss v1": "OSSAccessKeyId=k&Expires=9&Signature=s&security-token=t",
    "oss v4": "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-credential=c&x-oss-date=d"
    "&x-oss-expires=9&x-oss-signature=s",
    "cos": "q-sign-algorithm=sha1&q-ak=k&q-sign-time=1;2&q-key-time=1;2"
    "&q-header-list=h&q-url-param-list=&q-signature=s&x-cos-security-token=t",
    "obs": "AccessKeyId=k&Expires=9&Signature=s",
    "tos": "X-Tos-Algorithm=a&X-Tos-Credential=c&X-Tos-Date=d"
    "&X-Tos-Expires=9&X-Tos-SignedHeaders=host&X-Tos-Signature=s",
    "qiniu": "e=9&token=k:s",
}


@pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED)
def test_a_signature_leaves_nothing_behind(query: str) -> None:
    assert without_signature(f"{BASE}?{query}") == BASE
    assert without_signature(f"{BASE}?w=8&{query}&v=2#t=3") == f"{BASE}?w=8&v=2#t=3"


@pytest.mark.parametrize(
    "url",
    [
        BASE,
        f"{BASE}?w=800&h=600",
        f"{BASE}?Expires=9",
        f"{BASE}?sv=1&se=2",
        f"{BASE}?Signature=of-an-artist",
        f"{BASE}?x-oss-process=image/resize,w_100",
        f"{BASE}?token=abc",
        f"{BASE}?a=1&a=2&&b#X-Amz-Signature=s",
        f"{BASE}?",
        "/local/a?X-Amz-Signature=s.jpg",
        "data:image/png;base64,AA==",
    ],
)
def test_what_is_no_signature_stays(url: str) -> None:
    assert without_signature(url) == url


def test_what_changes_the_picture_stays_next_to_a_signature() -> None:
    url = f"{BASE}?x-oss-process=image/resize,w_100&x-oss-signature=s&x-oss-date=d"
    assert without_signature(url) == f"{BASE}?x-oss-process=image/resize,w_100"


def test_a_password_goes_the_user_stays() -> None:
    assert without_signature("https://ann:s3cret@h.example/a.jpg") == "https://ann@h.example/a.jpg"
    assert without_signature("https://:s3cret@h.example/a.jpg") == "https://h.example/a.jpg"
    assert without_signature("https://h.example/a:b@c.jpg") == "https://h.example/a:b@c.jpg"
    assert without_signature("ftp://ann:p@ss@h.example/a.jpg") == "ftp://ann@h.example/a.jpg"


@settings(deadline=None)
@given(st.text())
def test_taking_a_signature_off_twice_changes_nothing_more(text: str) -> None:
    once = without_signature(f"https://h.example/{text}")
    assert without_signature(once) == once


def test_a_data_url_is_stored_as_the_digest_of_its_content() -> None:
    digest = hashlib.sha256(b"hello").hexdigest()
    assert storable("data:image/PNG;base64,aGVsbG8=") == f"data:image/png;sha256={digest}"
    assert storable("data:text/plain,hello") == f"data:text/plain;sha256={digest}"


def test_a_broken_data_url_is_still_stored_short() -> None:
    assert storable("data:image/png;base64,%%%").startswith("data:image/png;sha256=")
    assert len(storable("data:" + "x" * 100)) > 64


def test_a_media_key_is_the_identity_before_the_url() -> None:
    assert media_identity(Media("image", BASE, "cat-1")) == "cat-1"
    assert media_identity(Media("image", f"{BASE}?{SIGNED['aws v4']}")) == BASE


def test_a_local_file_counts_by_its_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jpg", tmp_path / "two.jpg"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    identity = media_identity(Media("image", str(one)))
    assert identity == media_identity(Media("image", str(two)))
    assert identity == "blake2b:" + hashlib.blake2b(b"same", digest_size=32).hexdigest()
    one.write_bytes(b"else")
    os.utime(one, ns=(1, 1))
    assert media_identity(Media("image", str(one))) != identity


def test_a_vanished_local_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        media_identity(Media("image", str(tmp_path / "gone.jpg")))
