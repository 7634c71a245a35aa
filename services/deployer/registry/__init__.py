"""Registries, by the scheme of their URL."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

from services.common.errors import SettingsError
from services.deployer.registry.directory import Directory
from services.deployer.registry.protocol import Registry

DIRECTORY = "dir:///absolute/path"
KNOWN = f"{DIRECTORY} or img://host/repository"

__all__ = ["Registry", "parse"]


def parse(url: str) -> Registry:
    """Return the registry at a URL. Raises SettingsError for an unknown scheme, a malformed URL, a missing folder."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise SettingsError(f"--registry {url.rpartition('@')[2]!r}: not a URL; use {KNOWN}")
    if scheme == "img":
        from services.deployer.registry.oci import source
        from services.deployer.registry.oci.images import Images

        return Images(url, source.parse(rest))
    if scheme != "dir":
        raise SettingsError(f"--registry {scheme}://…: unknown scheme {scheme!r}; known is {KNOWN}")
    return _directory(url)


def _directory(url: str) -> Directory:
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise SettingsError(f"--registry {url}: malformed ({error}); use {DIRECTORY}") from None
    if not url.isprintable() or not unquote(parts.path).isprintable():
        raise SettingsError(f"--registry {url!r}: contains unprintable characters; remove them")
    if "#" in url:
        raise SettingsError(f"--registry {url}: a # ends the path of a URL; write %23 for one in a folder's name")
    if parts.netloc or not parts.path.startswith("/"):
        raise SettingsError(f"--registry {url}: the path must be absolute, after three slashes: {DIRECTORY}")
    options = dict(pairs)
    if len(pairs) > len(options):
        raise SettingsError(f"--registry {url}: an option is given twice")
    pre_release = options.pop("pre-release", "false")
    if options or pre_release not in ("true", "false"):
        raise SettingsError(f"--registry {url}: the only option of a folder is ?pre-release=true or false")
    return Directory.open(unquote(parts.path), pre_release == "true")
