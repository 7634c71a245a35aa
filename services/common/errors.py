"""The errors that a user sees: each message says the problem, the place, and the remedy.

The command line prints such an error as one line on stderr, without a traceback.
"""

from __future__ import annotations


def reason(error: BaseException) -> str:
    """Return the message of an error, or its kind in words when it has no message, as a TimeoutError often has not."""
    said = (isinstance(error, OSError) and error.strerror) or str(error)
    kind = type(error).__name__.removesuffix("Error").removesuffix("Exception")
    return said or "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in kind).strip() or "error"


class LongshoreError(Exception):
    """An error that a user can fix. Ends a command with exit code 1."""

    exit_code = 1


class SettingsError(LongshoreError):
    """A flag, a variable or a line of longshore.toml is wrong."""

    exit_code = 2


class ExpiredError(LongshoreError):
    """A certificate has expired: no peer accepts it."""


class BusError(LongshoreError):
    """The bus cannot be reached, refuses the account, or is too old."""


class NoBusError(BusError):
    """No server listens at the address of the bus."""


class DeniedError(BusError):
    """The account may not do that on the bus."""

    def __init__(self, service: str, subject: str) -> None:
        super().__init__(
            f"the account of {service} may not use {subject} on the bus: give it what `longshore bus config` prints, "
            "or another account with --nats-user, --nats-nkey-file or --nats-creds"
        )


class ObjectError(BusError):
    """An object on the bus is damaged or incomplete."""


class RegistryError(LongshoreError):
    """The registry cannot be read, or offers nothing that can be deployed.

    `retry_after`: the pause in seconds that it asked for, if it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ReleaseError(LongshoreError):
    """A release cannot be started on this host."""


class EngineError(LongshoreError):
    """The container engine refuses a request. `status`: the HTTP status of its answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class EngineAwayError(EngineError):
    """The container engine does not answer, or refuses access."""


class PortTakenError(LongshoreError):
    """Another process listens on a port that Longshore needs."""


class LogFileError(LongshoreError):
    """A log file is damaged, incomplete, or of an unknown version."""
