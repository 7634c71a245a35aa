"""Output: data on stdout, as tables or as one JSON object a line; progress on stderr."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from services.cli.text.columns import table
from services.common.errors import LongshoreError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def delivered() -> Iterator[None]:
    """Flush the output at the end of the block. Raises LongshoreError when a disk is full."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in FULL:
            raise
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or Python would retry the buffered output at its exit
        raise LongshoreError(f"cannot write the output: {error.strerror}") from error


def print_json(values: Iterable[Any]) -> None:
    """Print each value as a JSON object on a line."""
    for value in values:
        sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
        sys.stdout.flush()


def width() -> int | None:
    """Return the width of the terminal; None when stdout is none, and nothing needs to fit."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], wide: bool = False, kept: Sequence[str] = ()
) -> None:
    """Print rows under headings. On a terminal, wide columns but `kept` ones are cut, unless it is to be `wide`."""
    for line in table(columns, rows, None if wide else width(), kept):
        sys.stdout.write(line + "\n")


def progress(text: str) -> None:
    """Print a line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def clock(seconds: float, fraction: bool = False) -> str:
    """Return a unix time as local date and time, with milliseconds if wanted; a dash for one outside the calendar."""
    try:
        whole = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
        return f"{whole}.{int(seconds % 1 * 1000):03}" if fraction else whole
    except (ValueError, OverflowError, OSError):
        return "-"
