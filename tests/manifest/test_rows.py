"""What a row means, whatever the format it came in."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import RowError
from pipeline.media.kinds import MAX_INLINE_BYTES
from pipeline.records import BadRow, Item, Media
from tests.manifest.manifests import URL, ids, item, problem, read, records


def media(record: Item) -> list[tuple[str, str]]:
    return [(m.modality, m.url) for m in record.request.media]


# --- media ---


def test_media_stand_in_the_order_image_audio_video(tmp_path: Path) -> None:
    row = item(
        tmp_path,
        video_url="https://h.example/v",
        audio_url="https://h.example/a",
        image_url="https://h.example/i",
    )
    assert media(row) == [
        ("image", "https://h.example/i"),
        ("audio", "https://h.example/a"),
        ("video", "https://h.example/v"),
    ]


def test_a_list_and_a_json_array_in_a_text_are_several_media(tmp_path: Path) -> None:
    both = ["https://h.example/1", "https://h.example/2"]
    assert media(item(tmp_path, image_url=both)) == [("image", url) for url in both]
    assert media(item(tmp_path, image_url='["https://h.example/1", null, "", " https://h.example/2 "]')) == [
        ("image", url) for url in both
    ]


def test_wide_and_long_columns_of_one_row_add_up_in_order(tmp_path: Path) -> None:
    row = item(
        tmp_path, video_url="https://h.example/v", url=["https://h.example/a.mp3", "https://h.example/p.pdf"]
    )
    assert [modality for modality, _ in media(row)] == ["audio", "video", "document"]


def test_the_long_form_infers_the_modality_from_extension_or_mime_type(tmp_path: Path) -> None:
    assert media(item(tmp_path, url="https://h.example/A.MP4?x=.jpg"))[0][0] == "video"
    assert media(item(tmp_path, url="data:audio/wav;base64,AAAA"))[0][0] == "audio"


def test_an_explicit_modality_wins(tmp_path: Path) -> None:
    assert media(item(tmp_path, url=URL, modality=" Video "))[0][0] == "video"


def test_a_modality_that_nothing_tells_is_a_bad_row_with_a_way_out(tmp_path: Path) -> None:
    assert "add a modality column" in problem(tmp_path, url="https://h.example/a")
    assert problem(tmp_path, url=URL, modality="smell") == (
        "row 1, column 'modality': is 'smell'; it must be image, audio, video or document"
    )


def test_a_list_of_modalities_must_match_the_urls(tmp_path: Path) -> None:
    urls = ["https://h.example/1", "https://h.example/2"]
    assert [m for m, _ in media(item(tmp_path, url=urls, modality=["video", "image"]))] == ["image", "video"]
    assert "names 3 modalities, but the row has 2" in problem(tmp_path, url=urls, modality=["image"] * 3)


def test_blanks_around_a_url_do_not_count(tmp_path: Path) -> None:
    assert media(item(tmp_path, image_url=f"  {URL}\n")) == [("image", URL)]


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "HTTPS://H.example/a",
        "https://[::1]:8080/a",
        "https://ann:pw@h.example:1/a?b#c",
        "https://例子.example/图片.jpg",
        "http://127.0.0.1:80?x",
    ],
)
def test_web_addresses_are_read(tmp_path: Path, url: str) -> None:
    scheme, rest = url.split(":", 1)
    assert media(item(tmp_path, image_url=url)) == [("image", f"{scheme.lower()}:{rest}")]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://", "no valid host"),
        ("https:///a.jpg", "no valid host"),
        ("https://:80/a.jpg", "no valid host"),
        ("http:a.jpg", "no valid host"),
        ("https://h.example:port/", "no valid host"),
        ("https://h.example/a b.jpg", "blank or control character"),
        ("https://h.example/a\x00b.jpg", "blank or control character"),
        ("https://h.example/a\u3000b.jpg", "blank or control character"),
        ("ftp://h.example/a.jpg", "scheme 'ftp'; http://, https://, s3://, gs://, az://, data:, file:// and"),
        ("s3://bucket", "names no object; it looks like s3://bucket/key"),
        ("s3://bucket/", "names no object"),
        ("gs:///a.jpg", "names no object"),
        ("az://container/folder/", "names no object"),
        ("javascript:alert(1)", "scheme 'javascript'"),
        ("file://elsewhere/a.jpg", "names another machine"),
        ("data:,hello", "no data URL of the form"),
        ("data:image/png,hello", "no data URL of the form"),
        ("data:image/png;base64", "no data URL of the form"),
        ("data:;base64,AAAA", "no data URL of the form"),
        ("data:image/png;base64,", "nothing in it"),
        ("data:image/png;base64,AAA", "base64 is broken"),
        ("data:image/png;base64,AA!A", "base64 is broken"),
        ("data:image/png;base64,图片", "base64 is broken"),
        ("[not json]", "looks like a JSON array"),
        ('["https://h.example/a.png"', "looks like a JSON array"),
        ('[ "a.png", "b.png"', "looks like a JSON array"),
        ("www.example.com/a.jpg", "a web address begins with https://"),
        ("a\x00b.jpg", "cannot be read as a file"),
        ("x" * 5000, "cannot be read as a file"),
    ],
)
def test_an_address_that_nobody_could_read_is_a_bad_row(tmp_path: Path, url: str, words: str) -> None:
    said = problem(tmp_path, image_url=url)
    assert words in said
    assert said.startswith("row 1, column 'image_url': ")
    assert len(said) < 400


def test_a_bad_row_tells_no_signature_and_no_password(tmp_path: Path) -> None:
    said = problem(tmp_path, image_url="s3://ann:pass@b/a.jpg?X-Amz-Signature=secret")
    assert "pass" not in said
    assert "secret" not in said


def test_a_well_formed_data_url_stays_as_it_is(tmp_path: Path) -> None:
    url = "data:image/png;charset=x;base64," + base64.b64encode(b"abc").decode()
    assert media(item(tmp_path, image_url=url)) == [("image", url)]


def test_a_data_url_past_the_inline_limit_is_a_bad_row(tmp_path: Path) -> None:
    url = "data:image/png;base64," + base64.b64encode(bytes(MAX_INLINE_BYTES + 1)).decode()
    assert "at most 20 MB go inline" in problem(tmp_path, image_url=url)


# --- local files ---


def test_a_local_path_is_taken_from_the_manifests_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "图").mkdir()
    picture = tmp_path / "图" / "a b.jpg"
    picture.write_bytes(b"x")
    monkeypatch.chdir("/")
    for written in ("图/a b.jpg", str(picture), picture.as_uri(), f"file:{picture}", "./图/a b.jpg"):
        assert media(item(tmp_path, image_url=written)) == [("image", str(picture))]


def test_a_local_name_may_hold_a_colon_or_brackets(tmp_path: Path) -> None:
    for name in ("clip:1.jpg", "[1].jpg"):
        (tmp_path / name).write_bytes(b"x")
        assert media(item(tmp_path, image_url=name)) == [("image", str(tmp_path / name))]


def test_a_local_file_that_cannot_go_inline_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.jpg").touch()
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(MAX_INLINE_BYTES + 1)
    with open(tmp_path / "fits.jpg", "wb") as file:
        file.truncate(MAX_INLINE_BYTES)
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "no such file" in problem(tmp_path, image_url="gone.jpg")
    assert "no such file" in problem(tmp_path, image_url="fits.jpg/a.jpg")
    assert "is a folder" in problem(tmp_path, image_url="folder")
    assert "is an empty file" in problem(tmp_path, image_url="empty.jpg")
    assert "is no regular file" in problem(tmp_path, image_url="pipe.jpg")
    assert "20.0 MB; at most 20 MB go inline" in problem(tmp_path, image_url="large.jpg")
    assert item(tmp_path, image_url="fits.jpg")


@contextmanager
def nobody_special() -> Iterator[None]:
    """Root may read everything: go on as somebody else, for as long as the block lasts."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_an_unreadable_local_file_is_a_bad_row() -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        locked = Path(folder) / "a.jpg"
        locked.write_bytes(b"x")
        locked.chmod(0)
        with nobody_special():
            assert "permissions" in problem(Path(folder), image_url="a.jpg")


# --- media_key ---


def test_a_media_key_names_each_media_of_the_row(tmp_path: Path) -> None:
    row = item(tmp_path, image_url=[URL, URL], audio_url="https://h.example/a.mp3", media_key="k")
    assert [m.key for m in row.request.media] == ["k", "k#2", "k#3"]


@pytest.mark.parametrize("keys", [["a", "b"], '["a", "b"]', [1, 2]])
def test_media_keys_may_be_a_list_of_as_many(tmp_path: Path, keys: object) -> None:
    row = item(tmp_path, image_url=[URL, URL], media_key=keys)
    assert [m.key for m in row.request.media] in (["a", "b"], ["1", "2"])


def test_media_keys_of_another_count_are_a_bad_row(tmp_path: Path) -> None:
    said = "row 1, column 'media_key': names 1 media, but the row has 2"
    assert problem(tmp_path, image_url=[URL, URL], media_key=["a"]) == said
    assert "names 1 media, but the row has 0" in problem(tmp_path, prompt="p", media_key=["a"])


def test_a_blank_media_key_is_none(tmp_path: Path) -> None:
    assert item(tmp_path, image_url=URL, media_key=" ").request.media == (Media("image", URL),)


# --- prompt, model, max_tokens ---


def test_a_row_without_words_of_its_own_takes_the_runs(tmp_path: Path) -> None:
    request = item(tmp_path, image_url=URL, prompt=" ", model=None, max_tokens="").request
    assert (request.model, request.prompt, request.parameters) == (
        "a-model",
        "default prompt",
        {"max_tokens": 2000},
    )


def test_a_row_overrides_the_run(tmp_path: Path) -> None:
    request = item(tmp_path, image_url=URL, prompt=" 看图 ", model=" other ", max_tokens=7).request
    assert (request.model, request.prompt, request.parameters) == ("other", " 看图 ", {"max_tokens": 7})


def test_rows_share_one_mapping_of_parameters(tmp_path: Path) -> None:
    found = records(tmp_path, *[{"prompt": "p", "max_tokens": n} for n in (None, None, 5, 5)])
    shared = [id(record.request.parameters) for record in found if isinstance(record, Item)]
    assert len(set(shared)) == 2


@pytest.mark.parametrize("cell", [500, "500", " 500 ", 500.0, "500.0", "500."])
def test_max_tokens_reads_whole_numbers_in_every_dress(tmp_path: Path, cell: object) -> None:
    assert item(tmp_path, prompt="p", max_tokens=cell).request.parameters == {"max_tokens": 500}


@pytest.mark.parametrize(
    "cell", ["abc", -1, 0, "0", 1.5, "1.5", "-3", True, [5], {"a": 1}, 10**12, "9" * 5000, 1e300]
)
def test_max_tokens_that_is_no_positive_whole_number_is_a_bad_row(tmp_path: Path, cell: object) -> None:
    assert problem(tmp_path, prompt="p", max_tokens=cell).startswith("row 1, column 'max_tokens': is ")


def test_a_prompt_alone_is_a_row(tmp_path: Path) -> None:
    assert item(tmp_path, prompt="只有文字").request.media == ()


@pytest.mark.parametrize(
    "row", [{}, {"prompt": None}, {"prompt": " \t"}, {"image_url": [], "prompt": ""}, {"id": "a"}]
)
def test_a_row_that_holds_neither_media_nor_prompt_is_bad(tmp_path: Path, row: dict[str, object]) -> None:
    """The default prompt does not rescue it."""
    bad = records(tmp_path, {"prompt": "p", "image_url": None}, row)[1]
    assert isinstance(bad, BadRow)
    assert str(bad.error) == "row 2: holds neither media nor a prompt"


@pytest.mark.parametrize(
    "column", ["image_url", "audio_url", "video_url", "url", "prompt", "model", "modality"]
)
@pytest.mark.parametrize("cell", [5, 1.5, True, {"a": 1}, [[1]], [{"a": 1}]])
def test_a_wrong_type_is_a_bad_row_that_names_the_column(tmp_path: Path, column: str, cell: object) -> None:
    row = {"url": URL} | {column: cell}
    assert f"column {column!r}: holds" in problem(tmp_path, **row)


def test_a_row_error_carries_row_and_column(tmp_path: Path) -> None:
    bad = records(tmp_path, {"prompt": "p"}, {"image_url": 5})[1]
    assert isinstance(bad, BadRow)
    assert isinstance(bad.error, RowError)
    assert (bad.row, bad.error.row, bad.error.column) == (2, 2, "image_url")


# --- ids ---


@pytest.mark.parametrize(
    ("cell", "item_id"),
    [
        ("号 1", "号 1"),
        (" a ", " a "),
        (7, "7"),
        (7.0, "7"),
        (7.5, "7.5"),
        (True, "true"),
        (2**63, str(2**63)),
    ],
)
def test_an_id_is_any_scalar_as_text(tmp_path: Path, cell: object, item_id: str) -> None:
    assert item(tmp_path, id=cell, prompt="p").id == item_id


@pytest.mark.parametrize("cell", [["a"], {"a": 1}])
def test_an_id_that_is_no_scalar_is_a_bad_row(tmp_path: Path, cell: object) -> None:
    assert "column 'id': holds" in problem(tmp_path, id=cell, prompt="p")


def test_a_blank_id_counts_as_none(tmp_path: Path) -> None:
    assert ids(records(tmp_path, {"id": " ", "prompt": "p"}, {"id": None, "prompt": "q"})) == ids(
        records(tmp_path, {"prompt": "p"}, {"prompt": "q"})
    )


def test_a_default_id_is_a_short_hash_of_the_media_without_signature(tmp_path: Path) -> None:
    signed = URL + "?X-Amz-Signature=1&X-Amz-Date=2"
    first, again, third, other = ids(
        records(tmp_path, *[{"image_url": u} for u in (URL, signed, URL, URL + "?v=2")])
    )
    assert len(first) == 16
    assert set(first) <= set("0123456789abcdef")
    assert (again, third) == (f"{first}#2", f"{first}#3")
    assert "#" not in other
    assert other != first


def test_a_default_id_goes_by_media_key_before_url(tmp_path: Path) -> None:
    one, two = ids(records(tmp_path, *[{"image_url": URL + q, "media_key": "k"} for q in ("?1", "?2")]))
    assert two == f"{one}#2"


def test_a_default_id_of_a_prompt_goes_by_the_prompt(tmp_path: Path) -> None:
    one, two, three = ids(records(tmp_path, {"prompt": "p"}, {"prompt": "q"}, {"prompt": "p"}))
    assert one != two
    assert three == f"{one}#2"


def test_default_ids_of_local_files_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(b"x")
        found.append(item(tmp_path / name, image_url="a.jpg").id)
    assert found[0] == found[1]


def test_an_explicit_id_that_comes_again_is_a_bad_row_that_shadows_nothing(tmp_path: Path) -> None:
    found = records(tmp_path, *[{"id": i, "prompt": "p"} for i in ("a", "a", "a#2", "b", "a", "a#2")])
    assert ids(found) == ["a", "a#3", "a#2", "b", "a#4", "a#2#2"]
    assert [type(record) for record in found] == [Item, BadRow, Item, Item, BadRow, BadRow]
    assert isinstance(found[1], BadRow)
    assert str(found[1].error) == "row 2, column 'id': the id 'a' came before; this row is filed as 'a#3'"


def test_a_bad_rows_id_counts_as_one_that_came_before(tmp_path: Path) -> None:
    found = records(
        tmp_path, {"id": "a", "image_url": 5}, {"id": "a", "prompt": "p"}, {"id": "a", "image_url": 5}
    )
    assert ids(found) == ["a", "a#2", "a#3"]
    assert all(isinstance(record, BadRow) for record in found)


def test_a_default_id_never_takes_one_that_the_manifest_gives_later(tmp_path: Path) -> None:
    default = item(tmp_path, prompt="p").id
    rows = [
        {"prompt": "p"},
        {"prompt": "p"},
        {"id": default, "prompt": "x"},
        {"id": f"{default}#2", "prompt": "y"},
    ]
    found = records(tmp_path, *rows)
    assert ids(found) == [f"{default}#3", f"{default}#4", default, f"{default}#2"]
    assert all(isinstance(record, Item) for record in found)


def test_many_repetitions_are_numbered_in_a_moment(tmp_path: Path) -> None:
    """Looking for a free number from 2 each time would be 200 million looks."""
    found = ids(records(tmp_path, *[{"prompt": "p"}] * 20_000))
    assert found[-1] == f"{found[0]}#20000"
    assert len(set(found)) == 20_000


def test_ids_are_the_same_in_every_reading(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p"},
        {"id": "a", "prompt": "p"},
        {"id": "a", "prompt": "p"},
        {"image_url": 5},
        {"image_url": 5},
    ]
    assert ids(records(tmp_path, *rows)) == ids(records(tmp_path, *rows))


# --- typed columns of Parquet ---


def test_typed_parquet_columns_are_read_as_a_person_would(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "id": [1.0, None, 3.0],
            "image_url": pl.Series([[URL], [], [URL, URL]], dtype=pl.List(pl.String)),
            "prompt": pl.Series(["p", "q", "p"], dtype=pl.Categorical),
            "max_tokens": [5.0, float("nan"), None],
        }
    ).write_parquet(tmp_path / "m.parquet")
    one, two, three = read(tmp_path / "m.parquet")
    assert isinstance(one, Item)
    assert isinstance(two, Item)
    assert isinstance(three, Item)
    assert (one.id, three.id, len(two.id)) == ("1", "3", 16)
    assert [len(r.request.media) for r in (one, two, three)] == [1, 0, 2]
    assert [r.request.parameters["max_tokens"] for r in (one, two, three)] == [5, 2000, 2000]


def test_bytes_that_are_utf8_are_text(tmp_path: Path) -> None:
    frame = pl.DataFrame({"prompt": [b"\xe7\x8c\xab", b"\xff"]})
    frame.write_parquet(tmp_path / "m.parquet")
    good, bad = read(tmp_path / "m.parquet")
    assert isinstance(good, Item)
    assert isinstance(bad, BadRow)
    assert good.request.prompt == "猫"
    assert "not UTF-8" in str(bad.error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
columns = st.sampled_from(
    [
        "id",
        "image_url",
        "audio_url",
        "video_url",
        "url",
        "modality",
        "media_key",
        "prompt",
        "model",
        "max_tokens",
        "x",
    ]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(columns, json_values, max_size=6), min_size=1, max_size=8))
def test_any_json_row_ends_as_exactly_one_item_or_bad_row(
    tmp_path: Path, rows: list[dict[str, object]]
) -> None:
    found = records(tmp_path, *rows, {"prompt": "p"})
    assert [record.row for record in found] == list(range(1, len(rows) + 2))
    assert len(set(ids(found))) == len(found)
