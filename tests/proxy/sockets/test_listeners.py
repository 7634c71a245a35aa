"""Ports, options and inherited sockets; a user's mistake is one line."""

from __future__ import annotations

import os
import socket

import pytest

from services.common.errors import LongshoreError, PortTakenError, SettingsError
from services.proxy.settings import ProxySettings
from services.proxy.sockets.activation import hand
from services.proxy.sockets.listeners import VARIABLE, Binding, Listener, environment, inherited, open_listeners, parse
from tests.support.ports import free_port


def close(listeners: list[Listener]) -> None:
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    ("item", "binding"),
    [
        ("web=8080", Binding("web", "", 8080)),
        ("web=127.0.0.1:8080", Binding("web", "127.0.0.1", 8080)),
        ("my-app=[::1]:80", Binding("my-app", "::1", 80)),
    ],
)
def test_a_port_names_its_app_and_may_name_an_address(item: str, binding: Binding) -> None:
    assert parse(item) == binding
    assert str(binding) == item


@pytest.mark.parametrize(
    "item",
    [
        "8080",
        "web=",
        "web=http",
        "=8080",
        "web=0",
        "web=65536",
        "web=::1:80",
        "a.b=80",
        "web=localhost:80",
        "web=[x]:80",
    ],
)
def test_a_port_that_cannot_be_read_is_told_in_one_line(item: str) -> None:
    with pytest.raises(SettingsError, match="--listen") as caught:
        parse(item)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "--workers 0: use 1 to 64"),
        ({"workers": 100_000}, "--workers 100000: use 1 to 64"),
        ({"hold": -1}, "--hold -1"),
        ({"connect_timeout": 0}, "--connect-timeout 0"),
        ({"idle_timeout": -1}, "--idle-timeout -1"),
        ({"drain_time": float("nan")}, "--drain-time nan"),
        ({"max_connections": -1}, "--max-connections -1"),
        ({"max_connections": 1, "workers": 2}, "--max-connections 1"),
        ({"listen": ["a=80", "b=127.0.0.1:80"]}, "port 80 is given twice"),
        ({"listen": ["80"]}, "--listen '80'"),
    ],
)
def test_a_wrong_option_is_told_with_its_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ProxySettings(**options)  # type: ignore[arg-type]  # wrong on purpose


def test_by_default_a_port_takes_ipv4_and_ipv6() -> None:
    port = free_port()
    listeners = open_listeners([f"web={port}"], 2)
    for address in ("127.0.0.1", "::1"):
        socket.create_connection((address, port), 5).close()
    close(listeners)


def test_a_port_that_somebody_has_is_told_with_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"--listen web {port}: taken by .*\(process {os.getpid()}\)"):
            open_listeners([f"web={port}"], 1)


def test_ports_of_another_proxy_are_not_shared_by_accident() -> None:
    port = free_port()
    first = open_listeners([f"web=127.0.0.1:{port}"], 2)
    with pytest.raises(PortTakenError):
        open_listeners([f"web=127.0.0.1:{port}"], 2)
    close(first)


def test_all_ports_are_opened_or_none() -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        with pytest.raises(PortTakenError):
            open_listeners([f"a=127.0.0.1:{free}", f"b=127.0.0.1:{taken}"], 2)
    socket.create_server(("127.0.0.1", free)).close()


def test_an_address_that_this_host_does_not_have_is_told_as_such() -> None:
    with pytest.raises(LongshoreError, match=r"no address 192\.0\.2\.1"):
        open_listeners([f"web=192.0.2.1:{free_port()}"], 1)


def test_sockets_are_found_again_through_the_environment() -> None:
    held = open_listeners([f"web={free_port()}", f"api=[::1]:{free_port()}"], 2)
    copies = [Listener(each.binding, [sock.dup() for sock in each.sockets]) for each in held]
    close(held)
    found = inherited({VARIABLE: environment(copies)})
    assert [each.binding for each in found] == [each.binding for each in held]
    assert [each.fds for each in found] == [each.fds for each in copies]
    for each in found:
        assert all(sock.getsockname()[1] == each.binding.port and not sock.get_inheritable() for sock in each.sockets)
    for copy in copies:
        for sock in copy.sockets:
            sock.detach()
    close(found)


@pytest.mark.parametrize("value", ["web=80=999", "web=80=x", "web=80", "nonsense"])
def test_an_environment_that_names_no_sockets_is_told(value: str) -> None:
    with pytest.raises(SettingsError):
        inherited({VARIABLE: value})


def test_without_the_variable_nothing_is_inherited() -> None:
    assert inherited({}) == []


def test_a_socket_of_systemd_on_another_address_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        port = given.getsockname()[1]
        for item in (f"web={port}", f"web=127.0.0.1:{port}"):
            (listener,) = hand({port: given}, [item], 2)
            assert len(listener.sockets) == 2
            listener.close()
        with pytest.raises(SettingsError, match=rf"--bind ::1: .* ListenStream=\[::1\]:{port} in the socket unit"):
            hand({port: given}, [f"web=[::1]:{port}"], 2)
