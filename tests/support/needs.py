"""Find what a test needs of the machine, in the code that it and its fixtures reach within `tests`.

Nobody marks a test by hand, unless our own modules start a process in it: the guard in `tests/conftest.py` finds those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

MARKERS = ("process", "tool", "container", "system", "slow")
FOLDERS = {
    "cluster": ("tool", "system"),
    "compose": ("container", "tool", "system"),
    "deployer/runtime/docker": ("container",),
    "e2e": ("process", "system"),
    "observability": ("tool", "system"),
}
MODULES = {
    "docker": "container",
    "multiprocessing": "process",
    "services.bus.binary": "process",
    "services.deployer.notifications.apprise_client": "process",
    "subprocess": "process",
}
STARTERS = {
    ("services.bus.server", "Server"),
    ("services.common.process.child", "Child"),
    ("services.deployer.notifications.notifier", "check"),
    ("services.deployer.runtime.process", "ProcessRuntime"),
}
"""Our own code that starts a process, where a test does it through nothing else."""
TOOLS = {
    "busybox",
    "chromium",
    "debootstrap",
    "docker-compose",
    "docker-registry",
    "ip",
    "mount",
    "npm",
    "nsenter",
    "openssl",
    "podman",
    "prometheus",
    "promtool",
    "redis-server",
    "strace",
    "sudo",
    "systemd-analyze",
    "systemd-sysusers",
    "systemd-tmpfiles",
    "umount",
    "unshare",
    "victoria-metrics",
    "vmalert",
    "wrk",
}

SLOW = (
    "bus/test_documents.py",
    "bus/test_embedded_bus.py::test_a_service_is_denied_what_is_not_its_own",
    "bus/test_privileges.py",
    "cli/test_verify.py::test_a_file_that_was_cut_or_altered_is_one_line",
    "common/delivery/test_outbox_crash.py",
    "contract/test_live.py",
    "install/test_installed.py",
    "install/test_upgrade.py",
    "metrics_gateway/api/test_description.py::test_the_description_is_at_schema_and_asks_nothing_of_elsewhere",
    "metrics_gateway/api/test_description.py::test_the_real_api_keeps_to_its_description",
    "metrics_gateway/test_backends.py::test_a_hundred_thousand_backends_cost_the_memory_and_the_series_of_a_few",
    "metrics_gateway/snapshots/test_lost_stream.py",
    "metrics_gateway/snapshots/test_restart.py::test_a_killed_gateway_says_what_one_says_that_was_never_interrupted",
    "metrics_gateway/test_two_gateways.py",
    "metrics_gateway/test_variables.py",
    "metrics_gateway/traces/test_push.py::test_a_gateway_that_starts_again",
    "project/test_mutation.py",
    "project/test_project_files.py::test_an_installation_that_fails_is_not_taken_for_a_complete_one",
    "proxy/worker/test_bytes.py",
    "replay/test_documents.py",
    "replay/log/test_killed.py",
    "replay/test_memory.py",
    "supervisor/test_watch.py::test_a_service_that_hangs_is_killed_and_the_watch_ends",
)


def of_name(test: str) -> set[str]:
    """Return the markers that a test has for its folder or its name; `test` is its address below the root."""
    place = test.removeprefix("tests/")
    found = {name for folder, names in FOLDERS.items() if place.startswith(f"{folder}/") for name in names}
    return found | ({"slow"} if place.startswith(SLOW) else set())


def of_functions(functions: list[Callable[..., Any]]) -> set[str]:
    """Return the markers of all code that these functions reach within `tests`."""
    found: set[str] = set()
    waiting: list[Any] = list(functions)
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        needs, further = _look(one)
        found |= needs
        waiting += further
    # The name of a tool is an ordinary word in a test that starts nothing.
    return found if "process" in found else found - {"tool"}


def _look(one: Any) -> tuple[set[str], list[Any]]:
    """Return the needs of one object, and the objects that it refers to."""
    if isinstance(one, ModuleType):
        need = MODULES.get(one.__name__)
        return ({need} if need else set()), []
    one = getattr(one, "__wrapped__", one)
    if (getattr(one, "__module__", None), getattr(one, "__qualname__", None)) in STARTERS:
        return {"process"}, []
    if isinstance(one, FunctionType):
        return _function(one) if _is_ours(one) else (set(), [])
    if isinstance(one, type):
        return set(), [*map(_plain, vars(one).values()), *one.__bases__] if _is_ours(one) else []
    if isinstance(one, list | tuple):
        return {"tool"} if any(_is_tool(word) for word in one) else set(), []
    return ({"tool"} if _is_tool(one) else set()), []


def _plain(member: Any) -> Any:
    """Return the function behind a property, a class method or a static method."""
    return getattr(member, "fget", None) or getattr(member, "__func__", member)


def _is_ours(one: Any) -> bool:
    return str(getattr(one, "__module__", "")).startswith("tests.")


def _is_tool(word: Any) -> bool:
    return isinstance(word, str) and word in TOOLS


@cache
def _function(function: FunctionType) -> tuple[set[str], list[Any]]:
    needs: set[str] = set()
    further: list[Any] = []
    for code in _codes(function.__code__):
        constants = [one for each in code.co_consts for one in (each if isinstance(each, tuple) else [each])]
        needs |= {"tool"} if any(map(_is_tool, constants)) else set()
        for name in code.co_names:
            one = function.__globals__.get(name)
            further.append(one)
            if isinstance(one, ModuleType) and one.__name__.startswith("tests."):
                further += [getattr(one, attribute, None) for attribute in code.co_names]
    return needs, further


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
