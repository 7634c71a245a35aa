"""A release whose replicas write down what they did: the other end of a count.

It answers requests on connections that stay open, and appends a line to the file `probes` for each probe that it
answered and to `served` for each request: the bytes of the request and of the answer. Told to end, it first lets its
connections end.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAM = """
import os, signal, socketserver, threading

FOLDER = {folder!r}
RELEASE = os.environ["LONGSHORE_RELEASE"]


def note(name, line):
    descriptor = os.open(os.path.join(FOLDER, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            while self.answer():
                pass
        except OSError:
            pass

    def answer(self):
        head = []
        while (line := self.rfile.readline()) not in (b"", b"\\r\\n"):
            head.append(line)
        if not head:
            return False
        if b"/probe" in head[0]:
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
            note("probes", "1\\n")
            return False
        size = int(next(line.split()[1] for line in head if line.lower().startswith(b"content-length")))
        body = RELEASE.encode().ljust(16) + self.rfile.read(size)
        answer = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body
        note("served", f"{{sum(map(len, head)) + 2 + size}} {{len(answer)}}\\n")
        self.wfile.write(answer)
        return True


class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128
    allow_reuse_address = True


with Server(("127.0.0.1", int(os.environ["PORT"])), Handler) as server:
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
"""


def publish(registry: Path, release: str, folder: Path) -> None:
    """Put a release into the registry whose replicas write into `folder`."""
    unfinished = registry / f".{release}"
    unfinished.mkdir(parents=True)
    (unfinished / "app.py").write_text(PROGRAM.format(folder=str(folder)))
    run = unfinished / "run"
    run.write_text(f"#!/bin/sh\nexec {sys.executable} -S app.py\n")
    run.chmod(0o755)
    unfinished.rename(registry / release)


def probes(folder: Path) -> int:
    """How many probes were answered."""
    return len(_lines(folder / "probes"))


def served(folder: Path) -> tuple[int, int]:
    """The bytes of all requests, and of all answers."""
    pairs = [line.split() for line in _lines(folder / "served")]
    return sum(int(received) for received, _ in pairs), sum(int(sent) for _, sent in pairs)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
