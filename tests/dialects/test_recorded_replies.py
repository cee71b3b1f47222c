"""Recorded replies of many versions, and the counts they must give, whichever dialect reads them."""

from __future__ import annotations

from decimal import Decimal

import orjson
import pytest

from pipeline.dialects import DIALECTS, media_seen
from pipeline.errors import EmptyReply
from pipeline.records import MediaModality, Reply
from tests.dialects.made import REPLIES, leaves, recorded, request_of

ALL: tuple[MediaModality, ...] = ("image", "audio", "video")

# file → media sent, counts, what cannot be true, media seen
GOLDEN: dict[str, tuple[tuple[MediaModality, ...], list[str], str | None, tuple[str, ...]]] = {
    # 2064 = text 9 + audio 399 + 1656 that image and video can both explain
    "newapi_example": (
        ALL,
        [
            "9 text input reported",
            "399 audio input reported",
            "1656 image+video input derived",
            "230 text output derived",
        ],
        None,
        ("unknown", "unknown", "unknown"),
    ),
    # 1700 - 12 - 64 of soundtrack = 1624
    "newapi_old_text_audio": (
        ("video",),
        [
            "12 text input reported",
            "64 audio input reported",
            "1624 video input derived",
            "88 text output derived",
        ],
        None,
        ("yes",),
    ),
    "newapi_image_named": (
        ("image",),
        ["8 text input reported", "1120 image input reported", "40 text output derived"],
        None,
        ("yes",),
    ),
    "newapi_all_text": (
        ("image",),
        ["1300 unattributed input derived", "52 text output derived"],
        "all prompt tokens are called text although media was sent",
        ("unknown",),
    ),
    # 1024 cached of 9 + 399 + 1656: 4.47, 197.95, 821.58 → the two left go to .95 and .58
    "newapi_cached": (
        ALL,
        [
            "5 text input estimated",
            "4 text input cached estimated",
            "201 audio input estimated",
            "198 audio input cached estimated",
            "834 image+video input estimated",
            "822 image+video input cached estimated",
            "230 text output derived",
        ],
        None,
        ("unknown", "unknown", "unknown"),
    ),
    # one modality only: nothing is guessed
    "newapi_cached_text": (
        (),
        ["476 text input reported", "1024 text input cached reported", "20 text output derived"],
        None,
        (),
    ),
    "newapi_reasoning": (
        ("image",),
        [
            "8 text input reported",
            "1120 image input reported",
            "200 text output derived",
            "700 text output reasoning reported",
        ],
        None,
        ("yes",),
    ),
    # 2000 - 200 read - 1500 - 100 written = 200
    "newapi_claude_cache_creation": (
        (),
        [
            "200 text input derived",
            "200 text input cached derived",
            "1500 text input cache_write_5m derived",
            "100 text input cache_write_1h derived",
            "60 text output derived",
        ],
        None,
        (),
    ),
    "newapi_media_dropped": (
        ALL,
        ["9 text input reported", "399 audio input reported", "95 text output derived"],
        None,
        ("no", "unknown", "no"),  # the audio may be the video's soundtrack
    ),
    "newapi_null_details": (
        ("image",),
        ["1300 unattributed input derived", "52 text output derived"],
        None,
        ("unknown",),
    ),
    "newapi_parts_above_whole": (
        ("audio",),
        ["300 unattributed input derived", "10 text output derived"],
        "the details name 408 of 300 prompt tokens",
        ("unknown",),
    ),
    "newapi_cached_above_prompt": (
        (),
        ["12 text input reported", "30 text output derived"],
        "more tokens are called cached than the prompt's 12",
        (),
    ),
    "newapi_image_output": (
        (),
        ["20 text input reported", "20 text output reported", "1290 image output reported"],
        None,
        (),
    ),
    # OpenAI names audio, never text
    "openai_audio": (
        ("audio",),
        ["120 audio input reported", "30 text input derived", "21 text output derived"],
        None,
        ("yes",),
    ),
    # nobody says how much of 1118 is the image; all of it is one unattributed lump, 1024 of it cached
    "openai_image": (
        ("image",),
        [
            "94 unattributed input derived",
            "1024 unattributed input cached derived",
            "26 text output derived",
            "64 text output reasoning reported",
        ],
        None,
        ("unknown",),
    ),
    # 1280 - 1024 = 256; 75 - 64 = 11
    "openai_cached_reasoning": (
        (),
        [
            "256 text input derived",
            "1024 text input cached derived",
            "11 text output derived",
            "64 text output reasoning reported",
        ],
        None,
        (),
    ),
    "openai_audio_output": (
        ("audio",),
        [
            "20 text input reported",
            "70 audio input reported",
            "50 text output reported",
            "160 audio output reported",
        ],
        None,
        ("yes",),
    ),
    "azure_filters": ((), ["40 text input derived", "6 text output derived"], None, ()),
    # nothing is named but the cached tokens, beside the totals
    "moonshot_cached": (
        ("image",),
        ["188 unattributed input derived", "512 unattributed input cached derived", "12 text output derived"],
        None,
        ("unknown",),
    ),
    "dashscope_omni": (
        ("video",),
        [
            "20 text input reported",
            "250 audio input reported",
            "1630 video input reported",
            "30 text output reported",
        ],
        None,
        ("yes",),
    ),
    # 1120 + 9 + 300 = 1429: the completion leaves the reasoning out
    "xai_reasoning_apart": (
        ("image",),
        [
            "96 text input reported",
            "1024 image input reported",
            "9 text output derived",
            "300 text output reasoning reported",
        ],
        None,
        ("yes",),
    ),
    "vllm_multimodal": (
        ("image", "video"),
        [
            "576 image input reported",
            "1700 video input reported",
            "24 text input derived",
            "45 text output derived",
        ],
        None,
        ("yes", "yes"),
    ),
    "sglang_reasoning": (
        ("image",),
        [
            "256 image input reported",
            "44 text input derived",
            "50 text output derived",
            "250 text output reasoning reported",
        ],
        None,
        ("yes",),
    ),
    "openrouter_cost": (
        ("video",),
        ["1480 video input reported", "20 text input derived", "120 text output derived"],
        None,
        ("yes",),
    ),
    # 1450 - 1100 - 50 = 300 thoughts that no completion total holds
    "gemini_compat_thoughts": (
        ("video",),
        [
            "1100 unattributed input derived",
            "50 text output derived",
            "300 unattributed output derived",
        ],
        None,
        ("unknown",),
    ),
    "deepseek_cache_hit": (
        (),
        ["260 text input derived", "640 text input cached derived", "30 text output derived"],
        None,
        (),
    ),
    # "105", "9", true, 12.5 and -3 are no counts; 100.0 and 5.0 are
    "floats_and_strings": (
        ("image",),
        ["100 unattributed input derived", "5 text output derived"],
        None,
        ("unknown",),
    ),
}


def parsed(name: str, sent: tuple[MediaModality, ...], dialect: str = "newapi") -> Reply:
    return DIALECTS[dialect].parse(recorded(name), request_of(*sent))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", GOLDEN)
def test_a_recorded_usage_gives_these_counts(name: str, dialect: str) -> None:
    sent, expected, contradiction, _ = GOLDEN[name]
    usage = parsed(name, sent, dialect).usage
    assert leaves(usage) == expected
    assert usage is not None
    assert usage.contradiction == contradiction


@pytest.mark.parametrize("name", GOLDEN)
def test_the_counts_add_up_to_the_total(name: str) -> None:
    usage = parsed(name, GOLDEN[name][0]).usage
    assert usage is not None
    assert sum(count.tokens for count in usage.counts) == usage.total_tokens


@pytest.mark.parametrize("name", GOLDEN)
def test_whether_the_media_were_seen(name: str) -> None:
    sent, _, _, seen = GOLDEN[name]
    assert media_seen(request_of(*sent), parsed(name, sent).usage) == seen


@pytest.mark.parametrize("name", GOLDEN)
def test_the_raw_usage_is_kept(name: str) -> None:
    usage = parsed(name, GOLDEN[name][0]).usage
    assert usage is not None
    assert orjson.loads(usage.raw) == orjson.loads(recorded(name))["usage"]


def test_every_recorded_reply_is_expected_somewhere() -> None:
    files = {path.stem for path in REPLIES.glob("*.json")}
    assert files == set(GOLDEN) | {"newapi_no_usage", "newapi_blocked"}


def test_a_reply_without_usage_is_a_reply_of_unknown_cost() -> None:
    reply = parsed("newapi_no_usage", ("image",))
    assert reply.text == "一张海边的照片。"
    assert reply.usage is None
    assert media_seen(request_of("image"), None) == ("unknown",)


def test_a_blocked_reply_is_priced_by_what_its_usage_says() -> None:
    with pytest.raises(EmptyReply, match="blocked the answer") as caught:
        parsed("newapi_blocked", ("image",))
    assert caught.value.state == "billed"
    assert caught.value.reply is not None
    assert leaves(caught.value.reply.usage) == ["8 text input reported", "1120 image input reported"]


def test_what_the_endpoint_says_it_cost_is_kept() -> None:
    assert parsed("openrouter_cost", ("video",)).reported_cost == Decimal("0.00063")
    assert parsed("xai_reasoning_apart", ("image",)).reported_cost == Decimal("0.007995"), (
        "10¹⁰ ticks a dollar"
    )
    assert parsed("newapi_example", ALL).reported_cost is None


def test_the_example_keeps_its_words() -> None:
    reply = parsed("newapi_example", ALL)
    assert reply.text is not None
    assert reply.text.startswith("这段视频主要展示了以下内容:\n\n1. **初始画面**")
    assert reply.finish_reason == "stop"
    assert reply.model == "gemini-3.1-flash-lite-preview"
    assert reply.reply_id == "chatcmpl-toio20260305115737676032340t6X05q67"
