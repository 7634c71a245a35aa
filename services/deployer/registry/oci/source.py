"""The registry as configured: `img://host/repository:tag?options`. Pure."""

from __future__ import annotations

from urllib.parse import parse_qsl

import msgspec

from services.common.errors import SettingsError
from services.deployer.registry import versions
from services.deployer.registry.oci import constraint, reference
from services.deployer.registry.oci.calver import CalVer
from services.deployer.registry.oci.reference import Reference

OPTIONS = ("pre-release", "constraint", "calver", "insecure")


class Source(msgspec.Struct, frozen=True):
    """A repository, and which of its tags are releases.

    `parse` reads a tag as a version (of a `kind`, in words); without `wanted` every version is. `is_plain`: http
    instead of https; `is_insecure`: because the user says so.
    """

    reference: Reference
    pre_releases: bool = False
    parse: versions.Parse = versions.parse
    wanted: versions.Predicate | None = None
    kind: str = "semantic version"
    is_plain: bool = False
    is_insecure: bool = False

    def newest_first(self, tags: list[str]) -> list[str]:
        """Return the tags that are releases, highest first."""
        names = {tag for tag in tags if reference.is_tag(tag)}
        return versions.newest_first(names, self.pre_releases, self.parse, self.wanted)

    def is_newer(self, release: str, than: str) -> bool:
        """Return True if one release comes after another. A tag's present image comes after all its former ones."""
        return release != than if self.reference.tag else versions.is_newer(release, than, self.parse)


def parse(text: str) -> Source:
    """Parse a URL without its scheme. Raises SettingsError."""
    place, _, query = text.partition("?")
    if not text.isprintable():
        raise SettingsError(f"--registry {'img://' + text!r}: contains unprintable characters; remove them")
    if "@" in place:
        raise SettingsError(
            "--registry img://…@…: a URL holds no credentials (see LONGSHORE_REGISTRY_USERNAME) and no digest "
            f"(it would never change); use {reference.FORM}"
        )
    try:
        return _source(reference.parse(place), _options(query))
    except SettingsError as error:
        raise SettingsError(f"--registry img://{text}: {error}") from None


def _options(query: str) -> dict[str, str]:
    pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    options = dict(pairs)
    for name, _ in pairs:
        if name not in OPTIONS:
            raise SettingsError(f"unknown option {name!r}; known are {', '.join(OPTIONS)}")
    if len(pairs) > len(options):
        raise SettingsError("an option is given twice")
    return options


def _source(where: Reference, options: dict[str, str]) -> Source:
    pre_releases, is_insecure = _switch(options, "pre-release"), _switch(options, "insecure")
    wanted, calver = options.get("constraint"), options.get("calver")
    if where.tag and options.keys() - {"insecure"}:
        raise SettingsError(f"the tag {where.tag} is followed as it is; omit it, or the options that choose among tags")
    if wanted is not None and calver is not None:
        raise SettingsError("constraint and calver cannot be combined; omit one of them")
    order = CalVer(calver) if calver is not None else None
    return Source(
        where,
        pre_releases,
        order.parse if order else versions.parse,
        constraint.parse(wanted) if wanted is not None else None,
        f"calendar version {calver}" if order else "semantic version",
        is_insecure or (where.is_local and "insecure" not in options),
        is_insecure,
    )


def _switch(options: dict[str, str], name: str) -> bool:
    text = options.get(name, "false")
    if text not in ("true", "false"):
        raise SettingsError(f"{name}={text}: use true or false")
    return text == "true"
