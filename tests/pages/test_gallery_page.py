"""`report --gallery` in Chromium: media beside what was said of them, chosen and asked again by a command."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, expect

from jobs.__main__ import cli
from pipeline.errors import BadInput
from pipeline.records import Media
from pipeline.reprocessing import choose, predicate
from tests.made import attempt, count, item, outcome, reply, write
from tests.pages.browsing import visit
from tests.pages.conftest import MEDIA
from tests.pages.stores import BREAKOUTS, PRODUCT, hostile, nights, page_of


def gallery(out: Path, *words: str | Path) -> Path:
    return page_of(out, *words, option="--gallery")


@pytest.fixture(scope="module")
def store(tmp_path_factory, media_host: str) -> Path:
    """A picture and its sound, a clip, one whose host refuses, one here on disk, one inline; text alone."""
    out = tmp_path_factory.mktemp("gallery") / "out"
    image, sound = Media("image", f"{media_host}/chart.png"), Media("audio", f"{media_host}/beeps.wav")
    clip = Media("video", f"{media_host}/countdown.mov")
    dear = reply(PRODUCT, [count("text", "input", 900), count("text", "output", 800)])
    write(
        out,
        outcome(item("linked", 1, image, sound), attempt(1, dear), seen=["yes", "no"]),
        outcome(item("clip", 2, clip)),
        outcome(item("signed", 3, Media("image", f"{media_host}/signed/a.jpg"))),
        outcome(
            item(
                "local",
                4,
                Media("image", str(MEDIA / "sunset.jpg")),
                Media("audio", str(MEDIA / "beeps.wav")),
            ),
            attempt(error=BadInput("the picture is blurred", http_status=400)),
        ),
        outcome(item("inline", 5, Media("image", "data:image/png;base64,AAAA"))),
        outcome(item("text, alone*", 6), attempt(1, reply("Sag's noch einmal"))),
    )
    return out


@pytest.fixture(scope="module")
def page(store: Path) -> Path:
    return gallery(store)


def shown(seen) -> list[str]:
    # Not the inner texts: a card that is not drawn yet (`content-visibility`) has none.
    return seen.page.locator(".shot:visible h2").all_text_contents()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1600])
def test_it_is_read_by_everybody_on_every_screen(browser: Browser, tmp_path: Path, media_host, width, theme):
    out = tmp_path / "out"
    image = Media("image", f"{media_host}/chart.png")
    refused = attempt(error=BadInput("no", http_status=400))
    write(out, outcome(item("a", 1, image)), outcome(item("b", 2, image), refused))
    with visit(browser, gallery(out), width, color_scheme=theme) as seen:
        seen.page.wait_for_load_state("networkidle")
        assert seen.said == []
        assert set(seen.asked) <= {image.url, "data:,"}, "media alone are loaded"
        assert seen.overflow_px == 0
        assert seen.faults() == []


def test_media_are_shown_and_played(browser: Browser, page: Path, media_host: str):
    with visit(browser, page) as seen:
        for name in ("linked", "local"):
            image = seen.page.locator(f".shot[data-id='{name}'] img")
            image.scroll_into_view_if_needed()
            image.evaluate("one => one.decode()")
            assert image.evaluate("one => one.naturalWidth") > 100
            sound = seen.page.locator(f".shot[data-id='{name}'] audio")
            sound.evaluate("one => { one.muted = true; return one.play(); }")
            assert sound.evaluate("one => one.duration") > 0.5
        video = seen.page.locator("video")
        video.scroll_into_view_if_needed()
        seen.page.wait_for_function("document.querySelector('video').readyState >= 1")
        assert video.evaluate("one => one.videoWidth") > 100
        assert all(address.startswith((media_host, "data:")) for address in seen.asked)


def test_what_does_not_load_says_why(browser: Browser, page: Path):
    with visit(browser, page) as seen:
        signed = seen.page.locator(".shot[data-id='signed']")
        signed.scroll_into_view_if_needed()
        signed.get_by_text("the store keeps no signatures").wait_for()
        inline = seen.page.locator(".shot[data-id='inline']")
        expect(inline).to_contain_text("the store keeps its digest")


def test_a_typed_answer_is_shown_as_fields(browser: Browser, page: Path):
    with visit(browser, page) as seen:
        fields = seen.page.locator(".shot[data-id='linked'] .fields")
        expect(fields.locator("dt")).to_have_text(["title", "price", "tags", "maker"])
        assert fields.locator("dd").all_text_contents()[:3] == ["A <b>lamp</b>", "12.5", "red, small"]


def test_tokens_cost_and_what_was_not_seen_stand_beside_it(browser: Browser, page: Path):
    """900 in at $0.25/M and 800 out at $1.50/M: $0.001425."""
    with visit(browser, page) as seen:
        linked = seen.page.locator(".shot[data-id='linked']")
        expect(linked).to_contain_text("900 tokens in, 800 out")
        expect(linked).to_contain_text("USD 0.001425")
        expect(linked.locator(".unlooked")).to_have_text(["audio not seen by the model"])
        local = seen.page.locator(".shot[data-id='local']")
        expect(local.locator(".state")).to_have_text("BadInput")
        expect(local.locator(".fault")).to_have_text("the picture is blurred")


@pytest.mark.parametrize(
    ("label", "value", "left"),
    [
        ("Text", "NOCH einmal", ["text, alone*"]),
        ("Text", "blurred", ["local"]),
        ("Outcome", "failed", ["local"]),
        ("Outcome", "BadInput", ["local"]),
        ("Media", "video", ["clip"]),
        ("Media", "text", ["text, alone*"]),
        ("Cost from (USD)", "0.001", ["linked"]),
        ("to ", "0,001", ["clip", "signed", "inline", "text, alone*"]),
    ],
)
def test_items_are_filtered(browser: Browser, page: Path, label: str, value: str, left: list[str]):
    with visit(browser, page) as seen:
        control = seen.page.locator("#filters label", has_text=label).locator("input, select").first
        if label in ("Outcome", "Media"):
            control.select_option(value)
        else:
            control.fill(value)
        seen.page.get_by_text(f"{len(left)} of 6 shown").wait_for()
        assert shown(seen) == left


def test_the_dearest_come_first_on_demand(browser: Browser, page: Path):
    with visit(browser, page) as seen:
        seen.page.get_by_label("Order").select_option("cost")
        assert shown(seen)[0] == "linked"
        assert shown(seen)[-1] == "local", "what has no cost comes last"
        seen.page.get_by_label("Order").select_option("")
        assert shown(seen)[:2] == ["linked", "clip"]


def chosen_by(command: str) -> set[str]:
    """What `reprocess` takes for the words of a copied command, as a shell makes them of it."""
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True
    ).stdout.decode()
    *arguments, end = words.split("\0")
    assert (arguments[:2], end) == (["mediabatch", "reprocess"], "")
    clauses = [clause for word, clause in pairwise(arguments) if word == "--where"]
    out = Path(arguments[arguments.index("--out") + 1])
    return set(choose(out, "default", None, predicate(clauses, datetime.now(UTC)))["item_id"])


def test_the_command_that_asks_the_selected_again_is_copied(browser: Browser, store: Path, page: Path):
    with visit(browser, page) as seen:
        copy = seen.page.get_by_role("button", name="Copy reprocess command")
        assert copy.is_disabled()
        seen.page.get_by_label("Select local").check()
        copy.click()
        seen.page.get_by_text("Copied to the clipboard").wait_for(state="attached")
        assert seen.clipboard == f"mediabatch reprocess --where id=local --out {store}"
        seen.page.get_by_label("Text", exact=True).fill("alone")
        seen.page.get_by_text("1 of 6 shown").wait_for()
        seen.page.get_by_role("button", name="Select shown").click()
        copy.click()
        seen.page.wait_for_function("async () => (await navigator.clipboard.readText()).includes('alone')")
        assert chosen_by(seen.clipboard) == {"local", "text, alone*"}


def test_whatever_stands_in_an_id_the_command_means_it_and_nothing_else(browser: Browser, tmp_path: Path):
    out = hostile(tmp_path / "out")
    with visit(browser, gallery(out)) as seen:
        seen.page.get_by_role("button", name="Select shown").click()
        seen.page.get_by_role("button", name="Copy reprocess command").click()
        seen.page.get_by_text("Copied to the clipboard").wait_for(state="attached")
        copied = seen.clipboard
    assert not any(letter < " " for letter in copied), "control characters are keys to a terminal"
    assert chosen_by(copied) == {f"{number} {text}" for number, text in enumerate(BREAKOUTS)}
    assert not Path("broken").exists()


def test_what_comes_from_outside_stays_text(browser: Browser, tmp_path: Path):
    with visit(browser, gallery(hostile(tmp_path / "out"))) as seen:
        seen.page.wait_for_timeout(300)
        assert seen.page.evaluate("window.broken") is None
        assert seen.page.locator("script").count() == 1
        assert seen.page.locator("style").count() == 1
        assert seen.page.locator("body").is_visible()
        handlers = "all => all.filter(one => [...one.attributes].some(a => a.name.startsWith('on'))).length"
        assert seen.page.locator("*").evaluate_all(handlers) == 0
        for name in ("href", "src"):
            addresses = seen.page.locator(f"[{name}]").evaluate_all(f"all => all.map(one => one.{name})")
            assert all(address.startswith(("https://h.example/", "data:,")) for address in addresses)
        body = " ".join((seen.page.locator("main").text_content() or "").split())
        for text in BREAKOUTS:
            assert " ".join(text.split()) in body


def test_a_script_that_got_in_would_not_run(browser: Browser, page: Path):
    with visit(browser, page) as seen:
        seen.page.evaluate(
            "() => { const one = document.createElement('script'); one.textContent = 'window.broken = 1';"
            " document.body.append(one); const two = document.createElement('div');"
            " two.setAttribute('onclick', 'window.broken = 2'); document.body.append(two); two.click(); }"
        )
        assert seen.page.evaluate("window.broken") is None
        assert any("Content Security Policy" in said for said in seen.said)


def test_a_gallery_is_a_sample_or_what_a_clause_chooses(browser: Browser, tmp_path: Path):
    out = nights(tmp_path / "out", 3, 20)
    with visit(browser, gallery(out, "--sample", "7")) as seen:
        assert "7 of 60 items, drawn by lot" in seen.page.locator("header.top").inner_text()
        first = shown(seen)
        assert len(first) == 7
    with visit(browser, gallery(out, "--sample", "7")) as seen:
        assert shown(seen) == first, "the same lot every time"
    with visit(browser, gallery(out, "--where", "model=a-model", "--where", "run=night-01")) as seen:
        assert shown(seen) == [f"n1-{row:03d}" for row in range(2, 21, 2)], "answered ones too"


def test_where_without_a_gallery_is_a_slip(tmp_path: Path):
    result = CliRunner().invoke(cli, ["report", "--out", str(tmp_path), "--where", "status=ok"])
    assert result.exit_code == 2
    assert "add --gallery FILE" in result.output


def test_two_thousand_items_stay_smooth(browser: Browser, tmp_path: Path):
    """A word takes effect at once, and scrolling draws only what is near; bounds for a busy machine."""
    out = tmp_path / "out"
    long = json.dumps({"words": "a word and another " * 40})
    write(out, *(outcome(item(f"item-{row}", row), attempt(1, reply(long))) for row in range(1, 2_001)))
    with visit(browser, gallery(out, "--sample", "2000")) as seen:
        assert seen.page.locator(".shot").count() == 2_000
        took_ms = seen.page.evaluate(
            """async () => {
                const box = document.querySelector("input[type=search]");
                const begin = performance.now();
                box.value = "item-77";
                box.dispatchEvent(new Event("input", { bubbles: true }));
                while (!document.getElementById("count").textContent.startsWith("11 ")) {
                    if (performance.now() - begin > 10_000) break;
                    await new Promise(requestAnimationFrame);
                }
                return performance.now() - begin;
            }"""
        )
        assert took_ms < 1_000
        seen.page.get_by_label("Text", exact=True).fill("")
        begin = time.monotonic()
        frames = seen.page.evaluate(
            """async () => {
                let longest = 0;
                for (let step = 0; step < 60; step += 1) {
                    const before = performance.now();
                    scrollBy(0, 2000);
                    await new Promise(requestAnimationFrame);
                    await new Promise((next) => setTimeout(next));
                    longest = Math.max(longest, performance.now() - before);
                }
                return longest;
            }"""
        )
        assert frames < 500
        assert time.monotonic() - begin < 20
