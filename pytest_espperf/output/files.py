"""Files that a user names: their paths, and writing them atomically.

A PATH is resolved as pytest resolves that of ``--junitxml``: relative to where the command was started, with
``~`` and environment variables replaced.
"""

from __future__ import annotations

import os
from pathlib import Path

from pytest_espperf.errors import HistoryError, UsageError
from pytest_espperf.history.files import write_atomic
from pytest_espperf.system import regular
from pytest_espperf.system.homes import expand_user


def parse_path(given: str, here: Path, source: str) -> Path:
    """Resolve the path of a file that a user named.

    Nothing is written, so that whoever measures for minutes can ask before that.

    Raises:
        UsageError: no file can be there or be written there, or the home folder is not known.
    """
    path = here / expand_user(os.path.expandvars(given), source)
    try:
        folder = regular.is_folder(path) or not path.name
        file_identity(path)
        why = "" if folder else why_not_writable(path)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{source}: {given!r} cannot be a file ({reason})") from None
    if folder:
        raise UsageError(f"{source}: {given} is a folder: name a file")
    if why:
        raise UsageError(f"{source}: {given} cannot be written: {why}")
    return path


def parse_folder(given: str, here: Path, source: str) -> Path:
    """Resolve the path of a folder that a user named, which need not exist.

    Raises:
        UsageError: a file is there, or no folder can be, or the home folder is not known.
    """
    path = here / expand_user(os.path.expandvars(given), source)
    try:
        file_identity(path)
        if path.exists() and not path.is_dir():
            raise UsageError(f"{source}: {given} is a file: name a folder")
        why = _why_nothing_in(path.resolve())
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{source}: {given!r} cannot be a folder ({reason})") from None
    if why:
        raise UsageError(f"{source}: {given} cannot be written: {why}")
    return path


def why_not_writable(path: Path) -> str:
    """Say why a file cannot be written; "" where nothing is known against it.

    Only writing shows whether a disk has room.

    Raises:
        OSError, RuntimeError: the path has a loop, or one of its folders must not be searched.
    """
    if path.exists() and not path.is_file():  # a pipe or a device is written as it is
        return "" if os.access(path, os.W_OK) else f"{path} must not be written"
    return _why_nothing_in(path.resolve().parent)


def _why_nothing_in(folder: Path) -> str:
    """Say why no file can be made in a folder, which need not exist; "" where nothing is known against it."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is no folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} must not be written"


def file_identity(path: Path) -> str:
    """Make a text that is equal for equal files, whatever path leads to them.

    Raises:
        OSError, RuntimeError: the path has a loop.
        ValueError: no path holds such a character.
    """
    return os.path.normcase(path.resolve())


def write_file(path: Path, data: bytes) -> None:
    """Write a file that the user named, atomically; its folder is created if needed.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)  # a pipe or a device cannot be replaced
            return
        file = path.resolve()  # where a link leads to
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file.parent, file.name, data)
    except FileExistsError:
        raise UsageError(f"{path} cannot be written: {path.parent} is no folder") from None
    except (OSError, ValueError, RuntimeError, HistoryError) as error:
        cause = error.__cause__ or error
        raise UsageError(f"{path} cannot be written: {getattr(cause, 'strerror', None) or cause}") from None
