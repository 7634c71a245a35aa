"""The files of a TLS client: checks that they exist, belong together and are still valid."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from services.common.errors import SettingsError

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_VERSION = 0xA0
_UTC_TIME = 0x17


class Options(msgspec.Struct, frozen=True):
    """The names of the three files in messages."""

    ca: str = "certificate"
    cert: str = "certificate"
    key: str = "certificate"


class Certificates(msgspec.Struct, frozen=True):
    """Paths: the authority that signed the server's certificate, and the client's own certificate and key.

    Empty: the authorities of the system, and no certificate of its own.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""

    def check(self, options: Options = Options()) -> ssl.SSLContext:  # noqa: B008 - frozen
        """Return the context for a client. Raises SettingsError, one line, for a file that cannot be used."""
        context = ssl.create_default_context()
        if self.ca:
            read(self.ca, options.ca)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            with _refused(options.ca, self.ca, "no certificate in PEM form"):
                context.load_verify_locations(self.ca)
        if self.cert and self.key:
            read(self.cert, options.cert)
            read(self.key, options.key)
            problem = f"no certificate in PEM form, or not the one of the key {self.key} (which must not be encrypted)"
            with _refused(options.cert, self.cert, problem):
                context.load_cert_chain(self.cert, self.key, lambda: b"")
        return context

    def expired(self, now: float) -> Iterator[str]:
        """Yield a line for each file that has expired at `now` (unix seconds): a peer that checks it refuses it."""
        for file, choose in ((self.ca, max), (self.cert, next)):
            end = choose(iter(_ends(file))) if file else now
            if end < now:
                yield f"{file} expired on {datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M} UTC"


def read(file: str, option: str = "certificate") -> bytes:
    """Return the contents of a file. Raises SettingsError."""
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"{option} {file}: {error.strerror}") from None


@contextmanager
def _refused(option: str, file: str, problem: str) -> Iterator[None]:
    try:
        yield
    except (ssl.SSLError, ValueError):
        raise SettingsError(f"{option} {file}: {problem}") from None


def _ends(file: str) -> list[float]:
    """Return the expiry of each certificate of a PEM file, in unix seconds."""
    return [_not_after(ssl.PEM_cert_to_DER_cert(text)) for text in _PEM.findall(read(file).decode(errors="replace"))]


def _not_after(certificate: bytes) -> float:
    """Return the end of the validity, which follows number, algorithm and issuer in the body (RFC 5280)."""
    body = next(_parts(next(_parts(certificate))[1]))[1]
    validity = [content for tag, content in _parts(body) if tag != _VERSION][3]
    _, (tag, text) = _parts(validity)
    return datetime.strptime(text.decode(), f"{'%y' if tag == _UTC_TIME else '%Y'}%m%d%H%M%S%z").timestamp()


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each value in a sequence, in DER."""
    while data:
        tag, length, start = data[0], data[1], 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(data[2:start], "big")
        yield tag, data[start : start + length]
        data = data[start + length :]
