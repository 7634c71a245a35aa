"""Longshore's proxy, HAProxy and no proxy at all before the same nginx, side by side in one run, with wrk.

Needs nginx, haproxy and wrk on PATH (Debian: nginx-light, haproxy, wrk). Prints a table:
python -m tests.benchmarks.proxy [seconds of each measurement]
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from schemas import subjects
from schemas.routing import Backend, Route
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.jetstream.provisioning import ensure_streams
from tests.support.harness import LONGSHORE, clean_environment, wait_for
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

HOST = "benchmark"
SMALL, LARGE = 1 << 10, 16 << 20

NGINX = """
worker_processes 1; error_log {directory}/error.log; pid {directory}/nginx.pid; daemon off;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000; sendfile on;
  client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
  uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {directory}; }} }}
"""
HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen all
  bind 127.0.0.1:{port}
  server one 127.0.0.1:{backend}
"""


@contextmanager
def running(*command: str) -> Iterator[None]:
    """A program, until the end of the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environment())
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def longshore(directory: Path, workers: int, backend: int) -> Iterator[int]:
    """The port of a proxy process with so many workers before the backend."""
    port = free_port()
    server = NatsServer(directory)
    server.start()
    try:
        asyncio.run(write_route(server.url, port, backend))
        options = ["--nats-url", server.url, "--host", HOST, "--listen", f"web=127.0.0.1:{port}"]
        with running(LONGSHORE, "proxy", *options, "--workers", str(workers), "--log-level", "error"):
            yield port
    finally:
        server.kill()


async def write_route(url: str, port: int, backend: int) -> None:
    bus = await Bus.connect("deployer", Credentials([url]))
    await ensure_streams(bus)
    route = Route("web", port, 1, [Backend("one", "127.0.0.1", backend)])
    await bus.put(subjects.ROUTES, subjects.route_key(HOST, "web", port), route)
    await bus.close()


def wrk(port: int, path: str, seconds: float, *options: str) -> tuple[float, float]:
    """Requests and megabytes a second."""
    url = f"http://127.0.0.1:{port}/{path}"
    wait_for(f"{url} answers", lambda: subprocess.run(["curl", "-sfo", "/dev/null", url], check=False).returncode == 0)
    command = ["wrk", "-t1", "-c32", f"-d{seconds:g}s", *options, url]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    failed = re.search(r"Socket errors.*|Non-2xx.*", report)
    assert not failed, failed
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", report)[0])
    return rate, rate * (LARGE if path == "large" else SMALL) / 1e6


def measure(name: str, port: int, seconds: float) -> None:
    keep_alive, _ = wrk(port, "small", seconds)
    fresh, _ = wrk(port, "small", seconds, "-H", "Connection: close")
    _, bulk = wrk(port, "large", seconds)
    print(f"| {name} | {keep_alive:,.0f} | {fresh:,.0f} | {bulk:,.0f} |", flush=True)


def main(seconds: float) -> None:
    for program in ("nginx", "haproxy", "wrk", "curl"):
        if not shutil.which(program, path="/usr/sbin:/usr/bin:/bin"):
            sys.exit(f"{program} is missing: apt-get install nginx-light haproxy wrk curl")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "small").write_bytes(b"x" * SMALL)
        (directory / "large").write_bytes(b"x" * LARGE)
        backend, haproxy = free_port(), free_port()
        (directory / "nginx.conf").write_text(NGINX.format(directory=directory, port=backend))
        (directory / "haproxy.cfg").write_text(HAPROXY.format(port=haproxy, backend=backend))
        stack.enter_context(running("/usr/sbin/nginx", "-c", str(directory / "nginx.conf")))
        print("| before nginx | keep-alive, requests/s | new connection each, requests/s | 16 MiB bodies, MB/s |")
        print("|---|---|---|---|")
        measure("nothing", backend, seconds)
        with running("/usr/sbin/haproxy", "-f", str(directory / "haproxy.cfg")):
            measure("HAProxy, one thread", haproxy, seconds)
        for workers in (1, 2):
            with longshore(directory, workers, backend) as port:
                measure(f"Longshore, {workers} worker{'s'[: workers - 1]}", port, seconds)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
