"""The reference page of the events, made from the events: `python -m schemas.reference` prints it."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from schemas import subjects
from schemas.codec import Batch
from schemas.events import EVENT_TYPES, Event
from schemas.limits import bare

SECTIONS = {
    "Every service": range(1, 10),
    "proxy": range(10, 30),
    "deployer": range(30, 60),
    "health": range(60, 70),
}

HEAD = f"""\
# Events

<!-- Generated from schemas/events.py by `make docs`: do not edit. -->

Everything that happens is an event on the log: the JetStream stream `{subjects.STREAM}`, subjects
`{subjects.EVENTS}.<service>.<app>.<host>` (older logs: without the host); the app is `{subjects.NO_APP}` for what
concerns a service as a whole.
`longshore events --follow` prints them as they come.

Times are unix seconds on the clock of the service that publishes; only the order within one instance counts.
Durations and latencies are seconds, sizes are bytes.

## On the wire

A message is one batch, a MessagePack array. Its message id is `<instance>:<sequence>`.

{{batch}}

Each event is an array as well: its tag, then its fields in the order of the tables below. A field is only ever
appended, with a default; a tag is never used again. A reader skips fields and events that it does not know,
and counts the events. It skips and counts an event with an impossible value as well: a port beyond 1 to 65535, a count
below zero, a time or duration of 10¹⁰ seconds or more, text beyond 65,536 characters (a name: 1,024). A batch whose
service, app or host is not that of its subject is skipped as a whole.
"""


def markdown() -> str:
    """The page. Raises ValueError for an event whose tag is in no section."""
    lost = [kind.__name__ for kind in EVENT_TYPES if not any(tag_of(kind) in tags for tags in SECTIONS.values())]
    if lost:
        raise ValueError(f"no section has the tag of {', '.join(lost)}: add one in schemas/reference.py")
    parts = [HEAD.format(batch=_table(Batch))]
    for title, tags in SECTIONS.items():
        kinds = sorted((kind for kind in EVENT_TYPES if tag_of(kind) in tags), key=tag_of)
        parts += [f"## {title}\n", *[_event(kind) for kind in kinds]]
    return "\n".join(parts)


def tag_of(kind: type[Event]) -> int:
    """The number that an event starts with on the wire."""
    tag = kind.__struct_config__.tag
    if not isinstance(tag, int):
        raise TypeError(f"{kind.__name__} has no number for a tag")
    return tag


def default_of(field: msgspec.structs.FieldInfo) -> object:
    """What a reader takes a field for that an old writer does not know."""
    return field.default_factory() if field.default is msgspec.NODEFAULT else field.default


def _event(kind: type[Event]) -> str:
    return f"### {kind.__name__}\n\nTag {tag_of(kind)}. {inspect.getdoc(kind)}\n\n{_table(kind)}\n"


def _table(kind: type[msgspec.Struct]) -> str:
    rows = ["| field | type | default |", "|---|---|---|"]
    types = bare(kind)
    return "\n".join(rows + [_row(field, types[field.name]) for field in msgspec.structs.fields(kind)])


def _row(field: msgspec.structs.FieldInfo, kind: Any) -> str:
    default = "" if field.required else f"`{msgspec.json.encode(default_of(field)).decode()}`"
    return f"| `{field.name}` | {_type(field.name, kind)} | {default} |"


def _type(name: str, kind: Any) -> str:
    if name == "events":
        return "list of events"
    return str(kind.__name__ if type(kind) is type else kind)


if __name__ == "__main__":
    print(markdown(), end="")
