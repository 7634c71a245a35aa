"""The user's terminal and standard input, for commands that run elsewhere."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Awaitable, Callable, Iterator

import typer

CHUNK = 1 << 14
ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a program without a word to it unless it handles them; the terminal would stay raw."""


@contextlib.contextmanager
def raw() -> Iterator[None]:
    """Pass every key on inside, also Ctrl-C. The terminal is restored on every way out.

    Raises typer.Exit, with the exit code that a shell has for it, when a signal ends the program inside.
    """
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task
    received: list[int] = []

    def end(number: int) -> None:
        if not received:
            received.append(number)
            task.cancel()

    tty.setraw(descriptor)
    for number in ENDING:
        loop.add_signal_handler(number, end, number)
    try:
        yield
    except asyncio.CancelledError:
        if not received:
            raise
        task.uncancel()
        raise typer.Exit(128 + received[0]) from None
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
    """Pass standard input to `write`, and empty bytes at its end. The future ends with it, or with an error of `write`.

    A thread reads, because a file or a device cannot be watched by an event loop. It ends with the program: nothing
    can interrupt its read.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        # The program ends: the loop is closed, or has cancelled the call. Or there is no standard input.
        with contextlib.suppress(RuntimeError, OSError, concurrent.futures.CancelledError):
            while True:
                data = os.read(0, CHUNK)
                if not asyncio.run_coroutine_threadsafe(written(data), loop).result():
                    break

    async def written(data: bytes) -> bool:
        """Return True if more input is wanted."""
        try:
            await write(data)
        except Exception as error:
            if not done.done():
                done.set_exception(error)
        if not data and not done.done():
            done.set_result(None)
        return not done.done()

    threading.Thread(target=read, name="standard input", daemon=True).start()
    return done
