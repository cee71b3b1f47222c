"""How many tokens a request will need, by what similar ones needed."""

from __future__ import annotations

import pytest

from pipeline.gate.needs import TokenNeeds
from pipeline.records import Media, Request


def asking(*modalities: str, model: str = "m", prompt: str = "", max_tokens: object = None) -> Request:
    media = tuple(Media(one, f"https://media.example/{one}") for one in modalities)  # type: ignore[arg-type]
    return Request(model, prompt, media, {} if max_tokens is None else {"max_tokens": max_tokens})


def test_before_the_first_reply_it_is_a_guess_that_grows_with_what_is_asked():
    needs = TokenNeeds()
    small = needs.of(asking(prompt="what?"))
    assert 0 < small < needs.of(asking(prompt="what?" * 100))
    assert small < needs.of(asking("image", prompt="what?")) < needs.of(asking("image", "video"))
    assert small < needs.of(asking(prompt="what?", max_tokens=2000))


def test_what_max_tokens_says_counts_only_where_it_is_a_number():
    needs = TokenNeeds()
    assert needs.of(asking("image", max_tokens="lots")) == needs.of(asking("image"))


def test_after_a_reply_it_is_the_mean_of_what_such_requests_used():
    needs = TokenNeeds()
    for tokens in (2_000, 3_000, 4_000):
        needs.learn(asking("image"), tokens)
    assert needs.of(asking("image", prompt="something else")) == pytest.approx(3_000)


def test_models_and_kinds_of_media_are_told_apart():
    needs = TokenNeeds()
    needs.learn(asking("image"), 300)
    needs.learn(asking("video"), 9_000)
    needs.learn(asking("image", model="other"), 1_000)
    assert [needs.of(asking("image")), needs.of(asking("video"))] == [300, 9_000]
    assert needs.of(asking("image", model="other")) == 1_000


def test_it_follows_when_requests_change():
    needs = TokenNeeds()
    for _ in range(1_000):
        needs.learn(asking("image"), 100)
    for _ in range(300):
        needs.learn(asking("image"), 5_000)
    assert needs.of(asking("image")) > 4_500
