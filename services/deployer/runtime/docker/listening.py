"""Whether a container listens on a port.

A connection to a published port proves nothing: the engine's own proxy accepts it, and then finds nobody behind.
"""

from __future__ import annotations

from pathlib import Path

_LISTEN = "0A"  # TCP_LISTEN of the kernel, as proc(5) tells it


def listens(pid: int, port: int) -> bool:
    """Whether somebody listens in the network namespace of a process; yes, too, if that cannot be seen from here."""
    tables = [text for name in ("tcp", "tcp6") if (text := _read(pid, name)) is not None]
    return not tables or any(_has_listener(text, port) for text in tables)


def _has_listener(table: str, port: int) -> bool:
    for line in table.splitlines()[1:]:
        _, local, _, state = line.split()[:4]
        if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
            return True
    return False


def _read(pid: int, name: str) -> str | None:
    try:
        return Path(f"/proc/{pid}/net/{name}").read_text()
    except OSError:
        return None
