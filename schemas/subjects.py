"""Every subject, stream and bucket name, in one place."""

from __future__ import annotations

import re

SERVICES = ("proxy", "deployer", "health", "gateway", "bus")

DEPLOYER_UNIT = "deployer:"
"""The unit of a deployer begins like this; its application follows."""

STREAM = "LONGSHORE"
EVENTS = "longshore.events"
COMMANDS = "longshore.commands"
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
    """Free text (a host name, a release) as one part of a subject or key."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text) or "_"


def events(service: str, app: str = NO_APP) -> str:
    """The batches of a service about an app, from any host."""
    return f"{EVENTS}.{service}.{app}"


def fits(subject: str, service: str, host: str, app: str) -> bool:
    """Whether a batch of a service on a host about an app may be published there; older subjects have no host."""
    expected = [*EVENTS.split("."), service, app, token(host)]
    return subject.split(".") in (expected[:-1], expected)


def from_host(subject: str, host: str) -> str:
    """What a host publishes there: the subject of events with the host behind it, which its account is bound to."""
    return f"{subject}.{token(host)}"


def filters(subject: str) -> list[str]:
    """What matches the events on a subject: with the host behind it, and without, as in older logs."""
    return [subject] if subject.endswith(">") else [subject, f"{subject}.*"]


def commands(app: str, host: str) -> str:
    """Where the deployer of an app on a host takes its commands."""
    return f"{COMMANDS}.deployer.{app}.{token(host)}"


def route_key(host: str, app: str, port: int) -> str:
    """Key of a Route and of what a proxy serves of it (Serving): everyone watches its own host's."""
    return f"{token(host)}.{app}.{port}"


def replica_key(host: str, app: str, replica: str) -> str:
    """Key of a Replica or of its Health."""
    return f"{token(host)}.{app}.{token(replica)}"


def decisions_key(host: str, app: str) -> str:
    """Key of a deployer's Decisions."""
    return f"{token(host)}.{app}"


def deployer_lease_key(host: str, app: str) -> str:
    """Key of the Lease that says which deployer has an app on a host."""
    return f"deployer.{token(host)}.{app}"
