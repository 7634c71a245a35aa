"""longshore.toml: defaults for the options of all commands, and for one command in a table with its name.

log-format = "json"

[server]
registry = "dir:///srv/app"
port = [8080]
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from services.cli import CONFIG_FILE as FILE
from services.cli.options import Fields
from services.common.errors import SettingsError
from services.common.text import lines as split

APPS = "app"


def defaults(path: str, commands: dict[str, Fields]) -> dict[str, dict[str, Any]]:
    """Return the defaults of each command; none if `path` is empty and the current folder has no longshore.toml.

    Raises SettingsError, with line and key, for an unknown command or option.
    """
    file = Path(path or FILE)
    if not path and not file.exists():
        return {}
    text = _read(file)
    contents = _parse(file, text)
    tables = {key: value for key, value in contents.items() if isinstance(value, dict) and key != APPS}
    common = {key: value for key, value in contents.items() if not isinstance(value, dict)}
    for key in tables:
        if key not in commands:
            raise _error(file, text, key, "no such command")
    for key in common:
        if not any(_name(key) in fields for fields in commands.values()):
            raise _error(file, text, key, "no command has this option")
    return {
        command: _checked(file, text, fields, common)
        | _checked(file, text, fields, tables.get(command, {}), command, [command])
        for command, fields in commands.items()
    }


def applications(path: str, fields: Fields) -> dict[str, dict[str, Any]]:
    """Return the options of each `[app.<name>]` table, together with those at the top of the file.

    Raises SettingsError for a file without such a table, and, with line and key, for an unknown option.
    """
    file = Path(path or FILE)
    text = _read(file)
    contents = _parse(file, text)
    tables = contents.get(APPS)
    if not isinstance(tables, dict) or not tables or not all(isinstance(table, dict) for table in tables.values()):
        raise SettingsError(f"{file}: no application: write a table [app.NAME] with registry and port for each")
    common = {key: value for key, value in contents.items() if not isinstance(value, dict)}
    return {
        name: _checked(file, text, fields, common)
        | _checked(file, text, fields, table, "up", [APPS, name])
        | {"app": name}
        for name, table in tables.items()
    }


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except OSError as error:
        raise SettingsError(f"--config {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"--config {file}: not valid UTF-8; save it as UTF-8") from None


def _parse(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: {error}") from None


def _checked(
    file: Path, text: str, fields: Fields, table: dict[str, Any], command: str = "", header: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the values that are options of a command. In its own table, under that header, all must be."""
    found = {}
    for key, value in table.items():
        field = fields.get(_name(key))
        if field:
            found[field.name] = _value(file, text, key, value, field.type, header)
        elif command:
            raise _error(file, text, key, f"`longshore {command}` has no such option", header)
    return found


def _value(file: Path, text: str, key: str, value: Any, kind: Any, header: Sequence[str]) -> Any:
    try:
        return msgspec.convert(_as_words(value, kind), kind)
    except msgspec.ValidationError as error:
        raise _error(file, text, key, str(error).replace("`", ""), header) from None


def _as_words(value: Any, kind: Any) -> Any:
    """Turn numbers into texts where the option is a text: a port is a number in the file. A table is NAME=VALUE."""
    if kind == list[str] and isinstance(value, list):
        return [_as_words(one, str) for one in value]
    if kind == list[str] and isinstance(value, dict) and all(type(one) in (str, int) for one in value.values()):
        return [f"{name}={one}" for name, one in value.items()]
    return str(value) if kind is str and type(value) is int else value


def _name(key: str) -> str:
    return key.replace("-", "_")


def _error(file: Path, text: str, key: str, problem: str, header: Sequence[str] = ()) -> SettingsError:
    line = _line(text, key, header)
    where = f"{file} line {line}" if line else f"{file}"
    return SettingsError(f"{where}: {key}: {problem}")


def _line(text: str, key: str, header: Sequence[str]) -> int:
    """Return the line of a key in the table under a header (none: anywhere); 0 if the file writes it in another way."""
    lines = list(enumerate(split(text), 1))
    title = r"\s*\.\s*".join(rf"[\"']?{re.escape(name)}[\"']?" for name in header)
    begin = next((number for number, line in lines if re.match(rf"\s*\[\s*{title}\s*\]", line)), 0) if header else 0
    pattern = re.compile(rf"\s*\[?\s*[\"']?{re.escape(key)}[\"']?\s*[\]=]")
    return next((number for number, line in lines if number > begin and pattern.match(line)), 0)
