"""What the commands print: lines, in colour where a terminal takes it, and data for other programs.

Nothing else in this package prints.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

from pytest_espperf.text import inert, json_printable

if TYPE_CHECKING:
    # `espperf run` leaves that to pytest's process.
    from pytest_espperf.report import Line

_COLOURS = {"good": "32", "bad": "31", "warn": "33"}
_BOLD = "1"


def takes_colour(stream: TextIO) -> bool:
    """As pytest decides it: ``NO_COLOR``, ``FORCE_COLOR``, then whether it is a terminal that can."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def say(text: str, *, flush: bool = False) -> None:
    """Print lines of a command's answer."""
    print(inert(text), flush=flush)


def say_aside(text: str) -> None:
    """Print lines beside a command's answer, at once."""
    print(inert(text), file=sys.stderr, flush=True)


def draw_aside(line: str) -> None:
    """Draw a line of a terminal in the place of the one that was drawn before; "" clears it."""
    width = max(20, shutil.get_terminal_size().columns - 1)
    print(f"\r{inert(line)[:width]:<{width}}", end="" if line else "\r", file=sys.stderr, flush=True)


def print_data(text: str) -> None:
    """Print a document for other programs as it is: what renders it has made it printable."""
    print(text, end="")


def print_lines(lines: Iterable[Line]) -> None:
    """Print lines; those with a mood are green, yellow or red."""
    in_colour = takes_colour(sys.stdout)
    if in_colour and sys.platform == "win32":
        import colorama  # noqa: PLC0415 - pytest brings it, on Windows only

        colorama.just_fix_windows_console()
    print("\n".join(_styled(line) if in_colour else inert(line.text) for line in lines))


def _styled(line: Line) -> str:
    codes = [*([_BOLD] if line.bold else []), *([_COLOURS[line.mood]] if line.mood in _COLOURS else [])]
    text = inert(line.text)
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes and text else text


def print_json(value: Any, *, spread: bool = False) -> None:
    """Print one object: UTF-8 whatever the code page, NaN as null; on one line, or ``spread``.

    Characters that a terminal would obey are escaped.
    """
    import msgspec  # noqa: PLC0415 - see above

    try:
        data = msgspec.json.encode(value)
    except UnicodeEncodeError:  # a file name of any bytes
        data = msgspec.json.encode(_plain(msgspec.to_builtins(value)))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(encoding="utf-8")
    print(json_printable((msgspec.json.format(data) if spread else data).decode()))


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
