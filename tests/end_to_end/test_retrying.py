"""When an item is tried again: whom it keeps waiting, what is recorded of each try, and what it all costs."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.retry import RetryRules
from tests.end_to_end.conftest import Serve
from tests.end_to_end.nights import spend_night
from tests.serving.answers import Answer, completion, empty, gateway_error, in_turn
from tests.serving.server import Play, Received

OVERLOADED = gateway_error(503, "overloaded")
HEALTHY = [f"healthy {n}" for n in range(1, 9)]


def once(item: str, first: Answer) -> object:
    """This item is answered so the first time; all else is well."""
    return lambda received: in_turn(received, [first] if received.text == item else [], then=completion())


def test_an_item_asleep_in_backoff_holds_no_slot(serve: Serve, tmp_path: Path):
    """One slot, and the first item is to come back in 0.8 s: eight others are answered meanwhile."""
    server = serve(once("odd", OVERLOADED.with_headers(retry_after_ms="800")))

    night = spend_night(tmp_path, server.base_url, ["odd", *HEALTHY], slots=1)

    assert night.code == 0
    assert server.texts() == ["odd", *HEALTHY, "odd"]
    assert server.most_at_once == 1


def test_a_throttled_item_that_is_told_a_time_closes_the_gate_for_everybody(serve: Serve, tmp_path: Path):
    server = serve(once("odd", empty(429).with_headers(retry_after_ms="300")))

    night = spend_night(tmp_path, server.base_url, ["odd", *HEALTHY], slots=2)

    assert night.code == 0
    throttled, *others = night.store.attempts.sort("sent_at").to_dicts()
    assert throttled["http_status"] == 429
    # Two slots: the one request that may have been on its way already is not held back.
    waits_s = [(other["sent_at"] - throttled["done_at"]).total_seconds() for other in others]
    assert min(sorted(waits_s)[1:]) >= 0.3
    assert len(server.received) == 10


def test_a_wait_that_was_named_is_kept_to_the_millisecond(serve: Serve, tmp_path: Path):
    server = serve(once("odd", OVERLOADED.with_headers(retry_after_ms="250")))

    night = spend_night(tmp_path, server.base_url, ["odd"])

    first, second = night.store.attempts_of("odd")
    assert 0.25 <= (second["sent_at"] - first["done_at"]).total_seconds() < 5


def test_every_try_is_listed_with_its_error_and_its_bill(serve: Serve, tmp_path: Path):
    tries = [empty(429), OVERLOADED, gateway_error(408, None), completion("blocked", choices=[])]

    night = spend_night(
        tmp_path, serve(lambda received: in_turn(received, tries, completion())).base_url, ["a"]
    )

    columns = ("attempt", "state", "http_status", "error_class")
    assert night.store.attempts.select(columns).rows() == [
        (1, "not_billed", 429, "Throttled"),
        (2, "possibly_billed", 503, "Overloaded"),
        (3, "not_billed", 408, "TimingConflict"),
        (4, "billed", 200, "EmptyReply"),
        (5, "billed", 200, None),
    ]
    said = night.store.attempts["error_body"].to_list()
    assert said[0] == "", "an empty body is one too"
    assert '"overloaded"' in said[1]
    assert '"choices": []' in said[3]
    assert said[4] is None, "a good answer stands in the results"
    assert night.store.result("a")["attempts"] == 5
    assert night.store.run["totals"]["attempts"] == 5


def test_cost_adds_up_over_all_tries_that_carried_usage(serve: Serve, tmp_path: Path):
    """A blocked reply of 1,000 in and 0 out is $0.00025, the answer of 1,000 in and 100 out $0.0004."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1000}
    blocked = completion("", finish_reason="content_filter", usage=usage)
    server = serve(lambda received: in_turn(received, [blocked, OVERLOADED], completion()))

    night = spend_night(tmp_path, server.base_url, ["a"])

    result = night.store.result("a")
    assert (result["status"], result["attempts"], result["cost"]) == ("ok", 3, Decimal("0.00065"))
    assert night.store.costs.sort("attempt")["attempt"].to_list() == [1, 3, 3]
    assert night.store.costs["cost"].sum() == Decimal("0.00065")
    assert night.summary.tally.cost == {"USD": Decimal("0.00065")}


def test_tries_of_an_item_that_the_run_stopped_before_stay_on_the_bill(serve: Serve, tmp_path: Path):
    """The first try was blocked and paid, the second is refused for good: not attempted, yet paid for."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1000}
    blocked = completion("", finish_reason="content_filter", usage=usage)
    server = serve(lambda received: in_turn(received, [blocked], gateway_error(402, None)))

    night = spend_night(tmp_path, server.base_url, ["a"])

    assert (night.code, night.store.ids("not_attempted")) == (3, ["a"])
    assert night.store.costs["cost"].to_list() == [Decimal("0.00025")]
    assert night.summary.tally.cost == {"USD": Decimal("0.00025")}


@pytest.mark.parametrize("max_attempts", [1, 3])
def test_tries_are_capped(serve: Serve, tmp_path: Path, max_attempts: int):
    server = serve(lambda received: OVERLOADED)

    night = spend_night(
        tmp_path, server.base_url, ["a"], retry=RetryRules(max_attempts=max_attempts, first_wait_s=0.001)
    )

    assert (night.code, len(server.received)) == (5, max_attempts)


def test_a_wait_past_the_cap_on_an_items_total_time_is_not_begun(serve: Serve, tmp_path: Path):
    server = serve(lambda received: OVERLOADED.with_headers(retry_after="3600"))

    night = spend_night(tmp_path, server.base_url, ["a"])

    assert (night.code, night.store.result("a")["error_class"]) == (5, "Overloaded")
    assert len(server.received) == 1


def test_a_retried_request_is_the_same_to_the_byte(serve: Serve, tmp_path: Path):
    server = serve(lambda received: in_turn(received, [OVERLOADED, empty(429)], completion()))

    spend_night(tmp_path, server.base_url, ["a"])

    assert len({received.body for received in server.received}) == 1
    assert [received.nth for received in server.received] == [1, 2, 3]


def test_slots_bound_what_is_in_flight(serve: Serve, tmp_path: Path):
    def script(received: Received) -> Play:
        return completion().after(0.1)

    server = serve(script)

    night = spend_night(tmp_path, server.base_url, [f"item {n}" for n in range(24)], slots=8)

    assert (night.code, server.most_at_once) == (0, 8)
