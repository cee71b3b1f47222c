"""Figures → pictures: Vega-Lite specifications, drawn to SVG that stands in the page.

Colours are the page's CSS variables, so that a picture follows the theme. Each is drawn twice, for a wide
screen and for a telephone: scaled text is no text. Who cannot see it reads its title and one sentence; the
figures themselves stand in the table beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from markupsafe import Markup, escape

from jobs.options import Fault
from pipeline.report import Course

WIDE_PX, NARROW_PX = 720, 330
_HEIGHT_PX = 200
_FONT = "system-ui, sans-serif"
_LETTER_PX, _LABEL_GAP_PX = 7, 16
_FEW_DAYS, _WIDEST_BAR_PX = 6, 40
_LONGEST_NAME = 22
_ROLES: Final = re.compile(r' (?:role|class|aria-[a-z]+)="[^"<>]*"')
_AMOUNTS = ",.3~r"
_CONFIG: Final = {
    "background": None,
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--quiet)",
        "titleColor": "var(--quiet)",
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelOverlap": True,
    },
    "axisX": {"grid": False},
    "axisY": {"domain": False, "ticks": False, "tickCount": 4, "titleAlign": "left", "titleAngle": 0,
              "titleAnchor": "start", "titleX": 0, "titleY": -10},
}  # fmt: skip

Spec = dict[str, Any]
Row = dict[str, Any]


def colour(name: str) -> str:
    """The CSS variable of a series: a modality, `ok`, `failed`."""
    return f"var(--c-{name.replace('+', '-')})"


def stacked_days(rows: Sequence[Row], days: Sequence[str], series: Sequence[str], title: str) -> Spec:
    """Rows of ``day``, ``series`` and ``amount`` as stacked bars; a day without rows keeps its place."""
    return {
        "data": {"values": list(rows)},
        "height": _HEIGHT_PX,
        "mark": {"type": "bar", **({"size": _WIDEST_BAR_PX} if len(days) <= _FEW_DAYS else {})},
        "encoding": {
            "x": {
                "field": "day",
                "type": "ordinal",
                "scale": {"domain": list(days), "paddingInner": 0.25, "paddingOuter": 0.15},
                "axis": {"title": None, "labelAngle": 0, "ticks": False, "values": list(days)},
            },
            "y": {
                "field": "amount",
                "type": "quantitative",
                "axis": {"title": title, "format": _AMOUNTS},
                "stack": "zero",
            },
            "color": _colours(series),
            "order": {"field": "place", "type": "quantitative"},
        },
    }


def model_bars(rows: Sequence[Row], title: str) -> Spec:
    """Rows of ``name`` and ``amount``, largest first, as bars that lie."""
    return {
        "data": {"values": [{**row, "name": _short(row["name"])} for row in rows]},
        "height": {"step": 26},
        "padding": {"left": 26},  # browsers' letters are wider than those it is measured with
        "mark": {"type": "bar", "color": "var(--accent)"},
        "encoding": {
            "y": {
                "field": "name",
                "type": "nominal",
                "sort": None,
                "axis": {"title": None, "labelColor": "var(--ink)"},
                "scale": {"paddingInner": 0.35},
            },
            "x": {
                "field": "amount",
                "type": "quantitative",
                "axis": {"title": title, "format": _AMOUNTS, "grid": True, "tickCount": 3, "domain": False},
            },
        },
    }


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def throughput(course: Course, clock: Callable[[Any], str]) -> Spec:
    """Answers a second, and tries that were none, over a run."""
    series = ["failed", "ok"]
    rows = [
        {"at": clock(one.at), "series": name, "amount": count / course.span_s, "place": place}
        for one in course.moments
        for place, (name, count) in enumerate((("failed", one.failed), ("ok", one.answered)))
    ]
    area = {"type": "area", "interpolate": "step-after", "opacity": 0.9}
    if len(course.moments) < 2:
        area = {"type": "bar", "opacity": 0.9}
    return {
        "data": {"values": rows},
        "height": 150,
        "mark": area,
        "encoding": {
            "x": _time(course),
            "y": {
                "field": "amount",
                "type": "quantitative",
                "stack": "zero",
                "axis": {"title": "a second", "format": _AMOUNTS},
            },
            "color": _colours(series),
            "order": {"field": "place", "type": "quantitative"},
        },
    }


def latency(course: Course, clock: Callable[[Any], str]) -> Spec:
    """How long answers took over a run: the median, and what nineteen of twenty stayed below."""
    rows = [
        {"at": clock(one.at), "series": name, "amount": value}
        for one in course.moments
        for name, value in (("median", one.median_s), ("slow", one.slow_s))
    ]
    return {
        "data": {"values": rows},
        "height": 150,
        "mark": {"type": "line", "strokeWidth": 1.6, "point": len(course.moments) < 3 and {"size": 30}},
        "encoding": {
            "x": _time(course),
            "y": {
                "field": "amount",
                "type": "quantitative",
                "axis": {"title": "seconds", "format": _AMOUNTS},
            },
            "color": _colours(["median", "slow"]),
        },
    }


def estimates(rows: Sequence[Row], title: str) -> Spec:
    """Rows of ``run``, ``low``, ``likely``, ``high`` and ``actual``: the band that was foretold, and the dot
    that came."""
    runs = [row["run"] for row in rows]
    axis = {"title": None, "labelAngle": 0, "ticks": False, "values": runs}
    across = {"field": "run", "type": "ordinal", "sort": None, "axis": axis}
    return {
        "data": {"values": list(rows)},
        "height": 160,
        "encoding": {"x": across},
        "layer": [
            {
                "mark": {"type": "bar", "size": 10, "color": "var(--band)", "cornerRadius": 3},
                "encoding": {
                    "y": {
                        "field": "low",
                        "type": "quantitative",
                        "scale": {"zero": True},
                        "axis": {"title": title, "format": _AMOUNTS},
                    },
                    "y2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "tick", "color": "var(--quiet)", "thickness": 2, "size": 14},
                "encoding": {"y": {"field": "likely", "type": "quantitative"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1, "color": "var(--accent)"},
                "encoding": {"y": {"field": "actual", "type": "quantitative"}},
            },
        ],
    }


def drawn(spec: Spec, title: str, told: str) -> Markup:
    """The picture in both widths. ``told``: what it shows, in a sentence.

    Raises:
        Fault: the library that draws is not installed.
    """
    pictures = [_drawn(spec, title, told, width) for width in (WIDE_PX, NARROW_PX)]
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(*pictures)


def _drawn(spec: Spec, title: str, told: str, width: int) -> Markup:
    sized = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        **_thinned(spec, width),
        "width": width,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": {"top": 6, "left": 4, "right": 8, "bottom": 5, **spec.get("padding", {})},
        "config": {**_CONFIG, "aria": False},
    }
    svg = _converter().vegalite_to_svg(sized)
    start, rest = svg.split(">", 1)
    # Named by its own title element, so that it needs no id, which a page may hold once only.
    start = start.replace(
        'class="marks"', f'class="chart" role="img" aria-label="{escape(f"{title}. {told}")}"'
    )
    # The picture is one thing to whoever cannot see it; Vega gives every bar a role, and no name.
    rest = _ROLES.sub("", rest)
    return Markup(f"{start}><title>{escape(title)}</title><desc>{escape(told)}</desc>{rest}")


def _converter() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise Fault(
            "--html draws its pictures with vl-convert, which is not here: "
            "pip install 'mediabatch[html]' (or vl-convert-python)"
        ) from None
    return vl_convert


def _thinned(spec: Spec, width: int) -> Spec:
    """With as many labels as there is room for: each at its bar, evenly spaced, the newest among them."""
    across = spec["encoding"]["x"]
    labels = across["axis"].get("values")
    if not labels:
        return spec
    room = max(1, (width - 50) // (max(map(len, labels)) * _LETTER_PX + _LABEL_GAP_PX))
    step = -(-len(labels) // room)
    axis = {**across["axis"], "values": labels[::-1][::step][::-1]}
    return {**spec, "encoding": {**spec["encoding"], "x": {**across, "axis": axis}}}


def _colours(series: Sequence[str]) -> Spec:
    return {
        "field": "series",
        "type": "nominal",
        "scale": {"domain": list(series), "range": [colour(name) for name in series]},
        "legend": None,
    }


def _time(course: Course) -> Spec:
    form = "%H:%M:%S" if course.elapsed_s < 600 else "%H:%M" if course.elapsed_s < 86_400 else "%d %b %H:%M"
    axis = {"title": None, "format": form, "labelSeparation": 12, "tickCount": 8}
    return {"field": "at", "type": "temporal", "scale": {"type": "utc"}, "axis": axis}
