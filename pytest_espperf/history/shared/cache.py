"""This machine's copy of a shared history: an ordinary history folder, and the state of its synchronisation.

The state lies in ``.shared`` within the folder; a text file describes the folder.
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
    """State of the synchronisation with a shared history.

    Attributes:
        version: of this package; what another one examined is examined again.
        pulled_at: stamp of the last complete pull, "" for none.
        silent_at: stamp of the last time that there was no answer in time, "" once there was one.
        sessions: how many sessions the shared history had when it was last seen.
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
    """Copy of one shared history.

    Attributes:
        folder: with the sessions.
        events: the folder of the known decisions.
        incoming: the folder of sessions that are to be imported.
    """

    def __init__(self, url: HistoryUrl, folder: Path) -> None:
        self.folder = folder
        self._url = url
        self._own = folder / FOLDER
        self.events = self._own / MARKS
        self.incoming = self._own / "incoming"

    @contextlib.contextmanager
    def locked(self, seconds: float) -> Iterator[State]:
        """Create and lock the folder, load the state, and save it at the end.

        Raises:
            RemoteError: another process of this machine held the lock for so many seconds.
            HistoryError: the folder cannot be written.
        """
        files.make_writable(self.events)
        lock = filelock.FileLock(self._own / _LOCK, thread_local=False)
        try:
            lock.acquire(timeout=seconds)
        except filelock.Timeout:
            raise RemoteError(f"another process of this machine has used it for {seconds:.0f} s") from None
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
        """Load the state; an empty one where it cannot be read."""
        try:
            state = _decode(read_bounded(self._own / _STATE))
        except (ArtifactError, msgspec.DecodeError, UnicodeDecodeError):
            return State()
        if state.version != __version__:
            state.version, state.examined = __version__, {}
        return state

    def save(self, state: State) -> None:
        """Save the state.

        Raises:
            HistoryError: the folder cannot be written.
        """
        files.write_atomic(self._own, _STATE, msgspec.json.encode(state))
