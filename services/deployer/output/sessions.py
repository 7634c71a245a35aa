"""Commands that a person runs in a replica or beside it, recorded from their begin to their end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable

from schemas.events import UNSEEN, Event, SessionClosed, SessionOpened
from schemas.output import Execute, RunTask
from schemas.routing import Artifact
from services.common.errors import LongshoreError
from services.common.ids import uuid7
from services.common.streaming.messages import End
from services.common.streaming.producer import Stream
from services.deployer.output import session_stream
from services.deployer.runtime.options import Options
from services.deployer.runtime.protocol import Runtime, Session, Spec

TASK_SLOT = -1
"""The slot of a task: it has none among the replicas."""


class Sessions:
    """The commands of one application on this host."""

    def __init__(
        self,
        app: str,
        runtime: Runtime,
        record: Callable[[Event], None],
        current: Callable[[], Awaitable[tuple[str, Artifact, Options]]],
        release_of: Callable[[str], str | None],
    ) -> None:
        """Prepare. `current` returns the release that runs, with its options.

        `release_of` returns the release of a running replica, None if it is unknown.
        """
        self._app = app
        self._runtime = runtime
        self._record = record
        self._current = current
        self._release_of = release_of

    async def execute(self, stream: Stream, request: Execute) -> End:
        """Run a command in a replica."""
        release = self._release_of(request.replica)
        if release is None:
            raise LongshoreError(f"no replica {request.replica!r} runs here: `longshore status` lists those that do")
        session = uuid7()
        return await self._recorded(
            stream, session, request, release, request.replica, self._runtime.commands.execute(session, request)
        )

    async def run(self, stream: Stream, request: RunTask) -> End:
        """Run a command as a task of its own in the current release."""
        release, artifact, options = await self._current()
        task = f"{self._app}-task-{secrets.token_hex(4)}"
        spec = Spec(task, self._app, release, TASK_SLOT, artifact, options)
        session = uuid7()
        return await self._recorded(
            stream, session, request, release, task, self._runtime.commands.run(session, spec, request)
        )

    async def _recorded(
        self,
        stream: Stream,
        session: str,
        request: Execute | RunTask,
        release: str,
        replica: str,
        starting: Awaitable[Session],
    ) -> End:
        began = time.monotonic()
        self._record(
            SessionOpened(
                time.time(),
                session=session,
                kind=str(request.__struct_config__.tag),
                by=request.by,
                release=release,
                replica=replica,
                program=request.command[0],
                terminal=bool(request.terminal),
            )
        )
        end = End(UNSEEN, "ended with its reader, or with the deployer")
        try:
            end = await session_stream.serve(stream, await starting)
        except LongshoreError as error:
            end = End(UNSEEN, str(error))
            raise
        finally:
            took = time.monotonic() - began
            self._record(SessionClosed(time.time(), session=session, code=end.code, duration=took, reason=end.reason))
        return end
