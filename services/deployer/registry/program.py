"""Reasons why an executable file cannot be executed: the system says "No such file" of a file that exists."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_HEAD = 256
"""Bytes that the kernel looks at (BINPRM_BUF_SIZE)."""


def first_line_flaw(run: Path) -> str:
    """Return the flaw of a script's first line; empty if it has none, or if the file is no script."""
    line = _first_line(run)
    interpreter = _interpreter(line)
    if line.endswith(b"\r"):
        return f"{run} has Windows line ends (CRLF), so its interpreter is not found: save it with LF, as by dos2unix"
    if interpreter and not _is_here(interpreter, run.parent):
        return f"{run} names the interpreter {interpreter}, which is not here: install it, or correct the first line"
    return ""


def why_not_executed(run: Path, error: str) -> str:
    """Return the system's error for a file that it could not execute, with a remedy where one is known."""
    if flaw := first_line_flaw(run):
        return flaw
    head = _first_line(run)
    if error == os.strerror(errno.ENOEXEC):
        advice = "begin it with a line such as #!/bin/sh, or build it for this machine"
        return f"{error}: {run} has no #! line and is no program of this machine; {advice}"
    if error == os.strerror(errno.ENOENT) and head.startswith(b"\x7fELF"):
        return f"{error}: the loader or C library that {run} was built for is not here; build it for this system"
    return error


def _first_line(run: Path) -> bytes:
    """Return the part of the first line that the kernel looks at; empty if it cannot be read."""
    try:
        with run.open("rb") as file:
            return file.read(_HEAD).split(b"\n")[0]
    except OSError:
        return b""


def _interpreter(line: bytes) -> str:
    """Return the program that executes a script with this first line: the one that `env` finds, if it names env."""
    words = os.fsdecode(line.removeprefix(b"#!")).split() if line.startswith(b"#!") else []
    if len(words) > 1 and Path(words[0]).name == "env" and not words[1].startswith("-") and "=" not in words[1]:
        return words[1]
    return words[0] if words else ""


def _is_here(interpreter: str, folder: Path) -> bool:
    """Return True if an interpreter exists: a path relative to the replica's working folder, or a name on PATH."""
    if "/" in interpreter:
        return (folder / interpreter).exists()
    return shutil.which(interpreter) is not None
