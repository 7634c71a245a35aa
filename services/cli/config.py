"""longshore.toml: defaults for the options of all commands, and for one command in a table with its name.

log-format = "json"

[server]
registry = "dir:///srv/app"
port = [8080]
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from services.cli import CONFIG_FILE as FILE
from services.cli.options import Fields
from services.cli.text.suggestions import did_you_mean
from services.common.errors import SettingsError
from services.common.text import lines as split

APPS = "app"

Report = Callable[[SettingsError], None]
"""Receives each mistake in a file; the reading continues behind it unless it raises."""


def refuse(error: SettingsError) -> None:
    """Raise the first mistake."""
    raise error


def defaults(path: str, commands: dict[str, Fields], report: Report = refuse) -> dict[str, dict[str, Any]]:
    """Return the defaults of each command; none if `path` is empty and the current folder has no longshore.toml.

    Reports, with line and key, an unknown command or option. Raises SettingsError for a file that cannot be read.
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
            report(_error(file, text, key, _unknown_table(key, commands)))
    for key in common:
        if not any(_name(key) in fields for fields in commands.values()):
            proposal = did_you_mean(key, map(_key, {name: 0 for fields in commands.values() for name in fields}))
            report(_error(file, text, key, f"no command has this option{proposal}"))
    once = _once(report)
    return {
        command: _checked(file, text, fields, common, once)
        | _checked(file, text, fields, tables.get(command, {}), once, command, [command])
        for command, fields in commands.items()
    }


def _unknown_table(key: str, commands: dict[str, Fields]) -> str:
    if key == "apps":
        return f"no such command; write [{APPS}.NAME] for an application"
    return f"no such command{did_you_mean(key, (*commands, APPS))}"


def _once(report: Report) -> Report:
    """Return a report that passes each mistake on once: a key at the top is read for every command."""
    seen: set[str] = set()

    def first(error: SettingsError) -> None:
        if str(error) not in seen:
            seen.add(str(error))
            report(error)

    return first


def applications(path: str, fields: Fields, report: Report = refuse) -> dict[str, dict[str, Any]]:
    """Return the options of each `[app.<name>]` table, together with those at the top of the file.

    Reports, with line and key, an unknown option. Raises SettingsError for a file without such a table.
    """
    file = Path(path or FILE)
    text = _read(file)
    contents = _parse(file, text)
    tables = contents.get(APPS)
    if not isinstance(tables, dict) or not tables or not all(isinstance(table, dict) for table in tables.values()):
        raise SettingsError(f"{file}: no application: write a table [app.NAME] with registry and port for each")
    common = {key: value for key, value in contents.items() if not isinstance(value, dict)}
    return {
        name: _checked(file, text, fields, common, report)
        | _checked(file, text, fields, table, report, "up", [APPS, name])
        | {"app": name}
        for name, table in tables.items()
    }


def has_applications(path: str) -> bool:
    """Return whether a file has tables of applications. Raises SettingsError for a file that cannot be read."""
    file = Path(path or FILE)
    return APPS in _parse(file, _read(file))


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
    file: Path,
    text: str,
    fields: Fields,
    table: dict[str, Any],
    report: Report,
    command: str = "",
    header: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the values that are options of a command. In its own table, under that header, all must be."""
    found = {}
    for key, value in table.items():
        field = fields.get(_name(key))
        try:
            if field:
                found[field.name] = _value(file, text, key, value, field.type, header)
            elif command:
                proposal = did_you_mean(key, map(_key, fields))
                raise _error(file, text, key, f"`longshore {command}` has no such option{proposal}", header)
        except SettingsError as error:
            report(error)
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


def located(path: str, app: str, error: SettingsError) -> SettingsError:
    """Return an error in the options of an application with the file, the line and the table that it is from."""
    file, problem = Path(path or FILE), str(error)
    option = re.match(r"--([a-z][a-z-]*)", problem)
    key = option[1] if option else "docker-args" if problem.startswith("-- ") else ""
    text = _read(file)
    number = _line(text, key, [APPS, app]) or _line(text, key, ()) if key else 0
    return SettingsError(f"{file}{f' line {number}' if number else ''}: [{APPS}.{app}]: {problem}")


def line_of(path: str, app: str, key: str) -> int:
    """Return the line that sets a key for an application (none: for every command), 0 if none does."""
    text, spelled = _read(Path(path or FILE)), [_key(key), key]
    found = [_line(text, name, [APPS, app] if app else ()) for name in spelled]
    return max(found) or (max(_line(text, name, ()) for name in spelled) if app else 0)


def _key(name: str) -> str:
    return name.replace("_", "-")


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
    pattern = re.compile(rf"\s*\[?\s*[\"']?{re.escape(key)}[\"']?\s*[\]=.]")
    return next((number for number, line in lines if number > begin and pattern.match(line)), 0)
