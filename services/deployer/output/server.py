"""Opens the streams of output that a person asks a deployer for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import msgspec

from schemas import codec, subjects
from schemas.output import Execute, Opened, OutputRequest, ReadLogs, RunTask
from services.common.errors import LongshoreError
from services.common.process.lifecycle import Context
from services.common.streaming.producer import Streams, Work
from services.deployer.output import log_stream
from services.deployer.output.sessions import Sessions
from services.deployer.runtime.protocol import Runtime
from services.deployer.settings import DeployerSettings


class OutputServer:
    """The streams of one application on this host."""

    def __init__(self, context: Context, settings: DeployerSettings, runtime: Runtime, sessions: Sessions) -> None:
        app = settings.app
        self._app = app
        self._has_exec = not settings.no_exec
        self._runtime = runtime
        self._sessions = sessions
        self._streams = Streams(
            context.bus, lambda stream: subjects.output_stream("deployer", app, context.host, stream)
        )

    async def answer(self, payload: bytes, _: Mapping[str, str]) -> bytes:
        """Open a stream, and return the encoded Opened. Never raises for the content of a request."""
        try:
            request: OutputRequest = codec.value(payload, OutputRequest)
            opened = Opened(True, "", await self._streams.open(self._work(request)))
        except msgspec.MsgspecError as error:
            opened = Opened(False, f"not a request for output: {error}")
        except LongshoreError as error:
            opened = Opened(False, str(error))
        return msgspec.json.encode(opened)

    async def close(self) -> None:
        """End all streams."""
        await self._streams.close(f"the deployer of {self._app} stops")

    def _work(self, request: OutputRequest) -> Work:
        match request:
            case ReadLogs():
                return lambda stream: log_stream.read(stream, self._runtime.outputs, request)
            case _ if not self._has_exec:
                raise LongshoreError(f"{self._app} was started with --no-exec: it runs no commands of people")
            case _ if not (request.command and request.command[0]):
                raise LongshoreError("the command is missing: name it after --")
            case Execute():
                return lambda stream: self._sessions.execute(stream, request)
            case RunTask():
                return lambda stream: self._sessions.run(stream, request)


@contextlib.asynccontextmanager
async def serving(
    context: Context, settings: DeployerSettings, runtime: Runtime, sessions: Sessions
) -> AsyncIterator[None]:
    """Answer requests for output inside. The streams end when the service stops."""
    server = OutputServer(context, settings, runtime, sessions)
    await context.bus.respond(subjects.output("deployer", settings.app, context.host), server.answer)
    stopping = asyncio.create_task(_close_at_stop(context, server), name="end streams")
    try:
        yield
    finally:
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        await server.close()


async def _close_at_stop(context: Context, server: OutputServer) -> None:
    """End the streams as soon as the service stops, not after its replicas were stopped."""
    await context.stopping.wait()
    await server.close()
