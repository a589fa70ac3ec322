"""The place of a shared history, over a small interface: list a folder, read objects, write objects.

A folder that the machine has mounted (``file://``) is used as the local history is; everything else through
fsspec. :class:`Remote` puts a bound on all of it: what hangs is left behind, and never hangs its caller.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from pytest_espperf.errors import ArtifactError, RemoteError, UsageError
from pytest_espperf.history import files, names
from pytest_espperf.history.address import HistoryUrl
from pytest_espperf.history.load import read_bounded
from pytest_espperf.history.side_by_side import side_by_side

_T = TypeVar("_T")

CONNECT_S, READ_S = 5, 20
"""What a connection and one answer may take, where the package lets us say so."""

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": CONNECT_S,
            "read_timeout": READ_S,
            "retries": {"total_max_attempts": 2},
        }
    },
    # sshfs trusts any server unless it is told to look into ~/.ssh/known_hosts, which () means.
    "sftp": {"known_hosts": (), "connect_timeout": CONNECT_S, "login_timeout": READ_S},
}
_DIGESTS = ("ETag", "etag", "md5Hash")
_MOMENTS = ("mtime", "LastModified", "last_modified", "updated", "created")
_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL|CONNECTION_STRING|SAS", re.IGNORECASE)
_SHORTEST_SECRET = 8
_LONGEST_WORDS = 300


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
            raise RemoteError(words_of(error)) from error
        raise error

    def _wait(self, answers: queue.SimpleQueue[_T]) -> _T:
        while (left := self.left_s()) > 0:
            with contextlib.suppress(queue.Empty):
                return answers.get(timeout=min(left, 0.25))  # in slices: Windows hears Ctrl-C between them
        raise RemoteError(f"it did not answer within {self._seconds:.0f} s")


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
    return _Folder(url.path) if url.scheme.name == "file" else _Fsspec(url)


def words_of(error: Exception) -> str:
    """What an exception of somebody else says, in one line, without what could be a secret in it."""
    text = " ".join(str(error).split())
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_NAME.search(name):
            text = text.replace(value, "<redacted>")
    text = re.sub(r"\?[^\s'\"]*=[^\s'\"]*", "?<redacted>", text)
    if len(text) > _LONGEST_WORDS:
        text = f"{text[:_LONGEST_WORDS]}..."
    return f"{text} ({type(error).__name__})" if text else type(error).__name__


class _Folder:
    """A folder of a share that this machine has mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        if (
            not root.is_dir()
        ):  # never made here: it would lie below the mount point of a share that is not there
            raise RemoteError(f"there is no folder {root}: make it once, or mount the share")

    def listing(self, folder: str) -> Mapping[str, Listed]:
        found = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat()
                    if entry.is_file():
                        found[entry.name] = Listed(status.st_size, str(status.st_mtime_ns), status.st_mtime)
        return found

    def read(self, folder: str, wanted: Sequence[str]) -> Contents:
        def read(name: str) -> bytes | Exception:
            try:
                return read_bounded(self._root / folder / name)
            except ArtifactError as error:
                return ArtifactError(error.reason)

        return dict(zip(wanted, side_by_side(read, wanted), strict=True))

    def write(self, folder: str, objects: Mapping[str, bytes]) -> None:
        place = self._root / folder
        place.mkdir(exist_ok=True)
        files.sweep(place)
        side_by_side(lambda name: files.write_atomic(place, name, objects[name]), list(objects))


class _Fsspec:
    """Whatever fsspec speaks with."""

    def __init__(self, url: HistoryUrl) -> None:
        from fsspec.config import conf  # noqa: PLC0415 - an extra
        from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra

        self._moves = url.scheme.moves
        options = dict(_OPTIONS.get(url.scheme.name, {}))
        for name, value in conf.get(url.scheme.name, {}).items():
            # What the user has configured holds; of a set of options, those that he names.
            known = options.get(name)
            options[name] = (
                {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value
            )
        self._fs: Any
        self._fs, root = url_to_fs(url.text, skip_instance_cache=True, **options)
        self._root = root.rstrip("/")

    def listing(self, folder: str) -> Mapping[str, Listed]:
        self._fs.invalidate_cache()
        try:
            infos = self._fs.ls(f"{self._root}/{folder}", detail=True)
        except FileNotFoundError as error:
            if _lacks_bucket(error):
                raise
            return {}
        return {
            info["name"].rstrip("/").rpartition("/")[2]: _listed(info)
            for info in infos
            if info.get("type") == "file"
        }

    def read(self, folder: str, wanted: Sequence[str]) -> Contents:
        paths = [f"{self._root}/{folder}/{name}" for name in wanted]
        found = self._fs.cat(paths, on_error="return") if paths else {}
        return {path.rpartition("/")[2]: data for path, data in found.items()}

    def write(self, folder: str, objects: Mapping[str, bytes]) -> None:
        place = f"{self._root}/{folder}"
        if not self._moves:
            self._fs.pipe({f"{place}/{name}": data for name, data in objects.items()})
            return

        def write(name: str) -> None:
            own = f"{place}/{names.TEMP_PREFIX}{secrets.token_hex(6)}{names.TEMP_SUFFIX}"
            self._fs.pipe_file(own, objects[name])
            self._fs.mv(own, f"{place}/{name}")

        self._fs.makedirs(place, exist_ok=True)
        side_by_side(write, list(objects))


def _listed(info: Mapping[str, Any]) -> Listed:
    """What a file system says of a file: each has other names for it."""
    digest = next((str(info[name]) for name in _DIGESTS if info.get(name)), "")
    moment = next((info[name] for name in _MOMENTS if info.get(name)), 0.0)
    if isinstance(moment, datetime):
        moment = moment.timestamp()
    written = float(moment) if isinstance(moment, (int, float)) else 0.0
    return Listed(int(info.get("size") or 0), digest or (str(written) if written else ""), written)


def _lacks_bucket(error: BaseException) -> bool:
    """Whether not only the folder is missing, which is made by the first object in it, but all around it."""
    answers = (getattr(one, "response", None) for one in _chain(error))
    return any(
        isinstance(answer, Mapping) and answer.get("Error", {}).get("Code") == "NoSuchBucket"
        for answer in answers
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
