"""What a user may get wrong: one line that says what to do, the right exit code, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.cli.main import unsupported
from services.demo import releases
from tests.support.harness import LONGSHORE, Server, longshore, wait_for
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port


@pytest.fixture
def registry(tmp_path: Path) -> str:
    releases.publish(tmp_path / "releases", releases.FIRST)
    return f"dir://{tmp_path / 'releases'}"


@pytest.fixture
def bus_with_streams(nats_server: NatsServer) -> str:
    """The URL of a bus on which nothing runs yet."""
    done = longshore("bus", "setup", "--nats-url", nats_server.url)
    assert done.returncode == 0, done.stderr
    return nats_server.url


def _fails(*arguments: str, code: int, says: str) -> None:
    answer = longshore(*arguments)
    assert answer.returncode == code, answer.stderr
    last = answer.stderr.strip().splitlines()[-1]
    assert last.startswith("longshore: "), answer.stderr
    assert says in last
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--registry", "ftp://host/x", "--port", "8080"], 2, "ftp"),
        (["--registry", "nonsense", "--port", "8080"], 2, "nonsense"),
        (["--registry", "dir://", "--port", "8080"], 2, "dir://"),
        (["--registry", "dir:///no/such/folder", "--port", "8080"], 2, "/no/such/folder"),
        (["--port", "8080"], 2, "--registry is missing"),
        (["--registry", "REGISTRY"], 2, "--port is missing"),
        (["--registry", "REGISTRY", "--port", "0"], 2, "--port 0: a port is a number from 1 to 65535"),
        (["--registry", "REGISTRY", "--port", "65536"], 2, "--port 65536"),
        (["--registry", "REGISTRY", "--port", "http"], 2, "--port 'http'"),
        (["--registry", "REGISTRY", "--port", "8080", "--port", "8080"], 2, "--port 8080: given twice"),
        (["--registry", "REGISTRY", "--port", "8080", "--replicas", "0"], 2, "--replicas 0: use 1 or more"),
        (["--registry", "REGISTRY", "--port", "8080", "--replicas", "two"], 2, "Invalid value for '--replicas'"),
        (["--registry", "REGISTRY", "--port", "8080", "--interval", "0"], 2, "--interval 0: use a number above 0"),
        (["--registry", "REGISTRY", "--port", "8080", "--workers", "0"], 2, "--workers 0"),
        (["--registry", "REGISTRY", "--port", "8080", "--app", "a.b"], 2, "--app 'a.b'"),
        (["--registry", "REGISTRY", "--port", "8080", "--health-path", "health"], 2, "must start with a slash"),
        (
            ["--registry", "REGISTRY", "--port", "8080", "--otlp-endpoint", "http://c:4317"],
            2,
            "is a URL; write host:port",
        ),
        (["--registry", "REGISTRY", "--port", "8080", "--admin-port", "99999"], 2, "--admin-port 99999"),
        (["--registry", "REGISTRY", "--port", "8080", "--nats-server", "/no/such"], 1, "--nats-server /no/such"),
        (["--registry", "REGISTRY", "--port", "8080", "--nats-url", "nats://127.0.0.1:1"], 1, "no bus at"),
        (["--registry", "REGISTRY", "--port", "8080", "--replicas", "1" + 30 * "0"], 2, "one host runs 1000 at most"),
        (
            ["--registry", "REGISTRY", "--port", "8080", "--probe-timeout", "inf"],
            2,
            "--probe-timeout inf: use a finite",
        ),
        (["--registry", "REGISTRY", "--port", "8080", "--bus-timeout", "nan"], 2, "--bus-timeout nan: use a number"),
        (["--registry", "REGISTRY", "--port", "8080", "--spool-limit", "-1"], 2, "--spool-limit -1: use 0 or more"),
        (["--no-such-option"], 2, "No such option: --no-such-option"),
    ],
)
def test_wrong_options_of_server_are_told(
    registry: str, tmp_path: Path, options: list[str], code: int, says: str
) -> None:
    words = [registry if word == "REGISTRY" else word for word in options]
    admin = [] if "--admin-port" in words else ["--admin-port", str(free_port())]
    _fails("server", "--state-dir", str(tmp_path / "state"), "--bus-timeout", "1", *admin, *words, code=code, says=says)


def test_a_taken_port_is_told_with_its_holder(registry: str, tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as holder:
        port = holder.getsockname()[1]
        says = f"--port {port}: taken by python3 (process {os.getpid()})"
        options = ["server", "--registry", registry, "--state-dir", str(tmp_path / "state")]
        name = Path("/proc/self/comm").read_text().strip()
        _fails(
            *options,
            "--port",
            str(port),
            "--admin-port",
            str(free_port()),
            code=1,
            says=says.replace("python3", name).replace("--port ", ""),
        )
        _fails(
            *options,
            "--port",
            str(free_port()),
            "--admin-port",
            str(port),
            code=1,
            says=f"--admin-port {port}: taken by {name} (process {os.getpid()})",
        )
    assert _processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["events", "--start", "0"], "--start 0: the first message of a log is 1"),
        (["events", "--service", "a b"], "--service 'a b': known are proxy, deployer"),
        (["events", "--service", ">"], "--service '>'"),
        (["status", "--app", "a b"], "--app 'a b': use 1 to 63 letters"),
        (["status", "--app", ">"], "--app '>'"),
        (["status", "--bus-timeout", "-1"], "--bus-timeout -1: use a number above 0"),
        (["deploy", "--timeout", "nan"], "--timeout nan: use a number above 0"),
        (["deploy", "--timeout", "-1"], "--timeout -1: use a number above 0"),
    ],
)
def test_wrong_options_of_verbs_are_told_before_anything_is_asked(
    words: list[str], says: str, bus_with_streams: str
) -> None:
    _fails(*words, "--nats-url", bus_with_streams, code=2, says=says)


def test_what_cannot_be_printed_is_told(bus_with_streams: str) -> None:
    command = f"exec {LONGSHORE} status --json --nats-url {bus_with_streams} --help > /dev/full"
    answer = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (answer.returncode, answer.stderr) == (1, "longshore: No space left on device\n")


def test_a_second_server_on_the_same_state_is_refused(server: Callable[..., Server]) -> None:
    one = server()
    wait_for("the first runs", lambda: one.serves(releases.FIRST))
    _fails(
        *["server", "--registry", f"dir://{one.registry}", "--state-dir", one.state],
        *["--port", str(free_port()), "--admin-port", str(free_port())],
        code=2,
        says=f"in use by process {one.pid}",
    )
    assert one.serves(releases.FIRST)


def test_a_registry_without_a_valid_release_is_told(tmp_path: Path) -> None:
    registry = tmp_path / "releases"
    (registry / "not-a-version").mkdir(parents=True)
    (registry / "0.9.0").mkdir()
    options = ["--registry", f"dir://{registry}", "--state-dir", str(tmp_path / "state")]
    _fails("server", *options, "--port", str(free_port()), "--admin-port", str(free_port()), code=1, says="no release")
    (registry / "0.9.0" / "run").touch()
    answer = longshore("server", *options, "--port", str(free_port()), "--admin-port", str(free_port()))
    assert "0.9.0" in answer.stderr
    assert "not executable" in answer.stderr
    assert _processes_of(tmp_path) == []


def test_a_flawed_release_beside_a_good_one_is_told_and_skipped(server: Callable[..., Server]) -> None:
    one = server()
    (one.registry / "9.0.0").mkdir()
    wait_for("the release without run is told", lambda: "9.0.0" in one.log.read_text())
    wait_for("the good one serves", lambda: one.serves(releases.FIRST))


def test_containers_without_an_engine_are_told_before_anything_starts(tmp_path: Path) -> None:
    _fails(
        *["container", "--registry", "img://127.0.0.1:1/app", "--port", "8080", "--state-dir", str(tmp_path)],
        *["--docker-host", f"unix://{tmp_path}/docker.sock"],
        code=1,
        says=f"no container engine answers at unix://{tmp_path}/docker.sock (No such file or directory)",
    )
    assert _processes_of(tmp_path) == []


@pytest.mark.parametrize("words", [["--registry", "dir:///srv/\udcff"], ["--registry=dir:///srv/\udcff"]])
def test_words_and_variables_that_are_no_utf_8_are_told_without_their_values(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _fails("server", *words, "--port", "8080", code=2, says="--registry: not valid UTF-8")
    _fails("deploy", "1.0.0\udcff", code=2, says="what stands after deploy: not valid UTF-8")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "token=\udcff")
    _fails("server", "--port", "8080", code=2, says="OTEL_EXPORTER_OTLP_HEADERS: not valid UTF-8")


def test_a_word_after_the_dashes_that_would_break_the_management_is_refused_by_name(tmp_path: Path) -> None:
    options = ["--registry", "img://127.0.0.1:1/app", "--port", "8080", "--state-dir", str(tmp_path)]
    _fails("container", *options, "--", "-e", "A=1", "--publish", "80:80", code=2, says="-- --publish: ports come from")


def test_a_broken_file_of_settings_is_told_with_line_and_key(tmp_path: Path) -> None:
    file = tmp_path / "longshore.toml"
    file.write_text("[server]\n\nreplicas = 'many'\n")
    _fails("--config", str(file), "server", code=2, says="longshore.toml line 3: replicas: Expected int, got str")


@pytest.mark.parametrize("service", ["proxy", "deployer", "health", "gateway"])
def test_a_service_alone_says_when_there_is_no_bus(service: str, tmp_path: Path, registry: str) -> None:
    options = {
        "proxy": ["--listen", f"web={free_port()}"],
        "deployer": ["--registry", registry, "--port", "8080"],
        "health": [],
        "gateway": ["--admin-port", str(free_port())],
    }[service]
    _fails(service, "--state-dir", str(tmp_path / "none"), *options, code=1, says="no bus in")
    _fails(
        *[service, "--nats-url", "nats://127.0.0.1:1", "--bus-timeout", "0.3", "--state-dir", str(tmp_path), *options],
        code=1,
        says="no bus at nats://127.0.0.1:1 within 0.3 s",
    )


def test_a_service_alone_says_when_its_credentials_are_wrong(tmp_path: Path) -> None:
    state = tmp_path / "state"
    _fails("status", "--state-dir", str(state), code=1, says="no bus in")


@pytest.fixture
def protected_bus(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path, "--user", "longshore", "--pass", "secret")
    server.start()
    yield server
    server.kill()


def test_wrong_credentials_are_told(protected_bus: NatsServer) -> None:
    url = protected_bus.url.replace("//", "//longshore:wrong@")
    _fails("health", "--nats-url", url, code=1, says="refuses health: wrong user or password")


def test_an_old_bus_is_told(tmp_path: Path) -> None:
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.9.25\n")
    old.chmod(0o755)
    _fails(
        *["bus", "--state-dir", str(tmp_path), "--nats-server", str(old)],
        code=1,
        says="not a nats-server 2.10 or newer",
    )


def test_verbs_say_when_nothing_runs(tmp_path: Path) -> None:
    for verb in ("status", "history", "events", "deploy", "rollback", "pause", "resume", "retry", "abort"):
        _fails(verb, "--state-dir", str(tmp_path), code=1, says="start `longshore bus` or one of the all-in-one")


@pytest.mark.parametrize(
    ("platform", "version", "says"),
    [
        ("darwin", (3, 12), "runs on Linux only"),
        ("linux", (3, 10), "needs Python 3.11 or newer; this is 3.10"),
        ("linux", (3, 11), ""),
    ],
)
def test_what_it_runs_on(platform: str, version: tuple[int, ...], says: str) -> None:
    assert says in unsupported(platform, version)
    assert bool(says) == bool(unsupported(platform, version))


def test_interrupting_a_server_that_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    one = Server(tmp_path, "--stop-containers")
    releases.publish(one.registry, releases.FIRST)
    one.start()
    wait_for("the bus runs", lambda: "bus" in one.children())
    assert one.stop(signal.SIGINT) == 0
    assert _processes_of(tmp_path) == []


def _processes_of(directory: Path) -> list[str]:
    """Command lines of processes that name this test's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode().replace("\0", " ")
        except OSError:
            continue
        if str(directory) in line:
            found.append(line)
    return found
