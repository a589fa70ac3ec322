"""What all commands share: their parser, and how they print."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from pytest_espperf.model.text import inert
from pytest_espperf.system.streams import Guard

if TYPE_CHECKING:
    from pytest_espperf.report import Line  # `espperf run` draws no report itself

_T = TypeVar("_T")

FAILED, INTERRUPTED, USAGE_ERROR = 1, 2, 4
"""Exit codes, which are pytest's."""

DEFAULT_HISTORY = Path("tools") / "perf_history"
SESSION_HELP = "id or its beginning, file, tag, 'latest' or 'latest~1'"


_MOST_OF_A_USAGE = 6
"""Lines of a usage that is shown beside a mistake."""


class Parser(argparse.ArgumentParser):
    """argparse, but with pytest's exit code for usage errors."""

    def error(self, message: str) -> Any:
        """End with the usage and one sentence; a usage of many lines would hide that, and is only named."""
        usage = self.format_usage()
        short = usage.count("\n") <= _MOST_OF_A_USAGE
        print(usage.rstrip() if short else f"usage: see {self.prog} --help", file=sys.stderr)
        self.exit(USAGE_ERROR, f"{inert(f'{self.prog}: error: {message}')}\n")


def add_command(
    commands: Any,
    name: str,
    do: Callable[[argparse.Namespace], int],
    help_text: str,
    *,
    history: bool = False,
    passes_on: bool = False,
) -> argparse.ArgumentParser:
    """One command.

    Args:
        commands: argparse's subparsers.
        name: of the command.
        do: runs it; returns the exit code.
        help_text: its description; up to the first colon, its line in the list of commands.
        history: it reads a history folder, and takes ``--perf-history``.
        passes_on: words that it does not know are for pytest (``arguments.rest``).
    """
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text.partition(":")[0], description=help_text, allow_abbrev=False
    )
    command.set_defaults(do=do, passes_on=passes_on)
    if history:
        command.add_argument(
            "--perf-history",
            metavar="DIR",
            help="or the URL of a shared history, as s3://BUCKET/PREFIX; "
            f"default: {DEFAULT_HISTORY} here or above",
        )
    return command


class InPlaceOf(argparse.Action):
    """An option that stands in place of a positional argument, which may then be left out.

    ``nargs="?"`` would do, but before Python 3.12 takes nothing that stands after an option.
    """

    def __init__(self, *words: Any, other: argparse.Action, **how: Any) -> None:
        super().__init__(*words, **how)
        self._other = other

    def __call__(self, parser: object, namespace: object, values: object, flag: object = None) -> None:  # noqa: ARG002 - argparse's own
        """Take the value, and need the positional argument no more."""
        setattr(namespace, self.dest, values)
        self._other.required = False


def checked(parse: Callable[[str], _T]) -> Callable[[str], _T]:
    """Make argparse's ``type`` of a parser of :mod:`pytest_espperf.config.parsers`; its message is kept."""

    def convert(text: str) -> _T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


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
    print("\n".join(_in_colour(lines)))


def print_spans(spans: Iterable[Line]) -> None:
    """Print one line at once, made of spans, each in the colour of its mood."""
    print("".join(_in_colour(spans)), flush=True)


def output_is_lost() -> bool:
    """Whether the standard output takes nothing any more, as that of ``espperf watch | head``."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, Guard) and raw.lost is not None


def _in_colour(lines: Iterable[Line]) -> list[str]:
    """Texts for the standard output, coloured where it takes colours."""
    in_colour = takes_colour(sys.stdout)
    if in_colour and sys.platform == "win32":
        import colorama  # noqa: PLC0415 - pytest brings it, on Windows only

        colorama.just_fix_windows_console()
    return [_styled(line) if in_colour else inert(line.text) for line in lines]


def _styled(line: Line) -> str:
    codes = [*([_BOLD] if line.bold else []), *([_COLOURS[line.mood]] if line.mood in _COLOURS else [])]
    text = inert(line.text)
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes and text else text
