"""What a worker process is made of."""

from __future__ import annotations

import subprocess
import sys

FORBIDDEN = {"nats", "opentelemetry", "prometheus_client", "asyncio", "structlog", "services.common", "threading"}


def test_a_worker_loads_the_standard_library_msgspec_and_schemas_only() -> None:
    code = "import sys, services.proxy.worker.__main__; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "services.proxy.worker.worker" in loaded
    assert not FORBIDDEN & set(loaded)
    foreign = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"__main__"}
    assert {name for name in foreign if not name.startswith("_")} <= {
        "msgspec",
        "schemas",
        "services",
        "typing_extensions",  # msgspec's own, where it is installed
    }
