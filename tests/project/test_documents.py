"""Every page: its links lead somewhere, and its commands are words that the command line knows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("compose/**/*.md")]
)
REFERENCE = (ROOT / "docs" / "reference" / "cli.md").read_text()
FENCED = re.compile(r"^ *```([^\n`]*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)

SHELL: tuple[list[str], ...] = ([], ["sh"], ["bash"], ["console"])
COMMAND = re.compile(r"\s*(?:\$ )?(?:sudo )?(?:\.venv/bin/)?(longshore [a-z-].*)")


def slug(heading: str) -> str:
    """The anchor that a forge gives a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.lower().replace("`", "").replace("*", ""))
    return re.sub(r"[^\w\- ]", "", text.strip()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#{1,6} (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)}


def links(page: Path) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text()))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def verbs() -> dict[str, set[str]]:
    """The options of each verb, as the reference has them, with what is understood anywhere."""
    sections = re.split(r"^## ", REFERENCE, flags=re.MULTILINE)[1:]
    result = {}
    for section in sections:
        name, _, text = section.partition("\n")
        rows = re.findall(r"^\| (`-[^|]*) \|", text, re.MULTILINE)
        result[name] = {option for row in rows for option in re.findall(r"`(-[^`]+)`", row)} | {"--help"}
    return result


def commands(page: Path) -> list[list[str]]:
    """What is to be typed that begins with our program, up to the words of others."""
    found = []
    for language, block in FENCED.findall(page.read_text()):
        if language.split()[:1] in SHELL:
            for line in block.replace("\\\n", " ").splitlines():
                if match := COMMAND.match(line):
                    words = shlex.split(match[1], comments=True)
                    found.append(words[: words.index("--")] if "--" in words else words)
    return found


def unknown(words: list[str]) -> list[str]:
    """The options of a command that its verb does not know; the verb itself if nobody knows that."""
    known = verbs()
    two, one = " ".join(words[:3]), " ".join(words[:2])
    verb = two if two in known else one if one in known else "longshore" if words[1].startswith("-") else ""
    if not verb:
        return [one]
    options = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [option for option in options if option not in known[verb]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_that_is_there(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or target.suffix != ".md" or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_has_a_verb_and_options_that_exist(page: Path) -> None:
    for words in commands(page):
        assert unknown(words) == [], " ".join(words)


def test_a_command_with_a_wrong_word_would_be_found() -> None:
    assert unknown(["longshore", "serve"]) == ["longshore serve"]
    assert unknown(["longshore", "status", "--jason"]) == ["--jason"]
    assert unknown(["longshore", "bus", "config", "--help"]) == []
    assert sum(len(commands(page)) for page in PAGES) > 30
