"""The servers of the tests close every connection, in whatever step of its acceptance they end."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.support.streams import listening
from tests.support.streams import no_stream_left as no_stream_left


async def wait(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize("turns", range(8))
async def test_a_server_that_ends_so_many_turns_after_a_connection_leaves_nothing_open(turns: int) -> None:
    with socket.socket() as client:
        async with listening(wait) as port:
            client.connect(("127.0.0.1", port))  # completed by the kernel, before the server knows of it
            for _ in range(turns):
                await asyncio.sleep(0)
