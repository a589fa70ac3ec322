"""What stands in the Markdown pages: blocks, commands, files, links. Pure, but for reading the pages.

The convention, the same in docs/ and in README.md:

* In a ``console`` block a line that begins with ``$ `` is a command, as a firmware developer would type it;
  a trailing backslash continues it. ``# exit code N`` at its end says how it ends, where that is not 0. The
  lines below it are what it prints, abridged: ``...`` stands for lines that were left out.
* In an indented block, and in a ``sh`` one, a line that begins with ``pip install``, ``pytest``, ``python``
  or ``espperf`` is a command.
* A block of another kind whose first line is a comment with a file's name (``# espperf.toml``) is that file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from support.paths import ROOT

README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))

_STARTS = re.compile(r"(pip install|pytest|python|espperf)( |$)")
_EXIT_CODE = re.compile(r"\s+#\s*exit code (\d+)\s*$")
_FILE_NAME = re.compile(r"# ((?:\.\./)?[\w./-]+\.(?:ini|py|toml|yml))$")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_COMMAND = re.compile(r"(?<![\w-])espperf ([a-z]+)")


@dataclass(frozen=True)
class Block:
    """A block of code: its language (``""`` for an indented one), its text, and the line it begins in."""

    language: str
    text: str
    line: int

    @property
    def file_name(self) -> str:
        """The file that it is, ``""`` where it is none."""
        match = _FILE_NAME.match(self.text.partition("\n")[0])
        return match[1] if match and self.language != "console" else ""


@dataclass(frozen=True)
class Command:
    """A command of a page, how it ends, and the lines that it is reported to print."""

    text: str
    exit_code: int
    prints: tuple[str, ...]
    line: int


def parse(page: Path) -> list[Token]:
    """The tokens of a page."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[Block]:
    """Its blocks of code, in order."""
    return [
        Block(token.info.strip(), token.content, token.map[0] + 1)
        for token in parse(page)
        if token.type in {"fence", "code_block"} and token.map is not None
    ]


def steps(page: Path) -> list[Command | Block]:
    """The commands of a page and the files that it has written, in order."""
    found: list[Command | Block] = []
    for block in blocks(page):
        if block.file_name:
            found.append(block)
        elif block.language == "console":
            found += _typed(block)
        elif block.language in {"", "sh"}:
            found += _named(block)
    return found


def _typed(block: Block) -> Iterator[Command]:
    prints: list[str] = []
    command, at = "", 0
    for number, line in enumerate(_joined(block.text), block.line + 1):
        if line.startswith("$ "):
            if command:
                yield _command(command, prints, at)
            command, prints, at = line[2:], [], number
        elif command:
            prints.append(line)
    if command:
        yield _command(command, prints, at)


def _named(block: Block) -> Iterator[Command]:
    for number, line in enumerate(_joined(block.text), block.line):
        if _STARTS.match(line):
            yield _command(line, [], number)


def _joined(text: str) -> list[str]:
    return re.sub(r"\\\n\s*", "", text).splitlines()


def _command(text: str, prints: list[str], line: int) -> Command:
    match = _EXIT_CODE.search(text)
    shown = [line for line in prints if line.strip() not in {"", "..."}]
    return Command(_EXIT_CODE.sub("", text), int(match[1]) if match else 0, tuple(shown), line)


def links(page: Path) -> list[str]:
    """What its links lead to."""
    inline = [child for token in parse(page) for child in token.children or ()]
    return [str(token.attrs["href"]) for token in inline if token.type == "link_open"]


def anchors(page: Path) -> set[str]:
    """The names of its headings, as GitHub makes them."""
    tokens = parse(page)
    found: set[str] = set()
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(child.content for child in inline.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(slug if slug not in found else f"{slug}-1")
    return found


def check_links(page: Path) -> None:
    """Check that each link of a page leads to a file of the repository, and to a heading that is in it."""
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert file.exists(), link
        assert not anchor or anchor in anchors(file), link


def options(text: str) -> set[str]:
    """Every ``--option`` in a text; one that ends with a dash stands for all that begin like it."""
    return set(_OPTION.findall(text))


def subcommands(page: Path) -> set[str]:
    """Every COMMAND of an ``espperf COMMAND`` in its code."""
    inline = [child for token in parse(page) for child in token.children or ()]
    texts = [token.content for token in inline if token.type == "code_inline"]
    texts += [step.text for step in steps(page) if isinstance(step, Command)]
    return {name for text in texts for name in _COMMAND.findall(text)}


def table_rows(text: str) -> dict[str, str]:
    """The rows of all tables of a text, by their first cell."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return {row.split("|")[1].strip(): row for row in rows}


def words(line: str) -> set[str]:
    """What of a printed line does not depend on the machine or on chance: words, and the keys of JSON."""
    if '":' in line:
        return set(re.findall(r'"(\w+)":', line))
    plain = [part for part in line.split() if not re.search(r"[\d/\\…]", part)]
    return {word for part in plain for word in re.findall(r"[A-Za-z_]{3,}", part)}


class _Loader(yaml.SafeLoader):
    """YAML as GitHub and GitLab read it: ``on`` is a word, no truth."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:bool"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), list("tf"))


def read_yaml(text: str) -> Any:
    """A document of YAML."""
    return yaml.load(text, _Loader)


def ci_scripts(text: str) -> list[tuple[dict[str, str], str]]:
    """What a workflow of GitHub (for a push) or of GitLab (for a merge request) has a runner do, in order.

    Returns:
        ``(environment, script)``; the job's own variables are part of the environment.
    """
    document = read_yaml(text)
    scripts: list[tuple[dict[str, str], str]] = []
    for job in document.get("jobs", {}).values():
        told = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push", "GITHUB_SHA": "5eed" * 10}
        scripts += [({**job["env"], **told}, step["run"]) for step in job["steps"] if "run" in step]
    for job in [] if "jobs" in document else document.values():
        told = {"CI_PIPELINE_SOURCE": "merge_request_event", "CI_COMMIT_SHORT_SHA": "5eed5eed"}
        scripts.append(({**job["variables"], **told}, "\n".join([*job["before_script"], *job["script"]])))
    return scripts
