"""``mediabatch serve``: the embedded endpoint as a server of its own, to rehearse a night against."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from pipeline.embedded import serve_embedded
from pipeline.embedded.faults import SCHEMA_FAULTS, SchemaFault
from pipeline.embedded.trouble import FAULTS, Fault, Trouble


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
)
@click.option(
    "--api-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File holding the key that requests have to bear. Without it any key, or none, is accepted.",
)
@click.option(
    "--schema-fault",
    type=click.Choice(SCHEMA_FAULTS),
    help="What goes wrong with answers that have a schema; cut and wrong-type: until the fault is named.",
)
@click.option(
    "--fault",
    "faults",
    metavar="NAME=SHARE",
    multiple=True,
    callback=lambda _ctx, _param, values: _faults(values),
    help=f"What goes wrong with that share of the answers, by lot; repeatable: {', '.join(FAULTS)}.",
)
@click.option("--rpm", type=click.IntRange(1), help="Requests it takes in any minute; to more it says 429.")
@click.option("--slots", type=click.IntRange(1), help="Requests it takes at once; to more it says 429.")
@click.option(
    "--latency",
    "latency_s",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Seconds that every answer takes.",
)
@click.option("--seed", default=0, show_default=True, help="For the same faults in the same order.")
def serve(
    host: str, port: int, api_key_file: Path | None, schema_fault: SchemaFault | None, **trouble: Any
) -> None:
    """Serve the embedded endpoint: real HTTP and real media facts, but no model.

    It speaks the wire format of an OpenAI-compatible gateway, opens the images, sounds and videos that it is
    sent, measures them and counts their tokens. It fetches whatever http(s) URL it is asked about, so do not
    offer it to people you do not know. Ctrl-C stops it.

    Faults are drawn by lot: --fault overloaded=0.02 --fault reset=0.01 makes a bad night.
    """
    api_key = None if api_key_file is None else _read_key(api_key_file)

    def announce(base_url: str) -> None:
        click.echo(f"The embedded endpoint listens at {base_url} (Ctrl-C stops it). Try it with:")
        click.echo(f"  {_example_command(base_url, api_key_file)}")

    server = serve_embedded(host, port, api_key, schema_fault, Trouble(**trouble))
    try:
        asyncio.run(_serve_until_stopped(server, announce))
    except OSError as error:
        raise click.UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    except KeyboardInterrupt:
        pass  # only where the loop takes no signal handlers: stopping is how a server ends


def _faults(values: Sequence[str]) -> dict[Fault, float]:
    faults: dict[Fault, float] = {}
    for value in values:
        name, _, told = value.partition("=")
        fault = next((one for one in FAULTS if one == name), None)
        try:
            share = float(told)
        except ValueError:
            share = -1.0
        if fault is None or not 0 <= share <= 1:
            raise click.UsageError(
                f"--fault {value!r}: NAME=SHARE, as in overloaded=0.02; the names are {', '.join(FAULTS)}"
            )
        faults[fault] = share
    if sum(faults.values()) > 1 + 1e-9:
        raise click.UsageError("--fault: the shares are more than 1 together")
    return faults


async def _serve_until_stopped(
    server: AbstractAsyncContextManager[str], announce: Callable[[str], None]
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stopped.set)
        except NotImplementedError:  # Windows: KeyboardInterrupt ends the loop instead
            break
    async with server as base_url:
        announce(base_url)
        await stopped.wait()


def _read_key(path: Path) -> str:
    key = path.read_text(encoding="utf-8").strip()
    if not key:
        raise click.UsageError(f"the key file {path} is empty")
    return key


def _example_command(base_url: str, api_key_file: Path | None) -> str:
    """A line to paste; the manifest is the shipped one, wherever mediabatch is installed."""
    manifest = os.path.relpath(str(files("data") / "manifests" / "example.csv"))
    command = ["mediabatch", "run", manifest, "--base-url", base_url]
    if api_key_file is not None:
        return shlex.join([*command, "--api-key-file", str(api_key_file)])
    return f"MEDIABATCH_API_KEY=any {shlex.join(command)}"
