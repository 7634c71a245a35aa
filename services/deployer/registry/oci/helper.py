"""Docker's credential helpers: programs docker-credential-NAME that keep secrets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Mapping

import msgspec

from services.common.errors import RegistryError
from services.common.process.environment import foreign

TIMEOUT = 10.0

_UNKNOWN = "credentials not found"


class Secret(msgspec.Struct, frozen=True):
    """The credentials that a helper keeps for a server. Empty: none."""

    username: str | None = msgspec.field(default="", name="Username")
    secret: str | None = msgspec.field(default="", name="Secret")

    def __repr__(self) -> str:
        return f"<secret of {self.username}>"


async def ask(name: str, server: str, environment: Mapping[str, str], timeout: float = TIMEOUT) -> Secret:
    """Return the credentials that a helper keeps for a server. Raises RegistryError if it does not answer properly."""
    program = f"docker-credential-{name}"
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise RegistryError(f"{program!r} is not the name of a program")
    try:
        async with asyncio.timeout(timeout):
            code, output = await _run(program, server, environment)
    except TimeoutError:
        raise RegistryError(f"{program} gave no answer within {timeout:g} s") from None
    except OSError as error:
        raise RegistryError(f"{program} cannot be started ({error.strerror})") from None
    if code:
        if _UNKNOWN in output.decode(errors="replace"):
            return Secret()
        raise RegistryError(f"{program} failed with exit code {code}")
    try:
        return msgspec.json.decode(output, type=Secret)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise RegistryError(f"{program} answered something other than credentials") from None


async def _run(program: str, server: str, environment: Mapping[str, str]) -> tuple[int, bytes]:
    """Run `PROGRAM get` with the server on its standard input. Return its exit status and standard output.

    It may need any variable, for instance those of a cloud, but none of ours, some of which are secrets.

    Cancelled, it kills the program with all its children.
    """
    process = await asyncio.create_subprocess_exec(
        program,
        "get",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=foreign(environment),
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate(server.encode())
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
        raise
    return process.returncode or 0, output
