"""Every subject, stream and bucket name, in one place."""

from __future__ import annotations

import re

SERVICES = ("proxy", "deployer", "health", "gateway", "bus")

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
    """Where a service publishes the batches about an app."""
    return f"{EVENTS}.{service}.{app}"


def fits(subject: str, service: str, host: str, app: str) -> bool:
    """Whether a batch of a service on a host about an app may be published there; older subjects have no host."""
    expected = [*EVENTS.split("."), service, app, token(host)]
    return subject.split(".") in (expected[:-1], expected)


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


def tenure_key(host: str, app: str) -> str:
    """Key of the Lease that says which deployer has an app on a host."""
    return f"deployer.{token(host)}.{app}"
