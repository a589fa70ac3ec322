"""The place of a shared history, reached in time: what hangs is left behind, and never hangs its caller.

A folder that the machine has mounted (``file://``) is used as the local history is; everything else through
fsspec.
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
from pytest_espperf.history.shared.place import Contents, Folder, Listed, Place
from pytest_espperf.history.shared.refusals import explained

_T = TypeVar("_T")


class Remote:
    """A shared history that answers in time, or is not reached. Use as a context manager.

    Attributes:
        answered: whether it has listed anything.

    Args:
        url: where it is.
        seconds: all calls together may take so long.
        clock: monotonic seconds.

    Raises:
        RemoteError: from entering and every method: it cannot be reached, refuses, or takes too long.
    """

    def __init__(
        self, url: HistoryUrl, seconds: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._seconds = seconds
        self._clock = clock
        self._until = clock() + seconds
        self._place: list[Place] = []
        self.answered = False

    def __enter__(self) -> Remote:  # noqa: PYI034 - typing.Self is younger than 3.10
        self._place.append(self._bounded(lambda: open_place(self._url)))
        return self

    def __exit__(self, *_: object) -> None:
        # What it holds (connections) goes with it, in a thread of its own: closing may hang as well.
        with contextlib.suppress(RemoteError):
            self._bounded(self._place.clear)

    def left_s(self) -> float:
        """Seconds that are left."""
        return max(0.0, self._until - self._clock())

    def listing(self, folder: str) -> Mapping[str, Listed]:
        """The objects in a folder; none where it is not there yet."""
        listed = self._bounded(lambda: self._place[0].listing(folder))
        self.answered = True
        return listed

    def read(self, folder: str, wanted: Sequence[str]) -> Contents:
        """The content of objects."""
        return self._bounded(lambda: self._place[0].read(folder, wanted))

    def write(self, folder: str, objects: Mapping[str, bytes]) -> None:
        """Write objects, each whole or not at all."""
        self._bounded(lambda: self._place[0].write(folder, objects))

    def _bounded(self, do: Callable[[], _T]) -> _T:
        answers: queue.SimpleQueue[tuple[list[_T], BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                answers.put(([do()], None))
            except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that waits
                answers.put(([], error))

        # Other people's packages, in threads that live on: their warnings are no business of a test run.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # No pool: its threads are waited for when Python ends.
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
    """Make sure that the packages are there which speak with such a place.

    Raises:
        UsageError: one is missing; says how to have it.
    """
    missing = [name for name in url.scheme.packages if find_spec(name) is None]
    if missing:
        wanted = ["'pytest-espperf[remote]'", *(name for name in missing if name != "fsspec")]
        raise UsageError(
            f"{source}: a history at {url.scheme.name}:// needs {' and '.join(missing)}: "
            f"pip install {' '.join(wanted)}"
        )


def open_place(url: HistoryUrl) -> Place:
    """Reach for the place of a shared history."""
    if url.scheme.name == "file":
        return Folder(url.path)
    from pytest_espperf.history.shared.service import Service  # noqa: PLC0415 - not of a mounted folder

    return Service(url)
