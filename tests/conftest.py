"""Markers of what each test needs, and a real nats-server for every test that needs a bus."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.jetstream.provisioning import ensure_streams
from tests.support import durations, needs
from tests.support.nats_server import NatsServer
from tests.support.patience import factor, patience

_STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"}
_started: list[str] = []
"""What the test that runs has started."""


def pytest_configure() -> None:
    # A shell starts background jobs with SIGINT ignored, and every process of a test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    factor()  # before xdist starts its workers, which inherit it
    sys.addaudithook(_note_start)


def _note_start(event: str, arguments: tuple[object, ...]) -> None:
    if event in _STARTS:
        _started.append(f"{event} {arguments[:2]}")


def pytest_report_header() -> str:
    return f"deadlines: {factor():g} times as long as on a quiet machine with two cores (TESTS_PATIENCE)"


def pytest_itemcollected(item: pytest.Item) -> None:
    limit = item.get_closest_marker("timeout")
    seconds = limit.args[0] if limit else float(item.config.getini("timeout"))
    item.add_marker(pytest.mark.timeout(patience(seconds)), append=False)
    if isinstance(item, pytest.Function):
        fixtures = item._fixtureinfo.name2fixturedefs.values()
        functions = [item.function, *(one.func for each in fixtures for one in each)]
        for name in sorted(needs.of_name(item.nodeid) | needs.of_functions(functions)):
            item.add_marker(name)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tests that took long, with what their fixtures took."""
    reports = [one for each in terminalreporter.stats.values() for one in each if isinstance(one, pytest.TestReport)]
    lines = durations.table(reports)
    if lines:
        terminalreporter.section(f"tests of more than {durations.LONG:g} s")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def own_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test without a marker starts no process: `make quick` counts on it."""
    _started.clear()
    yield
    if not any(request.node.get_closest_marker(name) for name in needs.MARKERS):
        assert not _started, f"mark this test with @pytest.mark.process: it starts {_started}"


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A test that configures logging does so for itself."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test leaves in the default state directory, the next one does not find."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connection to a fresh server with the stream and the buckets."""
    connection = await Bus.connect("gateway", Credentials([nats_server.url]))
    await ensure_streams(connection)
    yield connection
    await connection.close()
