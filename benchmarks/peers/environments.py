"""The table of peers, and the environment of each: made on demand with venv and pip, in a folder that git
ignores. Direct requirements are pinned; what pip made of the rest stands beside the figures.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from benchmarks.contenders import Contender, Load
from benchmarks.measuring import Asked, measure_client

FOLDER: Final = Path(__file__).parent.parent / ".environments"
SDK: Final = "openai SDK and tenacity"
DELUGE: Final = "lm-deluge"
CURATOR: Final = "curator"
_INSTALL_WITHIN_S = 900


@dataclass(frozen=True, slots=True)
class Peer:
    """``one_in``: the others' items for one of its own; it is too slow for all, and its rate is compared.
    ``own_requests``: what it asks the endpoint besides.
    """

    module: str
    requirements: tuple[str, ...]
    one_in: int = 1
    own_requests: int = 0

    @property
    def folder(self) -> Path:
        """Another one for other requirements."""
        digest = sha256("\n".join((sys.version, *self.requirements)).encode()).hexdigest()[:8]
        return FOLDER / f"{self.module}-{digest}"

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    @property
    def freeze(self) -> Path:
        """Written last: with it, the environment is whole."""
        return self.folder / "freeze.txt"


PEERS: Mapping[str, Peer] = {
    DELUGE: Peer("deluge", ("lm-deluge==0.0.168", "orjson==3.13.0", "uvloop==0.23.0")),
    SDK: Peer("sdk", ("openai==3.54.0", "tenacity==9.2.1", "orjson==3.13.0"), one_in=10),
    CURATOR: Peer("curating", ("bespokelabs-curator==0.1.31", "orjson==3.13.0"), one_in=10, own_requests=1),
}


class CannotInstall(Exception):
    """pip could not make the environment: no network, or no such version any more."""


def contenders(*, install: bool) -> dict[str, Contender]:
    """Peers whose environment is there; with ``install``, those as well for which it can be made."""
    found = {}
    for name, peer in PEERS.items():
        if not peer.freeze.exists():
            if not install:
                print(f"{name}: not measured; it has no environment yet", flush=True)
                continue
            try:
                print(f"{name}: making its environment…", flush=True)
                make(peer)
            except CannotInstall as error:
                print(f"{name}: not measured; {error}", flush=True)
                continue
        found[name] = Contender(partial(_ask, peer), peer.own_requests)
    return found


def make(peer: Peer) -> None:
    """
    Raises:
        CannotInstall: with pip's last words.
    """
    shutil.rmtree(peer.folder, ignore_errors=True)
    FOLDER.mkdir(exist_ok=True)
    pip = [str(peer.python), "-m", "pip", "--disable-pip-version-check"]
    _run([sys.executable, "-m", "venv", str(peer.folder)])
    _run([*pip, "install", "--quiet", *peer.requirements])
    frozen = _run([*pip, "freeze"])
    peer.freeze.write_text(frozen, "utf-8")


def versions(names: Iterable[str]) -> dict[str, list[str]]:
    """What is installed beside each peer measured."""
    return {name: PEERS[name].freeze.read_text("utf-8").split() for name in names if name in PEERS}


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=_INSTALL_WITHIN_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(str(error)) from None
    if done.returncode:
        told = done.stderr.strip().splitlines() or ["no reason given"]
        raise CannotInstall(told[-1])
    return done.stdout


def _ask(peer: Peer, load: Load) -> Asked:
    items = max(1, load.items // peer.one_in)
    arguments = [load.base_url, str(items), str(load.concurrency)]
    return measure_client([str(peer.python), "-m", f"benchmarks.peers.{peer.module}", *arguments])
