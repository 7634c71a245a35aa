"""The AsyncAPI document by other people's rules: the official schema of AsyncAPI 3.0.0, and JSON Schema 2020-12."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from jsonschema_rs import Draft7Validator, Draft202012Validator, meta

from schemas import asyncapi
from services.common.version import VERSION
from tests.schemas import golden
from tests.support import asyncapi_specification

DOCUMENT = asyncapi.document(VERSION)
DIALECT = "https://json-schema.org/draft/2020-12/schema"
AGREED = golden.load()


def schema_of(name: str) -> Draft202012Validator:
    """A component of the document, where its references lead somewhere."""
    return Draft202012Validator({**DOCUMENT, "$ref": f"#/components/schemas/{name}/schema"})


@pytest.fixture(scope="module")
def official() -> Draft7Validator:
    return Draft7Validator(asyncapi_specification.load())


def test_the_document_is_valid_by_the_official_schema(official: Draft7Validator) -> None:
    assert [f"{error.instance_path}: {error.message}" for error in official.iter_errors(DOCUMENT)] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["asyncapi"], "2.6.0"),
        (["info"], {"title": "no version"}),
        (["operations", "proxy-send-events", "action"], "publish"),
        (["channels", "events", "messages"], ["Batch"]),
        (["servers", "bus", "host"], 4222),
        (["components", "messages", "Batch", "payload"], "bytes"),
        (["topics"], {}),
    ],
)
def test_the_official_schema_finds_what_is_wrong(official: Draft7Validator, path: list[str], value: Any) -> None:
    wrong = copy.deepcopy(DOCUMENT)
    part = wrong
    for word in path[:-1]:
        part = part[word]
    part[path[-1]] = value
    assert not official.is_valid(wrong)


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_every_payload_is_described_by_a_valid_json_schema(name: str) -> None:
    schema = DOCUMENT["components"]["schemas"][name]
    assert meta.is_valid({"$schema": DIALECT, **schema.get("schema", schema)})


@pytest.mark.parametrize("name", AGREED.events)
def test_bytes_of_every_released_version_of_an_event_fit_its_schema(name: str) -> None:
    for sample in AGREED.events[name].samples:
        (event,) = msgspec.json.decode(sample.value)
        assert schema_of(name).is_valid(event)
        assert not schema_of(name).is_valid([event[0] + 1, *event[1:]])
        assert not schema_of(name).is_valid([event[0], "not a time", *event[2:]])


def test_a_batch_that_travels_fits_its_schema_and_one_of_an_unknown_event_does_not() -> None:
    batch = msgspec.json.decode(msgspec.json.encode(golden.BATCH))
    assert schema_of("Batch").is_valid(batch)
    assert not schema_of("Batch").is_valid([*batch[:5], [["no event"]], batch[6]])
