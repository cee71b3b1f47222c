"""`mediabatch init`: a commented config file to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

from jobs.options import Fault, plainly


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=Path("nightly.toml"))
@plainly
def init(file: Path) -> None:
    """Write FILE (nightly.toml where none is named): the settings of a night, with what each is for.

    A file that is there already is left alone.
    """
    text = (files("data") / "nightly.toml").read_text("utf-8")
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise Fault(f"{file} is there already, and is left as it is; name another file") from None
    except OSError as error:
        raise Fault(f"{file}: cannot be written ({error.strerror})") from None
    click.echo(f"wrote {file}; put your endpoint into it, then: mediabatch run MANIFEST --config {file}")
