"""compose/observability/samples: each file by the program that reads it, where that runs here."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.observability.collector import laid_over, problems
from tests.observability.pipeline import Pipeline
from tests.observability.test_stack import FOLDER, composed, read
from tests.support.harness import wait_for
from tests.support.ports import free_port
from tests.support.stores import Store

SAMPLES = FOLDER / "samples"
STANDALONE = ("collector-stores", "collector-vendor")
OVERLAYS = ("collector-thanos", "collector-zipkin")
SCRAPES = ("federation", "kubernetes", "consul")
STACKS = ("thanos", "tempo", "zipkin")
DATA_SOURCES = ("tempo", "zipkin")
PARTS = {"tempo-config.yaml"}


def test_every_sample_is_looked_at() -> None:
    collectors = {f"{name}.yaml" for name in (*STANDALONE, *OVERLAYS)}
    scrapes = {f"{name}.yml" for name in SCRAPES}
    stacks = {f"{name}.yaml" for name in STACKS}
    sources = {f"{name}-datasource.yaml" for name in DATA_SOURCES}
    assert {file.name for file in SAMPLES.iterdir()} == collectors | scrapes | stacks | sources | PARTS


@pytest.mark.parametrize("name", STANDALONE)
def test_a_collector_would_take_it(name: str) -> None:
    config = read(SAMPLES / f"{name}.yaml")
    assert problems(config) == []
    used = {exporter for pipeline in config["service"]["pipelines"].values() for exporter in pipeline["exporters"]}
    assert used == set(config["exporters"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_collector_would_take_it_over_our_own(name: str) -> None:
    assert problems(laid_over(read(FOLDER / "otel-collector-config.yaml"), read(SAMPLES / f"{name}.yaml"))) == []


@pytest.mark.parametrize("name", SCRAPES)
def test_victoriametrics_takes_the_scrape_configuration(name: str, tmp_path: Path) -> None:
    """Debian's Prometheus is built without the discovery of Kubernetes and Consul."""
    options = [f"-promscrape.config={SAMPLES / name}.yml", "-promscrape.config.strictParse", "-dryRun"]
    done = subprocess.run(
        ["victoria-metrics", *options, f"-storageDataPath={tmp_path}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", STACKS)
def test_compose_takes_it_over_the_stack(name: str) -> None:
    services = composed("observability.yaml", f"observability/samples/{name}.yaml")["services"]
    assert any(service.startswith(name) for service in services)
    assert ("jaeger" in services) == (name == "thanos")
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith("/") or Path(source).exists(), source


@pytest.mark.parametrize("name", DATA_SOURCES)
def test_grafana_finds_the_other_traces_under_the_same_uid(name: str) -> None:
    (source,) = read(SAMPLES / f"{name}-datasource.yaml")["datasources"]
    assert (source["uid"], source["type"]) == ("traces", name)


def test_tempo_listens_where_the_collector_sends() -> None:
    receivers = read(SAMPLES / "tempo-config.yaml")["distributor"]["receivers"]
    assert receivers["otlp"]["protocols"]["grpc"]["endpoint"].endswith(":4317")
    tempo = composed("observability.yaml", "observability/samples/tempo.yaml")["services"]["tempo"]
    assert tempo["networks"]["default"]["aliases"] == ["jaeger"]


def test_tempo_keeps_traces_by_a_key_that_version_2_and_version_3_know() -> None:
    config = read(SAMPLES / "tempo-config.yaml")
    assert "compactor" not in config  # version 3 refuses it
    assert config["overrides"]["defaults"]["compaction"]["block_retention"] == "168h"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("source", ["prometheus", "victoria_metrics"])
def test_an_existing_prometheus_gets_every_series_by_federation(
    source: str, pipeline: Pipeline, tmp_path: Path
) -> None:
    store: Store = getattr(pipeline, source)
    sample = (SAMPLES / "federation.yml").read_text()
    config = tmp_path / "prometheus.yml"
    config.write_text(f"global: {{scrape_interval: 1s}}\n{sample.replace('victoriametrics:8428', store.url[7:])}")
    port = free_port()
    options = [f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    existing = Store(["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"], port, tmp_path / "log")
    try:
        for expr in ('dewy_proxy_connections_total{job="longshore"} > 0', "longshore_build_info"):
            wait_for(f"{expr} arrived", partial(existing.query, expr))
    finally:
        existing.stop()
