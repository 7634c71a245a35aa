"""The application behind the pipeline: it writes down every connection, one line of JSON each, when it has ended."""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

JOURNAL = Path(Path("journal").read_text())
SICK = JOURNAL.with_suffix(".sick")


def serve(sock: socket.socket) -> None:
    """One request: /health says how the application is, /data/N answers N bytes, /stream/N too, and then waits."""
    entry = {"path": "", "status": 0, "received": 0, "sent": 0}
    with sock, contextlib.suppress(OSError):
        answer(sock, entry)
    with JOURNAL.open("a") as journal:
        journal.write(json.dumps(entry) + "\n")


def answer(sock: socket.socket, entry: dict[str, Any]) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        data = sock.recv(65536)
        if not data:
            return
        request += data
        entry["received"] += len(data)
    head, _, body = request.partition(b"\r\n\r\n")
    entry["path"] = "/" + head.split()[1].decode().split("/")[1]
    entry["status"] = 503 if entry["path"] == "/health" and SICK.exists() else 200
    missing = length(head) - len(body)
    while missing > 0:
        data = sock.recv(65536)
        missing -= len(data)
        entry["received"] += len(data)
    size = 0 if entry["path"] == "/health" else int(head.split()[1].rpartition(b"/")[2])
    reply = f"HTTP/1.1 {entry['status']} -\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * size
    sock.sendall(reply)
    entry["sent"] += len(reply)
    if entry["path"] == "/stream":
        sock.recv(1)


def length(head: bytes) -> int:
    values = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    return int(values[0]) if values else 0


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=128)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # once the last connection is written down
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],)).start()
