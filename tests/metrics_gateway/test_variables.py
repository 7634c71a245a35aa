"""Signals named by a variable, as a user sets it before a command."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

VARIABLES = ("LONGSHORE_TELEMETRY", "LONGSHORE_TELEMETRY_SIGNALS", "SCOTTY__TELEMETRY")


def gateway(folder: Path, admin_port: int, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A gateway that ends at once: its admin port is taken."""
    program = str(Path(sys.executable).with_name("longshore"))
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = [program, "gateway", "--nats-url=nats://127.0.0.1:1", f"--admin-port={admin_port}", *options]
    return subprocess.run(
        command, env={**environment, **variables}, cwd=folder, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("variable", VARIABLES)
def test_each_variable_takes_the_same_words_with_blanks_and_refuses_others_in_one_line(
    tmp_path: Path, variable: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        for words in (" metrics ", "metrics, traces", "traces", "true", "false"):
            understood = gateway(tmp_path, port, **{variable: words})
            assert f"--admin-port {port}: taken" in understood.stderr
        refused = gateway(tmp_path, port, **{variable: "metrics,tracez"})
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert f"{variable} 'metrics,tracez': 'tracez' is not a signal; use metrics, traces or both" in refused.stderr


def test_the_option_comes_before_the_variables_and_ours_before_the_other(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        ours = gateway(tmp_path, port, LONGSHORE_TELEMETRY="metrics", SCOTTY__TELEMETRY="wrong")
        option = gateway(tmp_path, port, "--telemetry-signals=metrics", LONGSHORE_TELEMETRY="wrong")
        wrong = gateway(tmp_path, port, "--telemetry-signals=metrix", LONGSHORE_TELEMETRY="metrics")
    assert "taken" in ours.stderr
    assert "taken" in option.stderr
    assert "--telemetry-signals 'metrix': 'metrix' is not a signal" in wrong.stderr
