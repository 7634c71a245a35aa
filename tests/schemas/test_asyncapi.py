"""The AsyncAPI document is not stale, has the structure that AsyncAPI 3 asks for, and says what the code does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import asyncapi, codec, subjects
from schemas.codec import Batch
from schemas.events import EVENT_TYPES, Event
from schemas.reference import tag_of
from services.bus.permissions import ACCESS
from services.common.version import VERSION
from tests.schemas import golden

FILE = Path(__file__).parents[2] / "docs" / "reference" / "asyncapi.json"
DOCUMENT = asyncapi.document(VERSION)
SCHEMAS = DOCUMENT["components"]["schemas"]
KINDS: dict[str, Any] = {
    "integer": int,
    "number": (int, float),
    "string": str,
    "boolean": bool,
    "array": list,
    "object": dict,
}


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for one in part:
            yield from references(one)


def resolve(reference: str) -> Any:
    found: Any = DOCUMENT
    for word in reference.removeprefix("#/").split("/"):
        found = found[word]
    return found


def test_the_file_in_the_repository_is_the_one_that_the_code_gives() -> None:
    assert FILE.read_text() == asyncapi.text(VERSION), "run `make docs` and commit the file"


def test_every_reference_leads_somewhere_in_the_document() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 50
    for reference in found:
        assert isinstance(resolve(reference), dict)


def test_it_has_what_the_specification_requires() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= DOCUMENT["info"].keys()
    assert set(DOCUMENT) <= {
        "asyncapi",
        "id",
        "info",
        "servers",
        "defaultContentType",
        "channels",
        "operations",
        "components",
    }
    for server in DOCUMENT["servers"].values():
        assert {"host", "protocol"} <= server.keys()


def test_the_parameters_of_a_channel_are_those_of_its_address() -> None:
    for channel in DOCUMENT["channels"].values():
        named = re.findall(r"\{(\w+)\}", channel["address"] or "")
        assert set(named) == set(channel.get("parameters", {}))
        assert channel["messages"]
        assert channel["description"]


def test_operations_send_or_receive_on_a_channel() -> None:
    for name, operation in DOCUMENT["operations"].items():
        assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
        assert operation["action"] in ("send", "receive")
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in DOCUMENT["channels"]


def test_messages_say_their_content_type_and_their_payload() -> None:
    messages = DOCUMENT["components"]["messages"]
    for name, message in messages.items():
        expected = "application/msgpack" if name == "Batch" else "application/json"
        assert message["contentType"] == expected
        assert resolve(message["payload"]["$ref"])["schemaFormat"].endswith("draft-2020-12")


def test_channels_are_the_subjects_and_the_buckets() -> None:
    channels = DOCUMENT["channels"]
    assert channels["events"]["address"] == subjects.events("{service}", "{app}") + ".{host}"
    assert channels["commands"]["address"] == f"{subjects.COMMANDS}.deployer.{{app}}.{{host}}"
    assert {f"$KV.{name}.{{key}}" for name in subjects.BUCKETS} == {
        channels[name]["address"] for name in asyncapi.VALUES
    }


@pytest.mark.parametrize("service", ACCESS)
def test_who_sends_and_receives_what_is_what_the_accounts_on_the_bus_may(service: str) -> None:
    access = ACCESS[service]
    sends = {"events"} if access.publishes else set()
    leases = [subjects.LEASES] if access.leases else []
    sends |= {*access.writes, *leases, *(["commands"] if access.commands else [])}
    receives = {*access.reads, *(["events"] if access.reads_log else []), *(["commands"] if access.answers else [])}
    assert set(asyncapi.SENDS[service]) == sends
    assert set(asyncapi.RECEIVES[service]) == receives


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
def test_every_event_is_described_place_by_place_as_it_travels(kind: type[Event]) -> None:
    schema = SCHEMAS[kind.__name__]["schema"]
    travels = msgspec.msgpack.decode(codec.encode_events([golden.instance(kind)]))[0]
    assert [item["title"] for item in schema["prefixItems"]] == ["tag", *kind.__struct_fields__]
    assert schema["prefixItems"][0]["enum"] == [tag_of(kind)]
    assert len(travels) == len(schema["prefixItems"])
    for value, item in zip(travels[1:], schema["prefixItems"][1:], strict=True):
        assert isinstance(value, tuple(KINDS[one["type"]] for one in item.get("anyOf", [item]) if one["type"] in KINDS))
    assert schema["minItems"] == 1 + sum(field.required for field in msgspec.structs.fields(kind))


def test_a_batch_may_hold_every_event() -> None:
    (events,) = [item for item in SCHEMAS["Batch"]["schema"]["prefixItems"] if item["title"] == "events"]
    assert {one["$ref"].split("/")[3] for one in events["items"]["anyOf"]} == {kind.__name__ for kind in EVENT_TYPES}
    assert [item["title"] for item in SCHEMAS["Batch"]["schema"]["prefixItems"]] == list(Batch.__struct_fields__)
