"""A deadline by the clock on the wall, also in the nights when that clock jumps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest
from click.testing import CliRunner

from jobs.__main__ import cli
from jobs.night import Stop, seconds_until
from jobs.progress import Progress
from pipeline.run import Run
from tests.rehearsing import (
    Gathered,
    RowsAtHand,
    ScriptedWire,
    answer,
    endpoint,
    items,
    no_repeats,
    on_virtual_time,
)

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600.0


@pytest.mark.parametrize(
    ("now", "deadline", "hours"),
    [
        ("2026-03-05T22:00:00", "06:00", 8),
        ("2026-03-05T22:00:00", "22:30", 0.5),
        ("2026-03-05T00:00:00", "23:59", 23 + 59 / 60),
        ("2026-03-05T06:00:00", "06:00", 24),
        ("2026-03-05T06:00:30", "06:00", 24 - 30 / HOUR),
        ("2026-12-31T23:00:00", "00:00", 1),
        ("2026-02-28T23:30:00", "6:05", 6 + 35 / 60),
    ],
)
def test_it_is_the_next_time_the_clock_shows_it(now: str, deadline: str, hours: float):
    for zone in (ZoneInfo("UTC"), ZoneInfo("Asia/Shanghai")):
        then = datetime.fromisoformat(now).replace(tzinfo=zone)
        assert seconds_until(deadline, then) == pytest.approx(hours * HOUR)


def test_in_the_night_the_clock_goes_forward_there_is_an_hour_less():
    """2026-03-29: at 02:00 it is 03:00 in Berlin."""
    evening = datetime(2026, 3, 28, 22, 0, tzinfo=BERLIN)
    assert seconds_until("06:00", evening) == 7 * HOUR


def test_in_the_night_the_clock_goes_back_there_is_an_hour_more():
    """2026-10-25: at 03:00 it is 02:00 in Berlin."""
    evening = datetime(2026, 10, 24, 22, 0, tzinfo=BERLIN)
    assert seconds_until("06:00", evening) == 9 * HOUR


def test_a_time_that_the_clock_skips_comes_all_the_same():
    """02:30 does not exist in that night; it is taken for 03:30 summer time."""
    evening = datetime(2026, 3, 28, 22, 0, tzinfo=BERLIN)
    assert seconds_until("02:30", evening) == 4.5 * HOUR


@pytest.mark.parametrize("fold", [0, 1])
def test_a_time_that_comes_twice_is_ahead_of_now(fold: int):
    """At 02:45, for the first and for the second time that night, 02:30 is another day."""
    now = datetime(2026, 10, 25, 2, 45, tzinfo=BERLIN, fold=fold)
    assert 0 < seconds_until("02:30", now) <= 25 * HOUR


@pytest.mark.parametrize("wrong", ["6", "24:00", "06:60", "6 am", "", "-1:00", "06:00:00", "６:００x"])
@pytest.mark.parametrize("command", ["run", "resume"])
def test_a_deadline_that_is_no_time_of_day_is_a_mistake(command: str, wrong: str):
    words = {"run": ["run", "m.csv", "--embedded"], "resume": ["resume", "r1"]}[command]
    result = CliRunner().invoke(cli, [*words, "--deadline", wrong])
    assert result.exit_code == 2
    assert f"--deadline {wrong!r}: a time of day as HH:MM, for instance 06:00" in result.stderr


async def night_until(deadline: str, answer_s: float, grace_s: float) -> tuple[Run, Gathered, float]:
    """A night that would take 4 days; how long after the deadline it did. The night's clock is virtual; only
    how far off the deadline is comes from the one on the wall."""

    async def script(asked: Any) -> Any:
        await anyio.sleep(answer_s)
        return answer()

    gathered = Gathered()
    run = Run(RowsAtHand(items(200)), endpoint(ScriptedWire(script)), gathered, no_repeats())
    at_once = anyio.CancelScope()
    wait_s = seconds_until(deadline, datetime.now(UTC))
    async with anyio.create_task_group() as tasks:
        stop = Stop(run, Progress(is_wanted=False), at_once, grace_s)
        tasks.start_soon(stop.at, deadline, ZoneInfo("UTC"))
        with at_once:
            await run.execute()
        tasks.cancel_scope.cancel()
    return run, gathered, anyio.current_time() - wait_s


def half_an_hour_ago() -> str:
    """A deadline that comes in 23 hours and a half, whenever the test runs."""
    then = datetime.now(UTC).timestamp() - 1800
    return f"{datetime.fromtimestamp(then, UTC):%H:%M}"


@on_virtual_time
async def test_a_deadline_stops_the_night_and_waits_for_what_is_in_flight():
    run, gathered, late_s = await night_until(half_an_hour_ago(), answer_s=7_200, grace_s=10_000)
    assert run.state == "deadline"
    assert -1 <= late_s <= 7200
    answered = [attempt for _, attempt in gathered.attempts]
    assert len(answered) == len(gathered.sent_rows) > 40


@on_virtual_time
async def test_after_the_grace_a_deadline_waits_no_longer():
    run, gathered, late_s = await night_until(half_an_hour_ago(), answer_s=7_200, grace_s=30)
    assert run.state == "deadline"
    assert 29 <= late_s <= 31
    assert len(gathered.sent_rows) - len(gathered.attempts) == 4
