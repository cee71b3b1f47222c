"""A fortnight of nights on one store, played in seconds: real HTTP, real media, a clock that jumps.

gateway.py   the embedded endpoint behind a gateway with moods, which counts what it served
nights.py    the calendar, and what happens in each night
checking.py  the report's totals against the gateway's own counts
"""
