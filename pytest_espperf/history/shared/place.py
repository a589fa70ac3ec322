"""One kind of place of a shared history, over a small interface: list a folder, read objects, write objects.

Here: a folder of a share that this machine has mounted (``file://``).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from pytest_espperf.errors import ArtifactError, RemoteError
from pytest_espperf.history import files
from pytest_espperf.history.load import read_bounded
from pytest_espperf.history.shared.side_by_side import side_by_side
from pytest_espperf.system import regular


class Listed(NamedTuple):
    """One object of a listing.

    Attributes:
        size: in bytes.
        version: what changes when the object does, "" where nobody says.
        written: when that was, in seconds; only for an order, 0.0 where nobody says.
    """

    size: int
    version: str = ""
    written: float = 0.0


Contents = Mapping[str, "bytes | Exception"]
"""What was read, by name; in place of what could not be read, why."""


class Place(Protocol):
    """One kind of place. Any exception may come out of it."""

    def listing(self, folder: str) -> Mapping[str, Listed]:
        """The objects in a folder; none where it is not there yet."""

    def read(self, folder: str, wanted: Sequence[str]) -> Contents:
        """The content of objects."""

    def write(self, folder: str, objects: Mapping[str, bytes]) -> None:
        """Write objects, each whole or not at all."""


class Folder:
    """A folder of a share that this machine has mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        # Never made here: it would lie below the mount point of a share that is not there.
        if not regular.is_folder(root):
            raise RemoteError(f"there is no folder {root}: make it once, or mount the share")

    def listing(self, folder: str) -> Mapping[str, Listed]:
        """The objects in a folder; none where it is not there yet."""
        found = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    # A link leads out of the share, or to what never ends.
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and not regular.is_link(status):
                        found[entry.name] = Listed(status.st_size, str(status.st_mtime_ns), status.st_mtime)
        return found

    def read(self, folder: str, wanted: Sequence[str]) -> Contents:
        """The content of objects."""

        def read(name: str) -> bytes | Exception:
            try:
                return read_bounded(self._root / folder / name)
            except ArtifactError as error:
                return ArtifactError(error.reason)

        return dict(zip(wanted, side_by_side(read, wanted), strict=True))

    def write(self, folder: str, objects: Mapping[str, bytes]) -> None:
        """Write objects, each whole or not at all."""
        place = self._root / folder
        place.mkdir(exist_ok=True)
        files.sweep(place)
        side_by_side(lambda name: files.write_atomic(place, name, objects[name]), list(objects))
