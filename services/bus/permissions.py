"""Who may do what on the bus: each service gets an account with just the subjects that it needs."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas import subjects

ADMIN = "admin"
SYSTEM = "system"
"""The server's own account: it says how the server is, and sees nothing of the log."""


class Access(msgspec.Struct, frozen=True):
    """What a service does: events that it publishes, the log, buckets and objects that it reads or writes, commands."""

    publishes: bool = True
    reads_log: bool = False
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    reads_stores: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    answers: bool = False


ACCESS = {
    "proxy": Access(reads=(subjects.ROUTES,), writes=(subjects.SERVING,)),
    "deployer": Access(
        reads=(subjects.HEALTH, subjects.SERVING),
        writes=(subjects.ROUTES, subjects.REPLICAS, subjects.DECISIONS, subjects.LEASES),
        answers=True,
    ),
    "health": Access(reads=(subjects.REPLICAS,), writes=(subjects.HEALTH,)),
    "gateway": Access(reads_log=True, writes=(subjects.LEASES,), stores=(subjects.SNAPSHOTS,), commands=("deployer",)),
    "cli": Access(
        publishes=False,
        reads_log=True,
        reads=subjects.BUCKETS,
        reads_stores=(subjects.SNAPSHOTS,),
        commands=("deployer",),
    ),
}


def user(service: str, password: str) -> dict[str, Any]:
    """The server's configuration of a service's account."""
    account: dict[str, Any] = {"user": service, "password": password}
    if service not in (ADMIN, SYSTEM):
        account["permissions"] = permissions(service, ACCESS[service])
    return account


def permissions(service: str, access: Access) -> dict[str, Any]:
    """The `permissions` block of an account: what is not allowed is denied."""
    publish = ["$JS.API.INFO"]
    subscribe = [f"_INBOX_{service}.>"]
    if access.publishes:
        publish += [f"{subjects.EVENTS}.{service}.>"]
    if access.reads_log:
        publish += _read_stream(subjects.STREAM)
    for bucket in (*access.reads, *access.writes):
        publish += _read_stream(f"KV_{bucket}")
    publish += [f"$KV.{bucket}.>" for bucket in access.writes]
    for store in access.stores:
        publish += _keep_objects(store)
    for store in access.reads_stores:
        publish += _read_objects(store)
    publish += [f"{subjects.COMMANDS}.{commanded}.>" for commanded in access.commands]
    if access.answers:
        subscribe += [f"{subjects.COMMANDS}.{service}.>"]
    result: dict[str, Any] = {"publish": {"allow": publish}, "subscribe": {"allow": subscribe}}
    if access.answers:
        result["allow_responses"] = True
    return result


def _read_stream(stream: str) -> list[str]:
    return [
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.STREAM.MSG.GET.{stream}",
        f"$JS.API.DIRECT.GET.{stream}",
        f"$JS.API.DIRECT.GET.{stream}.>",
        f"$JS.API.CONSUMER.CREATE.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}.>",
        f"$JS.API.CONSUMER.INFO.{stream}.>",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.>",
        f"$JS.API.CONSUMER.DELETE.{stream}.>",
    ]


def _keep_objects(store: str) -> list[str]:
    return [f"$O.{store}.>", *_read_objects(store), f"$JS.API.STREAM.PURGE.OBJ_{store}"]


def _read_objects(store: str) -> list[str]:
    return [f"$JS.API.STREAM.INFO.OBJ_{store}", f"$JS.API.STREAM.MSG.GET.OBJ_{store}"]
