"""The variables that a process passes to its children: only those named here, for the rest may hold secrets."""

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
"""Variables that describe the host: the places of programs, files and certificates, the network, and the language."""

_USUAL_PREFIXES = ("LC_",)
_OWN_PREFIXES = ("PYTHON", "XDG_", "LD_")
"""Variables that a program of Longshore needs as well, to run and to find the same folders as its parent."""

_OF_A_SHELL = {"_", "PWD", "OLDPWD", "SHLVL", "TERM"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = "LONGSHORE_"


def usual(base: Mapping[str, str], names: Collection[str] = (), prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the usual variables of an environment, and those with these names or prefixes."""
    begins = (*_USUAL_PREFIXES, *prefixes)
    return {
        name: value
        for name, value in base.items()
        if (name in USUAL or name in names or name.startswith(begins)) and not name.startswith(_OURS)
    }


def own(base: Mapping[str, str], prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the variables for a program of Longshore: usual, the interpreter's, and those with these prefixes."""
    return usual(base, prefixes=(*_OWN_PREFIXES, *prefixes))


def foreign(base: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without Longshore's own variables, some of which are secrets."""
    return {name: value for name, value in base.items() if not name.startswith(_OURS)}


def withheld(base: Mapping[str, str], names: Collection[str]) -> list[str]:
    """Return the sorted names of the variables that `usual` omits, except Longshore's own and those of a shell."""
    left = base.keys() - usual(base, names).keys() - _OF_A_SHELL
    return sorted(name for name in left if not name.startswith(_OURS))


def check_names(option: str, names: Collection[str]) -> None:
    """Raise SettingsError unless all are names of variables that may be passed on."""
    for name in names:
        if not _NAME.fullmatch(name):
            # The text behind a "=" may be a secret, so the message does not repeat it.
            raise SettingsError(f"{option}: use names of variables alone, such as DATABASE_URL")
        if name.startswith(_OURS):
            raise SettingsError(f"{option} {name}: variables {_OURS}… are Longshore's own and are not passed on")
