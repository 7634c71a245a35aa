"""`longshore bus config`: accounts of least permissions for a nats-server that runs already."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from schemas import subjects
from services.bus.accounts import User, accounts
from services.bus.permissions import ACCESS, ADMIN
from services.common.bus.nkey import Nkey, NkeyError
from services.common.errors import BusError, SettingsError
from services.common.files import replace_atomically

Way = Literal["nkey", "password"]
SUFFIX: dict[Way, str] = {"nkey": ".nk", "password": ".password"}

PEOPLE = "cli"


def export(folder: Path, way: Way, hosts: Sequence[str] = ()) -> str:
    """The configuration; each account's secret is in a file of `folder`, which is kept if it is there.

    With `hosts`, the services of each get accounts that write what is that host's, in a folder of its name; the command
    line gets one for all hosts, too. Raises BusError when a file cannot be written, SettingsError when one holds no
    secret or two hosts are the same for the bus.
    """
    _check(hosts)
    where = [(service, host) for host in hosts for service in ACCESS] + [(PEOPLE, "")]
    try:
        admin = _sign_in(ADMIN, "", folder, way)
        users = [
            User(service, _sign_in(service, host, folder, way), host)
            for service, host in (where if hosts else [(service, "") for service in ACCESS])
        ]
    except OSError as error:
        raise BusError(f"--out {folder}: {error.strerror}: {error.filename}") from None
    block = msgspec.json.format(msgspec.json.encode(accounts(admin, users))).decode()
    return f"{_how(folder, way, bool(hosts))}accounts: {block}\n"


def _check(hosts: Sequence[str]) -> None:
    names: dict[str, str] = {}
    for host in hosts:
        name = subjects.token(host)
        if name in names:
            raise SettingsError(f"--host {host}: for the bus it is the same host as {names[name]}; name one of them")
        names[name] = host


def _sign_in(service: str, host: str, folder: Path, way: Way) -> dict[str, str]:
    at = subjects.token(host) if host else ""
    where = folder / at if at else folder
    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = where / f"{service}{SUFFIX[way]}"
    if way == "nkey":
        return {"nkey": _key(file).public}
    name = "-".join(["longshore", service, *([at] if at else [])])
    return {"user": name, "password": _kept(file, lambda: secrets.token_urlsafe(24))}


def _key(file: Path) -> Nkey:
    try:
        return Nkey(_kept(file, lambda: Nkey.new().seed))
    except NkeyError as error:
        raise SettingsError(f"{file}: {error}; remove it for a new one") from None


def _kept(file: Path, make: Callable[[], str]) -> str:
    if not file.exists():
        replace_atomically(file, make().encode())
    return file.read_text().strip()


def _how(folder: Path, way: Way, has_hosts: bool) -> str:
    of_host = _options(
        folder / "{host}" if has_hosts else folder, "longshore-{service}-{host}" if has_hosts else "", way
    )
    of_all = _options(folder, "", way)
    return f"""# Put this into the configuration of your nats-server, which needs JetStream (`jetstream {{}}`):
#   nats-server --signal reload
# Then create the streams once, as the account `admin`:
#   longshore bus setup --nats-url nats://HOST:4222 {of_all}
# Each host needs the files of the services that run there ({", ".join(ACCESS)}), and starts them with
#   --nats-url nats://HOST:4222 {of_host}
# Whoever has `gateway`{" or the `cli` for all hosts" if has_hosts else " or `cli`"} may command every deployer.
"""


def _options(folder: Path, user: str, way: Way) -> str:
    file = f"'{folder.absolute()}/{{service}}{SUFFIX[way]}'"
    if way == "nkey":
        return f"--nats-nkey-file {file}"
    return f"--nats-user '{user or 'longshore-{service}'}' --nats-password-file {file}"
