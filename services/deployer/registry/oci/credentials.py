"""User names and secrets for a registry: variables, Docker's configuration, and its credential helpers."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from services.common.errors import RegistryError
from services.deployer.registry.oci import helper
from services.deployer.registry.oci.reference import HUB

USERNAME, PASSWORD = "LONGSHORE_REGISTRY_USERNAME", "LONGSHORE_REGISTRY_PASSWORD"

T = TypeVar("T")

_HUB_ADDRESS = "https://index.docker.io/v1/"
_IDENTITY_TOKEN = "<token>"


class Credentials(msgspec.Struct, frozen=True):
    """`source` says where they are from; an identity token takes the place of name and password."""

    source: str
    username: str = ""
    password: str = ""
    identity_token: str = ""

    @property
    def basic(self) -> str:
        """The Authorization header of RFC 7617."""
        pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return f"Basic {pair}"

    def __repr__(self) -> str:
        return f"<credentials of {self.source}>"


class Search(msgspec.Struct):
    """What was found, and what went wrong on the way, without secrets."""

    found: Credentials | None = None
    problems: list[str] = []


class _Entry(msgspec.Struct):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _Configuration(msgspec.Struct):
    auths: dict[str, _Entry] = {}
    credHelpers: dict[str, str] = {}  # noqa: N815 # Docker's spelling
    credsStore: str = ""  # noqa: N815 # Docker's spelling


async def find(host: str, environment: Mapping[str, str]) -> Search:
    """The credentials for a registry's host (with its port), by the first source that has some.

    The order: LONGSHORE_REGISTRY_USERNAME and _PASSWORD, GITHUB_TOKEN for ghcr.io, Docker's configuration for this
    host, DOCKER_USERNAME and DOCKER_PASSWORD. A source that is broken is told and passed over.
    """
    search = Search()
    search.found = _variables(USERNAME, PASSWORD, environment, search.problems)
    if not search.found and host == "ghcr.io" and (token := environment.get("GITHUB_TOKEN")):
        search.found = Credentials("GITHUB_TOKEN", environment.get("GITHUB_ACTOR") or "token", token)
    if not search.found:
        search.found = await _configured(host, environment, search.problems)
    if not search.found:
        search.found = _variables("DOCKER_USERNAME", "DOCKER_PASSWORD", environment, search.problems)
    return search


def _variables(name: str, secret: str, environment: Mapping[str, str], problems: list[str]) -> Credentials | None:
    username, password = environment.get(name), environment.get(secret)
    if username and password:
        return Credentials(f"{name} and {secret}", username, password)
    if username or password:
        problems.append(f"{secret if username else name} is not set")
    return None


async def _configured(host: str, environment: Mapping[str, str], problems: list[str]) -> Credentials | None:
    path = _path(environment)
    try:
        configuration = msgspec.json.decode(path.read_bytes(), type=_Configuration)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        problems.append(f"{path} cannot be read ({getattr(error, 'strerror', None) or 'not as Docker writes it'})")
        return None
    name = _entry(configuration.credHelpers, host) or configuration.credsStore
    if name and (credentials := await _helped(name, host, environment, problems)):
        return credentials
    entry = _entry(configuration.auths, host)
    return _stored(entry, str(path), problems) if entry else None


def _path(environment: Mapping[str, str]) -> Path:
    if folder := environment.get("DOCKER_CONFIG"):
        return Path(folder) / "config.json"
    return Path(environment.get("HOME") or Path.home()) / ".docker" / "config.json"


async def _helped(name: str, host: str, environment: Mapping[str, str], problems: list[str]) -> Credentials | None:
    try:
        kept = await helper.ask(name, _HUB_ADDRESS if host == HUB else host, environment)
    except RegistryError as error:
        problems.append(str(error))
        return None
    source = f"docker-credential-{name}"
    if kept.username == _IDENTITY_TOKEN:
        return Credentials(source, identity_token=kept.secret)
    return Credentials(source, kept.username, kept.secret) if kept.username and kept.secret else None


def _entry(entries: Mapping[str, T], host: str) -> T | None:
    """What is configured for a host; its keys are hosts or URLs, and Docker Hub's one of its own."""
    wanted = _HUB_ADDRESS if host == HUB else host
    return next((entry for key, entry in entries.items() if _server(key) == _server(wanted)), None)


def _server(key: str) -> str:
    host = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return HUB if host in ("index.docker.io", "registry-1.docker.io") else host


def _stored(entry: _Entry, path: str, problems: list[str]) -> Credentials | None:
    if entry.identitytoken:
        return Credentials(path, identity_token=entry.identitytoken)
    username, password = entry.username, entry.password
    if entry.auth:
        try:
            username, _, password = base64.b64decode(entry.auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            problems.append(f"{path} holds an auth that is not base64 of NAME:PASSWORD")
            return None
    return Credentials(path, username, password.rstrip("\0")) if username and password else None
