"""The metrics of the resources that replicas use."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from services.metrics_gateway.instruments.containers import PER_CONTAINER, per_container
from services.metrics_gateway.instruments.instrument import Instrument, Labels, Read, Section, Value
from services.metrics_gateway.state.application import App, Replica
from services.metrics_gateway.state.usage import Usage


def _per_replica(read: Callable[[Usage], Value | None]) -> Read:
    """Read a value of each replica that runs and has one. The series ends with the replica."""

    def values(_: App, replica: Replica) -> Iterator[tuple[Labels, Value]]:
        if replica.running and replica.usage and (value := read(replica.usage)) is not None:
            yield (), value

    return per_container(values)


USAGE = Section(
    "Resources of replicas",
    (
        Instrument(
            "longshore.replica.cpu",
            "longshore_replica_cpu_seconds_total",
            "counter",
            "s",
            "CPU time of the replica's processes, or of its container over all its restarts",
            PER_CONTAINER,
            _per_replica(lambda usage: usage.cpu / 1e9),
        ),
        Instrument(
            "longshore.replica.memory",
            "longshore_replica_memory_bytes",
            "gauge",
            "By",
            "Memory of the replica: resident memory of its processes; of a container, without inactive file cache",
            PER_CONTAINER,
            _per_replica(lambda usage: usage.memory),
        ),
        Instrument(
            "longshore.replica.memory.limit",
            "longshore_replica_memory_limit_bytes",
            "gauge",
            "By",
            "Memory that the replica may use, if it has a limit below the memory of the host",
            PER_CONTAINER,
            _per_replica(lambda usage: usage.memory_limit),
        ),
        Instrument(
            "longshore.replica.network.received",
            "longshore_replica_network_received_bytes_total",
            "counter",
            "By",
            "Bytes that the container received from its networks",
            PER_CONTAINER,
            _per_replica(lambda usage: usage.received if usage.networked else None),
        ),
        Instrument(
            "longshore.replica.network.sent",
            "longshore_replica_network_sent_bytes_total",
            "counter",
            "By",
            "Bytes that the container sent to its networks",
            PER_CONTAINER,
            _per_replica(lambda usage: usage.sent if usage.networked else None),
        ),
    ),
)
