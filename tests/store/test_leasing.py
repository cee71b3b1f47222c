"""Of several machines, one runs a job: a lease in the bucket, against a real S3 server."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.errors import StoreError, StoreUnreachable
from pipeline.store.leasing import Lease, lease_of, leased, machine_of
from pipeline.store.places import InBucket, place_of
from tests.s3_server import S3Server, TestBucket, s3_server
from tests.serving.answers import Answer
from tests.serving.server import Play, Received

__all__ = ["s3_server"]


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TestBucket:
    for name, value in s3_server.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return s3_server.bucket(f"lease-{time.time_ns()}")


def store(bucket: TestBucket) -> InBucket:
    """The store, as a machine of its own sees it."""
    place = place_of(f"s3://{bucket.name}/nights")
    assert isinstance(place, InBucket)
    return place


def later(seconds: float) -> Callable[[], datetime]:
    return lambda: datetime.now(UTC) + timedelta(seconds=seconds)


def lease(bucket: TestBucket, run_id: str, machine: str, after_s: float = 0) -> Lease:
    return lease_of(store(bucket), "captions", run_id, machine, later(after_s))


def test_it_is_there_while_it_is_held_and_gone_afterwards(bucket: TestBucket):
    with leased(store(bucket), "日 captions", "r1", "here"):
        assert len(bucket.keys("nights/runs")) == 1
    assert bucket.keys() == []


def test_another_machine_is_refused_by_name(bucket: TestBucket):
    lease(bucket, "r1", "here").take()
    with pytest.raises(StoreError, match=r"job 'captions' is running already \(run r1 on .*, last heard of"):
        lease(bucket, "r2", "there").take()


def test_on_the_same_machine_the_dead_are_known_and_replaced_at_once(bucket: TestBucket):
    lease(bucket, "r1", "here").take()  # and then it was killed: its file lock is free
    again = lease(bucket, "r2", "here")
    again.take()
    assert again.held is not None


def test_who_was_not_heard_of_for_five_minutes_has_lost_it_and_writes_nothing_any_more(bucket: TestBucket):
    first = lease(bucket, "r1", "here")
    first.take()
    with pytest.raises(StoreError):
        lease(bucket, "r2", "there", after_s=290).take()
    second = lease(bucket, "r2", "there", after_s=310)
    second.take()
    first.renew()
    assert first.held is None
    with pytest.raises(StoreUnreachable, match="the job was taken over by run r2 on "):
        (first.place.parent / "r1" / "run.json").write_bytes(b"{}")
    second.renew()
    (second.place.parent / "r2" / "run.json").write_bytes(b"{}")
    first.give_back()
    assert bucket.keys("nights/runs") == ["nights/runs/.lock-captions", "nights/runs/r2/run.json"]


def test_who_renews_it_keeps_it(bucket: TestBucket):
    first = lease(bucket, "r1", "here")
    first.take()
    for _ in range(3):
        first.renew()
    assert first.held is not None
    with pytest.raises(StoreError):
        lease(bucket, "r2", "there").take()


def test_of_many_that_want_it_at_once_one_gets_it(bucket: TestBucket):
    def wanted(number: int) -> bool:
        try:
            lease(bucket, f"r{number}", f"machine-{number}").take()
        except StoreError:
            return False
        return True

    with ThreadPoolExecutor(12) as threads:
        assert sum(threads.map(wanted, range(12))) == 1


def test_of_many_that_want_to_take_it_over_one_gets_it(bucket: TestBucket):
    lease(bucket, "r0", "dead").take()

    def wanted(number: int) -> bool:
        try:
            one = lease(bucket, f"r{number}", f"machine-{number}", after_s=400)
            one.take()
        except StoreError:
            return False
        one.renew()
        return one.held is not None

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(wanted, range(12)))
    held = [wanted(0)]
    assert held == [True]


def test_where_the_bucket_knows_no_conditions_the_lock_holds_on_this_machine_alone(
    s3_server: S3Server, bucket: TestBucket, monkeypatch: pytest.MonkeyPatch
):
    def script(received: Received) -> Play | None:
        if "if-none-match" in received.headers:
            return Answer(501, b"<Error><Code>NotImplemented</Code></Error>")
        return None

    with s3_server.behind(script) as (simple, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", simple.url)
        with leased(store(bucket), "captions", "r1", "here"):
            assert bucket.keys() == []


def test_who_may_not_write_is_told_before_anything_is_sent(
    s3_server: S3Server, bucket: TestBucket, monkeypatch: pytest.MonkeyPatch
):
    def script(received: Received) -> Play | None:
        return Answer(403, b"<Error><Code>AccessDenied</Code></Error>") if received.method == "PUT" else None

    with s3_server.behind(script) as (read_only, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", read_only.url)
        with (
            pytest.raises(StoreError, match=r"cannot be locked, .*access is refused \(403, AccessDenied\)"),
            leased(store(bucket), "captions", "r1", "here"),
        ):
            pass


def test_a_machine_is_known_by_the_folder_of_its_locks(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert machine_of(tmp_path / "a") == machine_of(tmp_path / "a") != machine_of(tmp_path / "b")
