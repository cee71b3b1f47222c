"""`python -m tests.engines`: what is too long for a test. A thousand simulated workers at one limit, and with
the extra, twenty nodes of a real cluster killed in a row."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

import click

from tests.engines.clusters import small_cluster
from tests.engines.test_coordinator import use_of_the_limit
from tests.rehearsing import on_virtual_time


@on_virtual_time
async def play_at_a_limit(workers: int, rpm: int) -> None:
    used, refused, calls = await use_of_the_limit(workers, rpm, 2, 2.0)
    click.echo(
        f"{workers:,} workers, {rpm:,} requests a minute: {used:.4f} of them used, {refused:.4%} refused, "
        f"{calls:.2f} leases a second asked for by each"
    )


@click.command()
@click.option("--workers", default=1_000, show_default=True)
@click.option("--rpm", default=12_000, show_default=True)
@click.option("--kills", default=20, show_default=True)
@click.option("--items", default=12_000, show_default=True)
def main(workers: int, rpm: int, kills: int, items: int) -> None:
    play_at_a_limit(workers, rpm)
    if find_spec("ray") is None:
        click.echo("no nodes are killed: Ray is not installed")
        return
    from tests.engines.test_ray import check_kills

    with tempfile.TemporaryDirectory() as folder, small_cluster(2) as cluster:
        click.echo(check_kills(cluster, Path(folder), kills=kills, items=items))


if __name__ == "__main__":
    main(prog_name="python -m tests.engines")
