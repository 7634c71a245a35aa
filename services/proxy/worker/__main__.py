"""`python -m services.proxy.worker FD`: a worker whose master is at the other end of descriptor FD."""

from __future__ import annotations

import signal
import socket
import sys

from services.proxy.worker.worker import Worker


def main() -> None:
    """Run until the master sends Stop or ends. The master handles the signals that a terminal sends to all."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    Worker(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
