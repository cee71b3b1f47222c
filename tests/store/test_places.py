"""A place in a bucket does for the store what a folder does."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.errors import StoreError, StoreUnwritable, UsageError
from pipeline.sealing import fingerprint
from pipeline.store.places import InBucket, Place, below, found, on_disk, place_of, rename, write_whole
from tests.s3_server import S3Server, s3_server

__all__ = ["s3_server"]


@pytest.fixture(params=["folder", "bucket", "bucket without a prefix"])
def store(
    request: pytest.FixtureRequest, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Place:
    if request.param == "folder":
        return tmp_path / "out"
    for name, value in s3_server.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    name = f"places-{time.time_ns()}"
    s3_server.bucket(name)
    return place_of(f"s3://{name}/some/where" if request.param == "bucket" else f"s3://{name}")


def test_what_is_written_is_read_listed_renamed_and_removed(store: Place):
    assert not (store / "runs").is_dir()
    for name in ("夜-2", "r 1", "r+1"):
        write_whole(store / "runs" / name / "run.json", name.encode())
    write_whole(store / "runs" / "r 1" / "deep" / "er" / "run.json", b"")
    assert (store / "runs").is_dir()
    assert (store / "runs" / "夜-2" / "run.json").is_file()
    assert not (store / "runs" / "r9" / "run.json").is_file()
    there = found(store / "runs", "*/run.json")
    assert [below(one, store) for one in there] == [
        "runs/r 1/run.json",
        "runs/r+1/run.json",
        "runs/夜-2/run.json",
    ]
    assert [one.read_bytes().decode() for one in there] == ["r 1", "r+1", "夜-2"]
    rename(there[0], "other.json")
    assert [one.parent.name for one in found(store / "runs", "*/other.json")] == ["r 1"]
    there[1].unlink()
    there[1].unlink(missing_ok=True)
    assert len(found(store / "runs", "*/run.json")) == 1
    with pytest.raises(FileNotFoundError):
        (store / "runs" / "r+1" / "run.json").read_bytes()


def test_what_is_written_anew_is_read_anew(store: Place):
    for content in (b"one", b"two", b"three"):
        write_whole(store / "part.parquet", content)
        assert (store / "part.parquet").read_bytes() == content
        assert on_disk(store / "part.parquet").read_bytes() == content


def test_the_copy_on_disk_keeps_the_path_keys_and_the_ending(store: Place):
    write_whole(store / "results" / "date=2026-03-05" / "run=r1" / "part-0000000001.parquet", b"x")
    (part,) = found(store / "results", "date=*/run=*/*.parquet")
    copy = on_disk(part)
    assert copy.parts[-3:-1] == ("date=2026-03-05", "run=r1")
    assert copy.suffix == ".parquet"


def test_a_copy_that_is_damaged_is_found_by_reading_back_what_was_written(store: Place):
    write_whole(store / "part.parquet", b"whole")
    if isinstance(store, InBucket):
        on_disk(store / "part.parquet").write_bytes(b"wrong")
        assert fingerprint(store / "part.parquet") != fingerprint(store / "part.parquet", anew=True)
    write_whole(store / "part.parquet", b"whole")
    assert fingerprint(store / "part.parquet", anew=True) == fingerprint(store / "part.parquet")


def test_a_copy_that_a_power_cut_left_empty_is_fetched_again(s3_server: S3Server, store: Place):
    write_whole(store / "a.json", b"content")
    if isinstance(store, InBucket):
        on_disk(store / "a.json").write_bytes(b"")
    assert (store / "a.json").read_bytes() == b"content"


@pytest.mark.parametrize(
    "address", ["s3://", "s3:///folder", "s3://b/a/../c", "gs://b/a//c", "az://b/a?sig=1"]
)
def test_an_address_that_is_none_is_a_sentence(address: str):
    with pytest.raises(UsageError) as caught:
        place_of(address)
    assert "sig=1" not in str(caught.value)


def test_a_folder_that_takes_no_writes_is_told(tmp_path: Path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StoreUnwritable):
        write_whole(tmp_path / "out" / "a.json", b"")


def test_a_bucket_that_never_answered_is_a_mistake_in_the_command(
    monkeypatch: pytest.MonkeyPatch, s3_server: S3Server, tmp_path: Path
):
    for name, value in s3_server.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match="s3://nobody-made-it/x: there is no such bucket"):
        (place_of("s3://nobody-made-it/x") / "runs").is_dir()
