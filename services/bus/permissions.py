"""The permissions on the bus: each service gets an account with just the subjects that it needs."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas import subjects

ADMIN = "admin"
SYSTEM = "system"
"""The server's own account: it reports the server's health, and sees nothing of the log."""


class Access(msgspec.Struct, frozen=True):
    """The needs of a service: the log, buckets and objects that it reads or writes, and its commands.

    `leases`: the prefix of its leases' keys. `all_hosts`: its commands and leases are not only about its own host.
    `reads_output`: the services whose streams of output it opens; `streams`: it has such streams.
    """

    publishes: bool = True
    reads_log: bool = False
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    leases: str = ""
    stores: tuple[str, ...] = ()
    reads_stores: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    answers: bool = False
    reads_output: tuple[str, ...] = ()
    streams: bool = False
    all_hosts: bool = False


ACCESS = {
    "proxy": Access(reads=(subjects.ROUTES,), writes=(subjects.SERVING,)),
    "deployer": Access(
        reads=(subjects.HEALTH, subjects.SERVING),
        writes=(subjects.ROUTES, subjects.REPLICAS, subjects.DECISIONS),
        leases="deployer",
        answers=True,
        streams=True,
    ),
    "health": Access(reads=(subjects.REPLICAS,), writes=(subjects.HEALTH,)),
    "gateway": Access(
        reads_log=True, leases="gateway", stores=(subjects.SNAPSHOTS,), commands=("deployer",), all_hosts=True
    ),
    "cli": Access(
        publishes=False,
        reads_log=True,
        reads=subjects.BUCKETS,
        reads_stores=(subjects.SNAPSHOTS,),
        commands=("deployer",),
        reads_output=("deployer",),
    ),
}


def permissions(service: str, access: Access, host: str = "") -> dict[str, Any]:
    """Return the `permissions` block of a service's account; the server denies everything else.

    `host`: the only host whose keys and events it may write, and whose deployers it may command; empty: all.
    """
    at = subjects.token(host) if host else ""
    publish = ["$JS.API.INFO"]
    subscribe = [f"_INBOX_{service}.>"]
    if access.publishes:
        publish += [f"{subjects.EVENTS}.{service}.*.{at}" if at else f"{subjects.EVENTS}.{service}.>"]
    if access.reads_log:
        publish += _read_stream(subjects.STREAM)
    for bucket in (*access.reads, *access.writes, *([subjects.LEASES] if access.leases else [])):
        publish += _read_stream(f"KV_{bucket}")
    publish += [f"$KV.{bucket}.{at}.>" if at else f"$KV.{bucket}.>" for bucket in access.writes]
    if access.leases:
        of_host = f".{at}" if at and not access.all_hosts else ""
        publish += [f"$KV.{subjects.LEASES}.{access.leases}{of_host}.>"]
    for store in access.stores:
        publish += _keep_objects(store)
    for store in access.reads_stores:
        publish += _read_objects(store)
    publish += [commands(commanded, "" if access.all_hosts else host) for commanded in access.commands]
    publish += [one for of in access.reads_output for one in output(of, "" if access.all_hosts else host)]
    if access.answers:
        subscribe += [commands(service, host)]
    if access.streams:
        subscribe += output(service, host)
    result: dict[str, Any] = {"publish": {"allow": publish}, "subscribe": {"allow": subscribe}}
    if access.answers or access.streams:
        result["allow_responses"] = True
    return result


def commands(service: str, host: str = "") -> str:
    """Return the subject on which a service takes commands for its applications on a host; empty: on any host."""
    return f"{subjects.COMMANDS}.{service}.*.{subjects.token(host)}" if host else f"{subjects.COMMANDS}.{service}.>"


def output(service: str, host: str = "") -> list[str]:
    """Return the subjects on which a service opens streams of output and answers their readers."""
    if not host:
        return [f"{subjects.OUTPUT}.{service}.>"]
    opening = f"{subjects.OUTPUT}.{service}.*.{subjects.token(host)}"
    return [opening, f"{opening}.*"]


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
