"""The server's decisions, at times that the test hands in."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest

from benchmarks.buckets import Bucket
from benchmarks.conduct import Conduct, parsed
from benchmarks.desk import Desk

GOOD = b"good"


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def header(answer: bytes, name: str) -> str | None:
    head = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in head).get(name)


def test_a_bucket_gives_its_burst_at_once_and_its_rate_afterwards():
    """10 a second with a burst of 2: two at once, the third after 0.1 s."""
    bucket = Bucket(10.0, 2.0)
    for _ in range(2):
        assert bucket.wait_s(1.0, 0.0) == 0.0
        bucket.take(1.0)
    assert bucket.wait_s(1.0, 0.0) == pytest.approx(0.1)
    assert bucket.wait_s(1.0, 0.1) == pytest.approx(0.0)


def test_a_bucket_holds_no_more_than_its_burst():
    bucket = Bucket(10.0, 2.0)
    assert bucket.wait_s(3.0, 1_000.0) == pytest.approx(0.1)


def test_a_desk_accepts_as_much_as_a_minute_allows_and_the_burst():
    """6,000 a minute are 100 a second: asked every millisecond for 10 s, 100 + 10 x 100 are accepted."""
    desk = Desk(Conduct(rpm=6_000), GOOD)
    for ms in range(10_000):
        desk.receive(ms / 1000)
    assert len(desk.accepted) == pytest.approx(1_100, abs=1)
    assert len(desk.accepted) + len(desk.throttled) == 10_000


def test_tokens_are_counted_by_what_the_recorded_reply_says():
    """3,000,000 tokens a minute are 50,000 a second, a burst of 2 s is 100,000: 43 requests of 2,294."""
    desk = Desk(Conduct(tpm=3_000_000), GOOD)
    accepted = [desk.receive(0.0).is_accepted for _ in range(50)]
    assert accepted == [True] * 43 + [False] * 7


def test_a_429_names_its_time_in_whole_seconds():
    assert header(throttled("seconds"), "Retry-After") == "1"


def test_a_429_names_its_time_in_milliseconds():
    """100 a second: the next one fits in 10 ms."""
    assert header(throttled("ms"), "retry-after-ms") == "10"


def test_a_429_names_its_time_as_a_date_that_is_not_too_early():
    """Second 0 was at 1,000.5 s: 10 ms later, in whole seconds, is 1,001."""
    told = header(throttled("date"), "Retry-After")
    assert told is not None
    assert parsedate_to_datetime(told).timestamp() == 1_001


def test_a_429_may_be_empty():
    answer = throttled("none")
    assert header(answer, "Retry-After") is None
    assert answer.endswith(b"\r\n\r\n")


def throttled(kind: str) -> bytes:
    desk = Desk(Conduct(rpm=6_000, rpm_burst=1, retry_after=kind), GOOD)
    desk.started_at = 1_000.5
    desk.receive(0.0)
    answer = desk.receive(0.0).response
    assert status(answer) == 429
    return answer


def test_one_more_than_the_slots_is_throttled_until_one_is_answered():
    desk = Desk(Conduct(latency_s=0.5, slots=2, retry_after="none"), GOOD)
    assert [desk.receive(0.0).is_accepted for _ in range(3)] == [True, True, False]
    desk.answer(0.5)
    assert desk.receive(0.5).is_accepted


def test_a_degrading_server_takes_longer_the_more_there_are():
    """Beyond 4 at once: the 16th waits (16 / 4) ** 1.5 = 8 times as long."""
    desk = Desk(Conduct(latency_s=0.5, degrades_beyond=4), GOOD)
    latencies = [desk.receive(0.0).after_s for _ in range(16)]
    assert latencies[:4] == [0.5] * 4
    assert latencies[15] == pytest.approx(4.0)


def test_jitter_spreads_latencies_around_the_given_one():
    desk = Desk(Conduct(latency_s=1.0, jitter=0.2), GOOD)
    latencies = [desk.receive(0.0).after_s for _ in range(1_000)]
    assert min(latencies) >= 0.8
    assert max(latencies) <= 1.2
    assert sum(latencies) / 1_000 == pytest.approx(1.0, abs=0.01)


def test_an_outage_answers_503_from_and_to_its_seconds():
    desk = Desk(Conduct(outage_from_s=2.0, outage_to_s=3.0), GOOD)
    answers = [desk.receive(at_s).response for at_s in (1.9, 2.0, 2.9, 3.0)]
    assert [answer if answer == GOOD else status(answer) for answer in answers] == [GOOD, 503, 503, GOOD]


def test_the_command_line_says_a_conduct_wholly():
    conduct = Conduct(
        latency_s=0.25, rpm=10, retry_after="date", outage_to_s=3.5, outage_kind="refuse", tls=1
    )
    assert parsed(conduct.arguments(), None) == (conduct, 0)
