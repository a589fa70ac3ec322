"""What a pull and a push have in common: both sides, for as long as this machine's copy is locked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from pytest_espperf.errors import RemoteError
from pytest_espperf.history.shared import objects
from pytest_espperf.history.shared.address import HistoryUrl
from pytest_espperf.history.shared.cache import Cache, State
from pytest_espperf.history.shared.decisions import Decisions
from pytest_espperf.history.shared.objects import SESSIONS
from pytest_espperf.history.shared.place import Listed
from pytest_espperf.history.shared.remote import Remote
from pytest_espperf.history.store import HistoryStore

BATCH, BATCH_BYTES = 200, 32 * 1024 * 1024
"""Objects, and bytes, that are asked for or sent at once."""

Listing = Mapping[str, Listed]


class Exchange:
    """Both sides of a shared history.

    Args:
        url: where it is.
        cache: this machine's copy, locked.
        state: of the copy; changed in place.
        remote: the other side, entered by the time that it is asked.

    Raises:
        HistoryError: the copy cannot be read or written.
    """

    def __init__(self, url: HistoryUrl, cache: Cache, state: State, remote: Remote) -> None:
        self.url = url
        self.cache = cache
        self.state = state
        self.remote = remote
        self.store = HistoryStore(cache.folder)
        self.decisions = Decisions(cache.folder, cache.events, state.applied)
        # First of all: what was decided here must not be taken for something that is yet to be applied.
        self.decisions.collect(self.store.select())
        cache.save(state)

    def listed_sessions(self) -> Listing:
        """The folder of sessions there.

        Raises:
            RemoteError: it cannot be listed, or is empty and was not: nothing of ours removes a session.
        """
        listed = self.remote.listing(SESSIONS)
        if self.state.sessions and not count(listed):
            raise RemoteError(
                f"it holds no session, and held {self.state.sessions} when it was last seen: is the share "
                "mounted, and is it the right place? If it was emptied on purpose, remove "
                f"{self.cache.folder}"
            )
        return listed

    def examined(self, folder: str, name: str, entry: Listed) -> str | None:
        """What was found to be wrong with an object, "" for nothing; None where it was not looked at."""
        looked_at, wrong = self.state.examined.get(f"{folder}/{name}", ("", ""))
        return wrong if entry.version and looked_at == _version(entry) else None

    def note(self, folder: str, name: str, entry: Listed, wrong: str) -> None:
        """Remember what was found, for as long as the object stays as it is."""
        self.state.examined[f"{folder}/{name}"] = (_version(entry), wrong)


def _version(entry: Listed) -> str:
    """With the size, because where only the time tells, it may do so to the second."""
    return f"{entry.version} {entry.size}"


def count(names: Iterable[str]) -> int:
    """How many sessions a listing has."""
    return sum(objects.parse_session(name) is not None for name in names)


def summary_name(name: str) -> str:
    """The summary of a session's object."""
    return f"{name.removesuffix('.json')}.md"


def batches(wanted: Iterable[str], size_of: Callable[[str], int]) -> Iterator[list[str]]:
    """The names in their order, in parts that are asked for or sent at once."""
    batch: list[str] = []
    size = 0
    for name in wanted:
        own = size_of(name)
        if batch and (len(batch) == BATCH or size + own > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += own
    if batch:
        yield batch
