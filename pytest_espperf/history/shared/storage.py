"""Storage of a shared history, behind a small interface: list a folder, read objects, write objects.

Here: a mounted folder (``file://``); :mod:`pytest_espperf.history.shared.fsspec_storage` has all others.
"""

from __future__ import annotations

import contextlib
import os
import queue
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from pytest_espperf.errors import ArtifactError, RemoteError
from pytest_espperf.history import files
from pytest_espperf.history.load import read_bounded
from pytest_espperf.system import regular

_T = TypeVar("_T")
_R = TypeVar("_R")

_THREADS = 8


class Listed(NamedTuple):
    """Object of a listing.

    Attributes:
        size: in bytes.
        version: changes when the object does; "" where it is not known.
        written: when the object was written, in seconds; only for an order, 0.0 where it is not known.
    """

    size: int
    version: str = ""
    written: float = 0.0


Contents = Mapping[str, "bytes | Exception"]
"""Contents of objects by name; an exception in place of one that could not be read."""


class Storage(Protocol):
    """Storage of objects in folders. Its methods may raise any exception."""

    def listing(self, folder: str) -> Mapping[str, Listed]:
        """List the objects in a folder; empty where there is no folder yet."""

    def read(self, folder: str, wanted: Sequence[str]) -> Contents:
        """Read the contents of objects."""

    def write(self, folder: str, objects: Mapping[str, bytes]) -> None:
        """Write objects, each of them atomically."""


class MountedFolder:
    """Folder of a share that this machine has mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        # Never created here: it would lie below the mount point of a share that is not mounted.
        if not regular.is_folder(root):
            raise RemoteError(f"there is no folder {root}: create it once, or mount the share")

    def listing(self, folder: str) -> Mapping[str, Listed]:
        """List the objects in a folder; empty where there is no folder yet."""
        found = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    # A link may lead out of the share, or to an endless file.
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and not regular.is_link(status):
                        found[entry.name] = Listed(status.st_size, str(status.st_mtime_ns), status.st_mtime)
        return found

    def read(self, folder: str, wanted: Sequence[str]) -> Contents:
        """Read the contents of objects."""

        def read(name: str) -> bytes | Exception:
            try:
                return read_bounded(self._root / folder / name)
            except ArtifactError as error:
                return ArtifactError(error.reason)

        return dict(zip(wanted, side_by_side(read, wanted), strict=True))

    def write(self, folder: str, objects: Mapping[str, bytes]) -> None:
        """Write objects, each of them atomically."""
        target = self._root / folder
        target.mkdir(exist_ok=True)
        files.sweep(target)
        side_by_side(lambda name: files.write_atomic(target, name, objects[name]), list(objects))


def side_by_side(do: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
    """Call ``do`` for each item in a few threads; returns the results in the order of the items.

    A disk, or the server of a mounted folder, serves several small files as fast as one. The first exception
    is raised once the calls that have begun are done. No pool of the standard library: Python waits for its
    threads at exit, and one of these may hang in a share that is gone.
    """
    if len(items) <= 1:
        return [do(item) for item in items]
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(items)):
        todo.put(number)
    done: dict[int, _R] = {}
    errors: list[BaseException] = []

    def work() -> None:
        while not errors:
            try:
                number = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done[number] = do(items[number])
            except BaseException as error:  # noqa: BLE001 - it is raised again below
                errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(_THREADS, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [done[number] for number in range(len(items))]
