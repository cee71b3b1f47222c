"""Pages as files: what is in them without a browser, and slips told as sentences."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from click.testing import CliRunner, Result
from PIL import Image

from jobs.__main__ import cli
from jobs.pages.embedding import Embedding
from pipeline.pricing import Rates, UnitPrice
from tests.made import NOW, attempt, item, outcome, write
from tests.pages.stores import nights

MEDIA = Path(__file__).parents[2] / "data" / "media"


def report(out: Path, *words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["report", "--out", str(out), *map(str, words)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def html(out: Path, *words: str) -> str:
    file = out.parent / "page.html"
    report(out, "--html", file, *words)
    return file.read_text("utf-8")


def test_a_page_says_on_stderr_where_it_is_and_leaves_stdout_alone(tmp_path: Path):
    out = nights(tmp_path / "out", 1, 3)
    file = tmp_path / "page.html"
    result = report(out, "--html", file)
    assert result.stdout == ""
    assert result.stderr == f"{file}: {file.stat().st_size / 1e6:.1f} MB\n"
    assert '"outcomes"' in report(out, "--html", file, "--json").stdout, "both, where both are asked for"


def test_the_policy_names_the_one_style_and_the_one_script_of_the_page(tmp_path: Path):
    out = nights(tmp_path / "out", 1, 3)
    report(out, "--html", tmp_path / "a.html", "--gallery", tmp_path / "b.html")
    for name, media in (("a.html", "img-src data:;"), ("b.html", "img-src data: http: https:;")):
        page = (tmp_path / name).read_text("utf-8")
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
        assert policy
        told = policy[1].replace("&#39;", "'")
        assert "default-src 'none'" in told
        assert "unsafe" not in told
        assert media in told
        for kind in ("style", "script"):
            (text,) = re.findall(f"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{kind}-src 'sha256-{digest}'" in told


def test_without_the_library_for_pictures_it_says_what_to_type(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    out = nights(tmp_path / "out", 1, 3)
    result = report(out, "--html", tmp_path / "page.html", code=2)
    assert "pip install 'mediabatch[html]'" in result.stderr
    assert not (tmp_path / "page.html").exists()
    report(out, "--gallery", tmp_path / "gallery.html")


def test_a_page_that_cannot_be_written_is_a_sentence(tmp_path: Path):
    out = nights(tmp_path / "out", 1, 3)
    result = report(out, "--html", tmp_path / "none" / "page.html", code=2)
    assert result.stderr.startswith(f"error: --html {tmp_path / 'none' / 'page.html'}: cannot be written")


def test_a_store_without_outcomes_makes_a_page_that_says_so(tmp_path: Path):
    write(tmp_path / "out", facts={"state": "halted"})
    page = html(tmp_path / "out")
    assert "Nothing has ended here yet." in page
    assert "Run r1 is unfinished (halted)." in page


def test_currencies_have_pictures_and_columns_of_their_own(tmp_path: Path):
    yuan = Rates("CNY", "flat", {("text", "input", "fresh"): UnitPrice.of(Decimal(1))})
    out = tmp_path / "out"
    write(out, outcome(item("a")))
    write(out, outcome(item("b"), attempt(rates=yuan)), run_id="r2", started_at=NOW + timedelta(days=1))
    page = html(out)
    for currency in ("CNY", "USD"):
        assert f"<title>Cost by day and modality, {currency}</title>" in page
        assert f">cost, {currency}</th>" in page


def test_what_has_no_price_is_told_and_never_zero(tmp_path: Path):
    write(tmp_path / "out", outcome(item("a"), attempt(rates=None)))
    page = html(tmp_path / "out")
    assert "No price is known for 239 tokens of a-model" in page
    assert ">unpriced tokens</th>" in page
    assert "USD" not in page


def test_what_limited_the_run_and_its_estimate_stand_beside_it(tmp_path: Path):
    page = html(nights(tmp_path / "out", 2, 3))
    assert '<div class="table" data-table="What limited it">' in page
    assert "80.5" in page
    assert "USD 0.012 (0.01 to 0.014)" in page
    assert "+2%" in page, "0.0123 / 0.012 is 2.5% more, and 2 is even"
    bare = html(nights(tmp_path / "bare", 2, 3, pace=None, estimate=None))
    assert "What limited it" not in bare
    assert "Estimate against actual" not in bare


def test_one_run_alone_is_shown_where_it_is_named(tmp_path: Path):
    page = html(nights(tmp_path / "out", 3, 3), "--run", "night-01")
    assert "run night-01 of job default" in page
    assert "night-02" not in page


def test_a_large_picture_is_carried_as_a_small_copy(tmp_path: Path):
    noise = Image.effect_noise((2000, 1000), 90).convert("RGB")
    noise.save(tmp_path / "large.png")
    url, why = Embedding().data_url(str(tmp_path / "large.png"), "image")
    assert url
    assert url.startswith("data:image/webp;base64,")
    assert not why
    assert len(url) < 400_000


def test_what_cannot_be_carried_says_why(tmp_path: Path):
    (tmp_path / "a.mp3").write_bytes(bytes(2_000_001))
    carrying = Embedding(page_bytes=100)
    for path, modality, why in (
        (tmp_path / "a.mp3", "audio", "too large for this page (2.0 MB)"),
        (tmp_path / "none.jpg", "image", "it is not here any more (No such file or directory)"),
        (MEDIA / "broken.jpg", "image", "no picture that can be opened"),
        (Path(__file__), "image", "no picture that can be opened"),
        (MEDIA / "beeps.wav", "audio", "the page is full"),
    ):
        url, told = carrying.data_url(str(path), modality)  # type: ignore[arg-type]
        assert url is None
        assert why in told
    assert Embedding().data_url("a.pdf", "document") == (None, "a document")


def test_hundreds_of_unfinished_runs_are_one_line_and_a_thousand_rows_are_enough(tmp_path: Path):
    out = tmp_path / "out"
    for night in range(1_003):
        at = NOW + timedelta(hours=night)
        ended = [outcome(item("a"), attempt(at=at))] if night == 0 else []
        write(out, *ended, run_id=f"r{night:04d}", started_at=at, facts={"state": "deadline"})
    page = html(out)
    assert page.count("is unfinished") == 1
    assert "Run r1002 is unfinished (deadline). So are 1,002 before it." in page
    assert "3 older rows are left out here" in page
    assert ">r0003<" in page
    assert ">r0002<" not in page
