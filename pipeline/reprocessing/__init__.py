"""Asking again what an earlier run has asked: items chosen by their latest outcome, in a run of their own.

    where.py       `--where` → a filter over latest outcomes
    choosing.py    the store → which items, and where their rows stand in their manifests; start reading here
    selection.py   the chosen items as the rows of a run, beside its run.json
    forecast.py    what asking them may cost, from what such replies have cost

A run that reprocesses has no manifest of its own: its rows are a `Selection`. Signed URLs and inline media
are kept nowhere in the store, so they are read from the manifests they came from, each time anew.
"""

from pipeline.reprocessing.choosing import choose, traced
from pipeline.reprocessing.forecast import Forecast, forecast
from pipeline.reprocessing.selection import Selection, Source, open_source, write_selection
from pipeline.reprocessing.where import matching, predicate

__all__ = [
    "Forecast",
    "Selection",
    "Source",
    "choose",
    "forecast",
    "matching",
    "open_source",
    "predicate",
    "traced",
    "write_selection",
]
