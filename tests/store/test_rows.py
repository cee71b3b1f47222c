"""Records → rows: every fact in its column, money exact, unknown as null."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import polars as pl
import pytest

from pipeline.errors import BadInput, EmptyReply, KeyRejected, Overloaded, RowError
from pipeline.records import BadRow, Media
from pipeline.store.rows import NO_TRIES, Entry, Part, Tries, Writing
from pipeline.store.schemas import ATTEMPTS, COSTS, RESULTS
from tests.made import (
    ENDPOINT,
    NOW,
    PRICES,
    Told,
    attempt,
    count,
    entries,
    item,
    not_attempted,
    outcome,
    part_of,
    reply,
)

SIGNED = "https://h.example/a.jpg?X-Amz-Date=d&X-Amz-Expires=9&X-Amz-Signature=secret"


def frames(*told: Told, endpoint_of_bad_rows: str | None = None) -> dict[str, Any]:
    return part_of(*told, writing=Writing("r1", "night", endpoint_of_bad_rows)).frames()


def row(*told: Told, dataset: str = "results") -> dict[str, Any]:
    return frames(*told)[dataset].row(0, named=True)


def test_an_answer_fills_its_row():
    """9 x $0.25/M + 230 x $1.50/M = $0.00034725."""
    asked = item("猫", 7, Media("image", SIGNED), Media("audio", "https://h.example/b.wav"))
    found = row(outcome(asked, seen=["yes", "unknown"]))
    request = orjson.loads(found.pop("request_json"))
    assert found == {
        "run_id": "r1",
        "job": "night",
        "item_id": "猫",
        "request_key": found["request_key"],
        "row": 7,
        "status": "ok",
        "text": "a cat",
        "finish_reason": "stop",
        "model_requested": "a-model",
        "model": "a-model-0305",
        "endpoint": ENDPOINT,
        "reply_id": "c-1",
        "attempts": 1,
        "error_class": None,
        "error_message": None,
        "http_status": 200,
        "prompt_tokens": 9,
        "completion_tokens": 230,
        "total_tokens": 239,
        "cost": Decimal("0.000347250000"),
        "cost_low": Decimal("0.000347250000"),
        "cost_high": Decimal("0.000347250000"),
        "currency": "USD",
        "unpriced_tokens": 0,
        "media": [
            {"modality": "image", "url": "https://h.example/a.jpg", "seen": "yes"},
            {"modality": "audio", "url": "https://h.example/b.wav", "seen": "unknown"},
        ],
        "duplicate_of": None,
        "started_at": NOW,
        "finished_at": NOW + timedelta(seconds=1.5),
        "latency_s": 1.5,
        "unseen": None,
    }
    assert request == {
        "model": "a-model",
        "prompt": "What is it?",
        "parameters": {"max_tokens": 9},
        "media": [
            {"modality": "image", "url": "https://h.example/a.jpg", "key": None},
            {"modality": "audio", "url": "https://h.example/b.wav", "key": None},
        ],
    }


def test_a_failure_says_what_happened_and_keeps_the_bill_of_every_attempt():
    """Two billed attempts of 9 in: 2 x 9 x $0.25/M = $0.0000045."""
    blocked = reply("", [count("text", "input", 9)])
    error = EmptyReply("the endpoint gave no choices", http_status=200, reply=blocked)
    found = row(outcome(None, attempt(1, blocked, error), attempt(2, blocked, error)))
    assert (found["status"], found["error_class"], found["error_message"], found["attempts"]) == (
        "failed",
        "EmptyReply",
        "the endpoint gave no choices",
        2,
    )
    assert (found["cost"], found["http_status"]) == (Decimal("0.0000045"), 200)


def test_times_run_from_the_first_attempt_and_latency_is_the_lasts():
    later = NOW + timedelta(minutes=5)
    found = row(outcome(None, attempt(1, error=Overloaded("no", http_status=503)), attempt(2, at=later)))
    assert (found["started_at"], found["finished_at"]) == (NOW, later + timedelta(seconds=1.5))
    assert found["latency_s"] == 1.5


def test_without_a_price_the_cost_is_null_and_the_tokens_are_counted():
    found = row(outcome(None, attempt(rates=None)))
    assert (found["cost"], found["cost_low"], found["currency"]) == (None, None, None)
    assert found["unpriced_tokens"] == 239


def test_a_price_for_some_tokens_leaves_the_others_unpriced():
    answered = reply(counts=[count("text", "input", 10), count("video", "input", 500)])
    found = row(outcome(None, attempt(1, answered)))
    assert (found["cost"], found["unpriced_tokens"]) == (Decimal("0.0000025"), 500)


def test_a_bad_row_has_no_attempt_no_request_and_empty_media():
    part = frames(BadRow("row-3", 3, RowError(3, "holds neither media nor a prompt")))
    found = part["results"].row(0, named=True)
    assert (found["item_id"], found["row"], found["status"], found["attempts"]) == ("row-3", 3, "failed", 0)
    assert (found["error_class"], found["error_message"]) == (
        "RowError",
        "row 3: holds neither media nor a prompt",
    )
    assert (found["media"], found["request_json"], found["endpoint"], found["cost"]) == ([], None, None, None)
    assert "attempts" not in part
    assert "costs" not in part


def test_a_rehearsals_bad_rows_are_the_embedded_endpoints():
    part = frames(BadRow("b", 1, RowError(1, "is odd")), endpoint_of_bad_rows="embedded")
    assert part["results"]["endpoint"].to_list() == ["embedded"]


def test_the_attempts_of_an_item_that_was_not_attempted_stay_on_the_bill():
    part = frames(not_attempted("one", 4, attempt(1, error=KeyRejected("no", http_status=401))))
    assert "results" not in part
    assert part["attempts"]["error_class"].to_list() == ["KeyRejected"]


def test_every_attempt_has_its_row():
    lost = Overloaded("no", http_status=503, request_id="r-1")
    first, second = frames(outcome(None, attempt(1, error=lost), attempt(2)))["attempts"].to_dicts()
    assert (first["attempt"], first["state"], first["error_class"], first["http_status"]) == (
        1,
        "possibly_billed",
        "Overloaded",
        503,
    )
    assert first["usage_json"] is None
    assert second == {
        "run_id": "r1",
        "job": "night",
        "item_id": "one",
        "attempt": 2,
        "carrier": "sync",
        "remote_id": "c-1",
        "sent_at": NOW,
        "done_at": NOW + timedelta(seconds=1.5),
        "state": "billed",
        "possible_cost": None,
        "reported_cost": None,
        "http_status": 200,
        "error_class": None,
        "request_id": "r-2",
        "endpoint": ENDPOINT,
        "model": "a-model",
        "dialect": "newapi",
        "usage_json": '{"prompt_tokens":9}',
        "error_body": None,
    }


def test_every_token_count_of_every_attempt_has_its_row():
    blocked = reply("", [count("audio", "input", 399)])
    error = EmptyReply("blocked", reply=blocked)
    costs = frames(outcome(None, attempt(1, blocked, error), attempt(2)))["costs"]
    assert costs.select("attempt", "modality", "direction", "kind", "tokens", "cost").rows() == [
        (1, "audio", "input", "fresh", 399, Decimal("0.0001995")),
        (2, "text", "input", "fresh", 9, Decimal("0.00000225")),
        (2, "text", "output", "fresh", 230, Decimal("0.000345")),
    ]
    assert costs["price_per_mtok"].to_list() == [Decimal("0.5"), Decimal("0.25"), Decimal("1.5")]


@pytest.mark.parametrize(
    "cost",
    [
        "0.000000000001",
        "0.1",
        "3",
        "99999999999999.999999999999",
        "1E+3",
        "0.000347250000",
    ],
)
def test_money_is_exact_at_a_scale_of_twelve(cost: str):
    """Beside amounts of other scales, so that no column-wide guess of the scale can hurt."""
    answers = [outcome(item(f"i{n}", n), attempt(1, reply(reported_cost=money))) for n, money in enumerate(
        [Decimal("1"), None, Decimal(cost), Decimal("0.5")], 1
    )]  # fmt: skip
    column = frames(*answers)["attempts"]["reported_cost"]
    assert column.dtype == pl.Decimal(38, 12)
    assert column.to_list() == [Decimal("1"), None, Decimal(cost), Decimal("0.5")]


def test_media_of_many_rows_stay_with_their_rows():
    """Rows with none, one and several, in no order, past any chunk."""
    media = [
        [Media("image", f"https://h.example/{n}/{place}") for place in range(n * 7 % 4)] for n in range(3000)
    ]
    column = frames(*(outcome(item(f"i{n}", n, *of_row)) for n, of_row in enumerate(media)))["results"][
        "media"
    ]
    assert column.dtype == RESULTS["media"]
    assert [[one["url"] for one in cell] for cell in column.to_list()] == [
        [one.url for one in of_row] for of_row in media
    ]


@pytest.mark.parametrize("rows", [1, 2, 500])
def test_a_part_without_any_media_has_empty_lists_not_nulls(rows: int):
    column = frames(*(outcome(item(f"i{n}", n)) for n in range(rows)))["results"]["media"]
    assert column.to_list() == [[]] * rows
    assert column.null_count() == 0


def test_signatures_and_inline_content_are_stored_nowhere():
    asked = item("one", 1, Media("image", SIGNED), Media("image", "data:image/png;base64,c2VjcmV0"))
    found = frames(outcome(asked))["results"]
    text = str(found.to_dicts())
    assert "secret" not in text
    assert "c2VjcmV0" not in text
    assert "data:image/png;sha256=" in text


def test_frames_have_the_schemas_and_results_come_last():
    found = frames(outcome(), BadRow("b", 2, RowError(2, "is odd")))
    assert list(found) == ["attempts", "costs", "results"]
    assert found["results"].schema == RESULTS
    assert found["costs"].schema == COSTS
    assert found["attempts"].schema == ATTEMPTS


def test_a_part_extended_keeps_its_order():
    first = part_of(outcome(item("one")))
    first.extend(part_of(outcome(item("two", 2), attempt(error=BadInput("no", http_status=400)))))
    assert first.frames()["results"]["item_id"].to_list() == ["one", "two"]
    assert first.frames()["attempts"].height == 2


def test_a_row_that_went_through_the_ledger_makes_the_same_part():
    """Every kind of row and of value: media, null, money, instants, tokens."""
    blocked = reply("", [count("audio", "input", 399)], reported_cost=Decimal("0.000001"))
    told = [
        outcome(item("猫", 7, Media("image", SIGNED)), attempt(1, blocked, EmptyReply("no")), attempt(2)),
        outcome(item("two", 8), attempt(error=BadInput("no", http_status=400))),
        outcome(item("three", 9), attempt(rates=None)),
        BadRow("b", 10, RowError(10, "is odd")),
        not_attempted("five", 11, attempt(error=KeyRejected("no", http_status=401))),
    ]
    direct, again = Part(), Part()
    for entry in entries(*told):
        direct.add(entry)
        again.add(Entry.decode(entry.encode()))
    for name, frame in direct.frames().items():
        assert again.frames()[name].equals(frame)


def test_what_tries_came_to_survives_the_ledger():
    half_priced = reply(counts=[count("text", "input", 10), count("video", "input", 500)])
    tries = NO_TRIES.and_then([attempt(1), attempt(2, half_priced)]).and_lost(5)
    assert tries.attempts == 3
    assert (tries.cost, tries.unpriced_tokens) == (Decimal("0.00034975"), 500)
    assert Tries.decode(tries.encode()) == tries
    assert Tries.decode(NO_TRIES.encode()) == NO_TRIES


def test_an_attempt_that_was_lost_counts_and_dates_the_start():
    tries = NO_TRIES.and_lost(123)
    assert (tries.attempts, tries.started_at, tries.cost) == (1, 123, None)
    assert tries.and_then([attempt(2)]).started_at == 123


def test_prices_of_this_test_are_what_the_arithmetic_above_says():
    assert {unit: str(rate.per_mtok) for unit, rate in PRICES.base.items()} == {
        ("text", "input", "fresh"): "0.250000",
        ("audio", "input", "fresh"): "0.500000",
        ("text", "output", "fresh"): "1.500000",
    }


def test_a_clock_in_another_zone_is_the_same_instant():
    from zoneinfo import ZoneInfo

    shanghai = NOW.astimezone(ZoneInfo("Asia/Shanghai"))
    found = row(outcome(None, attempt(at=shanghai)))
    assert found["started_at"] == NOW
    assert found["started_at"].utcoffset() == datetime.now(UTC).utcoffset()


def test_what_was_not_seen_stands_in_a_column_of_its_own():
    video = Media("video", "https://h.example/v.mp4")
    asked = item("a", 1, Media("image", SIGNED), video, Media("audio", "https://h.example/b.wav"))
    assert row(outcome(asked, seen=["yes", "no", "no"]))["unseen"] == "video+audio"


def test_an_entry_of_an_older_ledger_lacks_the_newest_columns():
    (entry,) = entries(outcome())
    attempts, costs, result = orjson.loads(entry.encode())
    older = Entry.decode(orjson.dumps(([row[:-1] for row in attempts], costs, result[:-1])))
    assert (older.attempts, older.result) == (attempts, result)
