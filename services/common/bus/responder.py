"""Concurrent answers to requests: a slow request delays no other."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import nats.errors
from nats.aio.msg import Msg

from schemas.commands import Reply
from services.common import log
from services.common.bus import deadline

Answer = Callable[[bytes, Mapping[str, str]], Awaitable[bytes]]

INBOXES = ("_INBOX", "_R_.")
"""The prefixes of reply subjects: a client's inbox, or the server's replacement for it between accounts."""


class Responder:
    """The requests in progress."""

    def __init__(self, service: str) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = log.get(service)

    def handle(self, message: Msg, subject: str, answer: Answer, is_repeatable: bool = False) -> None:
        """Start to answer a request on `subject` with the result of `answer`. Never waits.

        `is_repeatable`: requests need no deadline.
        """
        if not is_request(message.subject, message.reply, subject):
            self._log.warning("a message that is no request was ignored", subject=subject, about=message.subject)
            return
        task = asyncio.create_task(self._send(message, answer, is_repeatable), name=f"answer on {message.subject}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel the requests in progress."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, message: Msg, answer: Answer, is_repeatable: bool) -> None:
        answering = answer if is_repeatable else functools.partial(_answer_in_time, answer)
        try:
            await message.respond(await answering(message.data, message.headers or {}))
        except nats.errors.Error as error:
            reason = str(error) or repr(error)
            self._log.warning("an answer could not be sent", subject=message.subject, reason=reason)
        except Exception:
            self._log.exception("a request could not be answered", subject=message.subject)


def is_request(subject: str, reply: str, asked: str) -> bool:
    """Report whether a message on a subscription to `asked` is a request that its sender may make.

    The server checks which accounts publish there. But it also writes there itself for an account that may read a
    stream or publish to one: a consumer delivers stored messages, under their own subjects, to a subject of the
    reader's choice; and acknowledgements and answers of its API go to a reply subject of the sender's choice, without a
    reply subject themselves. Neither is a request.
    """
    return subject == asked and reply.startswith(INBOXES)


async def _answer_in_time(answer: Answer, data: bytes, headers: Mapping[str, str]) -> bytes:
    if headers.get(deadline.ASK) == deadline.CLOCK:
        return str(deadline.now()).encode()
    try:
        deadline.check(headers)
    except deadline.LateError as error:
        return msgspec.json.encode(Reply(False, str(error)))
    return await answer(data, headers)
