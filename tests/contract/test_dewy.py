"""Every line of Dewy's metrics contract, against the catalogue and against a scrape of a real gateway."""

from __future__ import annotations

import math
import time

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from schemas import events as e
from services.common.bus.connection import Bus
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from services.metrics_gateway.instruments.instrument import Instrument
from tests.contract.contract import Promise, promises
from tests.support.gateway_process import Launch, publishing

DEWY = promises("dewy")
CONTAINERS = promises("dewy_containers")
CATALOGUE = {instrument.name: instrument for instrument in INSTRUMENTS}
TYPES = {"counter": "counter", "updowncounter": "gauge", "gauge": "gauge", "histogram": "histogram"}


@pytest.mark.parametrize("promise", [*DEWY, *CONTAINERS], ids=lambda promise: promise.name)
def test_the_catalogue_keeps_the_promise(promise: Promise) -> None:
    instrument = CATALOGUE[promise.name]
    assert instrument.prometheus == promise.prometheus
    assert list(instrument.aliases) == promise.aliases
    assert instrument.kind == promise.kind
    assert instrument.unit == promise.unit
    assert sorted(instrument.labels) == sorted([*promise.labels, "app", "host"])
    assert list(instrument.buckets) == promise.buckets
    assert instrument.description


def test_the_catalogue_has_these_metrics_under_this_name_and_no_more() -> None:
    assert (len(DEWY), len(CONTAINERS)) == (13, 7)
    promised = {promise.name for promise in (*DEWY, *CONTAINERS)}
    assert {name for name in CATALOGUE if name.startswith("dewy.")} == promised


async def test_a_scrape_right_after_start_up_has_every_series_at_zero(launch: Launch, bus: Bus) -> None:
    gateway = launch()
    now = time.time()
    async with publishing(bus, "proxy", "p-1") as proxy, publishing(bus, "deployer", "d-1") as deployer:
        proxy.record(e.ListenerOpened(now, 8080, "0.0.0.0"), "shop")
        deployer.record(e.ServiceStarted(now, "deployer:shop", "0.1.0", 1))
    text = (await gateway.until("/metrics", lambda got: "dewy_proxy_ba" in got.text and "_replicas{" in got.text)).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for promise in DEWY:
        for name in (promise.prometheus, *promise.aliases):
            check(promise, name, families)
    series = {sample.name for family in families.values() for sample in family.samples}
    promised = {name for promise in DEWY for name in sample_names(promise)}
    assert {name for name in series if name.startswith("dewy_")} == promised | {"dewy_container_desired_replicas"}


def check(promise: Promise, name: str, families: dict[str, Metric]) -> None:
    """The family is there, of the right type, with a description, the promised labels, and nothing but zeros."""
    family = families[name.removesuffix("_total") if promise.kind == "counter" else name]
    assert family.type == TYPES[promise.kind]
    assert family.documentation == CATALOGUE[promise.name].description
    assert {sample.name for sample in family.samples} == set(sample_names(promise, name))
    assert all(sample.value == 0 for sample in family.samples)
    for sample in family.samples:
        assert labels(sample) == {**dict.fromkeys(promise.labels, "8080"), "app": "shop", "host": "web-1"}
    if promise.buckets:
        bounds = [float(sample.labels["le"]) for sample in family.samples if sample.name.endswith("_bucket")]
        assert bounds == [*promise.buckets, math.inf]


def labels(sample: Sample) -> dict[str, str]:
    return {name: value for name, value in sample.labels.items() if name != "le"}


def sample_names(promise: Promise, name: str = "") -> list[str]:
    names = [name] if name else [promise.prometheus, *promise.aliases]
    if promise.kind != "histogram":
        return names
    return [f"{one}_{suffix}" for one in names for suffix in ("bucket", "count", "sum")]


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.name)
def test_a_collector_that_gets_the_metric_by_otlp_gives_it_the_name_of_the_scrape(instrument: Instrument) -> None:
    assert collector_name(instrument) == instrument.prometheus


def collector_name(instrument: Instrument) -> str:
    """The name that Prometheus' and the collectors' translator gives: unit and kind are appended unless there."""
    words = instrument.name.replace(".", "_").split("_")
    is_counter = instrument.kind == "counter"
    if is_counter and words[-1] == "total":
        words.pop()
    unit = {"s": "seconds", "By": "bytes"}.get(instrument.unit, "")
    if unit and unit not in words:
        words.append(unit)
    return "_".join([*words, "total"] if is_counter else words)
