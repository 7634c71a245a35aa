"""The demo's application: answers every request with its release, after a little work."""

import http.server
import os
import time
from pathlib import Path

RELEASE = os.environ["LONGSHORE_RELEASE"]
STATUS = 500 if Path("broken").exists() else 200


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every path with the release."""

    def do_GET(self) -> None:
        """Answer after 2 ms of work."""
        time.sleep(0.002)
        body = f"hello from release {RELEASE}\n".encode()
        self.send_response(STATUS)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: the proxy counts the connections."""


class Server(http.server.ThreadingHTTPServer):
    """A server with room for a burst of connections."""

    request_queue_size = 128


if __name__ == "__main__":
    server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
    print(f"release {RELEASE} listens on {server.server_port}", flush=True)
    server.serve_forever()
