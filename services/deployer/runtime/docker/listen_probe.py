"""The probe that asks a container itself on its port.

A connection to a published port proves nothing: the engine's own proxy accepts it, and then finds nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import sys
from pathlib import Path

import msgspec

_LISTEN = "0A"  # TCP_LISTEN of the kernel, as proc(5) names it
_WILDCARDS = {"0.0.0.0", "::"}  # bound by servers that can be reached from outside
_REMOTE = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ETIMEDOUT)
"""Errors of a dial for which the other side is at fault. This host causes all others."""
KEPT = 0.5
"""Seconds for which a connection must stay open: an engine's proxy that finds nothing behind closes it in a few ms."""


class Place(msgspec.Struct, frozen=True):
    """The address at which a container is probed.

    `own`, `gateway`: its address in its network, and this host's there, as the engine names them; empty if unknown.
    `port`: the container's port; `published`: where the engine publishes it.
    """

    pid: int
    port: int
    own: str = ""
    gateway: str = ""
    published: tuple[str, int] = ("", 0)


async def problem(place: Place, timeout: float) -> str:
    """Return why a container does not answer on its port, empty if it does. Takes `timeout` seconds at most.

    The container's own address is dialed where this host is in its network. Elsewhere (an engine with networks of its
    own) its table of sockets decides, and where that cannot be read, a published connection that is kept open.
    """
    failure = await _dial(place, timeout) if _is_near(place) else None
    if failure == "":
        return ""
    found = await asyncio.to_thread(listeners, place.pid, place.port)
    if found is None:
        return f"does not answer on port {place.port}: {failure}" if failure else await _is_kept(place, timeout)
    return explain(found, place) or (f"does not answer on {place.own} port {place.port}: {failure}" if failure else "")


def explain(found: set[str], place: Place) -> str:
    """Return why a server that listens on these addresses cannot be reached, empty if it can."""
    if not found:
        return f"does not listen on port {place.port}"
    if found & _WILDCARDS or place.own in found:
        return ""
    return f"listens on {', '.join(sorted(found))} inside the container only; bind 0.0.0.0"


def listeners(pid: int, port: int) -> set[str] | None:
    """Return the addresses that listen on a port in the network namespace of a process; None if that is unknown."""
    tables = [text for name in ("tcp", "tcp6") if (text := _read(pid, name)) is not None]
    return {address for text in tables for address in _listening(text, port)} if tables else None


def _listening(table: str, port: int) -> list[str]:
    rows = (line.split()[1:4] for line in table.split("\n")[1:] if line)
    found = (local.split(":") for local, _, state in rows if state == _LISTEN)
    return [_address(number) for number, at in found if int(at, 16) == port]


def _address(number: str) -> str:
    """Parse an address as the kernel prints it: words of 32 bits, each in the byte order of this machine."""
    words = [int(number[index : index + 8], 16) for index in range(0, len(number), 8)]
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    address = ipaddress.ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _read(pid: int, name: str) -> str | None:
    try:
        return Path(f"/proc/{pid}/net/{name}").read_text()
    except OSError:
        return None


def _is_near(place: Place) -> bool:
    """Return True if this host is the gateway of the container's network: then a dial arrives as the engine's."""
    if not place.own or not place.gateway:
        return False
    family = socket.AF_INET6 if ":" in place.own else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as route:
            route.connect((place.own, place.port))  # sends nothing: the kernel only chooses a way
            return bool(route.getsockname()[0] == place.gateway)
    except OSError:
        return False


async def _dial(place: Place, timeout: float) -> str | None:
    """Dial the container's own address. Return the error, empty if it answers, None if this host was at fault."""
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(place.own, place.port)
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return (error.strerror or "").lower() or "error" if error.errno in _REMOTE else None
    await _close(writer)
    return ""


async def _is_kept(place: Place, timeout: float) -> str:
    """Return the problem of the published port, as far as it shows from outside; empty if there is none."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(*place.published)
    except OSError:
        return ""  # health sees the same, and says why
    try:
        async with asyncio.timeout(KEPT):
            is_open = bool(await reader.read(1))
    except TimeoutError:
        is_open = True
    except OSError:
        is_open = False
    finally:
        await _close(writer)
    return "" if is_open else f"closes every connection to port {place.port} at once: nothing listens behind it"


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
