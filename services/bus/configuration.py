"""The files of the embedded bus: server configuration and one credentials file a service, all of mode 0600."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import msgspec

from services.bus.accounts import STORE, User, accounts
from services.bus.permissions import ACCESS, ADMIN, SYSTEM
from services.common.bus import credentials
from services.common.bus.credentials import Credentials
from services.common.errors import BusError
from services.common.files import replace_atomically

ACCOUNTS = (ADMIN, *ACCESS)
_GLOBAL = "$G"
"""The server's account of those that have none, in which an older version kept everything."""

ADDRESS = "127.0.0.1"
UNLIMITED = 1 << 50
"""Bytes. Without it the server counts what the log may grow to against what is free when it starts."""


def prepare(state_dir: str) -> Path:
    """Write the configuration and return its path. Passwords and port of an earlier run are kept if possible."""
    directory = Path(state_dir) / "bus"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        passwords = {account: _password(state_dir, account) for account in (SYSTEM, *ACCOUNTS)}
        port = _port(state_dir)
        for account, password in passwords.items():
            found = Credentials([f"nats://{ADDRESS}:{port}"], account, password)
            replace_atomically(credentials.path(state_dir, account), msgspec.json.encode(found))
        _keep_streams(directory / "jetstream" / "jetstream")
        config = directory / "nats.conf"
        replace_atomically(config, msgspec.json.format(msgspec.json.encode(_configuration(directory, port, passwords))))
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise BusError(
            f"--state-dir {state_dir}: {error.strerror}{where}; make room there, or choose a folder that you can write"
        ) from None
    return config


def _configuration(directory: Path, port: int, passwords: dict[str, str]) -> dict[str, object]:
    sign_in = {account: {"user": account, "password": password} for account, password in passwords.items()}
    return {
        "server_name": "longshore",
        "host": ADDRESS,
        "port": port,
        "max_payload": 8 << 20,
        "max_pending": 64 << 20,
        "jetstream": {"store_dir": str(directory / "jetstream"), "max_file_store": UNLIMITED},
        "logfile": str(directory / "nats.log"),
        "logfile_size_limit": 10 << 20,
        "logfile_max_num": 3,
        "accounts": {
            **accounts(sign_in[ADMIN], [User(service, sign_in[service]) for service in ACCESS]),
            SYSTEM: {"users": [sign_in[SYSTEM]]},
        },
        "system_account": SYSTEM,
    }


def _keep_streams(store: Path) -> None:
    """Give the streams that an older version stored to the account that has them now."""
    former, present = store / _GLOBAL, store / STORE
    if former.is_dir() and not present.exists():
        former.rename(present)


def _saved(state_dir: str, account: str) -> Credentials | None:
    try:
        return msgspec.json.decode(credentials.path(state_dir, account).read_bytes(), type=Credentials)
    except (OSError, msgspec.MsgspecError):
        return None


def _password(state_dir: str, account: str) -> str:
    saved = _saved(state_dir, account)
    return saved.password if saved and saved.password else secrets.token_urlsafe(24)


def _port(state_dir: str) -> int:
    saved = _saved(state_dir, ADMIN)
    if saved:
        port = int(saved.servers[0].rsplit(":", 1)[1])
        if _is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        free: int = probe.getsockname()[1]
        return free


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
        return True
