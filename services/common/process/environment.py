"""Which variables a process hands to those that it starts: those named here, for the rest may hold secrets."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from services.common.errors import SettingsError

USUAL = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LANGUAGE"),
        *("LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    )
)
"""What says how this host is made: where programs, files, certificates and the network are, and in which language."""

_USUAL_PREFIXES = ("LC_",)
_OWN_PREFIXES = ("PYTHON", "XDG_", "LD_")
"""What a program of ours needs besides, to run and to find the same folders as the one that starts it."""

_OF_A_SHELL = {"_", "PWD", "OLDPWD", "SHLVL", "TERM"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = "LONGSHORE_"


def usual(base: Mapping[str, str], names: Collection[str] = (), prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    """The usual variables of an environment, those with these names, and those whose names begin like this."""
    begins = (*_USUAL_PREFIXES, *prefixes)
    return {
        name: value
        for name, value in base.items()
        if (name in USUAL or name in names or name.startswith(begins)) and not name.startswith(_OURS)
    }


def own(base: Mapping[str, str], prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    """For a program of ours: the usual variables, those of the interpreter, and those that begin like this."""
    return usual(base, prefixes=(*_OWN_PREFIXES, *prefixes))


def foreign(base: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without Longshore's own variables, some of which are secrets."""
    return {name: value for name, value in base.items() if not name.startswith(_OURS)}


def withheld(base: Mapping[str, str], names: Collection[str]) -> list[str]:
    """The names of the variables that `usual` leaves out, in order, without Longshore's own and those of a shell."""
    left = base.keys() - usual(base, names).keys() - _OF_A_SHELL
    return sorted(name for name in left if not name.startswith(_OURS))


def check_names(option: str, names: Collection[str]) -> None:
    """Raises SettingsError unless all are names of variables that may be passed on."""
    for name in names:
        if not _NAME.fullmatch(name):
            # What stands behind a "=" may be a secret, so it is not repeated.
            raise SettingsError(f"{option}: use names of variables alone, such as DATABASE_URL")
        if name.startswith(_OURS):
            raise SettingsError(f"{option} {name}: variables {_OURS}… are Longshore's own and are not passed on")
