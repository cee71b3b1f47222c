"""`python -m benchmarks.engines`: the two engines side by side on this machine.

The plain workload, and one in which each item has a photograph of 12 megapixels made smaller and sent inline.
The local engine is pinned to one core; Ray's has as many workers of one core each as are asked for, and the
command beside them.
Timed is the asking: from the first attempt to the last answer, as the store tells it.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import click
import polars as pl
from PIL import Image

from benchmarks import ours, work

SIZE_PX = (4_000, 3_000)


@contextmanager
def answering(latency_s: float) -> Iterator[str]:
    """The benchmarks' endpoint in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.server", "--latency-s", str(latency_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            server.terminate()


@contextmanager
def ray_cluster(workers: int) -> Iterator[str]:
    """A small one, with so many workers."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    sizes = {"object_store_memory": 80 * 1024 * 1024}
    head = {"num_cpus": workers, "include_dashboard": False, **sizes}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


def plain(folder: Path, items: int) -> Path:
    path = folder / "plain.parquet"
    urls = [work.media_urls(number) for number in range(items)]
    names = ("image_url", "audio_url", "video_url")
    pl.DataFrame(dict(zip(names, zip(*urls, strict=True), strict=True))).write_parquet(path)
    return path


def images(folder: Path, items: int) -> Path:
    """Photographs of noise, of 7 MB each; none like another, for what is alike is made smaller once."""
    dice = random.Random(7)
    small = (SIZE_PX[0] // 2, SIZE_PX[1] // 2)
    paths = []
    for number in range(items):
        path = folder / f"{number:04d}.jpg"
        noise = Image.frombytes("RGB", small, dice.randbytes(small[0] * small[1] * 3))
        noise.resize(SIZE_PX).save(path, quality=85)
        paths.append(str(path))
    manifest = folder / "images.parquet"
    pl.DataFrame({"image_url": paths}).write_parquet(manifest)
    return manifest


def asked_per_s(command: list[str], out: Path) -> float:
    done = subprocess.run(
        command, env={**os.environ, "MEDIABATCH_API_KEY": work.API_KEY}, capture_output=True, check=False
    )
    if done.returncode:
        raise click.ClickException(
            f"{command}: {done.returncode} {(done.stderr + done.stdout).decode()[-2_000:]}"
        )
    results = pl.scan_parquet(out / "results/**/*.parquet")
    told = results.select(
        (pl.col("finished_at").max() - pl.col("started_at").min()).dt.total_microseconds(), items=pl.len()
    ).collect()
    took_us, items = told.row(0)
    return float(items / took_us * 1e6)


@click.command()
@click.option("--rounds", default=3)
@click.option("--plain-items", default=20_000)
@click.option("--image-items", default=480)
@click.option("--latency-s", default=0.5)
def main(rounds: int, plain_items: int, image_items: int, latency_s: float) -> None:
    with tempfile.TemporaryDirectory() as name, answering(latency_s) as base_url:
        folder = Path(name)
        shrinking = ("--media", "inline", "--image-max-px", "1024", "--concurrency", "256")
        for workload, manifest, options, workers in (
            ("plain", plain(folder, plain_items), ("--concurrency", "1000"), 1),
            ("shrinking", images(folder, image_items), shrinking, 2),
        ):
            speeds: dict[str, list[float]] = {"local": [], "ray": []}
            with ray_cluster(workers) as address:
                for number in range(rounds):
                    for engine in speeds:
                        out = folder / f"{workload}-{engine}-{number}"
                        command = [*ours.command(manifest, base_url, out), *options]
                        if engine == "ray":
                            command += ["--engine", "ray", "--ray-address", address]
                        else:
                            command = ["taskset", "-c", "0", *command]
                        speeds[engine].append(asked_per_s(command, out))
            local, ray = median(speeds["local"]), median(speeds["ray"])
            told = {engine: [f"{one:,.0f}" for one in each] for engine, each in speeds.items()}
            click.echo(
                f"{workload}: {local:,.0f}/s local on one core, {ray:,.0f}/s ray with {workers} workers"
            )
            click.echo(f"  ratio {ray / local:.2f}; rounds {told}")


if __name__ == "__main__":
    main()
