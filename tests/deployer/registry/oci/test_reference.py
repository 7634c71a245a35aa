"""What is written behind img:// names one repository, or is refused in one line."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.common.errors import SettingsError
from services.deployer import registry
from services.deployer.registry.oci import reference, source

HUB = "docker.io"


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag"),
    [
        ("nginx", HUB, "library/nginx", ""),
        ("nginx:1.25", HUB, "library/nginx", "1.25"),
        ("owner/repo", HUB, "owner/repo", ""),
        ("owner/deep/repo:latest", HUB, "owner/deep/repo", "latest"),
        ("docker.io/x/y", HUB, "x/y", ""),
        ("docker.io/nginx", HUB, "library/nginx", ""),
        ("index.docker.io/nginx", HUB, "library/nginx", ""),
        ("registry-1.docker.io/x/y", HUB, "x/y", ""),
        ("ghcr.io/owner/repo", "ghcr.io", "owner/repo", ""),
        ("GHCR.io/owner/repo", "ghcr.io", "owner/repo", ""),
        ("localhost/app", "localhost", "app", ""),
        ("localhost:5000/app:v1", "localhost:5000", "app", "v1"),
        ("registry:5000/app", "registry:5000", "app", ""),
        ("10.1.2.3/app", "10.1.2.3", "app", ""),
        ("127.0.0.1:5000/team/app", "127.0.0.1:5000", "team/app", ""),
        ("[::1]/app", "[::1]", "app", ""),
        ("[2001:DB8::1]:5000/team/app:x", "[2001:db8::1]:5000", "team/app", "x"),
        ("h.io/a__b/c---d/e.f_g:A_b.c-9", "h.io", "a__b/c---d/e.f_g", "A_b.c-9"),
    ],
)
def test_a_reference_is_read_by_the_rules_of_the_distribution_project(
    text: str, host: str, repository: str, tag: str
) -> None:
    assert reference.parse(text) == reference.Reference(host, repository, tag)


def test_docker_hub_has_an_api_host_of_its_own() -> None:
    assert reference.parse("nginx").api == "registry-1.docker.io"
    assert reference.parse("nginx").name == "docker.io/library/nginx"
    assert reference.parse("ghcr.io/a/b").api == "ghcr.io"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "a host and a repository are needed"),
        ("/app", "a host and a repository are needed"),
        ("h.io/", "a host and a repository are needed"),
        ("h.io/:tag", "a host and a repository are needed"),
        ("localhost:5000", "localhost:5000 names a host, but no repository"),
        ("ghcr.io", "ghcr.io names a host, but no repository"),
        ("[::1]", "[::1] names a host, but no repository"),
        ("h.io/App", "repository 'App' must be in lower case, such as app"),
        ("Owner/app", "repository 'Owner/app' must be in lower case, such as owner/app"),
        ("h.io/a b", "'a b' is not a repository"),
        ("h.io/a//b", "'a//b' is not a repository"),
        ("h.io/a/", "'a/' is not a repository"),
        ("h.io/../a", "'../a' is not a repository"),
        ("h.io/a#b", "'a#b' is not a repository"),
        ("h.io/é", "'é' is not a repository"),
        ("h.io/" + "a" * 256, "is not a repository"),
        ("h_h.io/a", "'h_h.io' is not a host"),
        ("-h.io/a", "'-h.io' is not a host"),
        ("[::zz]/a", "'[::zz]' is not a host"),
        ("[1.2.3.4]/a", "[1.2.3.4] is not an IPv6 address"),
        ("h.io:0/a", "a port is a number from 1 to 65535"),
        ("h.io:65536/a", "a port is a number from 1 to 65535"),
        ("h.io:/a", "'h.io:' is not a host"),
        ("h.io/a:", "'' is not a tag"),
        ("h.io/a:b/c", "'b/c' is not a tag"),
        ("h.io/a:" + "x" * 129, "is not a tag"),
        ("h.io/a:-x", "'-x' is not a tag"),
        ("h.io/a\nb", "contains unprintable characters; remove them"),
        ("h.io/a?pre-release=yes", "pre-release=yes: use true or false"),
        ("h.io/a?insecure=1", "insecure=1: use true or false"),
        ("h.io/a?slot=blue", "unknown option 'slot'; known are pre-release, constraint, calver, insecure"),
        ("h.io/a?insecure=true&insecure=true", "an option is given twice"),
        ("h.io/a:b?pre-release=true", "the tag b is followed as it is"),
        ("h.io/a?constraint=>=1.x", "'>=1.x' is not a comparator"),
        ("h.io/a?calver=YYYY.M", "M is not known"),
        ("h.io/a?calver=YYYY&constraint=>1", "constraint and calver cannot be combined"),
    ],
)
def test_what_is_no_reference_is_refused_in_one_line(text: str, line: str) -> None:
    with pytest.raises(SettingsError) as error:
        registry.parse(f"img://{text}")
    assert line in str(error.value)
    assert str(error.value).startswith("--registry ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["img://ship:sesame@h.io/a", "https://ship:sesame@h.io/a", "ship:sesame@h.io/a"])
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SettingsError) as error:
        registry.parse(url)
    assert "sesame" not in str(error.value)


def read(text: str) -> reference.Reference | str:
    """The reference that a text is, or the error."""
    try:
        return source.parse(text).reference
    except SettingsError as error:
        return str(error)


@settings(deadline=None)
@given(st.text(max_size=60) | st.from_regex(r"[\w.:\[\]/-]{0,40}(\?[\w=&<>,.-]{0,30})?", fullmatch=True))
@example("[::1%25eth0]/a")
@example("h.io:" + "9" * 5000 + "/a")
def test_every_text_is_a_source_or_one_line(text: str) -> None:
    outcome = read(text)
    if isinstance(outcome, str):
        assert outcome.isprintable()
    else:
        assert reference.parse(outcome.name + (f":{outcome.tag}" if outcome.tag else "")) == outcome


@settings(deadline=None)
@given(st.text(max_size=80))
def test_the_host_of_any_text_can_be_asked_for(text: str) -> None:
    assert isinstance(reference.is_loopback(reference.host_of(text)), bool)
