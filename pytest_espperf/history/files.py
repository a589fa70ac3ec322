"""Atomic files: written whole under a temporary name, synced, then published under their own.

A :class:`Staged` file is complete and on the disk under a temporary name in the same folder; publishing it
is one rename or link. A writer that dies at any moment leaves either the old state or the new one, and
perhaps a temporary file, which readers never look at and :func:`sweep` removes when it is old.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pytest_espperf.errors import HistoryError
from pytest_espperf.history import names
from pytest_espperf.system import regular

SWEEP_AFTER_S = 3600.0
"""Age from which a temporary file is a dead writer's: a live one exists for moments."""

_WINDOWS = sys.platform == "win32"
_RETRIES = 40 if _WINDOWS else 1
_RETRY_S = 0.05
_NO_LINKS = frozenset(
    code
    for code in (
        errno.EPERM,
        errno.ENOSYS,
        errno.EMLINK,
        getattr(errno, "ENOTSUP", None),
        getattr(errno, "EOPNOTSUPP", None),
    )
    if code is not None
)


class Staged:
    """Complete file under a temporary name. Use as a context manager: unpublished, it is removed.

    Raises:
        HistoryError: the folder is full, read-only or gone (from the constructor and both publish methods).
    """

    def __init__(self, folder: Path, data: bytes) -> None:
        self.folder = folder
        name = f"{names.TEMP_PREFIX}{os.getpid()}-{secrets.token_hex(6)}{names.TEMP_SUFFIX}"
        self.path = folder / name
        with _explained(folder):
            try:
                _write_synced(self.path, data)
            except BaseException:
                self.discard()
                raise

    def __enter__(self) -> Staged:  # noqa: PYI034 - typing.Self is younger than 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def publish_as(self, name: str) -> Path:
        """Rename to ``name`` in one step, replacing an earlier file."""
        target = self.folder / name
        with _explained(self.folder):
            _replace(self.path, target)
            sync_folder(self.folder)
        return target

    def publish_new(self, name: str) -> Path | None:
        """Rename to ``name`` unless that name is taken; returns None if it is."""
        target = self.folder / name
        with _explained(self.folder):
            if not _publish_exclusively(self.path, target):
                return None
            sync_folder(self.folder)
        return target

    def discard(self) -> None:
        """Remove the temporary file, if it is still there."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def write_atomic(folder: Path, name: str, data: bytes) -> Path:
    """Write ``data`` as the file ``name``, replacing an earlier one.

    Raises:
        HistoryError: the folder cannot be written; the earlier file is untouched.
    """
    with Staged(folder, data) as staged:
        return staged.publish_as(name)


def remove(path: Path) -> None:
    """Remove a file that may be gone already.

    Raises:
        HistoryError: it is there and cannot be removed.
    """
    with _explained(path.parent):
        for attempt in range(_RETRIES):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            except PermissionError:
                if attempt == _RETRIES - 1:
                    raise
                time.sleep(_RETRY_S)
            else:
                return


def move_new(source: Path, target: Path) -> bool:
    """Rename ``source`` to ``target`` unless that name is taken. Whether it was renamed.

    Raises:
        HistoryError: the folder cannot be written.
    """
    with _explained(source.parent):
        if not _publish_exclusively(source, target):
            return False
        if regular.exists(source):
            source.unlink()
        sync_folder(source.parent)
    return True


def make_writable(folder: Path) -> None:
    """Create the folder if needed, and check that a file can be written into it and synced.

    Raises:
        HistoryError: it cannot be written; one sentence with the path and the reason.
    """
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with Staged(folder, b"writable\n"):
        pass


def clear_for_lock(path: Path) -> None:
    """Remove anything under a lock's name that is no regular file: locking truncates the target of a link.

    Raises:
        HistoryError: it cannot be removed.
    """
    with _explained(path.parent):
        try:
            status = path.lstat()
        except FileNotFoundError:
            return
        if regular.is_link(status) or not stat.S_ISREG(status.st_mode):
            path.unlink()


def sweep(folder: Path, *, now: float | None = None) -> list[Path]:
    """Remove temporary files of dead writers; returns them. What cannot be removed is left."""
    moment = time.time() if now is None else now
    swept: list[Path] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not names.is_temp_name(entry.name):
                continue
            with contextlib.suppress(OSError):
                # A file far in the future was written before the clock was set back: old as well.
                if abs(moment - entry.stat(follow_symlinks=False).st_mtime) > SWEEP_AFTER_S:
                    Path(entry.path).unlink()
                    swept.append(Path(entry.path))
    return swept


def list_names(folder: Path) -> list[str]:
    """List the names in the folder, unordered; empty where there is no folder.

    Raises:
        HistoryError: it is no folder, or must not be read.
    """
    try:
        return os.listdir(folder)  # noqa: PTH208 - names, not ten thousand Path objects
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise HistoryError(f"the history folder {folder} cannot be read: {reason}") from error


def sync_folder(folder: Path) -> None:
    """Make new names in the folder durable, where the platform knows how (Windows does it by itself).

    Raises:
        OSError: the disk failed.
    """
    if _WINDOWS:
        return
    try:
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except PermissionError:
        return  # a folder that may be written and entered but not listed
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EBADF, *_NO_LINKS}:  # some file systems cannot
            raise
    finally:
        os.close(handle)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _replace(source: Path, target: Path) -> None:
    for attempt in range(_RETRIES):
        try:
            source.replace(target)
        except PermissionError:
            if attempt == _RETRIES - 1:
                raise
            time.sleep(_RETRY_S)  # Windows: a reader or a virus scanner has the old file open
        else:
            return


def _publish_exclusively(source: Path, target: Path) -> bool:
    """Give ``source`` the name ``target`` unless that name is taken. Whether it was given."""
    if (
        source.is_dir() and not source.is_symlink()
    ):  # never one of ours: it has one name, and keeps its content
        if regular.exists(target):
            return False
        source.rename(target)
        return True
    if hasattr(os, "link"):
        try:
            os.link(source, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS and not _WINDOWS:
                raise
        else:
            return True
    if _WINDOWS:
        try:
            source.rename(target)  # there, a rename never replaces
        except FileExistsError:
            return False
        return True
    return _reserve_and_replace(source, target)


def _reserve_and_replace(source: Path, target: Path) -> bool:
    """Publish on a file system without links: an empty file, which readers may see, reserves the name."""
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        return False
    try:
        _replace(source, target)
    except OSError:
        target.unlink()
        raise
    return True


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise HistoryError(f"the history folder {folder} cannot be written: {reason}") from error
