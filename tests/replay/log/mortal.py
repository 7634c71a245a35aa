"""`longshore`, killed as with `kill -9` in the middle of a step: `python -m tests.replay.log.mortal <step> <words>`.

The steps of an export are its writes to the file, of which the first half is done; those of an import are messages that
the bus has, whose acknowledgement is not heard of.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from itertools import count

from nats.js.api import PubAck

from services.cli.main import main
from services.common.bus.connection import Bus
from services.replay.log import importing, logfile
from services.replay.log.logfile import Record, Writer

STEPS = count(1)


def run(step: int) -> None:
    """The program with its remaining words."""
    put, send = Writer._put, importing._send

    def write(writer: Writer, data: bytes) -> None:
        if next(STEPS) < step:
            put(writer, data)
            return
        put(writer, data[: len(data) // 2])
        writer._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    async def publish(bus: Bus, identity: str, record: Record) -> asyncio.Future[PubAck]:
        waiting = await send(bus, identity, record)
        if next(STEPS) == step:
            await bus.client.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return waiting

    logfile.FRAME = 20_000
    setattr(Writer, "_put", write)  # noqa: B010 - in this process only
    importing._send = publish
    main()


if __name__ == "__main__":
    at = int(sys.argv.pop(1))
    run(at)
