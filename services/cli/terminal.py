"""The user's terminal and standard input, for commands that run elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Awaitable, Callable, Iterator

CHUNK = 1 << 14
ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a program without a word to it unless it handles them; the terminal would stay raw."""


@contextlib.contextmanager
def raw() -> Iterator[None]:
    """Pass every key on inside, also Ctrl-C. The terminal is restored on every way out, also when a signal ends us."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task
    tty.setraw(descriptor)
    for number in ENDING:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number in ENDING:
            loop.remove_signal_handler(number)


def size() -> tuple[int, int]:
    """Return the rows and columns of the terminal."""
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    return rows, columns


@contextlib.contextmanager
def resizes(changed: Callable[[int, int], None]) -> Iterator[None]:
    """Call `changed` with rows and columns whenever the size of the terminal changes."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, lambda: changed(*size()))
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


def feed(write: Callable[[bytes], Awaitable[None]]) -> asyncio.Future[None]:
    """Pass standard input to `write`, and empty bytes at its end. The future ends with it.

    A thread reads, because a file or a device cannot be watched by an event loop. It ends with the program: nothing
    can interrupt its read.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        with contextlib.suppress(RuntimeError, OSError, asyncio.CancelledError):  # the loop is closed: we end
            while True:
                data = os.read(0, CHUNK)
                asyncio.run_coroutine_threadsafe(_written(write, data), loop).result()
                if not data:
                    break

    async def _written(write: Callable[[bytes], Awaitable[None]], data: bytes) -> None:
        try:
            await write(data)
        except Exception as error:
            if not done.done():
                done.set_exception(error)
            raise
        if not data and not done.done():
            done.set_result(None)

    threading.Thread(target=read, name="standard input", daemon=True).start()
    return done
