"""The arithmetic of tokens, family by family. Every expected number is worked out in the docstring."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tokens import (
    VideoTokens,
    audio_tokens,
    document_tokens,
    image_tokens,
    load_rules,
    parse_rules,
    rules_for,
    text_tokens,
    video_tokens,
)

GEMINI_2 = rules_for("gemini-2.5-flash")
GEMINI_3 = rules_for("gemini-3.1-flash-lite-preview")
GPT_4O = rules_for("gpt-4o")
GPT_4O_MINI = rules_for("gpt-4o-mini")


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gemini-3.1-flash-lite-preview", "gemini-3"),
        ("google/gemini-2.0-flash", "gemini-2"),
        ("Gemini-2.5-Pro", "gemini-2"),
        ("gpt-4o-2024-11-20", "gpt-4o"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("qwen-vl-max", "other"),
        ("", "other"),
    ],
)
def test_a_model_belongs_to_the_first_family_that_matches_its_name(model: str, family: str):
    assert rules_for(model).family == family


def test_every_family_names_its_sources_and_their_date():
    assert all(rules.sources and rules.as_of.year >= 2025 for rules in load_rules())


def test_what_no_vendor_publishes_is_marked_as_assumed():
    assert GEMINI_2.assumed == frozenset()
    assert GPT_4O.assumed == {"audio", "video", "document"}


def test_a_table_that_leaves_some_model_without_rules_is_refused():
    with pytest.raises(ValueError, match="every model"):
        parse_rules({"family": []})


def test_the_recorded_prompt_of_sixteen_chinese_characters_is_nine_tokens():
    """16 x 56 / 100 = 8.96, rounded up: 9, as the recorded reply says."""
    prompt = "请分析下面图片、音频、视频的内容"
    assert len(prompt) == 16
    assert text_tokens(GEMINI_3, prompt) == 9


def test_latin_text_is_a_token_for_four_characters_rounded_up():
    """9 x 25 / 100 = 2.25: 3."""
    assert text_tokens(GEMINI_2, "123456789") == 3


def test_mixed_text_is_rounded_up_once():
    """4 x 25 + 2 x 56 = 212 hundredths: 3 tokens, not 1 + 2 rounded apart."""
    assert text_tokens(GEMINI_2, "abcd图片") == 3


def test_no_text_is_no_token():
    assert text_tokens(GEMINI_2, "") == 0


def test_gemini_2_counts_a_small_image_as_one_tile():
    assert image_tokens(GEMINI_2, 384, 384) == 258


def test_gemini_2_counts_a_larger_image_by_768_px_tiles():
    """1280 x 853: 2 x 2 tiles of 768 px, 4 x 258 = 1032."""
    assert image_tokens(GEMINI_2, 1280, 853) == 1032


def test_gemini_3_counts_every_image_alike_unless_told_otherwise():
    assert image_tokens(GEMINI_3, 100, 100) == image_tokens(GEMINI_3, 5000, 4000) == 1120
    assert image_tokens(GEMINI_3, 5000, 4000, detail="low") == 280


def test_gpt_4o_scales_down_before_it_counts_tiles():
    """2048 x 4096 → 1024 x 2048 → 768 x 1536: 2 x 3 tiles, 85 + 6 x 170 = 1105, the vendor's own example."""
    assert image_tokens(GPT_4O, 2048, 4096) == 1105


def test_gpt_4o_counts_a_square_of_1024_as_the_vendor_does():
    """1024 x 1024 → 768 x 768: 2 x 2 tiles, 85 + 4 x 170 = 765."""
    assert image_tokens(GPT_4O, 1024, 1024) == 765


def test_gpt_4o_never_scales_up():
    """100 x 100 stays in one tile: 85 + 170 = 255; at low detail 85."""
    assert image_tokens(GPT_4O, 100, 100) == 255
    assert image_tokens(GPT_4O, 100, 100, detail="low") == 85


def test_gpt_4o_mini_multiplies_its_tiles():
    """One tile: 2833 + 5667 = 8500."""
    assert image_tokens(GPT_4O_MINI, 512, 512) == 8500


def test_audio_counts_the_last_part_of_a_second_in_proportion():
    """4.2 s x 32 = 134.4: 135."""
    assert audio_tokens(GEMINI_2, 4.2) == 135


def test_a_video_is_one_frame_a_started_second_and_its_soundtrack_apart():
    """6 s x 258 = 1548 of pictures; 6 s x 32 = 192 of sound."""
    assert video_tokens(GEMINI_2, 6.0, soundtrack_s=6.0) == VideoTokens(picture=1548, soundtrack=192)


def test_a_silent_video_has_no_sound_tokens():
    """3.04 s are 4 frames x 70 = 280 at Gemini 3; 4 x 66 = 264 at Gemini 2 in low resolution."""
    assert video_tokens(GEMINI_3, 3.04, soundtrack_s=None) == VideoTokens(picture=280, soundtrack=0)
    assert video_tokens(GEMINI_2, 3.04, soundtrack_s=None, detail="low").picture == 264


def test_a_containers_rounding_starts_no_further_second():
    assert video_tokens(GEMINI_2, 6.0000004, soundtrack_s=None).picture == 6 * 258


def test_a_document_whose_pages_cannot_be_counted_is_one_page():
    assert document_tokens(GEMINI_2, None) == 258
    assert document_tokens(GEMINI_3, 3) == 3 * 560


@given(st.text(), st.text())
def test_two_texts_never_cost_more_together_than_apart(one: str, other: str):
    together = text_tokens(GEMINI_2, one + other)
    apart = text_tokens(GEMINI_2, one) + text_tokens(GEMINI_2, other)
    assert apart - 1 <= together <= apart
