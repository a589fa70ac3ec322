"""The history that a command reads, and the session that it is given."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pytest_espperf.cli.common import DEFAULT_HISTORY, draw_aside, say_aside
from pytest_espperf.config.settings import BY_DEST
from pytest_espperf.errors import UsageError
from pytest_espperf.history import HistoryStore, load_session
from pytest_espperf.history.progress import IndexProgress
from pytest_espperf.history.shared.sharing import Sharing, sharing_at
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.system import regular
from pytest_espperf.system.homes import expand_reference


def history_folder(arguments: argparse.Namespace) -> tuple[Path, str]:
    """Return the folder that a command means, existing or not, and its source; "" where it is the default."""
    sharing = history_of(arguments)
    return sharing.folder, sharing.source


def history_of(arguments: argparse.Namespace) -> Sharing:
    """Return the folder that a command means, and the shared history behind it; nothing is touched yet.

    Raises:
        UsageError: a URL that cannot be one of a history.
    """
    if not hasattr(arguments, "sharing"):
        text, source = named_history(arguments)
        arguments.sharing = (
            sharing_at(text, Path(), source) if text else Sharing(HistoryStore(default_history()))
        )
        arguments.sharing.store.progress = _telling()
    found: Sharing = arguments.sharing
    return found


def named_history(arguments: argparse.Namespace) -> tuple[str, str]:
    """Return the history that was given, folder or URL, and its source; "" twice where none was."""
    variable = BY_DEST["perf_history"].env
    if arguments.perf_history:
        return arguments.perf_history, "--perf-history"
    if os.environ.get(variable):
        return os.environ[variable], f"environment variable {variable}"
    return "", ""


def default_history() -> Path:
    """Find the default folder: here, or in the nearest folder above that has one."""
    here = Path.cwd()
    found = (
        folder / DEFAULT_HISTORY
        for folder in (here, *here.parents)
        if regular.is_folder(folder / DEFAULT_HISTORY)
    )
    return next(found, here / DEFAULT_HISTORY)


def open_history(arguments: argparse.Namespace) -> HistoryStore:
    """Open the history that a command means; a shared one is brought up to date, once.

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
            f"{sharing.source or 'no session was stored here yet'}: there is no folder {sharing.folder}"
        )
    return sharing.store


def share(arguments: argparse.Namespace) -> None:
    """Send what a command added or decided to a shared history."""
    history_of(arguments).push(say_aside)


def _telling() -> IndexProgress:
    """Make the display of progress: one line of a terminal, or a line now and then."""
    if not sys.stderr.isatty():
        return IndexProgress(say_aside)
    return IndexProgress(draw_aside, after_s=1.0, every_s=0.2, finish=lambda: draw_aside(""))


def find_session(arguments: argparse.Namespace, reference: str) -> SessionArtifact:
    """Load the session that a command was given: a file anywhere, or a name in its history.

    Raises:
        HistoryError: none is meant, or more than one.
        ArtifactError: it cannot be read.
        UsageError: there is no history folder.
    """
    path = Path(expand_reference(reference, "SESSION"))
    return load_session(path) if regular.is_file(path) else open_history(arguments).find(reference).artifact


def say_skipped(store: HistoryStore) -> None:
    """Name the files of a history that could not be used."""
    for error in store.skipped:
        say_aside(f"skipped: {error}")
