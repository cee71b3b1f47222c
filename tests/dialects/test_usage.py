"""The rules by which usage becomes counts, one at a time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest

from pipeline.dialects import DIALECTS, media_seen
from pipeline.dialects.usage import reported_cost, usable
from pipeline.records import MediaModality, Usage
from tests.dialects.made import answer, leaves, request_of


def usage_of(usage: Any, *sent: MediaModality) -> Usage | None:
    return DIALECTS["newapi"].parse(answer(usage), request_of(*sent)).usage


def of(prompt: int, completion: int = 0, **details: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details,
    }


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (0, 0),
        (7, 7),
        (7.0, 7),
        (2**53, 2**53),
        (2**53 + 2, None),
        (float(2**60), None),
        (-1, None),
        (-0.0, 0),
        (1.5, None),
        (True, None),
        ("7", None),
        (None, None),
        ([7], None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_a_count_is_a_whole_number(value: object, count: int | None) -> None:
    assert usable(value) == count


@pytest.mark.parametrize(
    ("sent", "named", "leftover"),
    [
        ((), {}, "text"),
        ((), {"text_tokens": 10}, "unattributed"),  # nothing that was sent explains it
        (("image",), {"text_tokens": 10}, "image"),
        (("video",), {"text_tokens": 10}, "video"),
        (("document",), {"text_tokens": 10}, "document"),
        (("audio",), {"text_tokens": 10}, "audio"),
        (("audio",), {"text_tokens": 10, "audio_tokens": 0}, "audio"),  # alone, a 0 may be a default
        (("audio",), {}, "unattributed"),
        (("audio",), {"audio_tokens": 50}, "text"),
        (("image",), {"image_tokens": 50}, "text"),
        (("image",), {"text_tokens": 10, "image_tokens": 50}, "unattributed"),
        (("image",), {}, "unattributed"),
        (("image", "video"), {"text_tokens": 10}, "image+video"),
        (("image", "video"), {"text_tokens": 10, "image_tokens": 50}, "video"),
        (("image", "video"), {}, "unattributed"),
        (("image", "audio"), {"text_tokens": 10}, "unattributed"),
        (("image", "audio"), {"text_tokens": 10, "audio_tokens": 0}, "image"),
        (("image", "audio", "video"), {"text_tokens": 10, "audio_tokens": 0}, "image+video"),
        (("image", "audio", "video"), {"text_tokens": 10}, "unattributed"),
        (("image", "document"), {"text_tokens": 10}, "unattributed"),
        (("image", "image"), {"text_tokens": 10}, "image"),
    ],
)
def test_a_remainder_belongs_to_the_one_modality_that_can_explain_it(
    sent: tuple[MediaModality, ...], named: dict[str, int], leftover: str
) -> None:
    usage = usage_of(of(100, **named), *sent)
    assert f"{100 - sum(named.values())} {leftover} input derived" in leaves(usage)


def test_the_responses_spelling_is_read_too() -> None:
    usage = usage_of(
        {
            "input_tokens": 30,
            "output_tokens": 5,
            "total_tokens": 35,
            "input_tokens_details": {"text_tokens": 10, "image_tokens": 20},
            "output_tokens_details": {"reasoning_tokens": 2},
        },
        "image",
    )
    assert leaves(usage) == [
        "10 text input reported",
        "20 image input reported",
        "3 text output derived",
        "2 text output reasoning reported",
    ]


def test_a_missing_completion_total_is_what_the_total_leaves() -> None:
    assert leaves(usage_of({"prompt_tokens": 8, "total_tokens": 11})) == [
        "8 text input derived",
        "3 text output derived",
    ]


def test_a_missing_prompt_total_is_what_the_total_leaves() -> None:
    assert leaves(usage_of({"completion_tokens": 8, "total_tokens": 11})) == [
        "3 text input derived",
        "8 text output derived",
    ]


def test_a_total_alone_is_output_that_nobody_attributes() -> None:
    usage = usage_of({"total_tokens": 11})
    assert leaves(usage) == ["11 unattributed output derived"]
    assert usage is not None
    assert usage.contradiction == "usage names a total only"


def test_a_total_below_its_parts_is_said_and_not_believed() -> None:
    usage = usage_of({"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 10})
    assert usage is not None
    assert usage.total_tokens == 13
    assert usage.contradiction == "the total 10 is below prompt 8 + completion 5"


def test_a_missing_total_is_the_sum() -> None:
    usage = usage_of({"prompt_tokens": 8, "completion_tokens": 5})
    assert usage is not None
    assert (usage.total_tokens, usage.contradiction) == (13, None)


@pytest.mark.parametrize("usage", [None, {}, [], "x", 7, {"prompt_tokens": "8"}, {"total_tokens": 0}])
def test_usage_in_which_nothing_can_be_used_is_none(usage: Any) -> None:
    assert usage_of(usage) is None


def test_usage_of_zeros_has_no_counts_and_says_so() -> None:
    usage = usage_of(of(0))
    assert usage is not None
    assert usage.counts == ()
    assert usage.contradiction == "usage names no tokens at all"


def test_reasoning_and_media_above_the_completion_are_not_believed() -> None:
    usage = usage_of({**of(0, 10), "completion_tokens_details": {"reasoning_tokens": 30}})
    assert leaves(usage) == ["10 unattributed output derived"]
    assert usage is not None
    assert usage.contradiction == "the details name 30 of 10 completion tokens"


def test_output_modalities_are_named_and_text_is_what_they_leave() -> None:
    details = {"reasoning_tokens": 10, "audio_tokens": 20, "image_tokens": 30, "video_tokens": 5}
    assert leaves(usage_of({**of(0, 100), "completion_tokens_details": details})) == [
        "35 text output derived",
        "10 text output reasoning reported",
        "20 audio output reported",
        "30 image output reported",
        "5 video output reported",
    ]


def test_a_prompt_that_is_cached_as_a_whole_leaves_nothing_to_guess() -> None:
    usage = usage_of(of(100, text_tokens=40, audio_tokens=60, cached_tokens=100), "audio")
    assert leaves(usage) == ["40 text input cached reported", "60 audio input cached reported"]


def test_two_kinds_of_caching_take_from_the_same_tokens_once() -> None:
    usage = usage_of(
        {
            **of(100, text_tokens=50, audio_tokens=50, cached_tokens=40),
            "claude_cache_creation_5_m_tokens": 60,
        },
        "audio",
    )
    assert leaves(usage) == [
        "20 text input cached estimated",
        "30 text input cache_write_5m estimated",
        "20 audio input cached estimated",
        "30 audio input cache_write_5m estimated",
    ]


def test_moonshot_writes_cached_tokens_at_the_top() -> None:
    usage = usage_of({**of(100), "cached_tokens": 30})
    assert leaves(usage) == ["70 text input derived", "30 text input cached derived"]


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (0.00096075, Decimal("0.00096075")),
        ("0.25", Decimal("0.25")),
        (1, Decimal(1)),
        (0, Decimal(0)),
        (0.1 + 0.2, Decimal("0.300000000000")),
        (-1, None),
        (True, None),
        ("free", None),
        ("NaN", None),
        ("Infinity", None),
        ("1e999999999", None),
        ("1" * 100, None),
        (None, None),
        ({}, None),
    ],
)
def test_a_reported_cost_is_an_exact_amount_or_unknown(cost: object, expected: Decimal | None) -> None:
    found = reported_cost({"cost": cost})
    assert found == expected


def test_seen_says_unknown_for_audio_beside_a_video() -> None:
    usage = usage_of(of(100, text_tokens=10, audio_tokens=90), "audio", "video")
    assert media_seen(request_of("audio", "video"), usage) == ("unknown", "no")


def test_seen_says_yes_for_audio_alone() -> None:
    assert media_seen(request_of("audio"), usage_of(of(100, text_tokens=10, audio_tokens=90), "audio")) == (
        "yes",
    )


def test_seen_says_no_where_everything_else_is_accounted_for() -> None:
    usage = usage_of(of(100, text_tokens=10, image_tokens=90), "image", "audio")
    assert media_seen(request_of("image", "audio"), usage) == ("yes", "no")


def test_seen_says_unknown_where_the_prompt_is_not_counted() -> None:
    assert media_seen(request_of("image"), usage_of({"completion_tokens": 5}, "image")) == ("unknown",)


def test_the_raw_usage_is_compact_json() -> None:
    usage = usage_of({"prompt_tokens": 8, "completion_tokens": 5, "extra": {"模型": None}})
    assert usage is not None
    assert usage.raw == '{"prompt_tokens":8,"completion_tokens":5,"extra":{"模型":null}}'
    assert orjson.loads(usage.raw)["extra"] == {"模型": None}
