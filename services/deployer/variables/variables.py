"""The variables that --env, --env-file and --secret give to replicas. Pure; no message shows a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from services.common.errors import SettingsError
from services.common.text import lines

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_OURS = ("LONGSHORE_",)
_PORT = "PORT"
MOST_BYTES = 128 << 10
"""The kernel takes no longer variable (MAX_ARG_STRLEN): exec(2) would fail without a name."""

Read = Callable[[str], str]


def check(env: Iterable[str], secrets: Iterable[str], is_process: bool) -> None:
    """Raise SettingsError for a variable or a secret that is not NAME=VALUE, or that Longshore sets itself."""
    for option, texts, value in (("--env", env, "VALUE"), ("--secret", secrets, "FILE")):
        for text in texts:
            name, separator, given = text.partition("=")
            if not separator or not _NAME.fullmatch(name) or (option == "--secret" and not given):
                raise SettingsError(f"{option}: use NAME={value}, with a name of letters, digits and underscores")
            _check_own(f"{option} {name}", name, is_process)


def _check_own(where: str, name: str, is_process: bool) -> None:
    if name.startswith(_OURS) or (is_process and name == _PORT):
        raise SettingsError(f"{where}: Longshore sets this variable itself; use another name")


def of_files(option: str, files: Iterable[str], read: Read) -> Iterator[tuple[str, str]]:
    """Yield each line of environment files that is not a comment, with where it stands."""
    for file in files:
        for number, line in enumerate(lines(read(file).removeprefix("\ufeff")), 1):
            if (text := line.lstrip()) and not text.startswith("#"):
                yield f"{option} {file} line {number}", text


def resolve(
    env: Iterable[str], env_files: Iterable[str], secrets: Iterable[str], is_process: bool, read: Read
) -> dict[str, str]:
    """Return the variables; those of --env win over those of a file, a secret wins over both. Raises SettingsError."""
    found: dict[str, str] = {}
    for where, text in of_files("--env-file", env_files, read):
        name, separator, value = text.partition("=")
        if not separator or not _NAME.fullmatch(name):
            shown = f" {name}" if separator and name.isprintable() else ""
            raise SettingsError(f"{where}:{shown} use NAME=VALUE, with a name of letters, digits and underscores")
        _check_own(f"{where}: {name}", name, is_process)
        found[name] = _checked(f"{where}: {name}", value)
    for text in env:
        name, _, value = text.partition("=")
        found[name] = _checked(f"--env {name}", value)
    for text in secrets:
        name, _, file = text.partition("=")
        # As Docker and systemd do, the end of the last line is no part of a secret: editors add it.
        value = read(file).removesuffix("\n").removesuffix("\r")
        found[name] = _checked(f"--secret {name}={file}", value)
    return found


def _checked(where: str, value: str) -> str:
    if "\0" in value:
        raise SettingsError(f"{where}: holds a NUL character, which no variable can; remove it")
    if len(value.encode(errors="surrogateescape")) >= MOST_BYTES:
        raise SettingsError(f"{where}: longer than {MOST_BYTES} bytes; pass the file's path instead")
    return value
