"""Notices through the apprise library, in a process of its own.

Its hundreds of services come with 20 MB of modules and calls that block; a process takes both with it when it ends,
and can be killed at a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess

import msgspec

from services.common.process import environment
from services.common.process.child import set_parent_death_signal
from services.common.process.own_module import own_module
from services.deployer.notifications.errors import UndeliveredError
from services.deployer.notifications.notice import Notice
from services.deployer.notifications.target import Target

CHECK_TIMEOUT = 60.0


def flaws(targets: list[Target]) -> list[str]:
    """Return the problem of each target, empty if it has none."""
    urls = msgspec.json.encode([target.url for target in targets])
    try:
        done = subprocess.run(
            _command("check"),
            input=urls,
            capture_output=True,
            env=environment.own(os.environ),
            timeout=CHECK_TIMEOUT,
            check=True,
        )
        return msgspec.json.decode(done.stdout, type=list[str])
    except (subprocess.SubprocessError, msgspec.DecodeError, OSError):
        return ["the apprise library cannot be asked: is it installed?"] * len(targets)


async def deliver(target: Target, notice: Notice) -> None:
    """Send one notice. Raises UndeliveredError."""
    request = {"url": target.url, "title": title(notice), "text": notice.text, "level": notice.level}
    parent = os.getpid()
    process = await asyncio.create_subprocess_exec(
        *_command("send"),
        env=environment.own(os.environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # a traceback may hold the URL
        preexec_fn=lambda: set_parent_death_signal(parent, signal.SIGKILL),
        process_group=0,  # a terminal's signals are for the deployer
    )
    try:
        answer, _ = await process.communicate(msgspec.json.encode(request))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode:
        raise UndeliveredError(f"apprise ended with exit code {process.returncode}")
    if reason := msgspec.json.decode(answer, type=str):
        raise UndeliveredError(reason)


def title(notice: Notice) -> str:
    """Return the headline, with application and host for people who get notices of several."""
    return f"{notice.app} on {notice.host}: {notice.title}"


def _command(verb: str) -> list[str]:
    return own_module("deployer.notifications.apprise_process", verb)
