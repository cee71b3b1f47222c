"""A made-up authority, and a server's certificate for 127.0.0.1 and localhost under it; see make.sh."""

from __future__ import annotations

import ssl
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER / "root.pem"


def server_context() -> ssl.SSLContext:
    """For `Server(tls=…)`: sends the intermediate certificate too, so clients need to trust only `ROOT`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(FOLDER / "server.pem", FOLDER / "server.key")
    return context
