"""A run over its time: every answer in its span, no span missing, and latencies of answers alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from pipeline.errors import Overloaded, Throttled
from pipeline.records import Attempt
from pipeline.report import Course, Scope, course_of, unseen_media
from tests.made import NOW, attempt, item, outcome, write


def after(seconds: float, latency_s: float = 1.0, error: object = None) -> Attempt:
    """An attempt that came back so many seconds into the night."""
    done_at = NOW + timedelta(seconds=seconds)
    tried = attempt(error=error) if error else attempt()  # type: ignore[arg-type]
    return replace(tried, sent_at=done_at - timedelta(seconds=latency_s), done_at=done_at)


def course(out: Path, *tries: Attempt) -> Course:
    write(out, *(outcome(item(f"i{number}", number), one) for number, one in enumerate(tries, 1)))
    found = course_of(Scope(out, "default"), "r1")
    assert found is not None
    return found


def test_answers_and_tries_that_were_none_are_counted_by_the_second(tmp_path: Path):
    told = course(
        tmp_path,
        after(0.2, 1.0),
        after(0.9, 3.0),
        after(80.5, 9.0, Overloaded("busy", http_status=503)),
        after(80.6, 9.0, Throttled("slow down", http_status=429)),
    )
    assert told.span_s == 1
    came = [(place, one.answered, one.failed, one.throttled) for place, one in enumerate(told.moments)]
    assert [one for one in came if any(one[1:])] == [(0, 2, 0, 0), (80, 0, 2, 1)]
    assert told.moments[0].median_s == 2.0
    assert told.moments[80].median_s is None
    assert told.answered == 2
    assert told.elapsed_s == 81


def test_a_night_has_at_most_120_spans_and_one_resumed_days_later_too(tmp_path: Path):
    night = course(tmp_path / "night", after(0), after(8 * 3600))
    assert night.span_s == 300
    assert len(night.moments) == 8 * 12 + 1
    later = course(tmp_path / "later", after(0), after(30 * 86_400))
    assert len(later.moments) <= 121
    assert sum(one.answered for one in later.moments) == 2


def test_a_run_in_which_nothing_came_back_has_no_course(tmp_path: Path):
    write(tmp_path, outcome(item("a")))
    assert course_of(Scope(tmp_path, "default"), "r2") is None


def test_media_that_nobody_saw_are_counted_by_modality_and_model(tmp_path: Path):
    from pipeline.records import Media

    media = Media("image", "https://h.example/a.jpg"), Media("audio", "https://h.example/a.mp3")
    write(
        tmp_path,
        outcome(item("a", 1, *media), seen=["no", "no"]),
        outcome(item("b", 2, *media), seen=["yes", "no"]),
        outcome(item("c", 3, *media), seen=["yes", "unknown"]),
    )
    told = unseen_media(Scope(tmp_path, "default"))
    assert [(one.modality, one.items, one.item_id) for one in told] == [("audio", 2, "a"), ("image", 1, "a")]
