"""The resources that the processes of replicas use, read from /proc (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from services.deployer.runtime.protocol import Usage

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
UNLIMITED = 1 << 62
"""Version 1 of cgroups writes a number near 2**63 where there is no limit."""


def measure(shims: Mapping[str, int]) -> dict[str, Usage]:
    """Return the resources of each replica, given the process ids of their shims.

    It looks at every process of the host, which takes some 20 microseconds each: call it in a thread.
    """
    stats = dict(_stats())
    replicas = {shim: replica for replica, shim in shims.items()}
    used: dict[str, Usage] = {}
    for pid, stat in stats.items():
        if pid not in replicas and (shim := _owner(pid, stats, replicas)):
            before = used.get(replicas[shim], Usage())
            limit = before.memory_limit or _limit(pid)
            used[replicas[shim]] = Usage(before.cpu + stat.cpu, before.memory + stat.memory, limit)
    return used


class _Stat:
    """The line of a process: `cpu` has its own seconds, and those of the children that it waited for."""

    __slots__ = ("cpu", "memory", "parent", "session")

    def __init__(self, fields: list[bytes]) -> None:
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.cpu = sum(map(int, fields[11:15])) / _TICKS
        self.memory = int(fields[21]) * _PAGE


def _stats() -> Iterable[tuple[int, _Stat]]:
    for name in os.listdir(_PROC):  # noqa: PTH208 # pathlib would double the time of this loop
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 # as above
                    line = file.read()
            except OSError:  # it has just ended
                continue
            yield int(name), _Stat(line[line.rindex(b")") + 2 :].split())


def _owner(pid: int, stats: Mapping[int, _Stat], shims: Mapping[int, str]) -> int:
    """Return the shim of a process, 0 if it has none.

    A shim leads a session. A process that has left the session is still a descendant, unless its parent has ended.
    """
    while stat := stats.get(pid):
        if stat.session in shims:
            return stat.session
        pid = stat.parent
    return 0


def _limit(pid: int) -> int | None:
    """Return the lowest limit of memory of a process's cgroups, None without one."""
    try:
        lines = (_PROC / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    found: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += _limits(_CGROUPS, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits(_CGROUPS / "memory", path, "memory.limit_in_bytes")
    return min(found, default=None)


def _limits(root: Path, path: str, name: str) -> Iterable[int]:
    """Yield the limits of a cgroup and of those above it."""
    folder = root / path.lstrip("/")
    for one in (folder, *folder.parents):
        if one.is_relative_to(root):
            try:
                limit = int((one / name).read_text())
            except (OSError, ValueError):  # "max", or a cgroup that this namespace does not show
                continue
            if limit < UNLIMITED:
                yield limit
