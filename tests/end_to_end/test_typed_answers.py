"""Answers that keep to a schema, over real HTTP: honoured, ignored, cut off, wrong, fenced; all paid."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import polars as pl
import pytest

from pipeline.embedded import serve_embedded
from pipeline.embedded.faults import SchemaFault
from pipeline.launch import launch
from pipeline.plan import Secrets
from pipeline.store.reader import latest_outcomes, scan
from tests.end_to_end.conftest import Serve
from tests.end_to_end.nights import (
    COMMAND,
    Store,
    clean_environment,
    invoke,
    plan_for,
    spend_night,
    write_manifest,
)
from tests.serving.answers import HANG, Answer, completion, gateway_error
from tests.serving.server import Play, Received

ROOT = Path(__file__).parent.parent.parent

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["cat", "dog"]},
        "weight_kg": {"type": "number"},
        "spots": {
            "type": "array",
            "items": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
        },
    },
    "required": ["kind", "weight_kg", "spots"],
}
DTYPE = pl.Struct({"kind": pl.String, "weight_kg": pl.Float64, "spots": pl.List(pl.Struct({"x": pl.Int64}))})
VALUE = {"kind": "cat", "weight_kg": 4.5, "spots": [{"x": 1}, {"x": 2}]}
GOOD = json.dumps(VALUE)
PER_TRY = Decimal("0.0004")
"""1,000 in, 100 out."""


def is_repair(received: Received) -> bool:
    return len(received.json["messages"]) > 1


def once(first: Answer, then: Answer = completion(GOOD)) -> Callable[[Received], Play]:  # noqa: B008 # frozen
    """``first``, until something is objected to it."""
    return lambda received: then if is_repair(received) else first


def in_duckdb(query: str) -> str:
    """The rows of a query. In a process of its own: at its end the library talks about its own leaks."""
    code = "import duckdb, sys; print(duckdb.sql(sys.argv[1]).fetchall())"
    done = subprocess.run([sys.executable, "-c", code, query], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wrong(**changes: Any) -> Answer:
    return completion(json.dumps({**VALUE, **changes}))


@pytest.mark.parametrize(
    ("first", "tries"),
    [
        (completion(GOOD), 1),
        (completion(f"```json\n{GOOD}\n```"), 1),
        (completion(f"Here you are:\n{GOOD}\nAnything else?"), 1),
        (completion(GOOD, finish_reason="length"), 1),
        (completion("It is a cat of 4.5 kg."), 2),
        (completion(""), 2),
        (completion(GOOD[:30], finish_reason="length"), 2),
        (wrong(weight_kg="4.5 kg"), 2),
        (wrong(kind="cow"), 2),
        (completion(json.dumps({"animal": VALUE})), 2),
    ],
    ids=[
        *("honoured", "fenced", "talkative", "whole although long", "ignored", "empty"),
        *("cut off", "wrong type", "wrong word", "wrapped"),
    ],
)
def test_an_answer_ends_as_a_typed_value_and_every_try_is_paid(
    serve: Serve, tmp_path: Path, first: Answer, tries: int
):
    night = spend_night(tmp_path, serve(once(first)).base_url, ["one"], schema=SCHEMA)
    store = night.store
    assert store.results.schema["parsed"] == DTYPE
    assert store.results.columns[-1] == "parsed"
    result = store.result("one")
    assert (result["status"], result["attempts"], result["parsed"]) == ("ok", tries, VALUE)
    assert result["cost"] == tries * PER_TRY
    # To the token: each try 1,000 in and 100 out.
    assert store.costs.group_by("direction").agg(pl.sum("tokens")).sort("direction").rows() == [
        ("input", tries * 1000),
        ("output", tries * 100),
    ]
    states = [(one["state"], one["error_class"]) for one in store.attempts_of("one")]
    assert states == [("billed", "InvalidAnswer")] * (tries - 1) + [("billed", None)]


def test_the_second_question_names_the_fault_and_has_a_key_of_its_own(serve: Serve, tmp_path: Path):
    server = serve(once(wrong(weight_kg="heavy")))
    spend_night(tmp_path, server.base_url, ["one"], schema=SCHEMA)
    first, second = server.received
    assert first.json["response_format"]["json_schema"]["schema"]["required"] == SCHEMA["required"]
    assert first.json["response_format"] == second.json["response_format"]
    asked, answered, objected = second.json["messages"]
    assert asked == first.json["messages"][0]
    assert answered == {"role": "assistant", "content": json.dumps({**VALUE, "weight_kg": "heavy"})}
    assert 'weight_kg: "heavy" is not of type "number"' in objected["content"]
    keys = [one.headers["idempotency-key"] for one in server.received]
    assert keys[1] == f"{keys[0]}-repair"


def test_a_second_invalid_answer_fails_the_item_and_is_kept(serve: Serve, tmp_path: Path):
    server = serve(once(wrong(kind="cow"), wrong(kind="horse")))
    night = spend_night(tmp_path, server.base_url, ["one"], schema=SCHEMA)
    assert night.code == 5
    result = night.store.result("one")
    assert (result["status"], result["error_class"], result["attempts"]) == ("failed", "InvalidAnswer", 2)
    assert '"horse" is not one of' in result["error_message"]
    assert result["parsed"] is None
    assert json.loads(result["text"])["kind"] == "horse"
    assert result["cost"] == 2 * PER_TRY
    assert night.store.costs["tokens"].sum() == 2200


def test_an_answer_that_is_cut_off_twice_fails(serve: Serve, tmp_path: Path):
    cut = completion(GOOD[:30], finish_reason="length")
    night = spend_night(tmp_path, serve(once(cut, cut)).base_url, ["one"], schema=SCHEMA)
    result = night.store.result("one")
    assert (result["error_class"], result["attempts"], result["finish_reason"]) == (
        "InvalidAnswer",
        2,
        "length",
    )
    assert "cut off at the longest answer allowed" in result["error_message"]


def test_a_second_question_is_retried_like_any_other(serve: Serve, tmp_path: Path):
    times = {"repairs": 0}

    def script(received: Received) -> Play:
        if not is_repair(received):
            return completion("prose")
        times["repairs"] += 1
        return gateway_error(503) if times["repairs"] < 3 else completion(GOOD)

    night = spend_night(tmp_path, serve(script).base_url, ["one"], schema=SCHEMA)
    assert [one["error_class"] for one in night.store.attempts_of("one")] == [
        "InvalidAnswer",
        "Overloaded",
        "Overloaded",
        None,
    ]


def test_of_an_endpoint_that_ignores_the_schema_it_is_asked_in_the_prompt(serve: Serve, tmp_path: Path):
    """Only the first row is paid twice."""

    def script(received: Received) -> Play:
        is_told = any("JSON schema" in json.dumps(one) for one in received.json["messages"])
        return completion(GOOD if is_told else "A cat, I think.")

    server = serve(script)
    night = spend_night(tmp_path, server.base_url, [f"r{n}" for n in range(5)], schema=SCHEMA)
    assert night.store.results["status"].to_list() == ["ok"] * 5
    assert len(server.received) == 6
    assert night.store.costs["tokens"].sum() == 6 * 1100
    assert (server.received[5].text or "").startswith("r4\n\nAnswer with JSON alone")


def test_of_an_endpoint_that_refuses_the_schema_it_is_asked_in_the_prompt_alone(serve: Serve, tmp_path: Path):
    """A row that is bad in itself, and comes first, does not count as such a refusal."""

    def script(received: Received) -> Play:
        is_bad = "bad" in (received.text or "") or "response_format" in received.json
        return gateway_error(400, "invalid_request") if is_bad else completion(GOOD)

    server = serve(script)
    night = spend_night(tmp_path, server.base_url, ["bad", "r0", "r1", "r2"], schema=SCHEMA)
    assert night.store.ids("ok") == ["r0", "r1", "r2"]
    assert night.store.result("bad")["error_class"] == "BadInput"
    assert ["response_format" in one.json for one in server.received] == [
        True,
        False,
        True,
        False,
        False,
        False,
    ]


def test_refusals_of_the_schema_that_come_late_are_asked_again_too(serve: Serve, tmp_path: Path):
    """All eight are under way when the first one's second question is answered."""

    def script(received: Received) -> Play:
        if "response_format" in received.json:
            return gateway_error(400, "invalid_request").after(0.0 if received.text == "r0" else 0.4)
        return completion(GOOD)

    rows = [f"r{n}" for n in range(8)]
    night = spend_night(tmp_path, serve(script).base_url, rows, schema=SCHEMA, slots=8)
    assert night.store.ids("ok") == rows


def test_a_second_question_leaves_out_what_the_endpoint_refuses(serve: Serve, tmp_path: Path):
    def script(received: Received) -> Play:
        if "response_format" in received.json:
            return gateway_error(400, "invalid_request")
        return completion(GOOD if is_repair(received) else "prose")

    server = serve(script)
    night = spend_night(tmp_path, server.base_url, ["r0", "r1"], schema=SCHEMA)
    assert night.store.ids("ok") == ["r0", "r1"]
    keys = [one.headers["idempotency-key"] for one in server.received[:3]]
    assert [key.rpartition("-")[2] for key in keys[1:]] == ["words", "repair"]
    assert len(server.received) == 5


def test_of_an_endpoint_that_keeps_to_the_schema_a_refusal_is_one(serve: Serve, tmp_path: Path):
    def script(received: Received) -> Play:
        return gateway_error(400, "INVALID_ARGUMENT") if received.text == "bad" else completion(GOOD)

    server = serve(script)
    spend_night(tmp_path, server.base_url, ["r0", "bad"], schema=SCHEMA)
    assert len(server.received) == 2


def test_one_odd_answer_of_an_endpoint_that_keeps_to_the_schema_changes_nothing(serve: Serve, tmp_path: Path):
    def script(received: Received) -> Play:
        is_odd = received.text == "r1" and not is_repair(received)
        return completion("I would rather not." if is_odd else GOOD)

    server = serve(script)
    spend_night(tmp_path, server.base_url, ["r0", "r1", "r2"], schema=SCHEMA)
    assert server.received[-1].text == "r2"


def test_twenty_rows_that_all_fail_by_the_schema_stop_the_night(serve: Serve, tmp_path: Path):
    server = serve(lambda received: completion("prose"))
    night = spend_night(tmp_path, server.base_url, [f"r{n}" for n in range(30)], schema=SCHEMA)
    assert night.code == 3
    assert len(server.received) == 40


def test_a_fallback_for_invalid_answers_is_asked_from_the_beginning(serve: Serve, tmp_path: Path):
    better = "gemini-2.5-flash"
    server = serve(lambda received: completion(GOOD if received.model == better else "prose"))
    night = spend_night(
        tmp_path, server.base_url, ["one"], schema=SCHEMA, fallbacks={"InvalidAnswer": better}
    )
    assert night.store.result("one")["status"] == "ok"
    assert [(one.model == better, is_repair(one)) for one in server.received] == [
        (False, False),
        (False, True),
        (True, False),
    ]


def test_rows_that_ask_the_same_share_the_value(serve: Serve, tmp_path: Path):
    server = serve(lambda received: completion(GOOD))
    rows = [{"id": name, "prompt": "same"} for name in ("one", "two")]
    night = spend_night(tmp_path, server.base_url, rows, schema=SCHEMA)
    assert len(server.received) == 1
    assert night.store.results["parsed"].to_list() == [VALUE, VALUE]


def test_the_schema_is_part_of_what_is_asked(serve: Serve, tmp_path: Path):
    server = serve(lambda received: completion(GOOD))
    for schema in (None, SCHEMA, SCHEMA, {**SCHEMA, "required": ["kind"]}):
        spend_night(tmp_path, server.base_url, ["one"], schema=schema)
    assert len(server.received) == 3


def test_runs_of_different_schemas_stay_readable_together(serve: Serve, tmp_path: Path):
    """Untyped, typed, typed otherwise: our readers, polars and DuckDB."""
    other = {"type": "object", "properties": {"weight_kg": {"type": "string"}}}
    answers = {"plain": "a cat", "typed": GOOD, "other": '{"weight_kg": "heavy"}'}
    server = serve(lambda received: completion(answers[received.text or ""]))
    for run_id, schema in (("r1", None), ("r2", SCHEMA), ("r3", other)):
        name = {"r1": "plain", "r2": "typed", "r3": "other"}[run_id]
        spend_night(tmp_path, server.base_url, [name], schema=schema, run_id=run_id)
    out = tmp_path / "out"
    assert latest_outcomes(scan(out, "results")).collect().height == 3
    for words in (["report"], ["show", "typed"], ["show", "other"], ["export", tmp_path / "a.csv"]):
        assert invoke(*words, "--out", out).code == 0
    assert invoke("reprocess", "--where", "status=ok", "--dry-run", "--out", out).code == 2
    everything = pl.scan_parquet(out / "results" / "**" / "*.parquet", extra_columns="ignore")
    assert everything.select("item_id").collect().height == 3
    of_one_run = pl.read_parquet(out / "results" / "date=*" / "run=r2" / "*.parquet")
    assert of_one_run["parsed"].to_list() == [VALUE]
    query = f"SELECT parsed.weight_kg * 2, len(parsed.spots) FROM '{out}/results/*/run=r2/*.parquet'"
    assert in_duckdb(query) == "[(9.0, 2)]"
    query = f"SELECT item_id, status FROM read_parquet('{out}/results/*/*/*.parquet', union_by_name=true)"
    assert in_duckdb(query + " ORDER BY 1") == "[('other', 'ok'), ('plain', 'ok'), ('typed', 'ok')]"


def test_what_failed_is_asked_again_under_its_schema(serve: Serve, tmp_path: Path):
    is_mended = {"yet": False}
    server = serve(lambda received: completion(GOOD if is_mended["yet"] else "prose"))
    write_manifest(tmp_path / "m.csv", ["one"])
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    at = ("--base-url", server.base_url, "--out", tmp_path / "out")
    assert invoke("run", tmp_path / "m.csv", *at, "--schema", tmp_path / "schema.json").code == 5
    is_mended["yet"] = True
    assert invoke("reprocess", "--where", "error_class=InvalidAnswer", "--out", tmp_path / "out").code == 0
    shown = invoke("show", "one", "--json", "--out", tmp_path / "out").json
    assert [one["status"] for one in shown["outcomes"]] == ["failed", "ok"]
    assert "response_format" in shown["outcomes"][-1]["curl"]
    assert shown["outcomes"][0]["request"]["schema"] == shown["outcomes"][1]["request"]["schema"]
    assert "response_format" in server.received[-1].json
    newest = max(
        (tmp_path / "out" / "results").glob("*/*/*.parquet"), key=lambda path: path.stat().st_mtime_ns
    )
    assert pl.read_parquet(newest)["parsed"].to_list() == [VALUE]


def test_a_run_does_not_go_on_under_another_schema(serve: Serve, tmp_path: Path):
    server = serve(lambda received: completion(GOOD))
    spend_night(tmp_path, server.base_url, ["one", "two"], schema=SCHEMA, run_id="r1", limit=1)
    manifest, out = tmp_path / "manifest.csv", tmp_path / "out"
    run_json = out / "runs" / "r1" / "run.json"
    run_json.write_text(run_json.read_text().replace('"state": "done"', '"state": "halted"'))
    done = invoke("run", manifest, "--base-url", server.base_url, "--out", out, "--run-id", "r1")
    assert done.code == 2
    assert "the schema" in done.stderr


@pytest.mark.parametrize("resume", ["resume", "run"])
def test_killed_before_the_second_answer_the_item_is_asked_again_and_the_first_stays_paid(
    serve: Serve, tmp_path: Path, resume: str
):
    is_dead = {"yet": False}

    def script(received: Received) -> Play:
        if is_dead["yet"]:
            return completion(GOOD)
        return HANG if is_repair(received) else completion("prose")

    server = serve(script)
    manifest, out = write_manifest(tmp_path / "m.csv", ["one"]), tmp_path / "out"
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    typed = ("--base-url", server.base_url, "--schema", str(tmp_path / "schema.json"))
    night = subprocess.Popen(
        [*COMMAND, "run", str(manifest), *typed, "--out", str(out)],
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server.wait_for(2)
    night.send_signal(signal.SIGKILL)
    night.wait()
    is_dead["yet"] = True
    words = ["resume"] if resume == "resume" else ["run", manifest, *typed]
    assert invoke(*words, "--out", out).code == 0
    store = Store(out)
    assert len(server.received[-1].json["messages"]) == 1
    assert {(one["attempt"], one["state"], one["error_class"]) for one in store.attempts_of("one")} == {
        (1, "billed", "InvalidAnswer"),
        (2, "possibly_billed", "Lost"),
        (3 if resume == "resume" else 1, "billed", None),
    }
    assert store.results["parsed"].drop_nulls().to_list() == [VALUE]
    assert store.costs["tokens"].sum() == 2 * 1100


def test_a_budget_counts_second_questions(serve: Serve, tmp_path: Path):
    server = serve(once(completion("prose")))
    budget = Decimal("0.0045")
    night = spend_night(tmp_path, server.base_url, ["one", "two", "three"], schema=SCHEMA, budget=budget)
    assert night.code == 4
    assert len(server.received) >= 2
    assert len(server.received) * PER_TRY == night.store.costs["cost"].sum() <= budget


def test_the_embedded_endpoint_keeps_to_a_schema(tmp_path: Path):
    manifest = write_manifest(tmp_path / "m.csv", ["one", "two"])
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    out = tmp_path / "out"
    done = invoke("run", manifest, "--embedded", "--schema", tmp_path / "schema.json", "--out", out)
    assert done.code == 0
    assert Store(out).results["parsed"].null_count() == 0


@pytest.mark.parametrize(
    ("fault", "tries"), [("ignored", 2), ("cut", 2), ("wrong-type", 2), ("fenced", 1), ("talkative", 1)]
)
def test_what_goes_wrong_under_a_schema_can_be_rehearsed(tmp_path: Path, fault: SchemaFault, tries: int):
    """One row after the other: of the second, an endpoint that ignores the schema is asked in words."""
    product = json.loads((ROOT / "data" / "schemas" / "product.json").read_text("utf-8"))

    async def night() -> None:
        async with serve_embedded(schema_fault=fault) as base_url:
            manifest = ROOT / "data" / "manifests" / "catalogue.csv"
            await launch(plan_for(manifest, base_url, tmp_path / "out", schema=product, limit=2), Secrets())

    anyio.run(night)
    results = Store(tmp_path / "out").results
    assert results["status"].to_list() == ["ok", "ok"]
    assert results["attempts"].to_list() == [tries, 1 if fault == "ignored" else tries]
    assert results["parsed"].null_count() == 0
