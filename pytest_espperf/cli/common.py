"""What the commands share: their parser, the history they mean, the session they are given."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_espperf.config.settings import BY_DEST
from pytest_espperf.errors import UsageError
from pytest_espperf.model.text import inert
from pytest_espperf.system import regular
from pytest_espperf.system.homes import expand_reference

if TYPE_CHECKING:
    # `espperf run` leaves these to pytest's process.
    from pytest_espperf.history import HistoryStore
    from pytest_espperf.history.progress import IndexProgress
    from pytest_espperf.history.shared.sharing import Sharing
    from pytest_espperf.model.artifact import SessionArtifact
import io
import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from pytest_espperf.model.text import json_printable

if TYPE_CHECKING:
    # `espperf run` leaves that to pytest's process.
    from pytest_espperf.report import Line

_T = TypeVar("_T")

FAILED, INTERRUPTED, USAGE_ERROR = 1, 2, 4
"""Exit codes, which are pytest's."""

DEFAULT_HISTORY = Path("tools") / "perf_history"
SESSION_HELP = "id or its beginning, file, tag, 'latest' or 'latest~1'"


class Parser(argparse.ArgumentParser):
    """argparse, but with pytest's exit code for usage errors."""

    def error(self, message: str) -> Any:
        """End with the usage line and one sentence."""
        self.print_usage(sys.stderr)
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


def checked(parse: Callable[[str], _T]) -> Callable[[str], _T]:
    """A parser of :mod:`pytest_espperf.config.parsers` as argparse's ``type``: what it says is the error."""

    def convert(text: str) -> _T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def history_folder(arguments: argparse.Namespace) -> tuple[Path, str]:
    """The folder that a command means, whether it is there or not, and who named it; "" where nobody did."""
    sharing = history_of(arguments)
    return sharing.folder, sharing.source


def history_of(arguments: argparse.Namespace) -> Sharing:
    """The folder that a command means, and the shared history that it is a copy of; nothing is touched yet.

    Raises:
        UsageError: a URL that cannot be one of a history.
    """
    from pytest_espperf.history import HistoryStore  # noqa: PLC0415 - see above
    from pytest_espperf.history.shared.sharing import Sharing, sharing_at  # noqa: PLC0415 - see above

    if not hasattr(arguments, "sharing"):
        text, source = named_history(arguments)
        arguments.sharing = (
            sharing_at(text, Path(), source) if text else Sharing(HistoryStore(default_history()))
        )
        arguments.sharing.store.progress = _telling()
    found: Sharing = arguments.sharing
    return found


def named_history(arguments: argparse.Namespace) -> tuple[str, str]:
    """What was given as the history, folder or URL, and who gave it; "" twice where nobody did."""
    variable = BY_DEST["perf_history"].env
    if arguments.perf_history:
        return arguments.perf_history, "--perf-history"
    if os.environ.get(variable):
        return os.environ[variable], f"environment variable {variable}"
    return "", ""


def default_history() -> Path:
    """Where pytest's root directory would have it: here, or in the nearest folder above that has one."""
    here = Path.cwd()
    found = (
        folder / DEFAULT_HISTORY
        for folder in (here, *here.parents)
        if regular.is_folder(folder / DEFAULT_HISTORY)
    )
    return next(found, here / DEFAULT_HISTORY)


def open_history(arguments: argparse.Namespace) -> HistoryStore:
    """The history that a command means; a shared one is brought up to date, once.

    Raises:
        UsageError: there is no such folder, or no copy of a shared history that cannot be reached.
    """
    sharing = history_of(arguments)
    if sharing.sync is not None:
        if not hasattr(arguments, "reached"):
            arguments.reached = sharing.pull(say_aside, quiet=True)
        if not arguments.reached and not sharing.store.file_names():
            raise UsageError(f"{sharing.source}: there is no copy of {sharing.sync.url} on this machine yet")
    elif not regular.is_folder(sharing.folder):
        raise UsageError(
            f"{sharing.source or 'no session was kept here yet'}: there is no folder {sharing.folder}"
        )
    return sharing.store


def share(arguments: argparse.Namespace) -> None:
    """Send what a command added or decided to a shared history."""
    history_of(arguments).push(say_aside)


def _telling() -> IndexProgress:
    """How the commands say how far they are: in one line of a terminal, or in a line now and then."""
    from pytest_espperf.history.progress import IndexProgress  # noqa: PLC0415 - run leaves the history to pytest

    if not sys.stderr.isatty():
        return IndexProgress(say_aside)
    return IndexProgress(draw_aside, after_s=1.0, every_s=0.2, finish=lambda: draw_aside(""))


def find_session(arguments: argparse.Namespace, reference: str) -> SessionArtifact:
    """The session that a command was given: a file anywhere, or a name in its history.

    Raises:
        HistoryError: none is meant, or more than one.
        ArtifactError: it cannot be read.
        UsageError: there is no history folder.
    """
    from pytest_espperf.history import load_session  # noqa: PLC0415 - see above

    path = Path(expand_reference(reference, "SESSION"))
    return load_session(path) if regular.is_file(path) else open_history(arguments).find(reference).artifact


def say_skipped(store: HistoryStore) -> None:
    """Name the files of a history that could not be used."""
    for error in store.skipped:
        say_aside(f"skipped: {error}")


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
