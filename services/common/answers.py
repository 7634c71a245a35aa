"""Answering requests side by side: one that takes long holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import nats.errors
from nats.aio.msg import Msg

from services.common import log

Answer = Callable[[bytes, Mapping[str, str]], Awaitable[bytes]]


class Answers:
    """The requests that are being answered."""

    def __init__(self, service: str) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = log.get(service)

    def begin(self, message: Msg, answer: Answer) -> None:
        """Send back what `answer` makes of a request and of its headers. Never waits."""
        task = asyncio.create_task(self._send(message, answer), name=f"answer on {message.subject}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up those that are not done."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, message: Msg, answer: Answer) -> None:
        try:
            await message.respond(await answer(message.data, message.headers or {}))
        except nats.errors.Error as error:
            reason = str(error) or repr(error)
            self._log.warning("an answer could not be sent", subject=message.subject, reason=reason)
        except Exception:
            self._log.exception("a request could not be answered", subject=message.subject)
