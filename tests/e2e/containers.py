"""`longshore container` as a user runs it; and one whose deployments can be held in each of their phases."""

from __future__ import annotations

import json
import shlex
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import docker
from docker.models.containers import Container

from tests.support import images
from tests.support.docker_registry import DockerRegistry
from tests.support.harness import Server, wait_for

FIRST, SECOND, UNHEALTHY = "1.0.0", "1.1.0", "1.2.0"
GATE_OF = {"check": "check", "drain": "drain", "stop": "stop", "undo": "stop"}
SIGNS = ("hooked", "stopping")

_STARTED = """
trap 'touch /gates/stopping; while test -e /gates/stop; do sleep 0.05; done; exit 0' TERM
while test -e /gates/check; do sleep 0.05; done
"""
_DOWNLOAD = """
busybox mkdir -p /www/cgi-bin
cat > /www/cgi-bin/held <<'END'
#!/bin/sh
echo Content-Type: text/plain
echo
echo begun
while test -e /gates/drain; do sleep 0.05; done
echo ended
END
busybox chmod +x /www/cgi-bin/held
"""
SCRIPTS = {
    FIRST: f"{_STARTED}{_DOWNLOAD}httpd -f -p 8080 -h /www & wait",
    SECOND: f"{_STARTED}{_DOWNLOAD}httpd -f -p 8080 -h /www & wait",
    UNHEALTHY: f"{_STARTED}while :; do sleep 0.05; done",
}


class Containers(Server):
    """A server whose replicas are containers of an image in a registry."""

    def __init__(self, directory: Path, image: str, *options: str) -> None:
        super().__init__(directory, *options)
        self._image = f"img://{image}"

    def arguments(self) -> list[str]:
        words = super().arguments()
        words[words.index("server")] = "container"
        words[words.index("--registry") + 1] = self._image
        return words


class Gated(Containers):
    """One replica, and gates: files that hosts and containers see. What waits at one goes on when it is removed."""

    def __init__(self, directory: Path, registry: DockerRegistry, engine: docker.DockerClient, *words: str) -> None:
        """`words`: for `docker run`."""
        self._folder = directory / "gates"
        self._folder.mkdir()
        self._registry = registry
        self._repository = directory.name.lower().replace("_", "-")
        self._engine = engine
        folder = shlex.quote(str(self._folder))
        hook = f"touch {folder}/hooked; while test -e {folder}/hook; do sleep 0.05; done"
        options = ["--before-deploy", hook, "--health-timeout", "8", "--stop-timeout", "30"]
        options += ["--", "--volume", f"{self._folder}:/gates", *words]
        super().__init__(directory, f"{registry.host}/{self._repository}", *options)

    def publish(self, release: str) -> None:
        images.publish(self._registry.host, self._repository, release, SCRIPTS[release])

    def close(self, gate: str) -> None:
        (self._folder / gate).touch()

    def open(self, *gates: str) -> None:
        for gate in gates:
            (self._folder / gate).unlink(missing_ok=True)

    def hold(self, phase: str) -> None:
        """Have the next deployment wait in a phase."""
        self.open(*SIGNS)
        self.close("hook")
        if phase in GATE_OF:
            self.close(GATE_OF[phase])

    def arrive(self, phase: str) -> None:
        """Return when a deployment waits in the phase in which it was held."""
        wait_for("a deployment begins", lambda: self._is_there("hooked"))
        if phase == "hook":
            return
        if phase == "pull":
            self._registry.pause()
        self.open("hook")
        wait_for(f"the phase {phase}", lambda: self._has_reached(phase), 60)

    def release(self) -> None:
        """Let everything go on."""
        self._registry.resume()
        self.open("hook", *GATE_OF.values())

    def outcomes(self) -> list[str]:
        """How its deployments ended."""
        return [json.loads(line)["outcome"] for line in self.verb("history", "--json").stdout.splitlines()]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What the deployer told of one kind."""
        found = map(json.loads, self.verb("events", "--service", "deployer", "--json").stdout.splitlines())
        return [one for one in found if one["event"] == kind]

    def containers(self) -> list[str]:
        """What its containers are of; of those that do not run, what they do instead."""
        return sorted(
            one.labels["longshore.release"] if one.status == "running" else one.status for one in self._containers()
        )

    def remove_containers(self) -> None:
        for one in self._containers():
            one.remove(force=True)

    def _has_reached(self, phase: str) -> bool:
        match phase:
            case "pull":
                return self.log.read_text().count("pulling an image") == 2
            case "check":
                return len(self.containers()) == 2
            case "drain":
                return any(one["routed"] == "draining" for one in self.status().get("replicas", []))
        return self._is_there("stopping")

    def _is_there(self, sign: str) -> bool:
        return (self._folder / sign).exists()

    def _containers(self) -> list[Container]:
        instance = Path(self.state, "instance")
        if not instance.exists():
            return []
        label = f"longshore.instance={instance.read_text()}"
        found: list[Container] = self._engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        return found


class Download:
    """A download that goes on until the gate `drain` is opened. `text`: all that came of it, at the end."""

    def __init__(self, port: int) -> None:
        self.text = ""
        self._url = f"http://127.0.0.1:{port}/cgi-bin/held"
        self._begun: Future[None] = Future()
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Download:
        self._thread.submit(self._read)
        self._begun.result(30)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._thread.shutdown()

    def _read(self) -> None:
        try:
            with urllib.request.urlopen(self._url, timeout=60) as answer:
                for line in answer:
                    self.text += line.decode()
                    if not self._begun.done():
                        self._begun.set_result(None)
        except OSError as error:
            if not self._begun.done():
                self._begun.set_exception(error)
