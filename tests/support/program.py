"""The `longshore` program as a user calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = str(Path(sys.executable).with_name("longshore"))
DEADLINE = 120.0


def longshore(*words: str, stdin: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
    """The outcome of a command that ends with this exit code."""
    done = subprocess.run([PROGRAM, *words], input=stdin, capture_output=True, timeout=DEADLINE, check=False)
    assert done.returncode == code, done.stderr.decode()
    return done


def fails(*words: str, code: int = 1) -> str:
    """The one line that a command says that fails."""
    (line,) = [
        one for one in longshore(*words, code=code).stderr.decode().splitlines() if one.startswith("longshore: ")
    ]
    return line
