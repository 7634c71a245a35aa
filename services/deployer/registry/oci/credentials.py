"""User names and secrets for a registry: variables, Docker's configuration, and its credential helpers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from services.deployer.registry.oci.reference import HUB

USERNAME, PASSWORD = "LONGSHORE_REGISTRY_USERNAME", "LONGSHORE_REGISTRY_PASSWORD"
HELPER_TIMEOUT = 10.0

T = TypeVar("T")

_HUB_ADDRESS = "https://index.docker.io/v1/"
_NO_CREDENTIALS = "credentials not found"
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


class _Answer(msgspec.Struct):
    Username: str = ""
    Secret: str = ""


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
    folder = environment.get("DOCKER_CONFIG") or str(Path(environment.get("HOME") or "~").expanduser() / ".docker")
    path = Path(folder) / "config.json"
    try:
        configuration = msgspec.json.decode(path.read_bytes(), type=_Configuration)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        problems.append(f"{path} cannot be read ({getattr(error, 'strerror', None) or 'not as Docker writes it'})")
        return None
    helper = _entry(configuration.credHelpers, host) or configuration.credsStore
    if helper and (credentials := await _ask(helper, host, environment, problems)):
        return credentials
    entry = _entry(configuration.auths, host)
    return _stored(entry, str(path), problems) if entry else None


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


async def _ask(helper: str, host: str, environment: Mapping[str, str], problems: list[str]) -> Credentials | None:
    """What a credential helper (the program docker-credential-NAME) knows of a host."""
    program = f"docker-credential-{helper}"
    try:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", helper):
            raise FileNotFoundError
        async with asyncio.timeout(HELPER_TIMEOUT):
            code, output = await _run(program, _HUB_ADDRESS if host == HUB else host, environment)
    except TimeoutError:
        problems.append(f"{program} gave no answer within {HELPER_TIMEOUT:g} s")
    except OSError:
        problems.append(f"{program} cannot be started")
    else:
        return _told(program, code, output, problems)
    return None


def _told(program: str, code: int, output: bytes, problems: list[str]) -> Credentials | None:
    if code:
        if _NO_CREDENTIALS not in output.decode(errors="replace"):
            problems.append(f"{program} failed with exit code {code}")
        return None
    try:
        answer = msgspec.json.decode(output, type=_Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        problems.append(f"{program} gave an answer that is none")
        return None
    if answer.Username == _IDENTITY_TOKEN:
        return Credentials(program, identity_token=answer.Secret)
    return Credentials(program, answer.Username, answer.Secret) if answer.Username and answer.Secret else None


async def _run(program: str, server: str, environment: Mapping[str, str]) -> tuple[int, bytes]:
    """`PROGRAM get`, the server on its standard input; its exit status and standard output.

    Cancelled, it kills the program with all that the program started.
    """
    process = await asyncio.create_subprocess_exec(
        program,
        "get",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate(server.encode())
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
        raise
    return process.returncode or 0, output
