"""`mediabatch run --dry-run`: the first requests as they would be sent; nothing is sent or written."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import click
import orjson

from pipeline.asked import defaults_of
from pipeline.dialects import DIALECTS
from pipeline.manifest import open_manifest
from pipeline.media.urls import storable
from pipeline.plan import EndpointPlan, Plan
from pipeline.records import BadRow, Item, Media

SHOWN = 3
"""Rows."""


def show_requests(plan: Plan, address: str | None, as_json: bool) -> None:
    """``address``: the manifest's with what signs it. Raises UsageError where the night could not begin."""
    defaults = defaults_of(plan)
    manifest = open_manifest(address or plan.manifest, ca_file=plan.ca_file)
    manifest.check(defaults)
    for note in manifest.notes:
        click.echo(f"note: {note}", err=True)
    rows = (row for batch in manifest.read(defaults) for row in batch)
    most = SHOWN if plan.limit is None else min(SHOWN, plan.limit)
    told = list(_told(plan, islice(rows, most)))
    if as_json:
        click.echo(orjson.dumps({"requests": told}, option=orjson.OPT_INDENT_2).decode())
        return
    for one in told:
        click.echo(f"row {one['row']}, {one['item_id']}: {one.get('error') or one['url']}")
        if "body" in one:
            click.echo(orjson.dumps(one["body"], option=orjson.OPT_INDENT_2).decode())
    click.echo("nothing was sent; leave out --dry-run to send them", err=True)


def _told(plan: Plan, rows: Iterator[Item | BadRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        told: dict[str, Any] = {"row": row.row, "item_id": row.id}
        if isinstance(row, BadRow):
            yield {**told, "error": f"{row.error.error_class}: {row.error}"}
            continue
        request = row.request
        endpoint = _endpoint(plan, request.model)
        dialect = DIALECTS[endpoint.dialect]
        # Without signatures and content, as the store has them.
        urls = [
            f"<{storable(media.url)} as a data: URL>" if _goes_inline(media, plan) else storable(media.url)
            for media in request.media
        ]
        yield {
            **told,
            "url": f"{endpoint.name}{dialect.path}",
            "body": orjson.loads(dialect.render(request, urls)),
        }


def _goes_inline(media: Media, plan: Plan) -> bool:
    return media.is_local or (plan.media == "inline" and not media.is_inline)


def _endpoint(plan: Plan, model: str) -> EndpointPlan:
    serving = (one for one in plan.endpoints if not one.models or model in one.models)
    return next(serving, plan.endpoints[0])
