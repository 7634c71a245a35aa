"""Permission errors: the server sends them apart from the request, which itself gets no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from services.common import tasks
from services.common.errors import DeniedError

T = TypeVar("T")

_INBOX = "_inbox"


class PermissionErrors:
    """The requests in flight, to which the server's permission errors are matched."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._waiting: list[tuple[str, asyncio.Future[str]]] = []

    def on_denied(self, subject: str) -> bool:
        """Fail the requests on a refused subject. Return whether there were any."""
        found = [one for name, one in self._waiting if name in subject.lower() or _INBOX in subject.lower()]
        for waiting in found:
            if not waiting.done():
                waiting.set_result(subject)
        return bool(found)

    async def unless_denied(self, name: str, call: Awaitable[T]) -> T:
        """Await a call that uses subjects with `name`. Raises DeniedError as soon as one of them is refused."""
        working = asyncio.ensure_future(call)
        denied: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        entry = (name.lower(), denied)
        self._waiting.append(entry)
        try:
            waiting: set[asyncio.Future[Any]] = {working, denied}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise DeniedError(self._service, denied.result())
            return working.result()
        finally:
            self._waiting.remove(entry)
            await tasks.cancel(working)
