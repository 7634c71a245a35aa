"""The replicas of an application on this host, their verdicts, and what health is to probe."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from schemas import subjects
from schemas.routing import Backend, Check, Health
from schemas.routing import Replica as Probed
from services.common.bus.connection import Bus
from services.deployer.reconcile import kv
from services.deployer.reconcile.route_publisher import RoutePublisher
from services.deployer.rollout.replica import Replica
from services.deployer.runtime.protocol import Running

LONGEST_TOKEN = 40


class ManagedReplica(Replica, kw_only=True):
    """A replica with the state that only the reconcile loop needs.

    `generation`: the first one of the route that shows its place, None until that is written. `is_announced`: the log
    has recorded that it takes traffic. `options`: the fingerprint of its options, if an earlier deployer started it.
    """

    address: Running | None = None
    generation: int | None = None
    is_announced: bool = False
    options: str = ""


class ReplicaSet:
    """All replicas that were started and have not ended.

    `died`: by slot, the revision of its last replica, if that ended by itself.
    """

    def __init__(self, bus: Bus, host: str, app: str, check: Check, problem: Callable[[str], str]) -> None:
        """Start empty. `problem` returns what the runtime itself has against a replica, empty if nothing."""
        self.replicas: dict[str, ManagedReplica] = {}
        self.died: dict[int, str] = {}
        self.health: dict[str, Health] = {}
        self._bus = bus
        self._host = host
        self._app = app
        self._check = check
        self._problem = problem
        self._published: dict[str, Probed] | None = None

    def add(self, replica: ManagedReplica) -> None:
        """Add a replica."""
        self.replicas[replica.id] = replica

    def remove(self, identity: str) -> ManagedReplica | None:
        """Remove a replica. Return it, None if there is none with this id."""
        return self.replicas.pop(identity, None)

    def running_release(self, identity: str) -> str | None:
        """Return the release of a replica that runs, None if there is none with this id."""
        replica = self.replicas.get(identity)
        return replica.release if replica and replica.address else None

    def replace(self, identity: str) -> None:
        """Have a replica replaced, however healthy it is."""
        self.replicas[identity].must_replace = True

    def has_failed(self, slot: int, revision: str) -> bool:
        """Return whether the last replica of a slot died, or is unhealthy and replaced because of that alone."""
        before = [one for one in self.replicas.values() if (one.slot, one.revision) == (slot, revision)]
        is_ill = any(not one.healthy and not one.must_replace and one.leaving in ("", "replaced") for one in before)
        return is_ill or self.died.get(slot) == revision

    def new_id(self, release: str, slot: int) -> str:
        """Return a new id, `<app>-<release>-<slot>-<random>`. No two replicas ever share one."""
        return f"{self._app}-{subjects.token(release)[:LONGEST_TOKEN]}-{slot}-{secrets.token_hex(3)}"

    def observe(self, routes: RoutePublisher, now: float) -> None:
        """Update each replica with the verdict of health and the state of the proxy."""
        for replica in self.replicas.values():
            verdict = self.health.get(subjects.replica_key(self._host, self._app, replica.id))
            problem = self._problem(replica.id) if replica.address else "does not run"
            is_known = verdict is not None and not verdict.starting and _is_about(verdict, replica.address)
            replica.healthy = not problem and (verdict.healthy if verdict and is_known else replica.ready)
            replica.problem = problem or (verdict.reason if verdict and not verdict.healthy else "")
            if replica.healthy:
                replica.unhealthy_since = None
            elif replica.ready and replica.unhealthy_since is None:
                replica.unhealthy_since = now
            replica.followed = replica.generation is not None and routes.follows(replica.generation)
            replica.connections = routes.connections(replica.id)

    def backends(self, port: int) -> list[Backend]:
        """Return the backends of the route to a port of the replicas. A container that has just ended has no port."""
        return [
            Backend(replica.id, *at, replica.route)
            for replica in self.replicas.values()
            if replica.address and (replica.route == "active" or replica.route == "draining")
            if (at := replica.address.address(port))[1]
        ]

    def routed(self, generation: int) -> None:
        """Note the generation of the route that was just written for the replicas whose place had changed."""
        for replica in self.replicas.values():
            if replica.generation is None:
                replica.generation = generation

    async def load(self) -> None:
        """Read the replicas that an earlier deployer published for health."""
        keys = f"{subjects.token(self._host)}.{self._app}.>"
        self._published = await kv.read(self._bus, subjects.REPLICAS, keys, Probed)

    async def publish(self) -> None:
        """Publish the replicas that health is to probe. After a BusError, call it again."""
        published = self._published if self._published is not None else {}
        wanted = {subjects.replica_key(self._host, self._app, probed.id): probed for probed in self._probed()}
        for key in published.keys() - wanted.keys():
            await self._bus.delete(subjects.REPLICAS, key)
            del published[key]
        for key, probed in wanted.items():
            if published.get(key) != probed:
                await self._bus.put(subjects.REPLICAS, key, probed)
                published[key] = probed
        self._published = published

    def was_probed(self, replica: str, running: Running) -> bool:
        """Return True unless the replica is known to run in another process than the one published for health."""
        known = (self._published or {}).get(subjects.replica_key(self._host, self._app, replica))
        if known is None:
            return True
        return (known.host, known.port) == (running.host, running.port) and known.pid in (0, running.pid)

    def _probed(self) -> list[Probed]:
        return [
            Probed(self._app, replica.id, replica.release, at.host, at.port, self._check, at.pid)
            for replica in self.replicas.values()
            # An ended container has no port, and a signalled replica no longer listens: neither is a failure.
            if (at := replica.address) and at.port and not replica.signalled
        ]


def _is_about(verdict: Health, running: Running | None) -> bool:
    """Return True if the verdict is about this process, and not about the one before a restart."""
    return running is not None and verdict.pid in (0, running.pid)
