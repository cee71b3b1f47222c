"""Sessions of a run on a store: one at a time, none forgotten, and every row once over all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import polars as pl
import pytest

from pipeline.errors import RunFinished, StoreError, StoreUnwritable, UsageError
from pipeline.launch import launch
from pipeline.manifest import open_manifest
from pipeline.plan import EndpointPlan, Plan, Secrets
from pipeline.pricing import BookIdentity, ListPrices
from pipeline.retry import RetryRules
from pipeline.run import Run, Summary, only_one
from pipeline.session import Session, settle_job
from pipeline.store.locking import job_lock
from pipeline.store.reader import run_facts
from pipeline.store.writer import RunWriter
from pipeline.surroundings import THE_REAL_ONES, Surroundings
from pipeline.transport import Transport, WireSettings
from tests.rehearsing import (
    START,
    Asked,
    FlatPrices,
    Script,
    ScriptedWire,
    answer,
    in_turn,
    on_virtual_time,
    refusal,
    virtual_now,
)
from tests.rehearsing import inline as on_the_loop


class Bug(Exception):
    """Leaves a run as a kill does: nothing is finished, and what was under way stays so."""


class NoRoomForRest(RunWriter):
    """A store that takes parts, and then no rows at rest."""

    def _write(self, path: Path, content: bytes) -> None:
        if "rest" in path.parts:
            raise StoreUnwritable(path, "No space left on device")
        super()._write(path, content)


class NamedPrices(FlatPrices):
    def identity(self) -> BookIdentity:
        return ListPrices().identity()


@dataclass
class Evening:
    """A store and a manifest, and runs over them on virtual time."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def rows(self, *prompts: str) -> None:
        lines = [f"{place},{prompt}" for place, prompt in enumerate(prompts, 1)]
        (self.folder / "m.csv").write_text("\n".join(["id,prompt", *lines]) + "\n", "utf-8")

    def plan(self, run_id: str = "r1", **changes: Any) -> Plan:
        one = {"base_url": "http://endpoint.example/v1", "dialect": "newapi", "slots": 2}
        for name in one.keys() & changes.keys():
            one[name] = changes.pop(name)
        plan = Plan(
            run_id=run_id,
            job="default",
            manifest=str(self.folder / "m.csv"),
            out=self.out,
            endpoints=(EndpointPlan(**one),),
            model="a-model",
            prompt="What is it?",
            parameters={"max_tokens": 9},
            started_at=START,
            timezone=ZoneInfo("UTC"),
            retry=RetryRules(max_attempts=2),
        )
        return replace(plan, **changes)

    async def night(
        self,
        script: Script,
        run_id: str = "r1",
        on_start: Callable[[Run], None] | None = None,
        writer: type[RunWriter] = RunWriter,
        **changes: Any,
    ) -> tuple[Summary, ScriptedWire, list[str]]:
        """One session; how it ended, what was asked, and what it told at its start."""
        wire, told = ScriptedWire(script), list[str]()

        @asynccontextmanager
        async def reach(settings: WireSettings) -> AsyncIterator[Transport]:
            yield Transport(settings, wire)

        def started(run: Run, tally: Any, notes: Any) -> None:
            told.extend(notes)
            if on_start is not None:
                on_start(run)

        world = Surroundings(
            off_loop=on_the_loop,
            own_thread=lambda: nullcontext(on_the_loop),
            reach=reach,
            price_book=NamedPrices,
            now=virtual_now,
            run_writer=writer,
            part_items=4,
        )
        plan = self.plan(run_id, **changes)
        summary = await launch(plan, Secrets(), on_start=started, world=world)
        return summary, wire, told

    async def stopped(self, at: str, **changes: Any) -> Summary:
        """A session that is interrupted while this prompt is asked, one at a time."""
        runs: list[Run] = []

        async def script(asked: Asked) -> Any:
            if asked.prompt == at:
                runs[0].stop("interrupted")
            return answer()

        summary, _, _ = await self.night(script, on_start=runs.append, slots=1, **changes)
        assert summary.state == "interrupted"
        return summary

    async def killed(self, script: Script, run_id: str = "r1", **changes: Any) -> None:
        with pytest.raises(BaseException) as caught:  # noqa: PT011 # it comes in a group
            await self.night(script, run_id, **changes)
        assert isinstance(only_one(caught.value), Bug)

    def frame(self, dataset: str, run_id: str = "r1") -> pl.DataFrame:
        files = sorted((self.out / dataset).glob(f"date=*/run={run_id}/*.parquet"))
        return pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files]) if files else (
            pl.DataFrame(schema={"row": pl.Int64, "status": pl.String, "item_id": pl.String})
        )  # fmt: skip

    def by_row(self, run_id: str = "r1") -> dict[int, str]:
        """row → status, over results and rest together; each row stands there once."""
        both = [
            *self.frame("results", run_id).select("row", "status").rows(),
            *self.frame("rest", run_id).select("row", "status").rows(),
        ]
        assert len({row for row, _ in both}) == len(both), sorted(both)
        return dict(sorted(both))


@pytest.fixture
def evening(tmp_path: Path) -> Evening:
    made = Evening(tmp_path)
    made.rows(*(f"p{row}" for row in range(1, 13)))
    return made


def dying_at(prompt: str) -> Script:
    async def script(asked: Asked) -> Any:
        if asked.prompt == prompt:
            await anyio.sleep(1)
            raise Bug
        await anyio.sleep(0.1)
        return answer()

    return script


def halting_at(*prompts: str) -> Script:
    """No credit for these; everything else is answered."""

    async def script(asked: Asked) -> Any:
        await anyio.sleep(0.1)
        return refusal(402) if asked.prompt in prompts else answer()

    return script


WELL = in_turn(answer)


# One at a time


@contextmanager
def running(evening: Evening, job: str = "default") -> Iterator[None]:
    with job_lock(evening.out, job, "r0"):
        yield


@on_virtual_time
async def test_a_second_run_of_the_job_is_refused_with_a_sentence(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("a")
    with running(evening), pytest.raises(StoreError) as caught:
        await evening.night(WELL)
    assert str(caught.value).startswith(
        f"--out {evening.out}: job 'default' is running already (run r0, process "
    )
    assert str(caught.value).endswith("wait for it, or give this one another --job or --out")
    assert not (evening.out / "runs" / "r1").exists()


@on_virtual_time
async def test_a_run_of_another_job_goes_on_beside_it(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("a")
    with running(evening, "captions"):
        summary, _, _ = await evening.night(WELL)
    assert summary.state == "done"


@on_virtual_time
async def test_a_lock_file_whose_holder_died_locks_nobody_out(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("a")
    lock = evening.out / "runs" / ".lock-default"
    lock.parent.mkdir(parents=True)
    lock.write_text("run r0, process 4711")
    summary, _, _ = await evening.night(WELL)
    assert summary.state == "done"


@on_virtual_time
async def test_the_lock_is_given_back_however_a_session_ends(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("a", "b", "c", "d")
    await evening.killed(dying_at("b"))
    with pytest.raises(UsageError):
        await evening.night(WELL, model="b-model")
    with running(evening):
        pass


# Going on


@on_virtual_time
async def test_after_a_kill_only_what_had_no_answer_is_asked_again(tmp_path: Path):
    """Two at a time: p1 to p5 are answered while p6 is under way; then the process ends."""
    evening = Evening(tmp_path)
    evening.rows(*(f"p{row}" for row in range(1, 13)))
    await evening.killed(dying_at("p6"))
    assert run_facts(evening.out, "r1")["state"] == "running"
    ended = set(evening.frame("results")["item_id"])
    summary, wire, told = await evening.night(WELL)
    asked = {asked.prompt for asked in wire.asked}
    assert asked == {f"p{row}" for row in range(1, 13)} - {f"p{name}" for name in ended}
    assert "p6" in asked
    assert evening.by_row() == dict.fromkeys(range(1, 13), "ok")
    assert (summary.state, summary.tally.ok) == ("done", 12)
    lost = evening.frame("attempts").filter(error_class="Lost")
    assert told == [
        f"{lost.height} attempts were under way when this run ended last; they are listed as possibly "
        "billed, and their items are asked again"
    ]
    assert "6" in lost["item_id"].to_list()
    assert summary.tally.possibly_billed == lost.height


@on_virtual_time
async def test_the_first_try_of_what_was_lost_counts_and_may_have_cost_what_others_did(tmp_path: Path):
    """10 in at $1/M and 5 out at $2/M are $0.00002 a reply."""
    evening = Evening(tmp_path)
    evening.rows(*(f"p{row}" for row in range(1, 13)))
    await evening.killed(dying_at("p6"))
    await evening.night(WELL)
    tries = evening.frame("attempts").filter(item_id="6").sort("attempt")
    assert tries.select("attempt", "state", "error_class").rows() == [
        (1, "possibly_billed", "Lost"),
        (2, "billed", None),
    ]
    assert [f"{cost:f}" for cost in tries["possible_cost"].drop_nulls()] == ["0.000020000000"]
    (six,) = evening.frame("results").filter(item_id="6").to_dicts()
    assert (six["attempts"], f"{six['cost']:f}") == (2, "0.000020000000")


@on_virtual_time
async def test_every_row_stands_once_in_results_or_rest_after_every_session(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows(*(f"p{row}" for row in range(1, 13)), "p1", "p9")
    summary, _, _ = await evening.night(halting_at("p1", "p2"), slots=1)
    assert summary.state == "halted"
    assert evening.by_row() == dict.fromkeys(range(1, 15), "not_attempted")
    await evening.stopped("p6")
    found = evening.by_row()
    assert {row: found[row] for row in (1, 6, 7, 12, 13, 14)} == {
        1: "ok",
        6: "ok",
        7: "not_attempted",
        12: "not_attempted",
        13: "ok",
        14: "not_attempted",
    }
    summary, wire, _ = await evening.night(WELL, slots=1)
    assert summary.state == "done"
    assert sorted(asked.prompt for asked in wire.asked) == sorted(f"p{row}" for row in range(7, 13))
    assert evening.by_row() == dict.fromkeys(range(1, 15), "ok")
    assert summary.tally.totals() == run_facts(evening.out, "r1")["totals"]
    assert (summary.tally.ok, summary.tally.duplicates, summary.tally.ended) == (14, 2, 14)
    assert not (evening.out / "rest" / "date=2026-03-05" / "run=r1" / "rest.parquet").exists()


@on_virtual_time
async def test_a_duplicate_shares_an_answer_of_an_earlier_session(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("same", "p2", "p3", "same")
    await evening.stopped("same")
    summary, wire, _ = await evening.night(WELL, slots=1)
    assert sorted(asked.prompt for asked in wire.asked) == ["p2", "p3"]
    (shared,) = evening.frame("results").filter(row=4).to_dicts()
    assert (shared["status"], shared["duplicate_of"], shared["attempts"]) == ("ok", "1", 0)
    assert (summary.tally.ok, summary.tally.duplicates) == (4, 1)


@on_virtual_time
async def test_a_finished_runs_ledger_is_gone_and_an_unfinished_ones_is_kept(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("p1", "p2")
    await evening.night(halting_at("p1", "p2"))
    ledger = evening.plan().ledger_path
    assert ledger.exists()
    await evening.night(WELL)
    assert [path.name for path in ledger.parent.iterdir()] == ["run.json"]


@on_virtual_time
async def test_the_ledger_lies_where_it_was_told_to_in_every_session(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("p1", "p2", "p3")
    elsewhere = tmp_path / "elsewhere"
    await evening.stopped("p2", state_dir=elsewhere)
    assert (elsewhere / "r1.ledger").exists()
    _, wire, _ = await evening.night(WELL)
    assert [asked.prompt for asked in wire.asked] == ["p3"]
    assert list(elsewhere.iterdir()) == []


@on_virtual_time
async def test_a_run_that_goes_on_keeps_its_day_and_its_start(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("p1", "p2")
    await evening.night(halting_at("p1", "p2"))
    later = datetime(2026, 3, 7, 1, 0, tzinfo=START.tzinfo)
    summary, _, _ = await evening.night(WELL, started_at=later, timezone=ZoneInfo("Asia/Shanghai"))
    assert summary.started_at == START
    assert [path.name for path in (evening.out / "results").iterdir()] == ["date=2026-03-05"]
    assert run_facts(evening.out, "r1")["started_at"] == "2026-03-05T22:00:00Z"


@on_virtual_time
async def test_idempotency_keys_are_those_of_the_earlier_session(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("p1", "p2")
    _, first, _ = await evening.night(in_turn(lambda: refusal(402)), slots=1)
    _, again, _ = await evening.night(WELL, slots=1)
    _, other, _ = await evening.night(WELL, "r2", again=True, slots=1)
    keys = [
        {asked.prompt: asked.headers["idempotency-key"] for asked in wire.asked}
        for wire in (first, again, other)
    ]
    assert keys[0]["p1"] == keys[1]["p1"]
    assert keys[1]["p1"] != keys[1]["p2"]
    assert not set(keys[1].values()) & set(keys[2].values())


@on_virtual_time
async def test_a_run_of_the_same_name_in_another_store_has_idempotency_keys_of_its_own(tmp_path: Path):
    """Else an endpoint that knows them would answer the rows of one job with the answers of another."""
    keys = []
    for name, second in (("captions", 0), ("transcripts", 1)):
        (tmp_path / name).mkdir()
        evening = Evening(tmp_path / name)
        evening.rows(f"{name} 1", f"{name} 2")
        _, wire, _ = await evening.night(WELL, started_at=START + timedelta(seconds=second))
        keys.append({asked.headers["idempotency-key"] for asked in wire.asked})
    assert [len(some) for some in keys] == [2, 2]
    assert not keys[0] & keys[1]


# Refused


@on_virtual_time
async def test_a_finished_run_is_refused_as_finished(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("p1")
    await evening.night(WELL)
    before = (evening.out / "runs" / "r1" / "run.json").read_bytes()
    with pytest.raises(RunFinished, match="run r1 is finished: there is nothing to go on with"):
        await evening.night(WELL)
    assert (evening.out / "runs" / "r1" / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "b-model"}, "the model ('a-model' → 'b-model')"),
        ({"prompt": "Why?"}, "the prompt ('What is it?' → 'Why?')"),
        ({"parameters": {"max_tokens": 10}}, "the parameters ({'max_tokens': 9} → {'max_tokens': 10})"),
        (
            {"base_url": "http://other.example/v1"},
            "the endpoints ('http://endpoint.example/v1' → 'http://other",
        ),
        ({"base_url": None}, "the endpoints ('http://endpoint.example/v1' → 'embedded')"),
        ({"dialect": "openai"}, "the endpoints ("),
        ({"job": "captions"}, "the job ('default' → 'captions')"),
        ({"model": "b-model", "prompt": "Why?"}, "the model ('a-model' → 'b-model'), the prompt ("),
    ],
)
@on_virtual_time
async def test_a_run_that_would_ask_something_else_is_refused_and_told_what(tmp_path, changes, sentence):
    evening = Evening(tmp_path)
    evening.rows("p1", "p2")
    await evening.night(halting_at("p1", "p2"))
    with pytest.raises(UsageError) as caught:
        await evening.night(WELL, **changes)
    assert f"run r1 cannot go on, because this would change {sentence}" in str(caught.value)
    assert str(caught.value).endswith("start a new run, which skips what was answered")


@on_virtual_time
async def test_a_long_prompt_is_told_shortly(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("p1", "p2")
    await evening.night(halting_at("p1", "p2"), prompt="a " * 1000)
    with pytest.raises(UsageError) as caught:
        await evening.night(WELL, prompt="b " * 1000)
    assert len(str(caught.value)) < 300


@on_virtual_time
async def test_a_changed_manifest_is_refused(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("p1", "p2")
    await evening.night(halting_at("p1", "p2"))
    evening.rows("p1", "p2", "p3")
    with pytest.raises(UsageError) as caught:
        await evening.night(WELL)
    assert str(caught.value) == (
        f"run r1 cannot go on, because the manifest {tmp_path / 'm.csv'} has changed since; start a new run, "
        "which skips what was answered"
    )


@on_virtual_time
async def test_how_fast_and_how_patiently_it_goes_on_may_change(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("p1", "p2")
    await evening.night(halting_at("p1", "p2"))
    summary, _, _ = await evening.night(
        WELL, slots=9, retry=RetryRules(max_attempts=7), max_failed=0.5, header_names=("X-Team",)
    )
    assert summary.state == "done"
    told = run_facts(evening.out, "r1")["plan"]
    assert (told["endpoints"][0]["slots"], told["max_attempts"], told["max_failed"]) == (9, 7, 0.5)


# What other runs left behind


@on_virtual_time
async def test_a_new_run_settles_what_another_left_and_asks_only_the_rest(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows(*(f"p{row}" for row in range(1, 13)))
    await evening.killed(dying_at("p6"))
    summary, wire, told = await evening.night(WELL, "r2")
    left = evening.by_row("r1")
    assert set(left) == set(range(1, 13))
    answered = {row for row, status in left.items() if status == "ok"}
    assert answered >= {1, 2, 3, 4, 5}
    lost = evening.frame("attempts").filter(error_class="Lost")["item_id"].to_list()
    assert "6" in lost
    assert told == [
        f"run r1 had been left unfinished: {len(answered)} of its outcomes are in the store; {len(lost)} "
        "attempts were under way, and are listed as possibly billed"
    ]
    facts = run_facts(evening.out, "r1")
    assert facts["state"] == "interrupted"
    assert facts["totals"]["ok"] == len(answered)
    assert facts["totals"]["not_attempted"] == 12 - len(answered)
    # Nothing that was paid is asked again.
    assert {int(asked.prompt[1:]) for asked in wire.asked} == set(range(1, 13)) - answered
    assert (summary.tally.skipped, summary.tally.ok) == (len(answered), 12 - len(answered))
    skipped = evening.frame("rest", "r2")
    assert set(skipped["answered_by_run_id"]) == {"r1"}


@on_virtual_time
async def test_a_run_that_was_settled_is_not_settled_again_and_can_go_on(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows(*(f"p{row}" for row in range(1, 13)))
    await evening.killed(dying_at("p6"))
    await evening.night(halting_at(*(f"p{row}" for row in range(1, 13))), "r2")
    _, _, told = await evening.night(halting_at(*(f"p{row}" for row in range(1, 13))), "r3")
    assert not [note for note in told if "r1" in note]
    summary, _, _ = await evening.night(WELL, "r1")
    assert summary.state == "done"
    assert evening.by_row("r1") == dict.fromkeys(range(1, 13), "ok")


@on_virtual_time
async def test_what_a_run_left_of_another_job_is_left_alone(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows(*(f"p{row}" for row in range(1, 13)))
    await evening.killed(dying_at("p6"))
    _, wire, told = await evening.night(WELL, "r2", job="captions")
    assert told == []
    assert len(wire.asked) == 12
    assert run_facts(evening.out, "r1")["state"] == "running"


@on_virtual_time
async def test_settling_what_is_left_counts_duplicates_of_an_earlier_session_once(tmp_path: Path):
    """The first session shares p1 with row 13 and stops; the second dies; then another run settles."""
    evening = Evening(tmp_path)
    evening.rows(*(f"p{row}" for row in range(1, 13)), "p1")
    await evening.stopped("p3")
    assert evening.by_row()[13] == "ok"
    await evening.killed(dying_at("p6"))
    await evening.night(WELL, "r2")
    assert set(evening.by_row("r1")) == set(range(1, 14))
    assert evening.by_row("r1")[13] in ("ok", "not_attempted")


@on_virtual_time
async def test_what_a_run_left_of_a_manifest_that_changed_is_settled_too(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows(*(f"p{row}" for row in range(1, 13)))
    await evening.killed(dying_at("p6"))
    evening.rows(*(f"p{row}" for row in range(1, 20)))
    summary, wire, _ = await evening.night(WELL, "r2")
    answered = evening.frame("results", "r1").height
    assert answered >= 5
    assert len(wire.asked) == 19 - answered
    assert summary.tally.skipped == answered


@on_virtual_time
async def test_settling_the_job_alone_is_what_opening_a_session_does(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows(*(f"p{row}" for row in range(1, 13)))
    await evening.killed(dying_at("p6"))
    (note,) = settle_job(evening.plan("r2"))
    assert note.startswith("run r1 had been left unfinished")
    assert settle_job(evening.plan("r2")) == []
    with running(evening), pytest.raises(StoreError, match="is running already"):
        settle_job(evening.plan("r2"))


# Increments


@on_virtual_time
async def test_what_was_answered_is_skipped_and_what_failed_is_asked_again(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("p1", "p2", "p3")

    async def script(asked: Asked) -> Any:
        return refusal(400) if asked.prompt == "p2" else answer()

    await evening.night(script)
    summary, wire, _ = await evening.night(WELL, "r2")
    assert [asked.prompt for asked in wire.asked] == ["p2"]
    assert evening.frame("rest", "r2").select("row", "status", "answered_by_run_id").sort("row").rows() == [
        (1, "skipped", "r1"),
        (3, "skipped", "r1"),
    ]
    assert (summary.tally.ok, summary.tally.skipped) == (1, 2)
    _, wire, _ = await evening.night(WELL, "r3")
    assert wire.asked == []
    by = dict(evening.frame("rest", "r3").select("row", "answered_by_run_id").rows())
    assert by == {1: "r1", 2: "r2", 3: "r1"}


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({}, 0),
        ({"again": True}, 3),
        ({"job": "captions"}, 3),
        ({"model": "b-model"}, 3),
        ({"parameters": {"max_tokens": 10}}, 3),
        ({"prompt": "not of these rows"}, 0),
        ({"base_url": "http://other.example/v1"}, 0),
        ({"dialect": "openai"}, 0),
    ],
)
@on_virtual_time
async def test_another_request_or_another_job_is_asked_and_another_endpoint_is_not(tmp_path, changes, asked):
    evening = Evening(tmp_path)
    evening.rows("p1", "p2", "p3")
    await evening.night(WELL)
    _, wire, _ = await evening.night(WELL, "r2", **changes)
    assert len(wire.asked) == asked


@on_virtual_time
async def test_a_limit_asks_new_rows_when_it_is_raised(tmp_path: Path):
    evening = Evening(tmp_path)
    evening.rows("p1", "p2", "p3")
    summary, _, _ = await evening.night(WELL, limit=1)
    assert summary.state == "done"
    _, wire, _ = await evening.night(WELL, "r2")
    assert sorted(asked.prompt for asked in wire.asked) == ["p2", "p3"]


# Finishing


@on_virtual_time
async def test_a_session_whose_finish_fails_halfway_is_settled_by_the_next_run(tmp_path: Path):
    """The parts stand, the rows at rest do not: unfinished business, whoever looks at it next."""
    evening = Evening(tmp_path)
    evening.rows("p1", "p2", "p3")
    summary = await evening.stopped("p2", writer=NoRoomForRest)
    facts = run_facts(evening.out, "r1")
    assert "finished_at" not in facts
    assert "cannot write" in facts["halts"][-1]["message"]
    assert summary.halts
    assert evening.by_row() == {1: "ok", 2: "ok"}

    _, wire, told = await evening.night(WELL, "r2")
    assert [asked.prompt for asked in wire.asked] == ["p3"]
    assert "2 of its outcomes are in the store" in told[0]
    assert evening.by_row() == {1: "ok", 2: "ok", 3: "not_attempted"}


# Opening


def test_a_session_that_cannot_be_opened_leaves_the_lock_free(evening: Evening):
    plan = evening.plan()
    (evening.out / "runs").mkdir(parents=True)
    (evening.out / "runs" / "r1").write_text("a file in the way")
    manifest = open_manifest(plan.manifest)
    with pytest.raises(StoreError):
        Session.open(plan, manifest, (ListPrices().identity(),), THE_REAL_ONES)
    with running(evening):
        pass
