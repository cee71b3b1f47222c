"""`mediabatch probe`: what an endpoint honours, drops and reports, by one tiny question a modality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import click
import orjson
from rich import box
from rich.table import Table

from jobs.endpoint import base_url_of, filled, secrets_of
from jobs.options import Fault, config_option, json_option, option, plainly
from jobs.report_tables import console
from pipeline.asking import Desk, Findings, Trial, ask_around
from pipeline.dialects import DEFAULT_DIALECT, DIALECTS
from pipeline.plan import DEFAULT_MODEL, EndpointPlan, Secrets, timeouts_of
from pipeline.records import MediaModality
from pipeline.transport import WireSettings, open_transport

_STYLE = {"honoured": "green", "dropped": "bold red", "rejected": "red", "failed": "red", "unknown": "yellow"}


@click.command()
@config_option
@option("--base-url", help="The endpoint, as the openai SDK takes it, /v1 included.")
@option("--embedded", is_flag=True, help="Ask the embedded endpoint, to see what this shows.")
@option(
    "--dialect",
    type=click.Choice(list(DIALECTS)),
    default=DEFAULT_DIALECT,
    show_default=True,
    help="How to spell; where media are dropped, the other spelling is tried too.",
)
@option("--model", default=DEFAULT_MODEL, show_default=True, help="The model to ask.")
@option(
    "--max-tokens",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="The longest answer, in tokens.",
)
@click.option("--image-url", help="An image to ask about by URL too.")
@click.option("--audio-url", help="A sound to ask about by URL too.")
@click.option("--video-url", help="A video to ask about by URL too.")
@option("--api-key-file", type=click.Path(path_type=Path), help="A file with the key.")
@click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE", help="An extra HTTP header; repeatable."
)
@option("--ca-file", type=click.Path(path_type=Path), help="A certificate authority to trust as well (PEM).")
@option(
    "--timeout", type=click.FloatRange(0.1), default=60.0, show_default=True, help="Seconds for one answer."
)
@json_option
@click.pass_context
@plainly
def probe(ctx: click.Context, /, **options: Any) -> None:
    """Ask an endpoint one tiny question a modality, and tell what it honours, drops and reports.

    Costs some six requests. Media are small made ones, sent inline, and those whose URLs are given.
    """
    base_url = base_url_of(ctx, options["base_url"], options["embedded"])
    secrets = secrets_of(
        options["api_key_file"], options["headers"], [EndpointPlan(base_url, options["dialect"])]
    )
    findings = anyio.run(_ask, base_url, secrets, options)
    if options["as_json"]:
        click.echo(_json(findings))
    else:
        _show(findings, options["model"])


async def _ask(base_url: str | None, secrets: Secrets, options: dict[str, Any]) -> Findings:
    if base_url is not None:
        return await _ask_at(base_url, secrets, options)
    from pipeline.embedded import serve_embedded

    async with serve_embedded() as url:
        return await _ask_at(url, Secrets(), options)


async def _ask_at(base_url: str, secrets: Secrets, options: dict[str, Any]) -> Findings:
    urls: dict[MediaModality, str] = {}
    for modality in ("image", "audio", "video"):
        url = options[f"{modality}_url"]
        if url is None:
            continue
        if not url.startswith(("http://", "https://")):
            raise Fault(f"--{modality}-url {url!r}: not an http(s) URL; made media are sent inline anyway")
        urls[modality] = url
    dialect = DIALECTS[options["dialect"]]
    wire = WireSettings(
        url=base_url + dialect.path,
        headers=secrets.headers_for(None),
        timeouts=timeouts_of(options["timeout"]),
        ca_file=options["ca_file"],
    )
    async with open_transport(wire) as transport:
        desk = Desk(transport, options["dialect"], filled("--model", options["model"]), options["max_tokens"])
        return await ask_around(desk, urls, _tell)


def _tell(trial: Trial) -> None:
    click.echo(f"{_what(trial)}: {trial.verdict}", err=True)


def _what(trial: Trial) -> str:
    by = {"inline": " inline", "url": " by URL", "": ""}[trial.by]
    return f"{trial.modality}{by}, {trial.dialect}"


def _show(found: Findings, model: str) -> None:
    screen = console()
    table = Table(
        box=box.SIMPLE_HEAD, title=f"what {model} was asked", title_justify="left", title_style="bold"
    )
    for name in ("modality", "sent", "dialect", "verdict", "why", "took"):
        table.add_column(name, overflow="fold", justify="right" if name == "took" else "left")
    for trial in found.trials:
        style = _STYLE[trial.verdict]
        took = f"{trial.took_s:.2f} s"
        table.add_row(
            trial.modality, trial.by or "-", trial.dialect, trial.verdict, trial.why, took, style=style
        )
    screen.print(table)
    for name, told in _reports(found).items():
        screen.print(f"{name:<14}{told}", soft_wrap=True)
    screen.print("\nfor a config file:\n")
    for line in _config(found):
        screen.print(f"  {line}", soft_wrap=True)


def _reports(found: Findings) -> dict[str, str]:
    schema = {True: "honoured", False: "not honoured", None: "not answered"}[found.has_schema]
    return {
        "usage names": ", ".join(found.details) or "nothing but totals",
        "cached tokens": "told" if found.names_cached else "not told",
        "request id": found.request_id_header or "none",
        "rate headers": ", ".join(found.rate_headers) or "none",
        "JSON schema": schema,
    }


def _config(found: Findings) -> list[str]:
    lines = [f'dialect = "{found.dialect}"']
    good = {trial.modality for trial in found.trials if trial.verdict == "honoured"}
    for modality in dict.fromkeys(trial.modality for trial in found.trials):
        if modality not in good:
            verdicts = sorted({trial.verdict for trial in found.trials if trial.modality == modality})
            lines.append(f"# {modality}: {' and '.join(verdicts)}; send none here")
    if any(trial.verdict == "dropped" for trial in found.trials):
        lines.append("stop-if-unseen = 0.1")
    return lines


def _json(found: Findings) -> str:
    return orjson.dumps(
        {
            "trials": [
                {
                    "modality": trial.modality,
                    "sent": trial.by or None,
                    "dialect": trial.dialect,
                    "verdict": trial.verdict,
                    "why": trial.why,
                    "took_s": round(trial.took_s, 3),
                    "prompt_tokens": trial.prompt_tokens,
                }
                for trial in found.trials
            ],
            "dialect": found.dialect,
            "usage_names": found.details,
            "cached_tokens": found.names_cached,
            "request_id_header": found.request_id_header,
            "rate_headers": found.rate_headers,
            "json_schema": found.has_schema,
            "config": _config(found),
        },
        option=orjson.OPT_INDENT_2,
    ).decode()
