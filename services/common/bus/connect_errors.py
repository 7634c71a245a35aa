"""The reasons for which a server refuses a connection, with the option to fix."""

from __future__ import annotations

import ssl

import nats.errors

from services.common.bus.credentials import Credentials
from services.common.bus.nats_client import PlainTextError, SignInError

_EXPIRED = 10
_OTHER_NAME = (62, 64)
_UNKNOWN_SIGNER = (2, 18, 19, 20, 21)
_OWN_REFUSED = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN", "UNSUPPORTED_CERTIFICATE", "ACCESS_DENIED")


def explain(error: BaseException | None, credentials: Credentials) -> str:
    """Describe a connect error in one line without secrets; empty when a retry may help."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_server(error, credentials)
    if isinstance(error, ssl.SSLError):
        return _of_client(error, credentials)
    if isinstance(error, PlainTextError):
        return "the server does not offer TLS, which --nats-ca, --nats-cert and tls:// ask for"
    if isinstance(error, SignInError):
        return str(error)
    if is_refusal(error):
        return _wrong_account(credentials)
    return ""


def is_refusal(error: BaseException | None) -> bool:
    """Report whether the server does not know the account."""
    text = str(error).lower()
    return isinstance(error, nats.errors.AuthorizationError) or "authorization" in text or "authentication" in text


def forbidden(error: Exception) -> str:
    """Return the subject of a permissions violation, in lower case as the server's error has it; else empty."""
    text = str(error)
    return text.partition('"')[2].partition('"')[0] if "permissions violation" in text.lower() else ""


def _of_server(error: ssl.SSLCertVerificationError, credentials: Credentials) -> str:
    if error.verify_code == _EXPIRED:
        return "the server's certificate, or its authority's, has expired: renew it there (and in --nats-ca)"
    if error.verify_code in _OTHER_NAME:
        return f"the server's certificate is for another name: use its name in --nats-url ({error.verify_message})"
    if error.verify_code in _UNKNOWN_SIGNER:
        signer = credentials.certificates.ca
        if signer:
            return f"the server's certificate is not signed by the authority of --nats-ca {signer}"
        return "no authority of this system signed the server's certificate: name its authority with --nats-ca"
    return f"the server's certificate cannot be used: {error.verify_message}"


def _of_client(error: ssl.SSLError, credentials: Credentials) -> str:
    reason, own = error.reason or "", credentials.certificates.cert
    if own and "CERTIFICATE_EXPIRED" in reason:
        return f"--nats-cert {own} has expired"
    if own and any(word in reason for word in _OWN_REFUSED):
        return f"the server does not accept --nats-cert {own}: it trusts another authority"
    if "CERTIFICATE_REQUIRED" in reason or "BAD_CERTIFICATE" in reason:
        return "the server asks for a certificate: give --nats-cert and --nats-key"
    return ""


def _wrong_account(credentials: Credentials) -> str:
    if credentials.nkey_file:
        return f"it does not know the key of --nats-nkey-file {credentials.nkey_file}"
    if credentials.creds:
        return f"--nats-creds {credentials.creds} is for another account, expired or revoked"
    if credentials.user:
        return "wrong user or password: fix --nats-user and --nats-password"
    if any("@" in server for server in credentials.servers):
        return "wrong user or password: fix them in --nats-url"
    return "wrong user or password: none is given (--nats-user, --nats-nkey-file or --nats-creds)"
