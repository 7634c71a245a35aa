"""The words after `--`: from the syntax of `docker run` to the engine's API. Pure; no message shows a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from services.common.errors import SettingsError
from services.deployer.runtime.docker import values
from services.deployer.variables.variables import of_files

LABELS = "longshore."

SHORT = {
    "a": "attach",
    "c": "cpu-shares",
    "d": "detach",
    "e": "env",
    "h": "hostname",
    "i": "interactive",
    "l": "label",
    "m": "memory",
    "p": "publish",
    "P": "publish-all",
    "t": "tty",
    "u": "user",
    "v": "volume",
    "w": "workdir",
}

_UNKNOWN = "not an option that Longshore passes on; docs/containers.md lists those that it does"
_BACKGROUND = "every container runs in the background; omit it"
_PORTS = "ports come from the option --port"
_NETWORK = "an address or name of its own would be that of several replicas at once; name a network with --network"
_PULL = "Longshore pulls the image of each release itself; omit it"

REFUSED = {
    "annotation": "use --label",
    "attach": _BACKGROUND,
    "cidfile": "a replica's name is in `longshore status`; omit it",
    "detach": _BACKGROUND,
    "detach-keys": _BACKGROUND,
    "disable-content-trust": _PULL,
    "expose": _PORTS,
    "help": "see `docker run --help`",
    "interactive": "a container in the background has no terminal; omit it",
    "ip": _NETWORK,
    "ip6": _NETWORK,
    "kernel-memory": "Docker has removed it; use --memory",
    "label-file": "use --label NAME=VALUE for each line of the file",
    "link": "Docker has deprecated it; name a common network with --network",
    "link-local-ip": _NETWORK,
    "mac-address": _NETWORK,
    "name": "containers are named after application, release and replica; omit it",
    "network-alias": _NETWORK,
    "pid": "the processes of a replica are its own: Longshore reads and stops them as a container; omit it",
    "platform": "an engine runs images of its own platform; build the image for it",
    "publish": _PORTS,
    "publish-all": _PORTS,
    "pull": _PULL,
    "quiet": _PULL,
    "rm": "Longshore removes its containers itself; omit it",
    "sig-proxy": _BACKGROUND,
    "stop-timeout": "Longshore stops its containers; use its option --stop-timeout, before the --",
    "tty": "a container in the background has no terminal; omit it",
    "uts": "a replica has a host name of its own; set it with --hostname",
}
"""The options that Longshore refuses, and what to do instead."""

ALIASES = {"dns-opt": "dns-option", "net": "network"}
SWITCHES = ("init", "no-healthcheck", "oom-kill-disable", "privileged", "read-only")


class Arguments(msgspec.Struct):
    """`config` and `host` are parts of the body of POST /containers/create, its HostConfig being `host`.

    `env`: NAME=VALUE, or NAME alone for a variable of the deployer. `env_files`: where more of them are.
    """

    env: list[str] = []
    env_files: list[str] = []
    config: dict[str, Any] = {}
    host: dict[str, Any] = {}


def parse(words: Sequence[str]) -> Arguments:
    """Parse the words. Raises SettingsError, naming the option, for a forbidden, unknown or invalid one."""
    arguments, names = Arguments(), set()
    for name, value in _pairs(words):
        if name == "network" and name in names:
            raise SettingsError("-- --network: given twice; name the one network of a replica")
        names.add(name)
        try:
            OPTIONS[name](arguments, value)
        except ValueError as error:
            raise SettingsError(f"-- --{name}: {error}") from None
    if "no-healthcheck" in names and any(name.startswith("health-") for name in names):
        raise SettingsError("-- --no-healthcheck: given with other --health options; omit them")
    return arguments


def environment(
    arguments: Arguments, variables: Mapping[str, str], read: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """Yield the names and values of a container's environment; later ones win. `read` returns a file's text.

    Raises SettingsError for a file with an invalid line. Errors of `read` are passed on.
    """
    for where, text in of_files("-- --env-file", arguments.env_files, read):
        try:
            yield from _variable(values.variable(text), variables)
        except ValueError as error:
            raise SettingsError(f"{where}: {error}") from None
    for text in arguments.env:
        yield from _variable(text, variables)


def _variable(text: str, variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    name, separator, value = text.partition("=")
    if separator:
        yield name, value
    elif name in variables:
        yield name, variables[name]


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each option by its long name, with its value."""
    rest = iter(enumerate(words, 1))
    for position, word in rest:
        spelled, name, value = _split(position, word)
        if name not in OPTIONS:
            raise SettingsError(f"-- {spelled}: {REFUSED.get(name, _UNKNOWN)}")
        if value is None:
            value = "true" if name in SWITCHES else next(rest, (0, None))[1]
        if value is None:
            raise SettingsError(f"-- {spelled}: a value is missing")
        yield name, value


def _split(position: int, word: str) -> tuple[str, str, str | None]:
    """Return an option as it was spelled, its long name, and the value if it is in the same word."""
    if word.startswith("--") and len(word) > 2:
        name, separator, value = word[2:].partition("=")
        return f"--{name}", ALIASES.get(name, name), value if separator else None
    if word.startswith("-") and len(word) > 1 and word != "--":
        letter, value = word[1], word[2:].removeprefix("=")
        return f"-{letter}", SHORT.get(letter, ""), value if len(word) > 2 else None
    raise SettingsError(
        f"-- word {position} is not an option of `docker run`: the image comes from --registry, its command from --cmd"
    )


def _labels(arguments: Arguments, text: str) -> None:
    name, value = values.pair(text)
    if name.lower().startswith(LABELS):
        raise ValueError(f"labels {LABELS}… are Longshore's own")
    arguments.config.setdefault("Labels", {})[name] = value


def _volume(arguments: Arguments, text: str) -> None:
    if ":" in text:
        arguments.host.setdefault("Binds", []).append(values.bind(text))
    else:
        arguments.config.setdefault("Volumes", {})[values.path(text)] = {}


def _entrypoint(arguments: Arguments, text: str) -> None:
    arguments.config["Entrypoint"] = [text]


def _tmpfs(arguments: Arguments, text: str) -> None:
    path, _, options = text.partition(":")
    arguments.host.setdefault("Tmpfs", {})[values.path(path)] = options


def _log(key: str) -> Callable[[Arguments, str], None]:
    def apply(arguments: Arguments, text: str) -> None:
        log = arguments.host.setdefault("LogConfig", {"Type": "", "Config": {}})
        if key == "Type":
            log["Type"] = values.word(text)
        else:
            log["Config"].update([values.pair(text)])

    return apply


def _health(key: str, convert: Callable[[str], Any]) -> Callable[[Arguments, str], None]:
    def apply(arguments: Arguments, text: str) -> None:
        arguments.config.setdefault("Healthcheck", {})[key] = convert(text)

    return apply


def _no_health(arguments: Arguments, text: str) -> None:
    if values.switch(text):
        arguments.config.setdefault("Healthcheck", {})["Test"] = ["NONE"]


def _host(key: str, convert: Callable[[str], Any]) -> Callable[[Arguments, str], None]:
    def apply(arguments: Arguments, text: str) -> None:
        arguments.host[key] = convert(text)

    return apply


def _hosts(key: str, convert: Callable[[str], Any]) -> Callable[[Arguments, str], None]:
    def apply(arguments: Arguments, text: str) -> None:
        arguments.host.setdefault(key, []).append(convert(text))

    return apply


def _config(key: str, convert: Callable[[str], Any]) -> Callable[[Arguments, str], None]:
    def apply(arguments: Arguments, text: str) -> None:
        arguments.config[key] = convert(text)

    return apply


def _table(key: str) -> Callable[[Arguments, str], None]:
    def apply(arguments: Arguments, text: str) -> None:
        arguments.host.setdefault(key, {}).update([values.pair(text)])

    return apply


def _security(arguments: Arguments, text: str) -> None:
    if text == "systempaths=unconfined":  # the client's own word: the engine knows the lists of paths alone
        arguments.host |= {"MaskedPaths": [], "ReadonlyPaths": []}
    else:
        arguments.host.setdefault("SecurityOpt", []).append(values.security(text))


OPTIONS: dict[str, Callable[[Arguments, str], None]] = {
    "add-host": _hosts("ExtraHosts", values.host),
    "blkio-weight": _host("BlkioWeight", values.count),
    "cap-add": _hosts("CapAdd", values.capability),
    "cap-drop": _hosts("CapDrop", values.capability),
    "cgroup-parent": _host("CgroupParent", values.word),
    "cgroupns": _host("CgroupnsMode", values.one_of("host", "private")),
    "cpu-period": _host("CpuPeriod", values.count),
    "cpu-quota": _host("CpuQuota", values.integer),
    "cpu-shares": _host("CpuShares", values.count),
    "cpus": _host("NanoCpus", values.cpus),
    "cpuset-cpus": _host("CpusetCpus", values.word),
    "cpuset-mems": _host("CpusetMems", values.word),
    "device": _hosts("Devices", values.device),
    "device-cgroup-rule": _hosts("DeviceCgroupRules", values.word),
    "dns": _hosts("Dns", values.address),
    "dns-option": _hosts("DnsOptions", values.word),
    "dns-search": _hosts("DnsSearch", values.word),
    "domainname": _config("Domainname", values.word),
    "entrypoint": _entrypoint,
    "env": lambda arguments, text: arguments.env.append(values.variable(text)),
    "env-file": lambda arguments, text: arguments.env_files.append(values.word(text)),
    "gpus": _hosts("DeviceRequests", values.gpus),
    "group-add": _hosts("GroupAdd", values.word),
    "health-cmd": _health("Test", lambda text: ["CMD-SHELL", values.word(text)]),
    "health-interval": _health("Interval", values.duration),
    "health-retries": _health("Retries", values.count),
    "health-start-period": _health("StartPeriod", values.duration),
    "health-timeout": _health("Timeout", values.duration),
    "hostname": _config("Hostname", values.word),
    "init": _host("Init", values.switch),
    "ipc": _host("IpcMode", values.one_of("none", "private", "shareable", "host")),
    "label": _labels,
    "log-driver": _log("Type"),
    "log-opt": _log("Config"),
    "memory": _host("Memory", values.size),
    "memory-reservation": _host("MemoryReservation", values.size),
    "memory-swap": _host("MemorySwap", values.size_or_unlimited),
    "memory-swappiness": _host("MemorySwappiness", values.count),
    "mount": _hosts("Mounts", values.mount),
    "network": _host("NetworkMode", values.network),
    "no-healthcheck": _no_health,
    "oom-kill-disable": _host("OomKillDisable", values.switch),
    "oom-score-adj": _host("OomScoreAdj", values.integer),
    "pids-limit": _host("PidsLimit", values.integer),
    "privileged": _host("Privileged", values.switch),
    "read-only": _host("ReadonlyRootfs", values.switch),
    "restart": _host("RestartPolicy", values.restart),
    "runtime": _host("Runtime", values.word),
    "security-opt": _security,
    "shm-size": _host("ShmSize", values.size),
    "stop-signal": _config("StopSignal", values.word),
    "storage-opt": _table("StorageOpt"),
    "sysctl": _table("Sysctls"),
    "tmpfs": _tmpfs,
    "ulimit": _hosts("Ulimits", values.ulimit),
    "user": _config("User", values.word),
    "userns": _host("UsernsMode", values.one_of("host")),
    "volume": _volume,
    "volume-driver": _host("VolumeDriver", values.word),
    "volumes-from": _hosts("VolumesFrom", values.word),
    "workdir": _config("WorkingDir", values.path_or_root),
}
