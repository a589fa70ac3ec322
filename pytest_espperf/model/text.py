"""The one way of text from outside to what is shown: boards, files, commands, other programs. Pure.

Whatever is shown (terminal, log, HTML, Markdown, exports, exceptions) passes :func:`printable`; what is
written as lines of a terminal or log passes :func:`inert`. JSON keeps every character, as an escape
(:func:`json_printable`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_TEXT = 200
"""Characters that are kept of a text that a board sent."""

_RUNNER_MARK = re.compile(r"##(?=\w*\[)")
"""GitHub's runner obeys ``##[`` anywhere in a line, Azure's ``##vso[``, TeamCity ``##teamcity[``."""

_RUNNER_COMMAND = re.compile(r"^( *):(?=:)", re.MULTILINE)
"""GitHub's runner obeys ``::`` at the beginning of a line, after blanks too."""


def printable(text: str, instead: str = "?") -> str:
    """Make one line of text that moves no cursor, turns no reading direction and is no runner's command.

    Any white space becomes a blank. Control, bidirectional and other invisible characters, lone surrogates
    and code points without a character become ``instead``.
    """
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " if char.isspace() else instead for char in text)
    return _RUNNER_MARK.sub("## ", text) if "##" in text else text


def inert(text: str) -> str:
    """Lines for a terminal or log: each is :func:`printable`, and none begins with a runner's command."""
    lines = "\n".join(map(printable, text.split("\n")))
    return _RUNNER_COMMAND.sub(r"\1: ", lines) if "::" in lines else lines


def json_printable(document: str) -> str:
    """Escape in a JSON document every character that is not :func:`printable`; the data stay the same."""
    if not document.replace("\n", "").isprintable():
        document = "".join(
            char if char.isprintable() or char == "\n" else _json_escape(char) for char in document
        )
    return _RUNNER_MARK.sub(r"#\\u0023", document)


def _json_escape(char: str) -> str:
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def grouped(value: float, digits: int) -> str:
    """``1,234.50``; of a figure that no board has, the power of ten."""
    return f"{value:,.{digits}f}" if abs(value) < 1e12 else f"{value:.3g}"


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where one of ``known`` is near, else ""."""
    import difflib  # noqa: PLC0415 - only for a message; a plain pytest run never pays for it

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def clip(text: str, width: int) -> str:
    """At most ``width`` characters of a text, printable; the last one is an ellipsis where it is cut."""
    text = printable(text)
    return text if len(text) <= width else text[: width - 1] + "…"


def flat(text: str, instead: str = "?") -> str:
    """Reduce a text to :func:`printable` words that are one blank apart."""
    return " ".join(printable(text, instead).split())


def one_line(text: str, most: int = MOST_TEXT) -> str:
    """Make one line of a board's text, without control characters, at most ``most`` characters long."""
    return clip(flat(text[: 4 * most], " "), most)
