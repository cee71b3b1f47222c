"""The request key: equal for requests that ask the same, different for all others."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.keys import VERSION, request_key
from pipeline.records import Media, MediaModality, Request
from pipeline.typed.schema import AnswerSchema

PICTURE = "https://bucket.example/a.jpg"


def key(
    *media: Media, model: str = "m", prompt: str = "What is it?", parameters: dict[str, object] | None = None
) -> str:
    return request_key(Request(model, prompt, media, {"max_tokens": 9} if parameters is None else parameters))


def image(url: str = PICTURE, media_key: str | None = None) -> Media:
    return Media("image", url, media_key)


def test_a_key_says_its_version():
    assert re.fullmatch(r"[0-9a-f]{32}", key(image()).removeprefix(f"{VERSION}-"))
    assert key(image()).startswith(f"{VERSION}-")


def test_a_key_is_the_same_in_every_process_and_release():
    """Stores keep keys: a change of this value needs another version."""
    assert key(image()) == "1-5c37de9bae53b68dfa946fc955182466"


def test_how_large_images_may_be_is_asked_too_where_it_is_set_and_there_are_any():
    def sized(medium: Media, max_px: int | None) -> str:
        return request_key(Request("m", "What is it?", (medium,), {"max_tokens": 9}, image_max_px=max_px))

    assert sized(image(), None) == key(image())
    assert len({sized(image(), max_px) for max_px in (None, 512, 1024)}) == 3
    assert sized(Media("video", PICTURE), 512) == key(Media("video", PICTURE))


def test_what_asks_the_same_has_the_same_key():
    assert key(image()) == key(image())
    assert key(parameters={"a": 1, "b": 2}) == key(parameters={"b": 2, "a": 1})


@pytest.mark.parametrize(
    "other",
    [
        key(image(), model="n"),
        key(image(), prompt="What is it"),
        key(image(), parameters={"max_tokens": 10}),
        key(image(), parameters={}),
        key(image(), parameters={"max_tokens": 9, "temperature": 0}),
        key(image("https://bucket.example/b.jpg")),
        key(image(f"{PICTURE}?w=800")),
        key(Media("video", PICTURE)),
        key(image(), image()),
        key(),
        key(image(media_key="k")),
    ],
)
def test_what_asks_something_else_has_another(other: str):
    assert other != key(image())


def test_a_system_prompt_and_a_schema_take_part_where_they_are_set():
    def typed(system: str | None = None, schema: dict[str, object] | None = None) -> str:
        known = None if schema is None else AnswerSchema.of(schema)
        return request_key(Request("m", "p", (), {}, system, known))

    keys = [
        typed(),
        typed("Be brief."),
        typed("Be long."),
        typed(schema={"type": "object"}),
        typed(schema={"type": "array"}),
        typed("Be brief.", {"type": "object"}),
    ]
    assert len(set(keys)) == len(keys)
    assert typed() == request_key(Request("m", "p", (), {}))
    assert typed(schema={"type": "object"}) == typed(schema={"type": "object"})


def test_the_order_of_media_matters():
    one, two = image("https://h.example/1.jpg"), image("https://h.example/2.jpg")
    assert key(one, two) != key(two, one)


def test_a_signature_takes_no_part():
    signed = f"{PICTURE}?X-Amz-Date=tonight&X-Amz-Expires=60&X-Amz-Signature=s"
    assert key(image(signed)) == key(image())


def test_where_there_is_a_media_key_it_counts_instead_of_the_url():
    assert key(image("https://one.example/a", "k")) == key(image("https://two.example/b", "k"))
    assert key(image(PICTURE, "k")) != key(image(PICTURE, "l"))


def test_a_data_url_counts_by_its_content():
    assert key(image("data:image/png;base64,AAA=")) == key(image("data:image/png;base64,AAA="))
    assert key(image("data:image/png;base64,AAA=")) != key(image("data:image/png;base64,AAE="))


def test_a_local_file_counts_by_its_content(tmp_path: Path):
    one, two = tmp_path / "one.jpg", tmp_path / "two.jpg"
    one.write_bytes(b"pixels")
    two.write_bytes(b"pixels")
    before = key(image(str(one)))
    assert before == key(image(str(two)))
    two.write_bytes(b"others")
    os.utime(two, ns=(1, 1))
    assert before != key(image(str(two)))


def test_a_local_file_that_is_gone_has_no_key(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        key(image(str(tmp_path / "gone.jpg")))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
modalities: st.SearchStrategy[MediaModality] = st.sampled_from(["image", "audio", "video", "document"])
requests = st.builds(
    Request,
    texts,
    texts,
    st.lists(st.builds(Media, modalities, st.just(PICTURE), texts), max_size=3).map(tuple),
    st.dictionaries(texts, st.one_of(st.integers(-9, 9), texts, st.booleans(), st.none()), max_size=3),
)


def _asked(request: Request) -> tuple[object, ...]:
    # By type too: to an endpoint, true is not 1.
    parameters = sorted(
        (name, type(value).__name__, str(value)) for name, value in request.parameters.items()
    )
    return request.model, request.prompt, request.media, parameters


@given(requests, requests)
def test_keys_are_equal_exactly_where_the_requests_are(one: Request, other: Request):
    assert (request_key(one) == request_key(other)) == (_asked(one) == _asked(other))
