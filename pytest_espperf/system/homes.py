"""Folders of this user; there may be no home folder, as for an unknown user id in a container."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from pytest_espperf.errors import UsageError


def expand_user(text: str, source: str) -> str:
    """Replace ``~`` or ``~user`` at the beginning of a path.

    Args:
        text: as the user gave it.
        source: where it came from, for the message.

    Raises:
        UsageError: no such home folder is known.
    """
    expanded = os.path.expanduser(text)  # noqa: PTH111 - the one that raises nothing
    if text.startswith("~") and expanded == text:
        name = text[1:].replace(os.sep, "/").partition("/")[0]
        reason = f"there is no user {name!r}" if name else "this user has no home folder, and HOME is not set"
        raise UsageError(f"{source}: {text!r}: {reason}; write the whole path")
    return expanded


def expand_reference(text: str, source: str) -> str:
    """Expand a text that is a path or the name of something else; a name is left as it is.

    Args:
        text: as the user gave it: without a folder in it, it may be a tag that begins with ``~``.
        source: where it came from, for the message.

    Raises:
        UsageError: it is a path in a home folder that is not known.
    """
    in_folder = any(separator in text for separator in (os.sep, os.altsep) if separator)
    return expand_user(text, source) if in_folder else text


def state_folder() -> Path:
    """Locate the folder of what this user's sessions share on this computer.

    Without a home folder that can be written it is a folder of the user's own among the temporary files.

    Raises:
        UsageError: neither can be had; says what to set.
    """
    from platformdirs import user_state_path  # noqa: PLC0415 - only where a board is measured

    return _of_user(user_state_path, "XDG_STATE_HOME") or _temporary_folder()


def cache_folder() -> Path:
    """Locate the folder of this user's copies of what is stored elsewhere.

    Raises:
        UsageError: there is no home folder to have it in; says what to set.
    """
    from platformdirs import user_cache_path  # noqa: PLC0415 - only where a history is shared

    folder = _of_user(user_cache_path, "XDG_CACHE_HOME")
    if folder is None:
        raise UsageError(
            "this user has no folder to keep a copy of the shared history in: "
            "set XDG_CACHE_HOME (or HOME) to one that can be written"
        )
    return folder


def _of_user(locate: Callable[..., Path], variable: str) -> Path | None:
    """Ask platformdirs for our folder; None if it cannot be made, unless ``variable`` names it."""
    try:
        usual = locate("pytest-espperf", appauthor=False)
    except RuntimeError:  # no home folder: platformdirs from 4.4 on; before, it gives one that begins with ~
        return None
    return usual if _can_be_made(usual) or os.environ.get(variable, "").strip() else None


def _can_be_made(folder: Path) -> bool:
    """Whether a folder is there and can be written, or can be made; nothing is touched."""
    if not folder.is_absolute():  # "~" was not replaced
        return False
    # os.path: Path.exists raises below a folder that must not be entered.
    there = next((place for place in (folder, *folder.parents) if os.path.exists(place)), folder)  # noqa: PTH110 - see above
    return os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK)  # noqa: PTH112 - likewise


def _temporary_folder() -> Path:
    advice = "set XDG_STATE_HOME (or HOME) to a folder that this user can write"
    owner = os.getuid() if hasattr(os, "getuid") else None
    try:
        name = "pytest-espperf" if owner is None else f"pytest-espperf-{owner}"
        folder = Path(tempfile.gettempdir()) / name
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise UsageError(f"no folder for the boards' locks ({error.strerror or error}): {advice}") from None
    # Another user could have made it, with links in it that lead to this user's files.
    if not stat.S_ISDIR(found.st_mode) or (owner is not None and found.st_uid != owner):
        raise UsageError(f"{folder} is not a folder of this user's own: {advice}")
    return folder
