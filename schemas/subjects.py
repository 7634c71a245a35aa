"""Every subject, stream and bucket name, in one place."""

from __future__ import annotations

import re

SERVICES = ("proxy", "deployer", "health", "gateway", "bus")

DEPLOYER_UNIT = "deployer:"
"""The unit of a deployer begins like this; its application follows."""

STREAM = "LONGSHORE"
EVENTS = "longshore.events"
COMMANDS = "longshore.commands"
OUTPUT = "longshore.output"
ALL_EVENTS = f"{EVENTS}.>"

ROUTES = "longshore-routes"
REPLICAS = "longshore-replicas"
HEALTH = "longshore-health"
SERVING = "longshore-serving"
DECISIONS = "longshore-decisions"
LEASES = "longshore-leases"
BUCKETS = (ROUTES, REPLICAS, HEALTH, SERVING, DECISIONS, LEASES)

SNAPSHOTS = "longshore-snapshots"
OBJECT_STORES = (SNAPSHOTS,)

NO_APP = "_"
"""The app of events that belong to a service as a whole."""


def token(text: str) -> str:
    """Return free text (a host name, a release) as one part of a subject or key."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text) or "_"


def events(service: str, app: str = NO_APP) -> str:
    """Return the subject of the batches of a service about an app, from any host."""
    return f"{EVENTS}.{service}.{app}"


def fits(subject: str, service: str, host: str, app: str) -> bool:
    """Report whether a batch of this service, host and app may be on a subject; older subjects have no host."""
    expected = [*EVENTS.split("."), service, app, token(host)]
    return subject.split(".") in (expected[:-1], expected)


def from_host(subject: str, host: str) -> str:
    """Return the subject on which a host publishes: the subject of events with the host behind it."""
    return f"{subject}.{token(host)}"


def filters(subject: str) -> list[str]:
    """Return the filters that match events on a subject: with the host behind it, and without, as in older logs."""
    return [subject] if subject.endswith(">") else [subject, f"{subject}.*"]


def commands(app: str, host: str) -> str:
    """Return the subject on which the deployer of an app on a host takes commands."""
    return f"{COMMANDS}.deployer.{app}.{token(host)}"


def output(service: str, app: str, host: str) -> str:
    """Return the subject on which a service opens streams of output of an app on a host."""
    return f"{OUTPUT}.{service}.{app}.{token(host)}"


def output_stream(service: str, app: str, host: str, stream: str) -> str:
    """Return the subject on which a service answers the reader of one of its streams."""
    return f"{output(service, app, host)}.{stream}"


def route_key(host: str, app: str, port: int) -> str:
    """Return the key of a Route and of its Serving; a service watches the keys of its own host."""
    return f"{token(host)}.{app}.{port}"


def replica_key(host: str, app: str, replica: str) -> str:
    """Return the key of a Replica or of its Health."""
    return f"{token(host)}.{app}.{token(replica)}"


def decisions_key(host: str, app: str) -> str:
    """Return the key of a deployer's Decisions."""
    return f"{token(host)}.{app}"


def deployer_lease_key(host: str, app: str) -> str:
    """Return the key of the Lease that one deployer of an app on a host holds."""
    return f"deployer.{token(host)}.{app}"
