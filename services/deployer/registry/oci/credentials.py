"""User names and secrets for a registry: variables, Docker's configuration, and its credential helpers."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.common.errors import RegistryError
from services.deployer.registry.oci import configuration, helper
from services.deployer.registry.oci.configuration import HUB_ADDRESS, Configuration
from services.deployer.registry.oci.reference import HUB

USERNAME, PASSWORD = "LONGSHORE_REGISTRY_USERNAME", "LONGSHORE_REGISTRY_PASSWORD"
HUB_USERNAME, HUB_PASSWORD = "DOCKER_USERNAME", "DOCKER_PASSWORD"

_IDENTITY_TOKEN = "<token>"


class Credentials(msgspec.Struct, frozen=True):
    """Credentials and their `source`. For tokens, an identity token is used before name and password."""

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
    """The credentials found, and the problems on the way, without secrets."""

    found: Credentials | None = None
    problems: list[str] = []


async def find(name: str, environment: Mapping[str, str]) -> Search:
    """Find the credentials for `host/repository` (the host with its port), by the first source that has some.

    The order: LONGSHORE_REGISTRY_USERNAME and _PASSWORD, GITHUB_TOKEN for ghcr.io, Docker's configuration for this
    repository, DOCKER_USERNAME and DOCKER_PASSWORD for Docker Hub. A source that is broken is skipped and reported.
    """
    host = name.partition("/")[0]
    search = Search()
    search.found = _variables(USERNAME, PASSWORD, environment, search.problems)
    if not search.found and host == "ghcr.io" and (token := environment.get("GITHUB_TOKEN")):
        search.found = Credentials("GITHUB_TOKEN", environment.get("GITHUB_ACTOR") or "token", token)
    if not search.found:
        search.found = await _configured(name, environment, search.problems)
    if not search.found and host == HUB:
        search.found = _variables(HUB_USERNAME, HUB_PASSWORD, environment, search.problems)
    elif not search.found and environment.get(HUB_PASSWORD):
        search.problems.append(f"{HUB_USERNAME} and {HUB_PASSWORD} are for {HUB} alone")
    return search


def _variables(name: str, secret: str, environment: Mapping[str, str], problems: list[str]) -> Credentials | None:
    username, password = environment.get(name), environment.get(secret)
    if username and password:
        return Credentials(f"{name} and {secret}", username, password)
    if username or password:
        problems.append(f"{secret if username else name} is not set")
    return None


async def _configured(name: str, environment: Mapping[str, str], problems: list[str]) -> Credentials | None:
    path = _path(environment)
    try:
        found = configuration.parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        problems.append(f"{path} cannot be read ({getattr(error, 'strerror', None) or 'not as Docker writes it'})")
        return None
    if (program := found.helper(name)) and (kept := await _helped(program, name, environment, problems)):
        return kept
    return _stored(found, name, path, problems)


def _path(environment: Mapping[str, str]) -> Path:
    if folder := environment.get("DOCKER_CONFIG"):
        return Path(folder) / "config.json"
    return Path(environment.get("HOME") or Path.home()) / ".docker" / "config.json"


async def _helped(program: str, name: str, environment: Mapping[str, str], problems: list[str]) -> Credentials | None:
    host = name.partition("/")[0]
    try:
        kept = await helper.ask(program, HUB_ADDRESS if host == HUB else host, environment)
    except RegistryError as error:
        problems.append(str(error))
        return None
    source = f"docker-credential-{program}"
    if kept.username == _IDENTITY_TOKEN:
        return Credentials(source, identity_token=kept.secret or "")
    return Credentials(source, kept.username, kept.secret) if kept.username and kept.secret else None


def _stored(found: Configuration, name: str, path: Path, problems: list[str]) -> Credentials | None:
    """Return the credentials of a repository's first entry that is not empty: Docker writes `{}` beside a helper."""
    for key in configuration.keys(found.auths, name):
        try:
            entry = found.entry(key)
            username, password = entry.pair()
        except ValueError as error:
            problems.append(f"{path} holds {error}, for {key}")
            continue
        if username or entry.identitytoken:
            return Credentials(f"{path} for {key}", username, password, entry.identitytoken)
    return None
