"""The metrics of Longshore's own processes, and of the delivery of their events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import add

from schemas.subjects import DEPLOYER_UNIT
from services.metrics_gateway.instruments.instrument import Instrument, Labels, Measurement, Read, Section, Value, label
from services.metrics_gateway.state.histogram import EVENT_LAG
from services.metrics_gateway.state.instance import MISSED, Heartbeat
from services.metrics_gateway.state.state import UnitKey

REMEMBERED = 86400.0
"""Seconds of the log for which a silent unit has metrics: time for every alert. Then it counts as removed."""

PER_UNIT = ("service", "unit", "host")


def _per_unit(value: Callable[[Heartbeat], float], combine: Callable[[float, float], float]) -> Read:
    """Read a value of every running unit, combined from the last heartbeats of its instances."""

    def read(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
        found: dict[UnitKey, float] = {}
        for instance in measurement.state.running():
            if instance.heartbeat:
                key, own = (instance.service, instance.unit, instance.host), value(instance.heartbeat)
                found[key] = combine(found[key], own) if key in found else own
        for key, total in found.items():
            yield tuple(map(label, key)), total

    return read


def _heard(measurement: Measurement) -> dict[UnitKey, tuple[bool, float]]:
    """Read, of every unit that ran lately, whether it is up, and the seconds since its last message."""
    found: dict[UnitKey, tuple[bool, float]] = {}
    for instance in measurement.state.instances.values():
        silence = measurement.state.clock - instance.heard
        is_up = instance.ended is None
        if not instance.unit or instance.parent or not (is_up or (instance.ended == MISSED and silence < REMEMBERED)):
            continue
        key = (instance.service, instance.unit, instance.host)
        other = found.get(key, (False, silence))
        found[key] = (is_up or other[0], min(silence, other[1]))
    return {key: one for key, one in found.items() if not _is_removed(measurement, key)}


def _is_removed(measurement: Measurement, key: UnitKey) -> bool:
    _, unit, host = key
    app = measurement.state.apps.get((host, unit.removeprefix(DEPLOYER_UNIT)))
    return unit.startswith(DEPLOYER_UNIT) and app is not None and app.removed


def _up(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
    for key, (is_up, _) in _heard(measurement).items():
        yield tuple(map(label, key)), int(is_up)


def _silence(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
    for key, (_, silence) in _heard(measurement).items():
        yield tuple(map(label, key)), round(silence, 3)


def _cpu(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
    """Read the CPU time over all instances that there ever were, so that a restart is no step back."""
    totals = dict(measurement.state.spent)
    for instance in measurement.state.instances.values():
        if instance.heartbeat:
            key = (instance.service, instance.unit, instance.host)
            totals[key] = totals.get(key, 0) + instance.heartbeat.nanoseconds
    for key, nanoseconds in totals.items():
        yield tuple(map(label, key)), nanoseconds / 1e9


def _lag(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
    for name, service in measurement.state.services.items():
        yield (label(name),), service.lag


def _dropped(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
    for (host, service), count in measurement.state.dropped.items():
        yield (label(service), label(host)), count


PROCESSES = Section(
    "Processes",
    (
        Instrument(
            "longshore.unit.up",
            "longshore_unit_up",
            "gauge",
            "",
            "1 while the unit (a service, or the deployer of an application) publishes, 0 for a day after it went "
            "silent without stopping",
            PER_UNIT,
            _up,
        ),
        Instrument(
            "longshore.unit.silence",
            "longshore_unit_silence_seconds",
            "gauge",
            "s",
            "Time since the unit last published, while others wrote to the log: it stands still while the bus is away",
            PER_UNIT,
            _silence,
        ),
        Instrument(
            "longshore.process.memory",
            "longshore_process_memory_bytes",
            "gauge",
            "By",
            "Resident memory of the unit's processes",
            PER_UNIT,
            _per_unit(lambda beat: beat.rss, add),
        ),
        Instrument(
            "longshore.process.cpu",
            "longshore_process_cpu_seconds_total",
            "counter",
            "s",
            "CPU time of the unit's processes, including those that ended",
            PER_UNIT,
            _cpu,
        ),
        Instrument(
            "longshore.process.loop.lag",
            "longshore_process_loop_lag_seconds",
            "gauge",
            "s",
            "Longest delay of an event loop of the unit in the last heartbeats",
            PER_UNIT,
            _per_unit(lambda beat: beat.loop_lag, max),
        ),
        Instrument(
            "longshore.spool.batches",
            "longshore_spool_batches",
            "gauge",
            "{batch}",
            "Batches of events that wait for the bus",
            PER_UNIT,
            _per_unit(lambda beat: beat.spool_batches, add),
        ),
        Instrument(
            "longshore.spool.size",
            "longshore_spool_size_bytes",
            "gauge",
            "By",
            "Bytes of events that wait for the bus",
            PER_UNIT,
            _per_unit(lambda beat: beat.spool_bytes, add),
        ),
    ),
)

EVENTS = Section(
    "Events",
    (
        Instrument(
            "longshore.events.dropped",
            "longshore_events_dropped_total",
            "counter",
            "{event}",
            "Events that a service had to drop because the bus was away for too long",
            ("service", "host"),
            _dropped,
        ),
        Instrument(
            "longshore.event.lag",
            "longshore_event_lag_seconds",
            "histogram",
            "s",
            "Time from the newest event of a batch to its storage in the log, as exact as the hosts' clocks agree",
            ("service",),
            _lag,
            buckets=EVENT_LAG,
        ),
    ),
)
