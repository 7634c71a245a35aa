"""Opens the streams of output that a person asks a deployer for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import msgspec

from schemas import codec, subjects
from schemas.output import Opened, OutputRequest, ReadLogs
from services.common.errors import LongshoreError
from services.common.process.lifecycle import Context
from services.common.streaming.producer import Streams, Work
from services.deployer.output import log_stream
from services.deployer.runtime.protocol import Runtime


class OutputServer:
    """The streams of one application on this host."""

    def __init__(self, context: Context, app: str, runtime: Runtime) -> None:
        self._context = context
        self._app = app
        self._runtime = runtime
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


@contextlib.asynccontextmanager
async def serving(context: Context, app: str, runtime: Runtime) -> AsyncIterator[None]:
    """Answer requests for output inside. The streams end when the service stops."""
    server = OutputServer(context, app, runtime)
    await context.bus.respond(subjects.output("deployer", app, context.host), server.answer)
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
