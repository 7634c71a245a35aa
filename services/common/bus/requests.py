"""Requests: a command is sent only while the bus is connected, with a deadline that its responder honours."""

from __future__ import annotations

import asyncio

import nats.errors

from services.common.bus import deadline
from services.common.bus.nats_client import ReconnectingClient
from services.common.errors import BusError


async def request(
    client: ReconnectingClient, subject: str, payload: bytes, timeout: float, headers: dict[str, str]
) -> bytes:
    """Send a command and return the reply. Raises BusError: bus away, no responder, or no answer in time.

    After an error that says that nothing was sent or changed, nothing is changed later either.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    asking = {deadline.ASK: deadline.CLOCK}
    reading = _reading(subject, await _reply(client, subject, b"", timeout, timeout, asking))
    left = timeout - (loop.time() - began)
    until = reading.later(left - timeout * (1 - deadline.BEGIN_WITHIN))
    return await _reply(client, subject, payload, left, timeout, {**headers, deadline.DEADLINE: str(until)})


async def ask(client: ReconnectingClient, subject: str, payload: bytes, timeout: float) -> bytes:
    """Send a request that may be repeated, and return the reply. Raises BusError as `request` does."""
    return await _reply(client, subject, payload, timeout, timeout, {})


async def _reply(
    client: ReconnectingClient, subject: str, payload: bytes, left: float, timeout: float, headers: dict[str, str]
) -> bytes:
    if not client.is_connected:
        raise BusError("the bus is away: nothing was sent; ask again when it is back")
    try:
        return (await client.request(subject, payload, timeout=max(left, 0.0), headers=headers)).data
    except nats.errors.NoRespondersError:
        raise BusError(f"no deployer answers on {subject}: is it running?") from None
    except (nats.errors.Error, TimeoutError) as error:
        after = "; it is too late now to begin it, `longshore history` says whether it was begun"
        late = after if deadline.DEADLINE in headers else ""
        reason = str(error) or type(error).__name__
        raise BusError(f"no answer on {subject} within {timeout:g} s: {reason}{late}") from None


def _reading(subject: str, data: bytes) -> deadline.Reading:
    try:
        return deadline.parse(data.decode())
    except ValueError:
        raise BusError(
            f"what answers on {subject} knows no deadlines: upgrade its deployer; nothing was sent"
        ) from None
