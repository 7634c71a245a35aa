"""Where a service finds the bus, and how it signs in: what the options say, or the embedded bus of its state directory.

In options, `{service}` stands for the service's account and `{host}` for its host as subjects name it, so that one
command line, or one file, is right for all.
"""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import msgspec

from schemas import subjects
from services.common import log
from services.common.bus import nkey
from services.common.bus.nkey import NkeyError
from services.common.config import certificates
from services.common.config.certificates import Certificates
from services.common.config.settings import Settings
from services.common.errors import BusError, SettingsError
from services.common.text import lines as split

SERVICE = "{service}"
HOST = "{host}"

_FILES = certificates.Options("--nats-ca", "--nats-cert", "--nats-key")
_FOR_A_SERVER = (
    "nats_ca",
    "nats_cert",
    "nats_key",
    "nats_user",
    "nats_password",
    "nats_password_file",
    "nats_nkey_file",
    "nats_creds",
)


class Credentials(msgspec.Struct, frozen=True):
    """Servers and the account to use there; without one, what the URLs themselves carry.

    `nkey_file` and `creds`: paths. `tls`: whether nothing may travel in plain text.
    """

    servers: list[str]
    user: str = ""
    password: str = ""
    nkey_file: str = ""
    creds: str = ""
    certificates: Certificates = Certificates()
    tls: bool = False

    @property
    def shown(self) -> str:
        """The servers without their secrets."""
        return ", ".join(map(shown, self.servers))

    @property
    def names_account(self) -> bool:
        """Whether options, and not the URLs, say how to sign in."""
        return bool(self.user or self.nkey_file or self.creds)

    def context(self) -> ssl.SSLContext:
        """For TLS, which a server may ask for. Raises SettingsError."""
        return self.certificates.check(_FILES)

    def nkey(self) -> nkey.Nkey:
        """The key that signs in. Raises SettingsError."""
        if self.nkey_file:
            text = _text("--nats-nkey-file", self.nkey_file)
            lines = [line for line in split(text) if line.strip() and not line.startswith("#")]
            return _nkey("--nats-nkey-file", self.nkey_file, lines[0] if lines else "")
        return _nkey("--nats-creds", self.creds, self._contents()[1])

    def jwt(self) -> str:
        """What the credentials file shows to the server. Raises SettingsError."""
        return self._contents()[0]

    def _contents(self) -> tuple[str, str]:
        try:
            return nkey.credentials(_text("--nats-creds", self.creds))
        except NkeyError as error:
            raise SettingsError(f"--nats-creds {self.creds}: no credentials file: {error}") from None


def path(state_dir: str, service: str) -> Path:
    """The file, of mode 0600, that the embedded bus writes for a service."""
    return Path(state_dir) / "bus" / f"{service}.json"


def find(settings: Settings, service: str) -> Credentials:
    """How `service` connects.

    Raises BusError when there is neither a URL nor an embedded bus, SettingsError for options that cannot be used.
    """
    if not settings.nats_url:
        _check_unused(settings)
        return _embedded(settings, service)
    found = Credentials(
        servers(settings.nats_url),
        _for(settings.nats_user, settings, service),
        _password(settings, service),
        _for(settings.nats_nkey_file, settings, service),
        _for(settings.nats_creds, settings, service),
        Certificates(
            settings.nats_ca, _for(settings.nats_cert, settings, service), _for(settings.nats_key, settings, service)
        ),
        _wants_tls(settings),
    )
    if not found.servers:
        raise SettingsError("--nats-url names no server: use nats://host:4222, or leave it out for the embedded bus")
    _check(settings, found, service)
    return found


def servers(urls: list[str]) -> list[str]:
    """Each server once, in order; commas separate several in one value."""
    return list(dict.fromkeys(url.strip() for text in urls for url in text.split(",") if url.strip()))


def shown(url: str) -> str:
    """A server's URL without user and password."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _embedded(settings: Settings, service: str) -> Credentials:
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


def _check(settings: Settings, found: Credentials, service: str) -> None:
    ways = {"--nats-user": found.user, "--nats-nkey-file": found.nkey_file, "--nats-creds": found.creds}
    given = [option for option, value in ways.items() if value]
    if len(given) > 1:
        raise SettingsError(f"{given[0]} and {given[1]}: a service signs in one way; give one of them")
    if found.user and not found.password:
        raise SettingsError("--nats-user needs --nats-password, better as LONGSHORE_NATS_PASSWORD or a file")
    if found.password and not found.user:
        raise SettingsError("--nats-password needs --nats-user")
    if bool(settings.nats_cert) != bool(settings.nats_key):
        missing = "--nats-cert" if settings.nats_key else "--nats-key"
        raise SettingsError(f"{missing} is missing: --nats-cert and --nats-key belong together")
    found.context()
    if found.nkey_file or found.creds:
        found.nkey()
    _warn_of_readers(
        {
            "--nats-password-file": _for(settings.nats_password_file, settings, service),
            "--nats-nkey-file": found.nkey_file,
            "--nats-creds": found.creds,
            "--nats-key": _for(settings.nats_key, settings, service),
        },
        service,
    )


def _warn_of_readers(files: dict[str, str], service: str) -> None:
    for option, file in files.items():
        if file and Path(file).stat().st_mode & stat.S_IROTH:
            log.get(service).warning("everyone on this host can read this secret: chmod 600", option=option, file=file)


def _check_unused(settings: Settings) -> None:
    for name in _FOR_A_SERVER:
        if getattr(settings, name):
            raise SettingsError(f"--{name.replace('_', '-')} needs --nats-url: the embedded bus has its own accounts")


def _wants_tls(settings: Settings) -> bool:
    has_files = bool(settings.nats_ca or settings.nats_cert)
    return has_files or any(url.startswith("tls://") for url in servers(settings.nats_url))


def _password(settings: Settings, service: str) -> str:
    if settings.nats_password and settings.nats_password_file:
        raise SettingsError("--nats-password and --nats-password-file: give one of them")
    if not settings.nats_password_file:
        return settings.nats_password
    file = _for(settings.nats_password_file, settings, service)
    password = _text("--nats-password-file", file).strip()
    if not password:
        raise SettingsError(f"--nats-password-file {file}: it is empty")
    return password


def _for(text: str, settings: Settings, service: str) -> str:
    return text.replace(SERVICE, service).replace(HOST, subjects.token(settings.host))


def _text(option: str, file: str) -> str:
    try:
        return Path(file).read_bytes().decode()
    except OSError as error:
        raise SettingsError(f"{option} {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{option} {file}: not a text file") from None


def _nkey(option: str, file: str, seed: str) -> nkey.Nkey:
    try:
        return nkey.Nkey(seed)
    except NkeyError as error:
        raise SettingsError(f"{option} {file}: {error}") from None
