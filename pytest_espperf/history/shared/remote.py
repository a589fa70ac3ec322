"""Access to the storage of a shared history with a time limit: a call that hangs never hangs its caller.

A mounted folder (``file://``) is used directly, everything else through fsspec.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TypeVar

from pytest_espperf.errors import RemoteError, UsageError
from pytest_espperf.history.shared.address import HistoryUrl
from pytest_espperf.history.shared.fsspec_storage import FsspecStorage
from pytest_espperf.history.shared.remote_errors import explained
from pytest_espperf.history.shared.storage import Contents, Listed, MountedFolder, Storage

_T = TypeVar("_T")


class Remote:
    """Storage of a shared history with a time limit. Use as a context manager.

    Attributes:
        answered: whether it has listed a folder.

    Args:
        url: of the shared history.
        seconds: limit of all calls together.
        clock: monotonic seconds.

    Raises:
        RemoteError: from entering and every method: it cannot be reached, refuses access, or takes too long.
    """

    def __init__(
        self, url: HistoryUrl, seconds: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._seconds = seconds
        self._clock = clock
        self._until = clock() + seconds
        self._storage: list[Storage] = []
        self.answered = False

    def __enter__(self) -> Remote:  # noqa: PYI034 - typing.Self is younger than 3.10
        self._storage.append(self._bounded(lambda: open_storage(self._url)))
        return self

    def __exit__(self, *_: object) -> None:
        # Its connections are closed in a thread as well: closing may hang.
        with contextlib.suppress(RemoteError):
            self._bounded(self._storage.clear)

    def left_s(self) -> float:
        """Compute the seconds that are left."""
        return max(0.0, self._until - self._clock())

    def listing(self, folder: str) -> Mapping[str, Listed]:
        """List the objects in a folder; empty where there is no folder yet."""
        listed = self._bounded(lambda: self._storage[0].listing(folder))
        self.answered = True
        return listed

    def read(self, folder: str, wanted: Sequence[str]) -> Contents:
        """Read the contents of objects."""
        return self._bounded(lambda: self._storage[0].read(folder, wanted))

    def write(self, folder: str, objects: Mapping[str, bytes]) -> None:
        """Write objects, each of them atomically."""
        self._bounded(lambda: self._storage[0].write(folder, objects))

    def _bounded(self, do: Callable[[], _T]) -> _T:
        answers: queue.SimpleQueue[tuple[list[_T], BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                answers.put(([do()], None))
            except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that waits
                answers.put(([], error))

        # Warnings of other packages, in threads that live on, do not belong into a test run.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # No pool: Python waits for its threads at exit.
            threading.Thread(target=work, name="espperf-remote", daemon=True).start()
            found, error = self._wait(answers)
        if error is None:
            return found[0]
        if isinstance(error, (RemoteError, UsageError)):
            raise error
        if isinstance(error, Exception):
            raise RemoteError(explained(error, self._url.scheme)) from error
        raise error

    def _wait(self, answers: queue.SimpleQueue[_T]) -> _T:
        while (left := self.left_s()) > 0:
            with contextlib.suppress(queue.Empty):
                return answers.get(timeout=min(left, 0.25))  # in slices: Windows hears Ctrl-C between them
        what = "it took longer than" if self.answered else "it did not answer within"
        raise RemoteError(f"{what} {self._seconds:.0f} s")


def check_installed(url: HistoryUrl, source: str) -> None:
    """Check that the packages for an address are installed.

    Raises:
        UsageError: one is missing; the message names the command that installs it.
    """
    missing = [name for name in url.scheme.packages if find_spec(name) is None]
    if missing:
        wanted = ["'pytest-espperf[remote]'", *(name for name in missing if name != "fsspec")]
        raise UsageError(
            f"{source}: a history at {url.scheme.name}:// needs {' and '.join(missing)}: "
            f"pip install {' '.join(wanted)}"
        )


def open_storage(url: HistoryUrl) -> Storage:
    """Open the storage of a shared history."""
    if url.scheme.name == "file":
        return MountedFolder(url.path)
    return FsspecStorage(url)
