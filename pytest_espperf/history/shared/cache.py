"""This machine's copy of a shared history: a history folder as any other, and what is known of its origin.

What belongs to the sharing alone lies in ``.shared`` within the folder; a text file says what the folder is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock
import msgspec

from pytest_espperf import __version__
from pytest_espperf.errors import ArtifactError, HistoryError, RemoteError
from pytest_espperf.history import files
from pytest_espperf.history.load import read_bounded
from pytest_espperf.history.shared.address import HistoryUrl
from pytest_espperf.history.shared.objects import MARKS

ABOUT = "shared_history.txt"
FOLDER = ".shared"
_STATE = "state.json"
_LOCK = "lock"


class State(msgspec.Struct, kw_only=True):
    """What is known of a shared history beside its content.

    Attributes:
        version: of this package; what another one examined is examined again.
        pulled_at: stamp of the last pull that brought all, "" for none.
        silent_at: stamp of the last time that nothing was answered in time, "" where it was since.
        sessions: how many sessions were there when it was last seen.
        applied: see :class:`pytest_espperf.history.shared.decisions.Decisions`.
        examined: objects that were read, and need not be while their version is the same: that version, and
            what is wrong; "" for a good one that differs from what is here.
    """

    version: str = __version__
    pulled_at: str = ""
    silent_at: str = ""
    sessions: int = 0
    applied: dict[str, str] = {}
    examined: dict[str, tuple[str, str]] = {}


_decode = msgspec.json.Decoder(State).decode


class Cache:
    """The copy of one shared history.

    Attributes:
        folder: with the sessions.
        events: where the decisions are kept that are known.
        incoming: where sessions lie before they are brought into the folder.
    """

    def __init__(self, url: HistoryUrl, folder: Path) -> None:
        self.folder = folder
        self._url = url
        self._own = folder / FOLDER
        self.events = self._own / MARKS
        self.incoming = self._own / "incoming"

    @contextlib.contextmanager
    def locked(self, seconds: float) -> Iterator[State]:
        """Make the folder, keep other processes of this machine out, keep the state in the end.

        Raises:
            RemoteError: another process has been in it for so many seconds.
            HistoryError: the folder cannot be written.
        """
        files.make_writable(self.events)
        lock = filelock.FileLock(self._own / _LOCK, thread_local=False)
        try:
            lock.acquire(timeout=seconds)
        except filelock.Timeout:
            raise RemoteError(f"another process of this machine has been at it for {seconds:.0f} s") from None
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise HistoryError(f"the history folder {self.folder} cannot be locked: {reason}") from error
        try:
            about = f"This folder is this machine's copy of the shared history {self._url}\n"
            files.write_atomic(self.folder, ABOUT, about.encode("utf-8", "replace"))
            state = self.load()
            try:
                yield state
            finally:
                self.save(state)
        finally:
            lock.release()

    def load(self) -> State:
        """What is known; nothing, where that cannot be read."""
        try:
            state = _decode(read_bounded(self._own / _STATE))
        except (ArtifactError, msgspec.DecodeError, UnicodeDecodeError):
            return State()
        if state.version != __version__:
            state.version, state.examined = __version__, {}
        return state

    def save(self, state: State) -> None:
        """Keep it.

        Raises:
            HistoryError: the folder cannot be written.
        """
        files.write_atomic(self._own, _STATE, msgspec.json.encode(state))
