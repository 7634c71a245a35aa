"""The stream of a command that a person runs: its output, its input, and its exit code."""

from __future__ import annotations

import asyncio
import contextlib

from schemas.output import encode_output
from services.common.streaming.messages import End
from services.common.streaming.producer import Stream
from services.deployer.runtime.protocol import Session


async def serve(stream: Stream, session: Session) -> End:
    """Connect a command with the reader of a stream, until it ends. The command is killed when this is cancelled.

    The code of the end is the exit code as a shell has it: 128+N for signal N.
    """
    feeding = asyncio.create_task(_feed(stream, session), name="input")
    try:
        async with contextlib.aclosing(session.output()) as output:
            async for source, data in output:
                await stream.send(encode_output(source, data))
        code = await session.wait()
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await session.close()
    return End(code if code >= 0 else 128 - code)


async def _feed(stream: Stream, session: Session) -> None:
    while True:
        message = await stream.receive()
        if message.data:
            await session.write(message.data)
        if message.is_end:
            await session.end_input()
        if message.rows and message.columns:
            await session.resize(message.rows, message.columns)
