"""When an endpoint has shown that it answers nobody, and when it is only one odd item."""

from __future__ import annotations

import pytest

from pipeline.errors import (
    AccessDenied,
    AttemptError,
    BadInput,
    ChannelKeyRejected,
    ConnectFailed,
    CreditReserved,
    EmptyReply,
    HaltingError,
    KeyRejected,
    MediaUnreadable,
    NoChannel,
    OutOfCredit,
    Overloaded,
    TerminalError,
    TransientError,
    UpstreamFailed,
)
from pipeline.halting import AllAlike, FirstAnswers, HaltRules

M = "a-model"


def classes(root: type[AttemptError]) -> list[type[AttemptError]]:
    return root.__subclasses__()


def after_a_success() -> HaltRules:
    rules = HaltRules()
    rules.ok(M)
    return rules


@pytest.mark.parametrize("error", [*classes(HaltingError), ChannelKeyRejected, CreditReserved, NoChannel])
def test_with_no_success_yet_one_halting_answer_halts(error):
    assert HaltRules().halts_model(M, error("no"))


@pytest.mark.parametrize(
    "error",
    [*classes(TerminalError), *(kind for kind in classes(TransientError) if not kind.then_halts)],  # type: ignore[attr-defined]
)
def test_what_concerns_an_item_or_a_moment_never_halts_a_model(error):
    rules = HaltRules()
    assert not any(rules.halts_model(M, error("no")) for _ in range(50))


def test_after_a_success_the_fifth_item_in_a_row_halts():
    rules = after_a_success()
    assert [rules.halts_model(M, KeyRejected("no")) for _ in range(5)] == [False] * 4 + [True]


def test_what_was_in_flight_when_it_halted_is_caught_in_the_halt():
    """Even if one of those in flight was answered: no item fails because its model was halted."""
    rules = after_a_success()
    for _ in range(5):
        rules.halts_model(M, KeyRejected("no"))
    rules.ok(M)
    assert rules.halts_model(M, KeyRejected("no"))
    assert not rules.halts_model(M, BadInput("no"))


def test_the_five_may_be_of_different_halting_classes():
    rules = after_a_success()
    kinds = [KeyRejected, OutOfCredit, AccessDenied, NoChannel, KeyRejected]
    assert [rules.halts_model(M, kind("no")) for kind in kinds][-2:] == [False, True]


def test_a_success_begins_the_row_anew():
    rules = after_a_success()
    for _ in range(4):
        rules.halts_model(M, KeyRejected("no"))
    rules.ok(M)
    assert [rules.halts_model(M, KeyRejected("no")) for _ in range(5)] == [False] * 4 + [True]


def test_a_terminal_answer_begins_the_row_anew():
    """The endpoint looked at that item, so it still answers somebody."""
    rules = after_a_success()
    for _ in range(4):
        rules.halts_model(M, KeyRejected("no"))
    assert not rules.halts_model(M, BadInput("no"))
    assert [rules.halts_model(M, KeyRejected("no")) for _ in range(5)] == [False] * 4 + [True]


def test_a_model_is_judged_by_its_own_answers():
    rules = HaltRules()
    rules.ok("other")
    assert rules.halts_model(M, KeyRejected("no"))
    assert not rules.halts_model("other", KeyRejected("no"))


def test_the_first_twenty_answers_all_alike_halt_the_run():
    first = FirstAnswers()
    verdicts = [first.failed(BadInput(f"number {n}")) for n in range(1, 21)]
    assert verdicts[:19] == [None] * 19
    halt = verdicts[19]
    assert isinstance(halt, AllAlike)
    assert halt.error_class == "AllAlike"
    assert "the first 20 answers all failed as BadInput, the last with: number 20" in str(halt)


def test_it_halts_once():
    first = FirstAnswers()
    assert [first.failed(BadInput("no")) is not None for _ in range(60)].count(True) == 1


def test_two_classes_among_the_first_twenty_settle_it():
    first = FirstAnswers()
    first.failed(BadInput("no"))
    first.failed(MediaUnreadable("no"))
    assert not any(first.failed(BadInput("no")) for _ in range(60))


@pytest.mark.parametrize("before", [0, 1, 19])
def test_a_success_among_the_first_twenty_settles_it(before):
    first = FirstAnswers()
    assert not any(first.failed(BadInput("no")) for _ in range(before))
    first.ok()
    assert not any(first.failed(BadInput("no")) for _ in range(60))


@pytest.mark.parametrize("outage", [Overloaded, ConnectFailed])
def test_an_outage_is_no_verdict_on_the_items(outage):
    first = FirstAnswers()
    assert not any(first.failed(outage("no")) for _ in range(60))
    assert [first.failed(BadInput("no")) for _ in range(20)][-1] is not None


@pytest.mark.parametrize("kind", [EmptyReply, UpstreamFailed])
def test_what_is_terminal_after_its_tries_counts_as_terminal(kind):
    first = FirstAnswers()
    assert [first.failed(kind("no")) for _ in range(20)][-1] is not None
