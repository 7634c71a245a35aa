"""Small images with a busybox, pushed to a registry over HTTP: no engine has a part in it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import httpx

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

SERVE = "trap 'exit 0' TERM; echo listening; httpd -f -p 8080 -h /www & wait"
"""Answers HTTP requests on port 8080 with the name of its release."""

HUNGRY = "tail -f /dev/zero"
"""Takes all the memory that there is."""


def publish(
    registry: str,
    repository: str,
    tag: str,
    script: str = SERVE,
    arch: str = "amd64",
    ballast: bytes = b"",
    **config: Any,
) -> str:
    """Push an image that runs a shell script; its digest. `config` as in the image's own configuration."""
    whole = {"Cmd": ["sh", "-c", script], "Env": ["PATH=/bin"], "ExposedPorts": {"8080/tcp": {}}} | config
    layers = [_busybox(), _layer({"www/index.html": tag.encode(), "tmp/.keep": ballast})]
    with httpx.Client(base_url=f"http://{registry}/v2/{repository}", trust_env=False) as client:
        image = {
            "architecture": arch,
            "os": "linux",
            "author": f"{registry}/{repository}",  # an engine asks for no manifest that it has had from elsewhere
            "config": whole,
            "rootfs": {"type": "layers", "diff_ids": [digest(gzip.decompress(layer)) for layer in layers]},
        }
        blob = json.dumps(image).encode()
        for content in (blob, *layers):
            _upload(client, content)
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": digest(blob), "size": len(blob)},
            "layers": [{"mediaType": _LAYER, "digest": digest(layer), "size": len(layer)} for layer in layers],
        }
        content = json.dumps(manifest).encode()
        client.put(f"/manifests/{tag}", content=content, headers={"Content-Type": _MANIFEST}).raise_for_status()
    return digest(content)


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@cache
def _busybox() -> bytes:
    program = shutil.which("busybox")
    assert program, "busybox is missing: apt-get install busybox-static"
    commands = ("sh", "httpd", "sleep", "tail", "wget", "echo", "touch", "kill", "cat", "true", "test", "rm")
    return _layer({"bin/busybox": Path(program).read_bytes()}, {f"bin/{name}": "busybox" for name in commands})


def _layer(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for name, to in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, to
            archive.addfile(entry)
    return gzip.compress(target.getvalue(), mtime=0)


def _upload(client: httpx.Client, content: bytes) -> None:
    if client.head(f"/blobs/{digest(content)}").status_code == 200:
        return
    place = httpx.URL(client.post("/blobs/uploads/").raise_for_status().headers["location"])
    client.put(place.copy_merge_params({"digest": digest(content)}), content=content).raise_for_status()
