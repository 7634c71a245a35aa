"""compose/observability.yaml and what it mounts, as far as that can be said without its images."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.metrics_gateway.settings import GatewaySettings
from services.metrics_gateway.telemetry_settings import SIGNALS
from tests.compose.stack import COMPOSE
from tests.observability.collector import problems

COMPOSE_FOLDER = Path(__file__).parents[2] / "compose"
FOLDER = COMPOSE_FOLDER / "observability"
BUDGET = 250 * 2**20
UNITS = {"m": 2**20, "g": 2**30}


@cache
def composed(*files: str, profiles: str = "victoriametrics") -> dict[str, Any]:
    """The project that docker-compose makes of our files; what is in no profile that is asked for is left out."""
    arguments = [f"--file={COMPOSE_FOLDER / file}" for file in files or ("observability.yaml",)]
    variables = {"COMPOSE_PROFILES": profiles, "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [*COMPOSE, *arguments, "config"], capture_output=True, text=True, env=variables, cwd=COMPOSE_FOLDER, check=False
    )
    assert done.returncode == 0, done.stderr
    project: dict[str, Any] = msgspec.yaml.decode(done.stdout)
    wanted = set(profiles.split(","))
    services = project["services"].items()
    project["services"] = {
        name: one for name, one in services if not one.get("profiles") or wanted & set(one["profiles"])
    }
    return project


def read(file: Path) -> Any:
    return msgspec.yaml.decode(file.read_text())


def size(limit: str) -> int:
    return int(limit[:-1]) * UNITS[limit[-1]] if limit[-1] in UNITS else int(limit)


def test_the_stack_is_the_four_programs_of_the_document_under_its_names() -> None:
    services = composed()["services"]
    assert {one["container_name"] for one in services.values()} == {
        "otel-collector",
        "victoriametrics",
        "jaeger",
        "grafana",
    }
    published = {port.split(":")[1] for one in services.values() for port in one["ports"]}
    assert published == {"4317", "4318", "8428", "16686", "3000"}


def test_one_variable_puts_prometheus_in_victoriametrics_place_and_traefik_before_it() -> None:
    assert set(composed(profiles="prometheus")["services"]) == {"otel-collector", "prometheus", "jaeger", "grafana"}
    assert set(composed(profiles="prometheus,traefik")["services"]) > {"traefik", "prometheus"}
    for store in ("victoriametrics", "prometheus"):
        service = composed(profiles=store)["services"][store]
        assert service["networks"]["default"]["aliases"] == ["metrics"]


@pytest.mark.parametrize("profiles", ["victoriametrics,traefik", "prometheus"])
def test_every_service_is_pinned_limited_checked_and_published_on_loopback_only(profiles: str) -> None:
    for name, service in composed(profiles=profiles)["services"].items():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name
        assert service["mem_limit"], name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert service["restart"] == "unless-stopped", name


def test_what_the_programs_aim_at_is_within_the_budget_of_the_document() -> None:
    aims = [heap(service) or size(service["mem_limit"]) for service in composed()["services"].values()]
    assert 180 * 2**20 <= sum(aims) <= BUDGET


def test_the_go_programs_collect_their_garbage_before_they_reach_their_limit() -> None:
    for service in composed()["services"].values():
        assert heap(service) < size(service["mem_limit"])


def heap(service: dict[str, Any]) -> int:
    """From how many bytes on a program collects its garbage harder; 0: there is no such limit."""
    return size(service.get("environment", {}).get("GOMEMLIMIT", "0").removesuffix("iB").lower())


def test_every_file_that_is_mounted_exists() -> None:
    for service in composed(profiles="prometheus,victoriametrics,traefik")["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith("/") or Path(source).exists(), source


def test_thirty_days_are_kept_and_one_variable_changes_that() -> None:
    for store in ("victoriametrics", "prometheus"):
        assert any("=30d" in word for word in composed(profiles=store)["services"][store]["command"])
    assert (COMPOSE_FOLDER / "observability.yaml").read_text().count("${RETENTION}") == 2
    assert re.search(r"^RETENTION=30d$", (COMPOSE_FOLDER / ".env").read_text(), re.MULTILINE)


def test_victoriametrics_fills_its_caches_anew_within_its_limit_when_it_is_started_again() -> None:
    """What they held takes over 48 MB to load, so that it would be killed and started for ever."""
    assert composed()["services"]["victoriametrics"]["tmpfs"] == ["/victoria-metrics-data/cache"]


def test_the_stack_can_be_started_together_with_longshore() -> None:
    services = composed("compose.yaml", "observability.yaml")["services"]
    gateway = services["metrics-gateway"]
    collector, _, port = gateway["environment"]["LONGSHORE_OTLP_ENDPOINT"].partition(":")
    assert collector in services
    assert f":{port}" in services[collector]["ports"][0]
    assert "default" in gateway["networks"]
    assert GatewaySettings(telemetry_signals=gateway["environment"]["LONGSHORE_TELEMETRY"]).signals == set(SIGNALS)


def test_the_collector_gets_otlp_limits_itself_batches_logs_and_passes_on() -> None:
    config = read(FOLDER / "otel-collector-config.yaml")
    assert problems(config) == []
    pipelines = config["service"]["pipelines"]
    for pipeline in pipelines.values():
        assert pipeline["receivers"] == ["otlp"]
        assert pipeline["processors"] == ["memory_limiter", "batch"]
        assert "debug" in pipeline["exporters"]
    assert any("prometheus_remote_write" in name for name in pipelines["metrics"]["exporters"])
    assert config["exporters"]["prometheus_remote_write"]["endpoint"] == "http://metrics:8428/api/v1/write"
    assert "otlp_grpc/jaeger" in pipelines["traces"]["exporters"]
    protocols = config["receivers"]["otlp"]["protocols"]
    assert {name: one["endpoint"].split(":")[1] for name, one in protocols.items()} == {"grpc": "4317", "http": "4318"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"exporters": {"prometheus_remote_writes": {}}}, "exporters: no prometheus_remote_writes"),
        ({"exporters": {"debug": {"loglevel": "debug"}}}, "exporters: debug has no loglevel"),
        ({"exporters": {"otlp_grpc": {"endpoint": "http://jaeger:4317"}}}, "otlp_grpc: http://jaeger:4317"),
        (
            {"service": {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["debug"]}}}},
            "traces: no receivers otlp",
        ),
    ],
)
def test_a_wrong_configuration_is_found(wrong: dict[str, Any], said: str) -> None:
    assert said in problems(wrong)


def test_grafana_reads_metrics_and_traces_and_leads_from_one_to_the_other() -> None:
    folder = FOLDER / "grafana" / "provisioning" / "datasources"
    found = {one["uid"]: one for file in folder.iterdir() for one in read(file)["datasources"]}
    assert found["metrics"]["type"] == "prometheus"
    assert found["metrics"]["url"] == "http://metrics:8428"
    (exemplar,) = found["metrics"]["jsonData"]["exemplarTraceIdDestinations"]
    assert exemplar == {"name": "trace_id", "datasourceUid": "traces", "urlDisplayLabel": "Trace"}
    assert found["traces"]["type"] == "jaeger"
    assert found["traces"]["url"] == "http://jaeger:16686"


def test_grafana_finds_the_dashboards_where_they_are_mounted() -> None:
    (provider,) = read(FOLDER / "grafana/provisioning/dashboards/longshore.yaml")["providers"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in composed()["services"]["grafana"]["volumes"]}
    folder = Path(mounted[provider["options"]["path"]])
    home = composed()["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (folder / Path(home).name).exists()


def test_prometheus_takes_its_configuration_and_the_targets(tmp_path: Path) -> None:
    done = subprocess.run(
        ["promtool", "check", "config", str(FOLDER / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert read(FOLDER / "targets.yml")[0]["targets"] == ["metrics-gateway:17539"]


def test_traefik_routes_the_three_names_to_services_that_are_there() -> None:
    routes = read(FOLDER / "traefik/routes.yaml")["http"]
    hosts = {re.sub(r"Host\(`(.*)`\)", r"\1", one["rule"]): one["service"] for one in routes["routers"].values()}
    assert set(hosts) == {"grafana.ddev.site", "jaeger.ddev.site", "vm.ddev.site"}
    for service in hosts.values():
        (server,) = routes["services"][service]["loadBalancer"]["servers"]
        name = server["url"].split("/")[2].split(":")[0]
        assert name in {"metrics", *composed()["services"]}


@pytest.mark.parametrize("file", ["compose.yaml", "observability.yaml"])
def test_no_container_fills_the_disk_with_what_it_prints(file: str) -> None:
    services = composed(file, profiles="victoriametrics,prometheus,traefik")["services"]
    assert services
    for name, service in services.items():
        assert service["logging"]["driver"] == "json-file", name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
