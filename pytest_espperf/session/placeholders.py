"""Words in braces that stand in a user's command or path for a value: ``{ip}``, ``{slot}``, ``{dir}``.

Commands are the user's own, and braces mean much to shells and to what is called from them: ``${VAR}``,
``awk '{print $1}'``, ``{"slot": 1}``, ``{a,b}``, ``{{ x }}``. So only a bare word in braces can be a
placeholder, and one that nobody knows is refused only where it is near a known one.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from difflib import SequenceMatcher

from pytest_espperf.errors import UsageError
from pytest_espperf.model.workload import Target

BOARD = ("ip", "port")
"""What is known wherever a board is changed."""

DESCRIBES: Mapping[str, str] = {
    "ip": "the board",
    "port": "the board",
    "slot": "slots",
    "commit": "commits",
    "dir": "builds of commits",
    "knob": "sweeps",
    "value": "sweeps",
}
"""Each placeholder, and what it describes."""

_OTHERS = {
    **dict.fromkeys(("host", "hostname", "addr", "address"), "ip"),
    **dict.fromkeys(("rev", "revision", "sha", "hash"), "commit"),
    **dict.fromkeys(("folder", "directory"), "dir"),
}
"""Words that others use for the same."""

_NEAR = 0.75
"""Likeness of two words, 0 to 1, from which on one is taken for a misspelling of the other."""

_SHORT = 4
"""Letters up to which another letter makes another word: `sort` and `part` are no misspelt `port`."""

_OF_OTHERS = "%#"
"""What makes a word in braces that of a program: ``curl -w '%{host}'``, ``tmux display '#{host}'``."""

# `${ip}` is the shell's, `{{ip}}` a template's.
_FILLED = re.compile(rf"(?<![${{])\{{({'|'.join(DESCRIBES)})\}}")
_WORD = re.compile(r"(?<![${])\{([A-Za-z_][A-Za-z0-9_]*)\}")


def fill(command: str, target: Target | None = None, **facts: str) -> str:
    """Replace the placeholders of a command, each by its value as one word of the shell, or as part of one.

    A placeholder may stand in quotes: ``"{dir}/build/app.bin"``.

    Args:
        command: of the user.
        target: the board, for ``{ip}`` and ``{port}``.
        facts: values of the others; a placeholder without a value stays as it is.
    """
    known = dict(facts)
    if target is not None:
        known |= {"ip": target.address, "port": str(target.port)}

    def value(found: re.Match[str]) -> str:
        if found[1] not in known:
            return found[0]
        return _quoted(known[found[1]], _open_quote(command[: found.start()]))

    return _FILLED.sub(value, command)


def names_in(command: str) -> frozenset[str]:
    """Return the placeholders that a command has."""
    return frozenset(_FILLED.findall(command))


def refuse_unknown(text: str, source: str, known: Collection[str], *, is_path: bool = False) -> None:
    """Refuse a placeholder that would stay as it is.

    Args:
        text: command of the user, or path on the board.
        source: the option that it came from; the text itself is never shown.
        known: the placeholders that have a value in it.
        is_path: a path has no braces of its own: any word in them is meant to be replaced.

    Raises:
        UsageError: there is one: known of something else only, misspelt, or unknown in a path.
    """
    for found in _WORD.finditer(text):
        word = found[1]
        if word in known:
            continue
        here = f"here {_listed(known)} can stand" if known else "none can stand here"
        if word in DESCRIBES:
            raise UsageError(f"{source}: {{{word}}} is known of {DESCRIBES[word]} only: {here}")
        meant = _meant(word, known)
        if is_path or (meant and text[: found.start()][-1:] not in tuple(_OF_OTHERS)):
            guess = f"; did you mean {{{meant}}}?" if meant else ""
            raise UsageError(f"{source}: {{{word}}} is no placeholder{guess} ({here})")


def _meant(word: str, known: Collection[str]) -> str:
    """Return the known word that a misspelt one is near; "" for none."""
    names = {name: name for name in known} | {one: name for one, name in _OTHERS.items() if name in known}
    near = {name: likeness for name in names if (likeness := _likeness(word.lower(), name)) >= _NEAR}
    return names[max(near, key=near.__getitem__)] if near else ""


def _likeness(word: str, name: str) -> float:
    """Say how like two words are, 0 to 1: 0 where no slip of a finger leads from one to the other."""
    replaced = len(word) == len(name) <= _SHORT and sorted(word) != sorted(name)
    return 0.0 if replaced or word[0] != name[0] else SequenceMatcher(None, word, name).ratio()


def _listed(names: Collection[str]) -> str:
    return " and ".join(", ".join(_braced(names)).rsplit(", ", 1))


def _braced(names: Collection[str]) -> Iterator[str]:
    return (f"{{{name}}}" for name in names)


def _open_quote(command: str) -> str:
    """Return the quote that is open at the end of a part of a command; "" for none."""
    quote, escaped = "", False
    for char in command:
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'" and sys.platform != "win32":
            escaped = True
        elif char == quote:
            quote = ""
        elif not quote and (char == '"' or (char == "'" and sys.platform != "win32")):
            quote = char
    return quote


def _quoted(text: str, quote: str) -> str:
    """Write a text for the shell, which obeys nothing in it; within a quote that is open."""
    if sys.platform == "win32":
        return text if quote else subprocess.list2cmdline([text])
    if quote == '"':
        return re.sub(r'([\\"$`])', r"\\\1", text)
    return text.replace("'", "'\\''") if quote else shlex.quote(text)
