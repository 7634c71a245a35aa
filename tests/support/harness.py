"""`longshore server` as a user starts it, and a client that counts what happens to its requests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from services.demo.scenario import totals
from tests.support.patience import patience
from tests.support.ports import free_port

LONGSHORE = str(Path(sys.executable).with_name("longshore"))
T = TypeVar("T")


def wait_for(what: str, condition: Callable[[], T], timeout: float = 30.0) -> T:
    """What `condition` returns as soon as that is truthy."""
    deadline = time.monotonic() + patience(timeout)
    while True:
        began = time.monotonic()
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"waited {patience(timeout):g} s in vain until {what}"
        # A condition may start a process: it leaves as much time to what it waits for.
        time.sleep(max(0.05, time.monotonic() - began))


def longshore(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [LONGSHORE, *arguments],
        capture_output=True,
        text=True,
        timeout=patience(timeout),
        env=clean_environment(),
        check=False,
    )


def clean_environment() -> dict[str, str]:
    """This process's environment without settings for Longshore."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LONGSHORE_")}


class Server:
    """A running `longshore server` with a state directory and ports of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.registry = directory / "releases"
        self.registry.mkdir(exist_ok=True)
        self.state = str(directory / "state")
        self.port, self.admin_port = free_port(), free_port()
        self.log = directory / "longshore.log"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}/metrics"

    def arguments(self) -> list[str]:
        """The command line without the program and the further options."""
        words = ["server", "--registry", f"dir://{self.registry}", "--app", "web", "--port", str(self.port)]
        words += ["--admin-port", str(self.admin_port), "--state-dir", self.state, "--telemetry"]
        return [*words, "--interval", "0.5", "--health-path", "/", "--probe-interval", "0.5"]

    def start(self, *options: str, **variables: str) -> None:
        """Start with the options of the constructor, or with others."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [LONGSHORE, *self.arguments(), *(options or self._options)],
                stderr=log,
                env=clean_environment() | variables,
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self._process
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(patience(60))

    def verb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A verb of the command line against this server."""
        return longshore(*arguments, "--state-dir", self.state)

    def status(self) -> dict[str, Any]:
        """What `longshore status --json` says of the application; empty before there is one."""
        answer = self.verb("status", "--json")
        lines = answer.stdout.splitlines()
        result: dict[str, Any] = json.loads(lines[0]) if lines else {}
        return result

    def serves(self, release: str) -> bool:
        """Whether the release is current and nothing else is routed."""
        status = self.status()
        routed = {one["release"] for one in status.get("replicas", []) if one["routed"] == "active"}
        return status.get("release") == release and routed == {release}

    def metrics(self) -> dict[str, float]:
        """Sums of /metrics by sample name; empty while it cannot be scraped."""
        try:
            with urllib.request.urlopen(self.metrics_url, timeout=5) as answer:
                return totals(answer.read().decode())
        except OSError:
            return {}

    def end_replicas(self) -> None:
        """End what goes on running when a server stops: the shims pass the signal on to their replicas."""
        shims = self.shims()
        for pid in shims:
            os.kill(pid, signal.SIGTERM)
        wait_for("the replicas end", lambda: not any(map(runs, shims)))

    def shims(self) -> list[int]:
        """The processes that watch over a replica each."""
        every = [int(process.name) for process in Path("/proc").glob("[0-9]*")]
        return [pid for pid in every if "shim.py" in (line := " ".join(command_line(pid))) and self.state in line]

    def children(self) -> dict[str, int]:
        """The process ids of the services by name: bus, gateway, health, proxy, deployer."""
        found = {}
        for pid in children_of(self.pid):
            words = command_line(pid)
            if "nats-server" in words[0]:
                found["bus"] = pid
            elif at := next((at for at, word in enumerate(words) if word.endswith("services.cli.main")), 0):
                found[words[at + 1]] = pid
        return found


def command_line(pid: int) -> list[str]:
    """The command line of a process; of one that is gone, or was just forked, nothing useful."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return [""]


def runs(pid: int) -> bool:
    """Whether a process is there and not only its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers(proxy: int) -> list[int]:
    """The worker processes of a proxy master."""
    return children_of(proxy)


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Traffic:
    """Threads that ask one request after another, each on a connection of its own."""

    def __init__(self, port: int, threads: int = 3) -> None:
        self.answered = 0
        self.refused = 0
        self.broken: list[str] = []
        self._port = port
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(threads)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, requests: int) -> None:
        """Return when so many more requests were answered."""
        goal = self.answered + requests
        wait_for("traffic goes on", lambda: self.answered >= goal)

    def _ask_on(self) -> None:
        while not self._stopping.wait(0.005):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/", timeout=30) as answer:
                    answer.read()
                with self._lock:
                    self.answered += 1
            except (OSError, urllib.error.URLError, ValueError) as error:
                self._note(error)

    def _note(self, error: Exception) -> None:
        reason = getattr(error, "reason", error)
        with self._lock:
            self.refused += isinstance(reason, ConnectionRefusedError)
            self.broken.append(repr(reason))
