"""`longshore bus config`: accounts of least permissions for a nats-server that runs already."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from services.bus.configuration import ACCOUNTS, write_private
from services.bus.permissions import ACCESS, permissions
from services.common.errors import BusError, SettingsError
from services.common.nkey import Nkey, NkeyError

Way = Literal["nkey", "password"]
SUFFIX: dict[Way, str] = {"nkey": ".nk", "password": ".password"}
ACCOUNT = "LONGSHORE"


def export(folder: Path, way: Way) -> str:
    """The configuration; each account's secret is in a file of `folder`, which is kept if it is there.

    Raises BusError when a file cannot be written, SettingsError when one holds no secret.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        users = [_user(account, folder / f"{account}{SUFFIX[way]}", way) for account in ACCOUNTS]
    except OSError as error:
        raise BusError(f"--out {folder}: {error.strerror}: {error.filename}") from None
    block = {ACCOUNT: {"jetstream": "enabled", "users": users}}
    return f"{_how(folder, way)}accounts: {msgspec.json.format(msgspec.json.encode(block)).decode()}\n"


def _user(account: str, file: Path, way: Way) -> dict[str, Any]:
    user: dict[str, Any]
    if way == "nkey":
        user = {"nkey": _key(file).public}
    else:
        user = {"user": f"longshore-{account}", "password": _kept(file, lambda: secrets.token_urlsafe(24))}
    if account in ACCESS:
        user["permissions"] = permissions(account, ACCESS[account])
    return user


def _key(file: Path) -> Nkey:
    try:
        return Nkey(_kept(file, lambda: Nkey.new().seed))
    except NkeyError as error:
        raise SettingsError(f"{file}: {error}; remove it for a new one") from None


def _kept(file: Path, make: Callable[[], str]) -> str:
    if not file.exists():
        write_private(file, make().encode())
    return file.read_text().strip()


def _how(folder: Path, way: Way) -> str:
    secret = folder.absolute() / f"{{service}}{SUFFIX[way]}"
    sign_in = f"--nats-nkey-file '{secret}'"
    if way == "password":
        sign_in = f"--nats-user 'longshore-{{service}}' --nats-password-file '{secret}'"
    return f"""# Put this into the configuration of your nats-server, which needs JetStream (`jetstream {{}}`):
#   nats-server --signal reload
# Then create the streams once, as the account `admin`:
#   longshore bus setup --nats-url nats://HOST:4222 {sign_in}
# Each host needs the files of the services that run there ({", ".join(ACCESS)}), and starts them with
#   --nats-url nats://HOST:4222 {sign_in}
"""
