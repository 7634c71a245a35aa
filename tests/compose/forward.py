"""The deployer's entry point in the test: it sees the registry where the engine sees it, on a port of 127.0.0.1.

Only there the engine pulls without TLS. A child process forwards the port to the registry's container; this process
becomes `longshore`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys


async def forward(listener: socket.socket) -> None:
    async with await asyncio.start_server(connect, sock=listener) as server:
        await server.serve_forever()


async def connect(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
    registry, to_registry = await asyncio.open_connection("registry", 5000)
    await asyncio.gather(copy(client, to_registry), copy(registry, to_client))


async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(1 << 16):
        target.write(data)
        await target.drain()
    target.close()


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", int(os.environ["REGISTRY_PORT"])))
    if os.fork() == 0:
        asyncio.run(forward(listening))
    os.execvp("longshore", ["longshore", *sys.argv[1:]])
