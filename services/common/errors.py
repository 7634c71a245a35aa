"""The one family of errors that a user sees: each message says what, where, and what to do.

The command line prints such an error as one line on stderr, without a traceback.
"""

from __future__ import annotations


def reason(error: BaseException) -> str:
    """What an error says; what kind it is, in words, where it says nothing, as a TimeoutError often does."""
    said = (isinstance(error, OSError) and error.strerror) or str(error)
    kind = type(error).__name__.removesuffix("Error").removesuffix("Exception")
    return said or "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in kind).strip() or "error"


class LongshoreError(Exception):
    """Anything that a user can mend. Ends a command with exit code 1."""

    exit_code = 1


class SettingsError(LongshoreError):
    """A flag, a variable or a line of longshore.toml is wrong."""

    exit_code = 2


class ExpiredError(LongshoreError):
    """A certificate is over: nobody accepts it any more."""


class BusError(LongshoreError):
    """The bus cannot be reached, refuses us, or is too old."""


class DeniedError(BusError):
    """The account may not do that on the bus."""

    def __init__(self, service: str, subject: str) -> None:
        super().__init__(
            f"the account of {service} may not use {subject} on the bus: give it what `longshore bus config` prints, "
            "or another account with --nats-user, --nats-nkey-file or --nats-creds"
        )


class ObjectError(BusError):
    """An object on the bus is damaged or not all there."""


class RegistryError(LongshoreError):
    """The registry cannot be read, or offers nothing that can be deployed.

    `retry_after`: how many seconds it asked to be left alone for, if it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ReleaseError(LongshoreError):
    """A release cannot be started on this host."""


class EngineError(LongshoreError):
    """The container engine refuses what it is asked for. `status`: of its answer, as in HTTP."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class EngineAwayError(EngineError):
    """The container engine does not answer, or does not let us in."""


class PortTakenError(LongshoreError):
    """Somebody else listens on a port that we need."""


class LogFileError(LongshoreError):
    """A log file is damaged, not all there, or of a version that we do not know."""
