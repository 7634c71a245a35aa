"""The gateway's metrics about itself."""

from __future__ import annotations

from collections.abc import Iterator

from services.metrics_gateway.instruments.instrument import Instrument, Labels, Measurement, Section, Value, single


def _otlp_exports(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
    for result, count in measurement.otlp_exports.items():
        yield (result,), count


def _otlp_spans(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
    for result, count in measurement.otlp_spans.items():
        yield (result,), count


def _roles(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
    for role, is_ours in measurement.roles.items():
        yield (role,), int(is_ours)


def _build(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
    yield (measurement.version,), 1


def _process(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
    yield (measurement.process, measurement.host), 1


GATEWAY = Section(
    "The gateway",
    (
        Instrument(
            "longshore.gateway.events",
            "longshore_gateway_events_total",
            "counter",
            "{event}",
            "Events of the log that are folded into these numbers",
            (),
            single(lambda measurement: measurement.state.events),
        ),
        Instrument(
            "longshore.gateway.events.unknown",
            "longshore_gateway_events_unknown_total",
            "counter",
            "{event}",
            "Events skipped: of a kind that this version does not know, or with an impossible value",
            (),
            single(lambda measurement: measurement.state.unknown + measurement.state.malformed),
        ),
        Instrument(
            "longshore.gateway.batches.undecodable",
            "longshore_gateway_batches_undecodable_total",
            "counter",
            "{batch}",
            "Messages of the log that are not batches of events",
            (),
            single(lambda measurement: measurement.state.undecodable),
        ),
        Instrument(
            "longshore.gateway.batches.malformed",
            "longshore_gateway_batches_malformed_total",
            "counter",
            "{batch}",
            "Batches skipped: of another service, host or application than their subject, or with an impossible number",
            (),
            single(lambda measurement: measurement.state.misfits),
        ),
        Instrument(
            "longshore.gateway.batches.repeated",
            "longshore_gateway_batches_repeated_total",
            "counter",
            "{batch}",
            "Batches that came again and were skipped",
            (),
            single(lambda measurement: measurement.state.repeated),
        ),
        Instrument(
            "longshore.gateway.batches.late",
            "longshore_gateway_batches_late_total",
            "counter",
            "{batch}",
            "Batches that came after a later one of their instance, and were applied",
            (),
            single(lambda measurement: measurement.state.late),
        ),
        Instrument(
            "longshore.gateway.batches.missing",
            "longshore_gateway_batches_missing",
            "updowncounter",
            "{batch}",
            "Batches that are lost or not here yet: above 0, numbers are too low",
            (),
            single(lambda measurement: measurement.state.missing()),
        ),
        Instrument(
            "longshore.gateway.chain.breaks",
            "longshore_gateway_chain_breaks_total",
            "counter",
            "{batch}",
            "Batches that do not fit those before and after them: the log was altered (`longshore verify`)",
            (),
            single(lambda measurement: measurement.state.chain_breaks),
        ),
        Instrument(
            "longshore.gateway.messages.lost",
            "longshore_gateway_messages_lost_total",
            "counter",
            "{message}",
            "Messages that left the log, by its limits, before they were folded: numbers are too low by what they held",
            (),
            single(lambda measurement: measurement.state.messages_lost),
        ),
        Instrument(
            "longshore.gateway.pending.messages",
            "longshore_gateway_pending_messages",
            "gauge",
            "{message}",
            "Messages of the log that these numbers do not contain yet",
            (),
            single(lambda measurement: measurement.pending),
            of_process=True,
        ),
        Instrument(
            "longshore.gateway.fold",
            "longshore_gateway_fold_seconds_total",
            "counter",
            "s",
            "Time that this gateway has spent folding the log: the rate of events over that of this is its speed",
            (),
            single(lambda measurement: measurement.fold_seconds),
            of_process=True,
        ),
        Instrument(
            "longshore.gateway.state.age",
            "longshore_gateway_state_age_seconds",
            "gauge",
            "s",
            "Time since the newest message in these numbers was stored in the log",
            (),
            single(lambda measurement: max(0.0, measurement.now - measurement.state.time)),
        ),
        Instrument(
            "longshore.gateway.leader",
            "longshore_gateway_leader",
            "gauge",
            "1",
            "1 if this gateway, of all on the bus, has the duty: save snapshots, push metrics, push traces",
            ("duty",),
            _roles,
            of_process=True,
        ),
        Instrument(
            "longshore.gateway.info",
            "longshore_gateway_info",
            "gauge",
            "",
            "Always 1; the labels say which gateway process these numbers come from, and on which host it runs",
            ("process", "host"),
            _process,
            of_process=True,
        ),
        Instrument(
            "longshore.gateway.snapshot.age",
            "longshore_gateway_snapshot_age_seconds",
            "gauge",
            "s",
            "Time since this gateway last saved its state, found that another one does, or started",
            (),
            single(lambda measurement: max(0.0, measurement.now - measurement.saved)),
            of_process=True,
        ),
        Instrument(
            "longshore.bus.connected",
            "longshore_bus_connected",
            "gauge",
            "",
            "1 while the gateway is connected to the bus; otherwise these numbers are as old as the state's age",
            (),
            single(lambda measurement: int(measurement.bus_connected)),
            of_process=True,
        ),
        Instrument(
            "longshore.otlp.exports",
            "longshore_otlp_exports_total",
            "counter",
            "{export}",
            "Pushes to the OTLP endpoint, by result: success or failure",
            ("result",),
            _otlp_exports,
            of_process=True,
        ),
        Instrument(
            "longshore.otlp.spans",
            "longshore_otlp_spans_total",
            "counter",
            "{span}",
            "Spans for the OTLP endpoint, by result: success, failure (pushed again later), dropped (never delivered)",
            ("result",),
            _otlp_spans,
            of_process=True,
        ),
        Instrument(
            "longshore.build.info",
            "longshore_build_info",
            "gauge",
            "",
            "Always 1; the label says which version runs",
            ("version",),
            _build,
            of_process=True,
        ),
    ),
)
