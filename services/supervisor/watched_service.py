"""A watchdog for a single service, in a container or a unit of its own: it ends when the service ends or hangs.

The container engine or systemd restarts it. For all services of a host, the supervisor does this.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from services.common.process.child import Child, describe_exit
from services.common.process.lifecycle import ignore_hangup
from services.common.process.own_module import own_module

WATCHED = ("proxy", "health", "deployer", "gateway")
"""The services that send watchdog pings; any other command replaces this process."""


def main() -> None:
    """Run `longshore` with the arguments of this process, and exit as it does."""
    words = sys.argv[1:]
    program = own_module("cli.main", *words)
    if not words or words[0] not in WATCHED:
        os.execv(sys.executable, program)
    sys.exit(asyncio.run(_run(words[0], program)))


async def _run(name: str, program: Sequence[str]) -> int:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def note(_child: Child, code: int) -> bool:
        ended.set_result(code)
        return False

    child = Child(name, program, on_exit=note, has_watchdog=True)
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    loop.add_signal_handler(signal.SIGHUP, ignore_hangup, name)
    await child.start()
    passing_on = asyncio.create_task(_pass_on(asked, child))
    code = await ended
    passing_on.cancel()
    await child.stop(0)
    if code < 0:
        print(f"longshore-watch: {name} was {describe_exit(code)}", file=sys.stderr)
    return code if code >= 0 else 128 - code


async def _pass_on(asked: asyncio.Event, child: Child) -> None:
    """Stop the service when this process is asked to stop. The timeout is that of the container engine or systemd."""
    await asked.wait()
    if child.pid:
        os.kill(child.pid, signal.SIGTERM)


if __name__ == "__main__":
    main()
