"""The AsyncAPI 3 document of everything on the bus, made from the types."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import msgspec

from schemas import commands, routing, subjects
from schemas.codec import Batch
from schemas.events import EVENT_TYPES, Event

MSGPACK, JSON = "application/msgpack", "application/json"

DIALECT = "application/schema+json;version=draft-2020-12"
"""The schemas' dialect: AsyncAPI's own has no word for the places of an array."""

VALUES: dict[str, type[msgspec.Struct]] = {
    subjects.ROUTES: routing.Route,
    subjects.REPLICAS: routing.Replica,
    subjects.HEALTH: routing.Health,
    subjects.SERVING: routing.Serving,
    subjects.DECISIONS: routing.Decisions,
    subjects.LEASES: routing.Lease,
}
"""The type of the values in each bucket."""

SENDS = {
    "proxy": ("events", subjects.SERVING),
    "deployer": ("events", subjects.ROUTES, subjects.REPLICAS, subjects.DECISIONS, subjects.LEASES),
    "health": ("events", subjects.HEALTH),
    "gateway": ("events", "commands", subjects.LEASES),
    "cli": ("commands",),
}
RECEIVES = {
    "proxy": (subjects.ROUTES,),
    "deployer": ("commands", subjects.HEALTH, subjects.SERVING),
    "health": (subjects.REPLICAS,),
    "gateway": ("events",),
    "cli": ("events", *VALUES),
}
"""The channels that each service sends to, and those that it receives from."""

COMMANDS: tuple[type[msgspec.Struct], ...] = get_args(commands.Command)
Document = dict[str, Any]


def document(version: str) -> Document:
    """Return the document of this version of Longshore."""
    texts: tuple[type[msgspec.Struct], ...] = (*COMMANDS, commands.Reply, *VALUES.values())
    _, schemas = msgspec.json.schema_components([Batch, *texts], ref_template="#/components/schemas/{name}/schema")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Longshore",
            "version": version,
            "description": "Messages on the bus: events, which are kept; requests; and key-value buckets.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": MSGPACK,
        "servers": {
            "bus": {"host": "localhost:4222", "protocol": "nats", "description": "NATS 2.10 or newer, with JetStream."}
        },
        "channels": {
            "events": _events(),
            "commands": _commands(),
            "replies": _replies(),
            **{name: _bucket(name) for name in VALUES},
        },
        "operations": _operations(),
        "components": {
            "messages": {
                "Batch": _message(Batch, MSGPACK, headers={"$ref": "#/components/schemas/Headers"}),
                **{kind.__name__: _message(kind, JSON) for kind in texts},
            },
            "schemas": {
                "Headers": _headers(),
                **{name: {"schemaFormat": DIALECT, "schema": _titled(schemas[name])} for name in sorted(schemas)},
            },
        },
    }


def text(version: str) -> str:
    """Return the document as the file docs/reference/asyncapi.json holds it."""
    return msgspec.json.format(msgspec.json.encode(document(version)), indent=2).decode() + "\n"


def _events() -> Document:
    return {
        "address": f"{subjects.EVENTS}.{{service}}.{{app}}.{{host}}",
        "description": f"The log: stream {subjects.STREAM}. Each message is a batch of events, a MessagePack array.",
        "messages": {"Batch": {"$ref": "#/components/messages/Batch"}},
        "parameters": {
            "service": {"description": "The service that publishes.", "enum": list(subjects.SERVICES)},
            "app": {"description": f"The application; {subjects.NO_APP} for events about the service as a whole."},
            "host": {"description": "The host that publishes; older logs have subjects without it."},
        },
    }


def _commands() -> Document:
    return {
        "address": f"{subjects.COMMANDS}.deployer.{{app}}.{{host}}",
        "description": "Requests to the deployer of an application on a host. First a request without content "
        "and with the header `Longshore-Ask: clock` asks for the deployer's clock, `<process>:<seconds>`. Then the "
        "command is sent with the header `Longshore-Deadline`, a later time on that clock: the deployer begins no "
        "change after it, and refuses a command without it.",
        "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in COMMANDS},
        "parameters": {
            "app": {"description": "The application."},
            "host": {"description": "The host; a character that a subject cannot hold is an underscore."},
        },
    }


def _replies() -> Document:
    return {
        "address": None,
        "description": "An inbox on which the sender of a request waits for the answer.",
        "messages": {"Reply": {"$ref": "#/components/messages/Reply"}},
    }


def _bucket(name: str) -> Document:
    kind = VALUES[name].__name__
    return {
        "address": f"$KV.{name}.{{key}}",
        "description": f"Key-value bucket {name}: {_first_line(VALUES[name])}",
        "messages": {kind: {"$ref": f"#/components/messages/{kind}"}},
        "parameters": {"key": {"description": "Host, application and, except for decisions, the port or replica."}},
    }


def _operations() -> Document:
    found = {}
    for action, table in (("send", SENDS), ("receive", RECEIVES)):
        for service, channels in table.items():
            for channel in channels:
                found[f"{service}-{action}-{channel}"] = _operation(service, action, channel)
    return found


def _operation(service: str, action: str, channel: str) -> Document:
    operation: Document = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": f"{service} {action}s {channel}",
        "tags": [{"name": service}],
    }
    if channel == "commands":
        operation["reply"] = {
            "address": {"location": "$message.header#/reply", "description": "The reply subject of the request."},
            "channel": {"$ref": "#/channels/replies"},
        }
    return operation


def _message(kind: type[msgspec.Struct], content: str, **more: Document) -> Document:
    return {
        "name": kind.__name__,
        "contentType": content,
        "summary": _first_line(kind),
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        **more,
    }


def _headers() -> Document:
    return {
        "type": "object",
        "description": "NATS headers of a batch.",
        "properties": {
            "Nats-Msg-Id": {"type": "string", "description": "<instance>:<sequence>; the server drops a repeat."},
            "Longshore-Stored": {
                "type": "string",
                "description": "Of an imported message: the time at which it was stored first, in unix seconds.",
            },
        },
    }


def _titled(schema: Document) -> Document:
    """Return a schema with the name of each place of its array as a title: JSON Schema has no other word for it."""
    kind = _ARRAYS.get(schema.get("title", ""))
    if kind and "prefixItems" in schema:
        tag = ["tag"] if issubclass(kind, Event) else []
        names = [*tag, *kind.__struct_fields__]
        items = [{"title": name, **item} for name, item in zip(names, schema["prefixItems"], strict=True)]
        return {**schema, "prefixItems": items}
    return schema


_ARRAYS: dict[str, type[msgspec.Struct]] = {"Batch": Batch, **{kind.__name__: kind for kind in EVENT_TYPES}}


def _first_line(kind: type[msgspec.Struct]) -> str:
    return (inspect.getdoc(kind) or "").split("\n")[0]
