"""Where a service finds the bus: the URL that it was given, or the embedded bus of its state directory."""

from __future__ import annotations

from pathlib import Path

import msgspec

from services.common.errors import BusError
from services.common.settings import Settings


class Credentials(msgspec.Struct, frozen=True):
    """Servers and the account to use there. An empty user: what the URL itself carries."""

    servers: list[str]
    user: str = ""
    password: str = ""


def path(state_dir: str, service: str) -> Path:
    """The file, of mode 0600, that the embedded bus writes for a service."""
    return Path(state_dir) / "bus" / f"{service}.json"


def find(settings: Settings, service: str) -> Credentials:
    """How `service` connects. Raises BusError when there is neither a URL nor an embedded bus."""
    if settings.nats_url:
        return Credentials(settings.nats_url)
    file = path(settings.state_dir, service)
    try:
        return msgspec.json.decode(file.read_bytes(), type=Credentials)
    except FileNotFoundError:
        raise BusError(
            f"no bus in {settings.state_dir}: start `longshore bus` or one of the all-in-one commands "
            "with this --state-dir, or name a server with --nats-url"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise BusError(f"cannot read the bus credentials {file}: {error}") from None
