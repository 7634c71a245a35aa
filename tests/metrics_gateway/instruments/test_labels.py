"""Events with endless, odd and broken text in every field, and a gateway that runs: everything stays readable."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from schemas import codec
from schemas.codec import Batch
from schemas.events import EVENT_TYPES, AnyEvent, Event
from schemas.limits import bare
from services.common.bus.connection import Bus
from services.metrics_gateway.export.spans_pusher import LONGEST
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from services.metrics_gateway.instruments.instrument import LONGEST_LABEL
from tests.metrics_gateway.export.test_prometheus import check_metrics
from tests.support.gateway_process import Gateway, Launch
from tests.support.metrics_receiver import Receiver, metrics, points, receiving, until
from tests.support.traces_receiver import Traces
from tests.support.traces_receiver import receiving as receiving_traces

ENDLESS = "x" * 1000
ODD = 'a"b\\c\nd\r\t\x00\x7f\u2028é🚢{}=,#'
NUMBERS = {"sane": (7, 0.5), "huge": (2**53, 9e9), "negative": (0, -9e9), "none": (0, float("nan"))}
IDS = {"trace": "1" * 32, "span": "2" * 16}


def filled(kind: type[Event], text: str, number: int, seconds: float, now: float) -> AnyEvent:
    """An event with that text and those numbers in its fields; with sane numbers it has the ids of a trace as well."""
    values: dict[Any, Any] = {
        str: text,
        int: number,
        float: seconds,
        bool: True,
        bool | None: True,
        list[str]: [text],
        dict[str, int]: {text: 1},
        dict[str, float]: {text: 1.0},
    }
    fields = {field.name: values[bare(kind)[field.name]] for field in msgspec.structs.fields(kind)}
    if (number, seconds) == NUMBERS["sane"]:
        fields |= {"time": now} | {name: value for name, value in IDS.items() if name in fields}
    event: AnyEvent = kind(**fields)  # type: ignore[assignment]  # it is one of them
    return event


def log(text: str, number: int, seconds: float) -> Iterator[AnyEvent]:
    now = time.time()
    for kind in EVENT_TYPES:
        yield filled(kind, text, number, seconds, now)


async def publish(bus: Bus, text: str, *numbers: str) -> int:
    """Batches of every kind of event on the bus, named by the text as well; how many events these are."""
    count = 0
    for index, name in enumerate(numbers, 1):
        for start in log(text, *NUMBERS[name]):
            count += 1
            batch = Batch("proxy", text, "web", f"{index}{text}", count, [start])
            await bus.jetstream.publish("longshore.events.proxy.web", codec.encode(batch))
    return count


async def until_folded(gateway: Gateway, batches: int) -> None:
    def position(text: str) -> int:
        return int(msgspec.json.decode(text)["log"]["position"])

    await gateway.until("/api/status", lambda got: got.status_code == 200 and position(got.text) >= batches)


@pytest.mark.parametrize("text", [ENDLESS, ODD, "x", "\ufffd"], ids=["endless", "odd", "one letter", "replaced"])
async def test_whatever_events_say_is_scraped_and_pushed(launch: Launch, bus: Bus, text: str) -> None:
    receiver, traces = Receiver(), Traces()
    with receiving(receiver) as port, receiving_traces(traces) as traces_port:
        gateway = launch_pushing(launch, port, traces_port)
        await until_folded(gateway, await publish(bus, text, *NUMBERS))
        await check_scrape(gateway, text)
        calls = receiver.calls
        await until(lambda: receiver.calls > calls + 2)
        await check_push(receiver)
        await asyncio.to_thread(traces.until, lambda: {"deployment", "connection", "command"} <= first_words(traces))
        assert max(len(value) for span in traces.spans for value in (span.name, *span.attributes.values())) <= LONGEST
        after = (await gateway.get("/metrics")).text
        assert 'longshore_otlp_exports_total{result="failure"} 0.0' in after
        assert 'longshore_otlp_spans_total{result="failure"} 0.0' in after
        assert gateway.stop() == 0
    assert "Traceback" not in gateway.log.read_text()


def first_words(traces: Traces) -> set[str]:
    return {span.name.split()[0] for span in list(traces.spans)}


def launch_pushing(launch: Launch, port: int, traces_port: int) -> Gateway:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://localhost:{traces_port}")
        patch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"http://localhost:{port}")
        return launch(otlp_interval=0.2)


async def check_scrape(gateway: Gateway, text: str) -> None:
    plain = await gateway.get("/metrics")
    families = list(text_string_to_metric_families(plain.text))
    series = [(one.name, *sorted(one.labels.items())) for family in families for one in family.samples]
    assert len(series) == len(set(series))
    values = {value for family in families for one in family.samples for value in one.labels.values()}
    assert max(map(len, values)) <= LONGEST_LABEL + 17
    assert any(value.startswith(text[:LONGEST_LABEL]) for value in values)
    checked = await asyncio.to_thread(check_metrics, plain.content)
    assert (checked.returncode, checked.stderr) == (0, b""), checked.stderr
    answer = await gateway.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
    families = openmetrics.text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
    assert {one.name for one in families} >= {"dewy_proxy_connections"}


async def check_push(receiver: Receiver) -> None:
    pushed = metrics(await asyncio.to_thread(receiver.last))
    assert set(pushed) == {instrument.name for instrument in INSTRUMENTS}
    lengths = [
        len(value) for one in pushed.values() if one.WhichOneof("data") for key in points(one) for _, value in key
    ]
    assert max(lengths) <= LONGEST_LABEL + 17


async def test_a_batch_whose_text_is_no_utf_8_is_passed_over_and_the_rest_counts(launch: Launch, bus: Bus) -> None:
    receiver = Receiver()
    with receiving(receiver) as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, otlp_interval=0.2)
        broken = [broken_at(kind) for kind in EVENT_TYPES]
        payloads = list(itertools.chain.from_iterable(broken))
        for payload in payloads:
            await bus.jetstream.publish("longshore.events.proxy.web", payload)
        count = await publish(bus, "web", "sane")
        await until_folded(gateway, len(payloads) + count)
        text = (await gateway.get("/metrics")).text
        assert f"longshore_gateway_batches_undecodable_total {len(payloads)}.0" in text
        assert (await asyncio.to_thread(check_metrics, text.encode())).returncode == 0
        await check_scrape(gateway, "web")
        await check_push(receiver)
    assert gateway.log.read_text().count("are not batches of events") == 1


def broken_at(kind: type[Event]) -> Iterator[bytes]:
    """A batch with such an event for each of its fields of text, which is no UTF-8 there, and for each other place."""
    mark = "no utf-8"
    names = [field.name for field in msgspec.structs.fields(kind) if bare(kind)[field.name] is str]
    for name in names:
        event = msgspec.structs.replace(filled(kind, "a", 1, 0.5, 1.0), **{name: mark})
        payload = codec.encode(Batch("proxy", "web", "web", "i", 1, [event]))
        assert payload.count(mark.encode()) == 1
        yield payload.replace(mark.encode(), b"\xff\xfe\xed\xa0\x80\xc3(\x80")
