"""NKeys: the Ed25519 keys that identify a user to a NATS server without a password (NATS ADR-14).

A key is its kind, its bytes and a CRC-16, in base32: U… is public, SU… the seed, which is secret.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets

_SEED = 18 << 3
_USER = 20 << 3
_SIZE = 32

_BLOCK = r"-+BEGIN {0}-+\s+(\S+)\s+-+END {0}-+"
_JWT = re.compile(_BLOCK.format("NATS USER JWT"))
_USER_SEED = re.compile(_BLOCK.format("USER NKEY SEED"))


class NkeyError(ValueError):
    """The text is no seed of a user."""


class Nkey:
    """A user's key."""

    def __init__(self, seed: str) -> None:
        """Read a seed. Raises NkeyError."""
        from nacl.signing import SigningKey  # libsodium: loaded only when there is a key

        self.seed = seed.strip()
        self._key = SigningKey(_secret(self.seed))

    @classmethod
    def new(cls) -> Nkey:
        """Create a new key."""
        return cls(_encode(bytes([_SEED | _USER >> 5, (_USER & 31) << 3]) + secrets.token_bytes(_SIZE)))

    @property
    def public(self) -> str:
        """The public key, as in the server's configuration."""
        return _encode(bytes([_USER]) + bytes(self._key.verify_key))

    def sign(self, nonce: str) -> bytes:
        """Return the signature of a nonce, in base64."""
        return base64.b64encode(self._key.sign(nonce.encode()).signature)


def credentials(text: str) -> tuple[str, str]:
    """Return the JWT and the seed in a credentials file. Raises NkeyError."""
    jwt, seed = _JWT.search(text), _USER_SEED.search(text)
    if not jwt or not seed:
        raise NkeyError("it has not both a NATS USER JWT and a USER NKEY SEED")
    return jwt[1], seed[1]


def _secret(seed: str) -> bytes:
    try:
        data = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except ValueError:
        data = b""
    if len(data) != _SIZE + 4 or data[:1] != bytes([_SEED | _USER >> 5]) or data[1] != (_USER & 31) << 3:
        raise NkeyError("no seed of a user, which is SU… with 58 letters and digits")
    if _checksum(data[:-2]) != data[-2:]:
        raise NkeyError("the seed is damaged: its checksum is wrong")
    return data[2:-2]


def _encode(data: bytes) -> str:
    return base64.b32encode(data + _checksum(data)).decode().rstrip("=")


def _checksum(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")
