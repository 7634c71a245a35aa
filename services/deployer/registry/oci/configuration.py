"""Docker's config.json, read as Docker and podman read it. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from services.deployer.registry.oci.reference import HUB, HUB_NAMES

HUB_ADDRESS = "https://index.docker.io/v1/"
"""The key of Docker Hub, which has no plain host there."""

T = TypeVar("T")

_API_PATHS = ("", "v1", "v2")


class Entry(msgspec.Struct, frozen=True):
    """An entry of `auths`: NAME:PASSWORD in base64, or name and password, or an identity token."""

    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""

    def pair(self) -> tuple[str, str]:
        """Return name and password. Raises ValueError for an `auth` that is not base64 of NAME:PASSWORD."""
        if not self.auth:
            return self.username, self.password
        # Go's decoder skips line breaks; other programs wrap what they write.
        try:
            text = base64.b64decode(self.auth.replace("\n", "").replace("\r", ""), validate=True).decode()
        except ValueError:
            text = ""
        name, separator, password = text.partition(":")
        if not name or not separator:
            raise ValueError("an auth that is not base64 of NAME:PASSWORD")
        return name, password.strip("\0")


class Configuration(msgspec.Struct, frozen=True):
    """The parts of the file that concern credentials. Entries of `auths` are read when they are needed."""

    auths: dict[str, Any] = {}
    credhelpers: dict[str, str | None] = {}
    credsstore: str = ""

    def helper(self, name: str) -> str:
        """Return the helper for `host/repository`; empty: none, which a host may have beside a general one."""
        host = name.partition("/")[0]
        for key in keys(self.credhelpers, host):
            return self.credhelpers[key] or ""
        return self.credsstore

    def entry(self, key: str) -> Entry:
        """Return the entry of a key of `auths`. Raises ValueError when it is not as Docker writes it."""
        try:
            return _convert({} if self.auths[key] is None else self.auths[key], Entry)
        except ValueError:
            raise ValueError("an entry that is not as Docker writes it") from None


def parse(data: bytes) -> Configuration:
    """Read the file's content. Raises ValueError when it is not as Docker writes it."""
    text = data.decode().lstrip()
    if not text:
        return Configuration()
    try:
        # As Docker does: text after the object is ignored.
        return _convert(json.JSONDecoder().raw_decode(text)[0], Configuration)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def keys(known: Iterable[str], name: str) -> list[str]:
    """Return the keys that are for `host/repository`, the first one to be used first.

    `host/organization` goes before `host`, as podman writes and reads them; of several that mean the same, the one that
    Docker itself writes goes first.
    """
    host = name.partition("/")[0]
    written = HUB_ADDRESS if host == HUB else host
    fitting = [key for key in known if f"{name}/".startswith(f"{_place(key)}/")]
    return sorted(fitting, key=lambda key: (-len(_place(key)), key != written))


def _place(key: str) -> str:
    """Return `host` or `host/namespace` of a key. A key may be the URL of an API; then its path does not matter."""
    scheme, separator, rest = key.partition("://")
    host, _, path = (rest if separator else scheme).partition("/")
    host, path = host.lower(), path.strip("/")
    if host in HUB_NAMES:
        host = HUB
    return host if separator or path in _API_PATHS else f"{host}/{path}"


def _convert(raw: object, kind: type[T]) -> T:
    """Convert as Go does: null is as absent, and the case of a field's name makes no difference."""
    if not isinstance(raw, Mapping):
        raise ValueError("no object")
    try:
        return msgspec.convert({name.lower(): value for name, value in raw.items() if value is not None}, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
