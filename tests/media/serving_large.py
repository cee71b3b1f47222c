"""A media host in a process of its own: every path is a picture of so many bytes, a different one for each.

python -m tests.media.serving_large SIZE_BYTES       prints its port, and serves until it is killed
"""

from __future__ import annotations

import asyncio
import sys

from tests.media.contents import large_jpeg


async def serve(size_bytes: int) -> None:
    content = large_jpeg(size_bytes)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {size_bytes}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(head)
                writer.write(content)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
