"""The registry of the distribution project, as a process, and images pushed to it over HTTP."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import httpx

from tests.support.ports import free_port

USERNAME, PASSWORD = "ship", "sesame"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"

_HTPASSWD = "ship:$2b$04$AJDs8dpnXv0U4acdvGE/h.Zf.mCUUFi/G38G0ViEZO8SSey0Ga.Ma"


class DockerRegistry:
    """`host` is its address with its port; `requests` are the lines of its access log."""

    def __init__(self, folder: Path, is_locked: bool = False) -> None:
        self.host = f"127.0.0.1:{free_port()}"
        self._folder = folder
        self._auth = (USERNAME, PASSWORD) if is_locked else None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def requests(self) -> list[str]:
        """Method and path of every request so far."""
        log = (self._folder / "registry.log").read_text()
        return [
            line.split('"')[1].rpartition(" ")[0] for line in log.splitlines() if '"' in line and "HTTP/1.1" in line
        ]

    def start(self) -> None:
        program = shutil.which("docker-registry")
        assert program, "docker-registry is missing: apt-get install docker-registry"
        configuration = self._folder / "registry.json"
        configuration.write_text(json.dumps(self._configuration()))
        with (self._folder / "registry.log").open("wb") as log:
            self._process = subprocess.Popen([program, "serve", str(configuration)], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < deadline, (self._folder / "registry.log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Take connections and answer nothing, until `resume`."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def push(self, repository: str, tag: str, content: str = "", media: str = MANIFEST) -> str:
        """Push an image whose configuration holds `content` (or an index of none); the manifest's digest."""
        with httpx.Client(base_url=f"http://{self.host}/v2/{repository}", auth=self._auth, trust_env=False) as client:
            manifest = _index(content) if media == INDEX else self._manifest(client, content)
            answer = client.put(f"/manifests/{tag}", content=manifest, headers={"Content-Type": media})
            answer.raise_for_status()
        return f"sha256:{hashlib.sha256(manifest).hexdigest()}"

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest, with all its tags."""
        url = f"http://{self.host}/v2/{repository}/manifests/{digest}"
        httpx.delete(url, auth=self._auth, trust_env=False).raise_for_status()

    def _manifest(self, client: httpx.Client, content: str) -> bytes:
        blob = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Labels": {"content": content}}}).encode()
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        place = httpx.URL(client.post("/blobs/uploads/").raise_for_status().headers["location"])
        client.put(place.copy_merge_params({"digest": digest}), content=blob).raise_for_status()
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(blob)}
        return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}).encode()

    def _configuration(self) -> dict[str, object]:
        configuration: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "storage")}, "delete": {"enabled": True}},
            "http": {"addr": self.host},
        }
        if self._auth:
            (self._folder / "htpasswd").write_text(_HTPASSWD + "\n")
            configuration["auth"] = {"htpasswd": {"realm": "a test", "path": str(self._folder / "htpasswd")}}
        return configuration

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://{self.host}/v2/", trust_env=False).status_code in (200, 401)
        except httpx.TransportError:
            return False


def _index(content: str) -> bytes:
    return json.dumps(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"content": content}}
    ).encode()
