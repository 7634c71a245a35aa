"""The wire format as it was agreed: `golden.json`, which this module reads, checks and appends to.

`python -m tests.schemas.golden` appends what is new: events, and another sample of an event that got new fields.
It never changes or removes a line that is there: bytes that were once written must be read for ever.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from schemas import codec
from schemas.codec import Batch
from schemas.events import EVENT_TYPES, AnyEvent, Event, HealthChanged, HealthChecked, ServiceStopped
from schemas.limits import bare
from schemas.reference import default_of, tag_of

FILE = Path(__file__).parent / "golden.json"
VALUES: dict[Any, Any] = {
    int: 300,
    float: 1700000000.25,
    str: "text",
    bool: True,
    bool | None: True,
    dict[str, int]: {"text": 300},
    dict[str, float]: {"text": 1700000000.25},
    list[str]: ["text"],
}


class Sample(msgspec.Struct, frozen=True):
    """What travels, as JSON and as bytes."""

    value: str
    bytes: str


class Agreed(msgspec.Struct):
    """An event on the wire; its samples in the order in which its fields grew, the newest last."""

    tag: int
    fields: str
    samples: list[Sample]


class Golden(msgspec.Struct):
    events: dict[str, Agreed] = {}
    batches: list[Sample] = []
    envelope: str = ""


BATCH = Batch(
    "health",
    "host-1",
    "web",
    "0192e4a0-0000-7000-8000-000000000001",
    70000,
    [
        HealthChecked(1700000000.25, "web-1-0-0-1-ab12", False, 0.002, "status 503"),
        HealthChanged(1700000000.5, "web-1-0-0-1-ab12", False, "status 503"),
        ServiceStopped(1700000001.0, "stopped"),
    ],
    bytes(range(32)),
)


def load() -> Golden:
    return msgspec.json.decode(FILE.read_bytes(), type=Golden)


def fields(kind: type[Event] | type[Batch]) -> list[str]:
    """The fields in their order, as they are declared."""
    types = bare(kind)
    return [_declared(field, types[field.name]) for field in msgspec.structs.fields(kind)]


def _declared(field: msgspec.structs.FieldInfo, kind: Any) -> str:
    default = "" if field.required else f" = {default_of(field)!r}"
    return f"{field.name}: {_type(kind)}{default}"


def _type(kind: Any) -> str:
    """Without the comma and blank that part the fields."""
    if kind == list[AnyEvent]:
        return "list[AnyEvent]"
    return kind.__name__ if type(kind) is type else str(kind).replace(", ", ",")


def instance(kind: type[Event]) -> Event:
    """An event whose every field is set, none to its default."""
    types = bare(kind)
    return kind(**{field.name: VALUES[types[field.name]] for field in msgspec.structs.fields(kind)})


def sample(value: Event | Batch) -> Sample:
    encoded = codec.encode(value) if isinstance(value, Batch) else codec.encode_events([value])
    return Sample(msgspec.json.encode(msgspec.msgpack.decode(encoded)).decode(), encoded.hex(" "))


def objections(
    golden: Golden, kinds: tuple[type[Event], ...] = EVENT_TYPES, envelope: type[Batch] = Batch
) -> list[str]:
    """What the code breaks of what was agreed."""
    code = {kind.__name__: kind for kind in kinds}
    owners = {agreed.tag: name for name, agreed in golden.events.items()}
    found = [f"{name} is gone" for name in golden.events if name not in code]
    for name, kind in code.items():
        owner = owners.get(tag_of(kind), name)
        if owner != name:
            found.append(f"{name} has the tag of {owner}")
        agreed = golden.events.get(name)
        if agreed and tag_of(kind) != agreed.tag:
            found.append(f"{name} has another tag than {agreed.tag}")
        found += _changes(name, fields(kind), agreed.fields) if agreed else []
    return found + (_changes("Batch", fields(envelope), golden.envelope) if golden.envelope else [])


def _changes(name: str, now: list[str], agreed: str) -> list[str]:
    found, before = [], agreed.split(", ")
    if now[: len(before)] != before:
        found.append(f"{name} has other fields than agreed: a field is only ever appended")
    if not all(" = " in field for field in now[len(before) :]):
        found.append(f"{name} has a new field without a default")
    return found


def appended(golden: Golden) -> Golden:
    """What was agreed, with what is new in the code."""
    events = dict(golden.events)
    for kind in EVENT_TYPES:
        before = events.get(kind.__name__)
        if before is None or before.fields != ", ".join(fields(kind)):
            samples = [*(before.samples if before else []), sample(instance(kind))]
            events[kind.__name__] = Agreed(tag_of(kind), ", ".join(fields(kind)), samples)
    batches = golden.batches if sample(BATCH) in golden.batches else [*golden.batches, sample(BATCH)]
    return Golden(events, batches, ", ".join(fields(Batch)))


def main() -> None:
    golden = load() if FILE.exists() else Golden()
    problems = objections(golden)
    if problems:
        raise SystemExit("\n".join(problems))
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(appended(golden)), indent=1) + b"\n")


if __name__ == "__main__":
    main()
