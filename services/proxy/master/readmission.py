"""Readmission: one dial of an ejected backend before any client is sent there."""

from __future__ import annotations

import asyncio
import socket

from services.proxy.master.pool import Outcome
from services.proxy.worker.relay import dialing


async def dial(address: tuple[str, int], timeout: float) -> Outcome:
    """Connect to a backend and close the connection; return the outcome. Never raises."""
    sock, problem = dialing.dial(address)
    if sock is None:
        return _outcome(problem, at_once=True)
    with sock:
        if not problem:
            return "answered"
        try:
            async with asyncio.timeout(timeout):
                await _writable(sock)
        except TimeoutError:
            return "failed"
        return _outcome(dialing.answer(sock, address, has_error=True), at_once=False)


def _outcome(problem: int, at_once: bool) -> Outcome:
    if not problem:
        return "answered"
    return "failed" if dialing.fault(problem, at_once) else "blocked"


async def _writable(sock: socket.socket) -> None:
    """Wait until a dial has succeeded or failed."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_writer(sock, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_writer(sock)
