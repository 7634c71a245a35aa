"""Release folders for tests: tiny real programs."""

from __future__ import annotations

import sys
from pathlib import Path

PYTHON = f"#!{sys.executable} -IS\n"

SERVER = (
    PYTHON
    + """
import os, socket
listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(os.environ["LONGSHORE_RELEASE"].encode())
    connection.close()
"""
)
"""Answers every connection with the name of its release."""

STUBBORN = (
    PYTHON
    + """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
print("ready", os.getpid(), flush=True)
while True:
    time.sleep(60)
"""
)
"""Two processes that ignore SIGTERM."""

POLITE = SERVER.replace(
    "while True:",
    """import signal, pathlib
def close(number, frame):
    listener.close()
    print("closes after signal", number, flush=True)
    while not pathlib.Path("leave").exists():
        signal.sigtimedwait([], 0.02)
    os._exit(0)
signal.signal(signal.SIGUSR1, close)
while True:""",
)
"""Closes its listener on SIGUSR1, and ends when there is a file `leave` in its folder."""

CRASHING = "#!/bin/sh\necho 'no database'; exit 3\n"


def release(registry: Path, version: str, program: str = SERVER) -> Path:
    """Offer a release: the folder appears whole, with an executable `run`."""
    new = registry / f".{version}.new"
    new.mkdir(parents=True)
    run = new / "run"
    run.write_text(program)
    run.chmod(0o755)
    return new.rename(registry / version)
