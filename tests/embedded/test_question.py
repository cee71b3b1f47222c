"""The request's body, in every spelling that is served and some that are not."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.embedded.question import MediaPart, read_question
from pipeline.embedded.refusals import Refusal
from tests.embedded.conftest import body, text_part

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "text",
                    "image_url",
                    "url",
                    "content",
                    "role",
                    "input_audio",
                    "data",
                    "file",
                    "file_data",
                ]
            ),
            inner | st.sampled_from(["text", "image_url", "input_audio", "file", "user"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


def test_a_url_part_is_read_in_both_spellings():
    spelled = [
        {"type": "video_url", "video_url": {"url": "http://h/a.mp4"}},
        {"type": "video_url", "video_url": "http://h/a.mp4"},
    ]
    first, second = read_question(body(*spelled)).media
    assert first.source == second.source == "http://h/a.mp4"


def test_the_detail_of_an_image_is_kept():
    part = {"type": "image_url", "image_url": {"url": "http://h/a.png", "detail": "low"}}
    place = "messages[0].content[0].image_url"
    assert read_question(body(part)).media == (MediaPart(place, "http://h/a.png", "low"),)


def test_inline_audio_and_files_are_read_like_data_urls():
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    file = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}
    sources = [part.source for part in read_question(body(audio, file)).media]
    assert sources == ["data:application/octet-stream;base64,AAAA", "data:application/pdf;base64,AAAA"]


def test_several_texts_are_joined_by_newlines_and_the_prompt_is_the_last_users():
    question = read_question(
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [text_part("One."), text_part("Two.")]},
            ],
        }
    )
    assert question.text == "Be brief.\nOne.\nTwo."
    assert question.prompt == "One.\nTwo."


def test_max_completion_tokens_goes_before_max_tokens():
    asked = body(text_part("Hi"), max_tokens=7, max_completion_tokens=5)
    assert read_question(asked).max_tokens == 5


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ([], "has to be a JSON object"),
        ({"messages": []}, "field model is required"),
        ({"model": "m"}, "field messages is required"),
        ({"model": "m", "messages": []}, "field messages is required"),
        ({"model": "m", "messages": ["hi"]}, "messages[0] has to be an object"),
        ({"model": "m", "messages": [{"role": "user", "content": 3}]}, "a string or a list of parts"),
        (body({"type": "hologram"}), "messages[0].content[0] is no part of a kind served here"),
        (body({"type": "image_url", "image_url": {}}), "image_url.url is required"),
        (body({"type": "file", "file": {"file_id": "file-1"}}), "file.file_data is required"),
        (body(text_part(" ")), "neither text nor media"),
        (body(text_part("Hi"), stream=True), "set stream to false"),
        (body(text_part("Hi"), max_tokens=0), "max_tokens has to be a whole number of at least 1"),
        (body(text_part("Hi"), max_tokens="many"), "max_tokens has to be a whole number of at least 1"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(asked: object, sentence: str):
    with pytest.raises(Refusal) as refused:
        read_question(asked)
    assert refused.value.status == 400
    assert sentence in refused.value.message


@given(JSON)
def test_any_content_is_a_question_or_a_refusal(content: object):
    with suppress(Refusal):
        assert read_question({"model": "m", "messages": [{"role": "user", "content": content}]}).model == "m"
