"""docs/telemetry.md, in both languages: every sample is run or checked, and both say the same."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from services.cli.app import app
from services.common.config.settings import Settings
from services.demo import releases
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from services.metrics_gateway.settings import GatewaySettings
from tests.contract.contract import queries
from tests.observability.collector import problems
from tests.observability.page import DOCS, Block, anchors, blocks, headings, links, table_rows
from tests.observability.pipeline import Pipeline
from tests.observability.test_stack import COMPOSE_FOLDER, composed
from tests.support.harness import LONGSHORE, Server, clean_environment, wait_for
from tests.support.ports import free_port

ENGLISH = (DOCS / "telemetry.md").read_text()
JAPANESE = (DOCS / "ja" / "telemetry.md").read_text()
PAGES = {"docs": ENGLISH, "docs/ja": JAPANESE}
BLOCKS = blocks(ENGLISH)
KINDS = {
    "text",
    "promql",
    "sh start",
    "sh parse",
    "sh run",
    "sh docker",
    "python run",
    "yaml prometheus",
    "yaml collector",
    "ini systemd",
}


def each(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "block", [one for one in BLOCKS if one.kind == kind], ids=lambda one: str(one.number)
    )


def expressions() -> list[str]:
    return [line for block in BLOCKS if block.kind == "promql" for line in block.code.splitlines()]


def test_every_sample_says_how_it_is_checked() -> None:
    assert {block.kind for block in BLOCKS} == KINDS


def test_both_languages_have_the_same_sections_samples_and_tables() -> None:
    assert [heading.split()[0] for heading in headings(ENGLISH)] == [one.split()[0] for one in headings(JAPANESE)]
    assert [(one.kind, one.code) for one in BLOCKS] == [(one.kind, one.code) for one in blocks(JAPANESE)]
    assert table_rows(ENGLISH) == table_rows(JAPANESE)
    assert outside(ENGLISH) - {"ja/telemetry.md"} == outside(JAPANESE) - {"telemetry.md"}


def outside(page: str) -> set[str]:
    """The other pages that a page leads to."""
    return {target.removeprefix("../") for target in links(page) if not target.startswith("#")}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in links(PAGES[page]):
        if target.startswith("#"):
            assert target.removeprefix("#") in anchors(PAGES[page])
        else:
            assert (DOCS.parent / page / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_every_metric_that_a_page_names_exists(page: str) -> None:
    known = {name for one in INSTRUMENTS for name in (one.name, one.prometheus, *one.aliases)}
    known |= {f"{name}_bucket" for name in known}
    found = re.findall(r"\b((?:dewy|longshore)[._][a-z_.]*[a-z])([._]?\*)?", PAGES[page])
    named = {name for name, _ in found} - {"longshore.service"}
    families = {name for name, star in found if star}  # written with a star behind: all that begin so
    assert named - families - known == set()
    assert {name for name in families if not any(one.startswith(name) for one in known)} == set()
    assert {one.name for one in INSTRUMENTS if one.name.startswith("dewy.proxy")} <= named


@pytest.mark.parametrize("page", PAGES)
def test_the_options_and_their_defaults_are_those_of_the_gateway(page: str) -> None:
    rows = dict(re.findall(r"^\| `--([a-z-]+)` \| (\S+) \|", PAGES[page], re.MULTILINE))
    own = set(GatewaySettings.__struct_fields__) - set(Settings.__struct_fields__)
    known = {name: one for name, one in rows.items() if name.replace("-", "_") in own}
    assert own <= {name.replace("-", "_") for name in rows}
    assert set(rows) - set(known) <= {"trace-connections"}  # the proxy's
    for name, default in known.items():
        value = getattr(GatewaySettings(), name.replace("-", "_"))
        assert default == ("off" if value is False else str(value or "none")), name


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_the_stack_is_in_the_list_of_what_was_run(page: str) -> None:
    listed = set(re.findall(r"`(observability[\w./-]*)`", PAGES[page]))
    folder = COMPOSE_FOLDER / "observability"
    files = {str(file.relative_to(COMPOSE_FOLDER)) for file in folder.rglob("*") if file.is_file()}
    unlisted = {file for file in files if not any(file == one or file.startswith(f"{one}/") for one in listed)}
    assert unlisted == set()


@pytest.mark.parametrize("page", PAGES)
def test_the_images_and_limits_are_those_of_the_stack(page: str) -> None:
    services = composed()["services"]
    dockerfile = (COMPOSE_FOLDER / "observability/otel-collector/Dockerfile").read_text()
    for service in services.values():
        row = re.search(rf"^\| `{service['container_name']}` \| `(\S+)` .*? (\d+) MB", PAGES[page], re.MULTILINE)
        assert row
        assert row[1] == service["image"] or f"={row[1]}\n" in dockerfile
        assert f"{row[2]}m" == service["mem_limit"]


def test_every_query_of_the_reference_documents_is_on_the_page() -> None:
    assert {query.expr for query in queries()} <= set(expressions())


@each("yaml prometheus")
def test_promtool_takes_the_prometheus_configuration(block: Block, tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    token = tmp_path / "token"
    token.write_text("secret")
    config.write_text(block.text.replace("/etc/prometheus/longshore-token", str(token)))
    checked = subprocess.run(["promtool", "check", "config", str(config)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@each("yaml collector")
def test_a_collector_would_take_the_configuration(block: Block) -> None:
    assert problems(msgspec.yaml.decode(block.text)) == []


def parses(words: list[str]) -> bool:
    """Whether the command line takes the words; an exception that says what is wrong otherwise."""
    group: Any = typer.main.get_command(app)
    with group.make_context("longshore", words[:1]) as context:
        name, command, rest = group.resolve_command(context, words)
        command.make_context(name, rest, parent=context).close()
    return True


@each("sh parse")
def test_the_command_line_takes_the_options(block: Block) -> None:
    for command in block.commands:
        assert parses(shlex.split(command)[1:])


@each("ini systemd")
def test_the_unit_starts_what_the_command_line_takes(block: Block) -> None:
    unit = block.code.replace("\\\n", " ")
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert parses(shlex.split(start)[1:])
    assert re.findall(r"^\[(\w+)\]$", unit, re.MULTILINE) == ["Unit", "Service", "Install"]


DOCKER = [
    command for block in BLOCKS if block.kind == "sh docker" for command in block.commands if command != "cd compose"
]


@pytest.mark.parametrize("command", DOCKER)
def test_docker_is_told_of_files_services_and_containers_that_exist(command: str) -> None:
    before, _, words = command.partition("docker ")
    variables = dict(one.split("=") for one in before.split())
    files = re.findall(r"--file (\S+)", words)
    if not files:
        containers = {one["container_name"] for one in composed()["services"].values()}
        assert containers & set(words.split()), words
        return
    profiles = variables.get("COMPOSE_PROFILES", "victoriametrics")
    services = composed(*files, profiles=profiles)["services"]
    verb, *rest = re.sub(r"^compose|--file \S+", "", words).split()
    assert verb in {"up", "ps", "restart", "down"}
    assert {word for word in rest if not word.startswith("--")} <= set(services)
    assert {name for name in variables if name != "COMPOSE_PROFILES"} <= set(
        re.findall(r"^(\w+)=", (COMPOSE_FOLDER / ".env").read_text(), re.MULTILINE)
    )


class Documented(Server):
    """A server that is started by a command of the page, in a folder and on ports of the test."""

    def __init__(self, directory: Path, command: str) -> None:
        super().__init__(directory)
        self._command = self._here(command)

    def _here(self, command: str) -> str:
        for documented, here in {
            r"/srv/shop/releases": str(self.registry),
            r"--port 8080": f"--port {self.port}",
            r"\b[\w.-]+:4317": f"127.0.0.1:{free_port()}",
        }.items():
            command = re.sub(documented, here, command)
        return command

    def start_documented(self) -> None:
        assignments, _, words = self._command.rpartition("longshore ")
        variables = dict(one.split("=") for one in assignments.split())
        ours = {"LONGSHORE_ADMIN_PORT": str(self.admin_port), "LONGSHORE_STATE_DIR": self.state}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [LONGSHORE, *shlex.split(words)], stderr=log, env=clean_environment() | variables | ours
            )


@pytest.mark.timeout(300)
@each("sh start")
def test_the_command_starts_longshore_and_metrics_can_be_scraped(block: Block, tmp_path: Path) -> None:
    (command,) = block.commands
    server = Documented(tmp_path, command)
    releases.publish(server.registry, releases.FIRST)
    server.start_documented()
    try:
        wait_for(f"metrics are there: {command}", lambda: "dewy_proxy_connections_total" in server.metrics(), 60)
    finally:
        server.stop()
        server.end_replicas()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("expression", expressions())
def test_every_query_of_the_page_returns_data(expression: str, pipeline: Pipeline) -> None:
    wait_for(f"Prometheus answers {expression}", partial(pipeline.prometheus.query, expression))


def here(text: str, pipeline: Pipeline) -> str:
    """A sample with the addresses of the test's programs in place of the documented ones."""
    for documented, url in {
        "http://localhost:17539": pipeline.server.metrics_url.removesuffix("/metrics"),
        "http://localhost:8428": pipeline.victoria_metrics.url,
        "http://localhost:9090": pipeline.prometheus.url,
    }.items():
        text = text.replace(documented, url)
    return text


def answers(command: list[str]) -> bool:
    """Whether the command ends well, with an answer that holds something."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0 and bool(done.stdout.strip()) and '"result":[]' not in done.stdout


@pytest.mark.timeout(300)
@each("sh run")
def test_the_commands_answer_as_they_are_written(block: Block, pipeline: Pipeline) -> None:
    for command in block.commands:
        wait_for(command, partial(answers, ["bash", "-o", "pipefail", "-c", here(command, pipeline)]), 90)


@pytest.mark.timeout(300)
@each("python run")
def test_the_program_prints_what_the_store_knows(block: Block, pipeline: Pipeline) -> None:
    wait_for("it prints", partial(answers, [sys.executable, "-c", here(block.text, pipeline)]))
