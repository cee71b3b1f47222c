"""How media reach the endpoint, as a person says it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import click

from jobs.options import Fault, option
from pipeline.plan import Plan
from pipeline.records import DeliveryKind


def media_options(otherwise: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A value of None means that the person said nothing: then it is as ``otherwise`` says."""

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorate in (
            option(
                "--image-max-px",
                type=click.IntRange(16),
                metavar="N",
                help="Make images that go inline no longer than N pixels; the summary says what that saves.",
            ),
            option(
                "--allow-private",
                is_flag=True,
                default=None,
                help="Fetch media also from addresses of this machine, network or cloud.",
            ),
            option(
                "--media",
                type=click.Choice(get_args(DeliveryKind)),
                help="How media reach the endpoint: as URLs, fetched here and inlined, or (auto) inlined "
                f"where it cannot get at them or drops them.  [default: {otherwise}]",
            ),
        ):
            command = decorate(command)
        return command

    return decorated


def checked_media(plan: Plan) -> Plan:
    """
    Raises:
        Fault: images are to be made smaller, and none goes inline.
    """
    if plan.image_max_px is not None and plan.media == "url":
        raise Fault("--image-max-px makes images smaller that go inline: add --media inline, or --media auto")
    return plan
