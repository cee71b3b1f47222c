"""The README's table, from the newest figures of each part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.contenders import OURS
from benchmarks.figures import newest
from benchmarks.verdicts import shown

Newest = Callable[[str], dict[str, Any] | None]
"""part → the newest figures kept of it"""

_WORDS: Mapping[str, str] = {
    "plain-1000": "20,000 items of 0.5 s, 1,000 at a time",
    "tls-1000": "the same over TLS",
    "plain-2000": "2,000 at a time",
    "heavy-tail": "latencies of 3 to 30 s, 2,000 at a time",
    "rpm-told": "6,000 requests a minute, told with `--rpm`",
    "tpm-told": "3,000,000 tokens a minute, told with `--tpm`",
    "rpm-auto-seconds": "6,000 requests a minute, not told; 429s name seconds",
    "rpm-auto-date": "… name a date",
    "rpm-auto-ms": "… name milliseconds",
    "rpm-auto-none": "… are empty",
    "tpm-auto-seconds": "3,000,000 tokens a minute, not told; 429s name seconds",
    "tpm-auto-date": "… name a date",
    "tpm-auto-ms": "… name milliseconds",
    "tpm-auto-none": "… are empty",
    "profile-unlimited": "`--concurrency auto`, a server without limits",
    "profile-slots": "`--concurrency auto`, a server with 50 slots",
    "profile-degrading": "`--concurrency auto`, a server that slows down beyond 200",
    "outage-503": "down for 60 s in 5 minutes, answering 503",
    "outage-refuse": "… refusing connections",
    "parquet": "1,000,000 rows of Parquet",
    "csv": "1,000,000 rows of CSV",
}


def table(newest: Newest = newest) -> str:
    """Markdown; a part that was never measured, or only by an older bench, is left out."""
    parts = (_throughput, _others, _measured_on)
    return "\n".join(line for part in parts for line in part(newest))


def _throughput(newest: Newest) -> Iterator[str]:
    figures = _judged(newest, "throughput")
    if figures is None:
        return
    settings, found = figures["settings"], figures["found"]
    yield (
        f"{settings['items']:,} items, {settings['concurrency']} at a time, no latency; medians of "
        f"{settings['rounds']} interleaved rounds, ratios of neighbours. Slow ones do fewer items."
    )
    yield ""
    yield f"| | items/s | while asking | CPU per item | peak memory | {OURS} ÷ it: items/s | CPU |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for name, of in found["summary"].items():
        ratios = f"**{of['ours_rate_ratio']:.2f}** | {of['ours_cpu_ratio']:.2f}" if name != OURS else "|"
        yield (
            f"| {name} ({of['items']:,}) | {of['rate']:,.0f} | {of['asking_rate']:,.0f} | "
            f"{of['cpu_us_per_item']:,.0f} µs | {of['peak_bytes'] / 1e6:,.0f} MB | {ratios} |"
        )
    yield ""
    ceilings = "; ".join(
        f"{one['server']}: {one['rate']:,.0f}/s with {one['depth']} in flight on each"
        for one in found["ceilings"]
    )
    yield f"The server's own ceiling, asked over raw connections: {ceilings}."
    yield ""


def _others(newest: Newest) -> Iterator[str]:
    rows = [
        f"| {what} | {one['name']} | {shown(one['value'], one['unit'])} | "
        f"{'≥' if one['sense'] == 'at least' else '≤'} {shown(one['target'], one['unit'])} | "
        f"{'met' if one['is_met'] else '**missed**'} |"
        for what, one in _verdicts(newest)
    ]
    if rows:
        yield "| | figure | | target | |"
        yield "| --- | --- | ---: | ---: | --- |"
        yield from rows
        yield ""


def _verdicts(newest: Newest) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of all parts, with what was measured in words; the words stand once."""
    for part, words in (("throughput", "no latency"), ("bodies", "bodies of 1 to 5 MB, inline")):
        if (figures := _judged(newest, part)) is not None:
            yield from _first_alone(words, figures["found"]["verdicts"])
    for part in ("latency", "limits", "outage", "scale"):
        figures = newest(part)
        if figures is not None:
            for name, of in figures["found"]["cases"].items():
                yield from _first_alone(_WORDS.get(name, name), of["verdicts"])
    for part, words in (("startup", "`mediabatch --help`"), ("ledger", "ledger"), ("resume", "`resume`")):
        if (figures := _judged(newest, part)) is not None:
            yield from _first_alone(words, figures["found"]["verdicts"])


def _first_alone(words: str, verdicts: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, one in enumerate(verdicts):
        yield "" if place else words, one


def _judged(newest: Newest, part: str) -> dict[str, Any] | None:
    """The newest figures of a part, unless they are of the time before verdicts."""
    figures = newest(part)
    return figures if figures is not None and "verdicts" in figures["found"] else None


def _measured_on(newest: Newest) -> Iterator[str]:
    figures = newest("throughput")
    if figures is None:
        yield "No figures yet: `make bench` measures them."
        return
    on = figures["machine"]
    packages = ", ".join(f"{name} {of}" for name, of in on["packages"].items())
    yield (
        f"Measured on {figures['at'][:10]}: {on['cores']} cores of {on['cpu']}, shared with the server, "
        f"{on['kernel']}, {on['python']}, {packages}."
    )
