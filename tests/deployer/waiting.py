"""Waiting for what must become true, and looking at processes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.support.patience import patience

T = TypeVar("T")

DEADLINE = patience(30.0)


async def eventually(condition: Callable[[], T]) -> T:
    """What the condition gives as soon as that is true. Fails after a deadline."""
    async with asyncio.timeout(DEADLINE):
        while True:
            if found := condition():
                return found
            await asyncio.sleep(0.01)


def answer(port: int) -> str:
    """What a test server says on a port of loopback; empty when nobody listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            return connection.recv(100).decode()
    except ConnectionError:
        return ""


def proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()
