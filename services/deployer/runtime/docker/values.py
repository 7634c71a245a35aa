"""The values of `docker run` options. Each function raises ValueError, without the value, for an invalid one."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([bkmgtp]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {unit: 1024**power for power, unit in enumerate(("", "k", "m", "g", "t", "p"))} | {"b": 1}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}
_LIMITS = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc"),
    *("rss", "rtprio", "rttime", "sigpending", "stack"),
)
_PROPAGATIONS = {"shared", "slave", "private", "rshared", "rslave", "rprivate"}
_MODES = {"ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent"} | _PROPAGATIONS


def word(text: str) -> str:
    """Return a text that is not empty."""
    if not text or "\0" in text:
        raise ValueError("must not be empty")
    return text


def variable(text: str) -> str:
    """Return NAME=VALUE or NAME."""
    name = text.partition("=")[0]
    if not name or any(character.isspace() for character in name) or "\0" in text:
        raise ValueError("use NAME=VALUE, with a name without blanks; or NAME, to pass on a variable")
    return text


def pair(text: str) -> tuple[str, str]:
    """Split NAME=VALUE; the value may be missing."""
    name, _, value = text.partition("=")
    return word(name), value


def switch(text: str) -> bool:
    """Parse true or false."""
    if text not in ("true", "false"):
        raise ValueError("use true or false")
    return text == "true"


def size(text: str) -> int:
    """Return bytes."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError("use a number of bytes, or one with a unit: 512m, 1g")
    return int(Decimal(match[1]) * _UNITS[match[2].lower()])


def cpus(text: str) -> int:
    """Return billionths of a processor."""
    if not re.fullmatch(r"(?=\.?[0-9])[0-9]{0,6}(\.[0-9]{0,9})?", text) or not Decimal(text):
        raise ValueError("use a number of processors above 0, such as 1.5")
    return int(Decimal(text) * 10**9)


def count(text: str) -> int:
    """Return a whole number."""
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError("use a whole number")
    return int(text)


def integer(text: str) -> int:
    """Return a whole number, which may be below zero."""
    if not re.fullmatch("-?[0-9]{1,15}", text):
        raise ValueError("use a whole number")
    return int(text)


def size_or_unlimited(text: str) -> int:
    """Return bytes, -1 for no limit."""
    return -1 if text == "-1" else size(text)


def one_of(*known: str) -> Callable[[str], str]:
    """Return a function that takes one of these texts."""

    def convert(text: str) -> str:
        if text not in known:
            raise ValueError(f"use {' or '.join(known)}")
        return text

    return convert


def capability(text: str) -> str:
    """Return a capability by the name that the engine has for it: ALL, or CAP_ and its name."""
    name = word(text).upper()
    return name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"


def device(text: str) -> dict[str, str]:
    """Parse HOST-PATH, HOST-PATH:PATH or HOST-PATH:PATH:PERMISSIONS; HOST-PATH:PERMISSIONS is taken as well."""
    source, target, permissions = (*text.split(":"), "", "")[:3] if text.count(":") <= 2 else ("", "", "")
    if target and not permissions and _is_permission(target):
        target, permissions = "", target
    if not source.startswith("/") or not _is_permission(permissions or "rwm"):
        raise ValueError("use HOST-PATH:PATH:PERMISSIONS, with permissions of r, w and m, such as /dev/fuse")
    return {
        "PathOnHost": source,
        "PathInContainer": target or source,
        "CgroupPermissions": permissions or "rwm",
    }


def _is_permission(text: str) -> bool:
    return bool(re.fullmatch("[rwm]{1,3}", text)) and len(set(text)) == len(text)


def gpus(text: str) -> dict[str, Any]:
    """Parse all, a number, or device=ID,ID (which may be in quotes, as a shell passes them to Docker)."""
    request: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
    name, separator, ids = text.strip('"').partition("=")
    if text == "all":
        request["Count"] = -1
    elif separator and name == "device" and all(ids.split(",")):
        request["DeviceIDs"] = ids.split(",")
    else:
        request["Count"] = count(text)
    return request


def security(text: str) -> str:
    """Return an option of the engine's security. It must not name a file: Docker's client reads those."""
    name, separator, value = text.replace(":", "=", 1).partition("=")
    if name == "seccomp" and value not in ("unconfined", "builtin"):
        raise ValueError("a profile is a file that only Docker's client reads; set it as seccomp-profile of the engine")
    if not text or (not separator and name != "no-new-privileges"):
        raise ValueError("use NAME=VALUE or no-new-privileges, such as seccomp=unconfined")
    return text


def path_or_root(text: str) -> str:
    """Return an absolute path inside the container."""
    return text if text == "/" else path(text)


def duration(text: str) -> int:
    """Return nanoseconds."""
    parts = _DURATION.findall(text)
    if not parts or "".join(map("".join, parts)) != text:
        raise ValueError("use a duration with its unit, such as 500ms, 10s or 1m30s")
    return int(sum(float(number) * _NANOSECONDS[unit] for number, unit in parts))


def path(text: str) -> str:
    """Return a path inside the container."""
    if not text.startswith("/") or text == "/" or "\0" in text:
        raise ValueError("use an absolute path in the container, not its root")
    return text


def bind(text: str) -> str:
    """Return SOURCE:PATH or SOURCE:PATH:MODES."""
    source, target, modes = ([*text.split(":"), ""] if text.count(":") == 1 else text.split(":", 2))[:3]
    path(target)
    if not re.fullmatch(r"/[^\0]*|[A-Za-z0-9][A-Za-z0-9_.-]+", source):
        raise ValueError("mount an absolute path of the host, or a volume by its name")
    if modes and not set(modes.split(",")) <= _MODES:
        raise ValueError(f"behind the second colon may stand {', '.join(sorted(_MODES))}")
    return text


def mount(text: str) -> dict[str, Any]:
    """Parse type=bind|volume|tmpfs,source=…,target=…,readonly."""
    found: dict[str, Any] = {"Type": "volume"}
    for field in text.split(","):
        name, separator, value = field.partition("=")
        if name == "type" and value in ("bind", "volume", "tmpfs"):
            found["Type"] = value
        elif name in ("source", "src") and value:
            found["Source"] = value
        elif name in ("target", "destination", "dst"):
            found["Target"] = path(value)
        elif name in ("readonly", "ro"):
            found["ReadOnly"] = switch(value if separator else "true")
        else:
            raise ValueError("use type=bind, volume or tmpfs, with source=, target= and readonly")
    if "Target" not in found or (found["Type"] == "bind") > found.get("Source", "").startswith("/"):
        raise ValueError("target= is needed, and for type=bind an absolute source=")
    return found


def network(text: str) -> str:
    """Return the name of a network."""
    if text in ("host", "none") or text.startswith("container:"):
        raise ValueError("a replica needs a network of its own: name a bridge network")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text):
        raise ValueError("use the name of one network")
    return text


def restart(text: str) -> dict[str, Any]:
    """Parse no, always, unless-stopped, on-failure or on-failure:TIMES."""
    name, separator, times = text.partition(":")
    if name not in ("no", "always", "unless-stopped", "on-failure") or (separator and name != "on-failure"):
        raise ValueError("use no, always, unless-stopped, on-failure or on-failure:TIMES")
    return {"Name": name, "MaximumRetryCount": count(times) if separator else 0}


def ulimit(text: str) -> dict[str, Any]:
    """Parse NAME=SOFT or NAME=SOFT:HARD; -1 is no limit."""
    match = re.fullmatch(r"([a-z]+)=(-1|[0-9]{1,18})(?::(-1|[0-9]{1,18}))?", text)
    if not match or match[1] not in _LIMITS:
        raise ValueError(f"use NAME=SOFT:HARD, with one of {', '.join(_LIMITS)}")
    soft, hard = int(match[2]), int(match[3] or match[2])
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError("the soft limit is above the hard one")
    return {"Name": match[1], "Soft": soft, "Hard": hard}


def host(text: str) -> str:
    """Return NAME:ADDRESS, also for NAME=ADDRESS."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+)[:=](.+)", text)
    if not match:
        raise ValueError("use NAME:ADDRESS, such as db:10.0.0.5")
    return f"{match[1]}:{match[2] if match[2] == 'host-gateway' else address(match[2])}"


def address(text: str) -> str:
    """Return an IP address."""
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise ValueError("use an IP address") from None
