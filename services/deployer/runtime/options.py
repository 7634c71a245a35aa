"""The options that a replica is started with, besides its release. Pure."""

from __future__ import annotations

import hashlib
import json

import msgspec


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """The options of a replica, as far as they make a difference to it.

    `environment`: the variables that the operator chose, with their values. `ports`: those of a container (0: the one
    that its image exposes).
    """

    command: list[str] = []
    arguments: list[str] = []
    ports: list[int] = []
    dial: str = ""
    drain_signal: str = ""
    environment: dict[str, str] = {}


NAMES = {
    "command": "cmd",
    "arguments": "docker-args",
    "ports": "port",
    "dial": "dial",
    "drain_signal": "drain-signal",
}
"""The options of the command line behind these fields."""


def fingerprint(options: Options) -> str:
    """Return a digest of options. It is of no use for a guess of a secret among them: it is never shown."""
    return hashlib.sha256(encode(options)).hexdigest()


def encode(options: Options | dict[str, Options]) -> bytes:
    """Return options as JSON, equal ones as equal bytes.

    The bytes of a variable need not be UTF-8: Python has the others as lone surrogates, which msgspec does not write.
    """
    return json.dumps(msgspec.to_builtins(options), sort_keys=True).encode()


def decode(encoded: bytes) -> dict[str, Options]:
    """Return options by their fingerprints. Raises ValueError."""
    return msgspec.convert(json.loads(encoded), dict[str, Options])


def changed(before: Options, after: Options) -> list[str]:
    """Return the names of the options that differ, and of variables as `env NAME`. No value is in them."""
    options = [name for field, name in NAMES.items() if getattr(before, field) != getattr(after, field)]
    old, new = before.environment, after.environment
    return options + [f"env {name}" for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
