"""A live pipeline in which everything has happened that a panel shows, scraped by real stores."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

from services.demo import releases
from tests.support.harness import Server, Traffic, wait_for
from tests.support.ports import free_port
from tests.support.stores import Store, prometheus, victoria_metrics

OPTIONS = ("--replicas", "2", "--hold", "0.2", "--drain-time", "1", "--health-timeout", "3", "--otlp-insecure")


class Pipeline:
    """A server, the Prometheus that scrapes it, and the VictoriaMetrics that this one writes to."""

    def __init__(self, folder: Path) -> None:
        nobody = f"127.0.0.1:{free_port()}"
        self.server = Server(folder, *OPTIONS, "--otlp-endpoint", nobody)
        releases.publish(self.server.registry, releases.FIRST)
        self.server.start()
        self.victoria_metrics: Store = victoria_metrics(folder)
        target = f"127.0.0.1:{self.server.admin_port}"
        self.prometheus: Store = prometheus(folder, target, f"{self.victoria_metrics.url}/api/v1/write")

    def play(self) -> None:
        """Two releases under traffic, a broken one, a connection that outlives its drain, and replicas that die."""
        wait_for("the first release serves", lambda: self.server.serves(releases.FIRST), 60)
        # A second release that comes before the end of the first deployment takes its place: the counter never grows.
        wait_for("its deployment is scraped", lambda: self.prometheus.query("sum(dewy_deployments_total) == 1"), 60)
        wait_for("it is scraped", lambda: self.prometheus.query("dewy_proxy_backends == 2"))
        with Traffic(self.server.port, threads=1) as traffic, _open(self.server.port):
            traffic.wait_for_more(20)
            releases.publish(self.server.registry, releases.SECOND)
            wait_for("the second release serves", lambda: self.server.serves(releases.SECOND), 60)
            releases.publish(self.server.registry, releases.BROKEN)
            failed = "sum(dewy_deployment_errors_total) > 0"
            wait_for("the broken release fails", lambda: self.prometheus.query(failed), 60)
            traffic.wait_for_more(20)
        self._lose_replicas()

    def _lose_replicas(self) -> None:
        """Kill what serves until a connection finds nobody."""

        def somebody_found_nobody() -> bool:
            for shim in self.server.shims():
                _signal(shim, signal.SIGUSR1)
            for _ in range(20):
                _ask(self.server.port)
            return bool(self.prometheus.query("sum(dewy_proxy_errors_total) > 0"))

        wait_for("a connection finds no backend", somebody_found_nobody, 60)
        wait_for("replicas are back", lambda: self.server.serves(releases.SECOND), 60)

    def stop(self) -> None:
        for store in (self.prometheus, self.victoria_metrics):
            store.stop()
        self.server.stop()
        self.server.end_replicas()


def _open(port: int) -> socket.socket:
    """A connection that is used by nobody, and stays."""
    wait_for("the port listens", lambda: not _refused(port))
    return socket.create_connection(("127.0.0.1", port))


def _refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _ask(port: int) -> None:
    """A request whose answer does not matter."""
    with socket.socket() as connection:
        connection.settimeout(5)
        try:
            connection.connect(("127.0.0.1", port))
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            connection.recv(1)
        except OSError:
            time.sleep(0.01)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
