"""Answering requests side by side: one that takes long holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import nats.errors
from nats.aio.msg import Msg

from schemas.commands import Reply
from services.common import log
from services.common.bus import deadline

Answer = Callable[[bytes, Mapping[str, str]], Awaitable[bytes]]

INBOXES = ("_INBOX", "_R_.")
"""How the reply subjects of requests begin: a client's inbox, or what the server puts in its place between accounts."""


class Responder:
    """The requests that are being answered."""

    def __init__(self, service: str) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = log.get(service)

    def handle(self, message: Msg, subject: str, answer: Answer) -> None:
        """Send back what `answer` makes of a request on `subject` and of its headers. Never waits."""
        if not is_request(message.subject, message.reply, subject):
            self._log.warning("a message that is no request was ignored", subject=subject, about=message.subject)
            return
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
            await message.respond(await _answer(message.data, message.headers or {}, answer))
        except nats.errors.Error as error:
            reason = str(error) or repr(error)
            self._log.warning("an answer could not be sent", subject=message.subject, reason=reason)
        except Exception:
            self._log.exception("a request could not be answered", subject=message.subject)


def is_request(subject: str, reply: str, asked: str) -> bool:
    """Whether a message on a subscription to `asked` is a request that its sender may make.

    The server checks who may publish there. But it also writes there by itself for anybody who may read a stream or
    publish to one: a consumer delivers what is stored, under the stored message's own subject, to a subject of the
    reader's choice; and acknowledgements and answers of its API go to a reply subject of the sender's choice, without a
    reply subject themselves. Neither is a request.
    """
    return subject == asked and reply.startswith(INBOXES)


async def _answer(data: bytes, headers: Mapping[str, str], answer: Answer) -> bytes:
    if headers.get(deadline.ASK) == deadline.CLOCK:
        return str(deadline.now()).encode()
    try:
        deadline.check(headers)
    except deadline.LateError as error:
        return msgspec.json.encode(Reply(False, str(error)))
    return await answer(data, headers)
