"""Common part of a pull and a push: both sides, while this machine's copy is locked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from pytest_espperf.errors import RemoteError
from pytest_espperf.history.shared import objects
from pytest_espperf.history.shared.address import HistoryUrl
from pytest_espperf.history.shared.cache import Cache, State
from pytest_espperf.history.shared.decisions import Decisions
from pytest_espperf.history.shared.objects import SESSIONS
from pytest_espperf.history.shared.remote import Remote
from pytest_espperf.history.shared.storage import Listed
from pytest_espperf.history.store import HistoryStore

BATCH, BATCH_BYTES = 200, 32 * 1024 * 1024
"""Objects, and bytes, that are read or sent at once."""

Listing = Mapping[str, Listed]


class Transfer:
    """Transfer between a shared history and this machine's copy.

    Args:
        url: of the shared history.
        cache: this machine's copy, locked.
        state: of the copy; changed in place.
        remote: the other side, entered before its first use.

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
        """List the sessions of the shared history.

        Raises:
            RemoteError: it cannot be listed, or is empty although it had sessions: none is ever removed.
        """
        listed = self.remote.listing(SESSIONS)
        if self.state.sessions and not count(listed):
            raise RemoteError(
                f"it holds no session, and held {self.state.sessions} when it was last seen: is the share "
                "mounted, and is the address right? If it was emptied on purpose, remove "
                f"{self.cache.folder}"
            )
        return listed

    def examined(self, folder: str, name: str, entry: Listed) -> str | None:
        """Recall what is wrong with an object, "" for nothing; None where it was not examined."""
        version, wrong = self.state.examined.get(f"{folder}/{name}", ("", ""))
        return wrong if entry.version and version == _version(entry) else None

    def note(self, folder: str, name: str, entry: Listed, wrong: str) -> None:
        """Record what is wrong with an object, until it changes."""
        self.state.examined[f"{folder}/{name}"] = (_version(entry), wrong)


def _version(entry: Listed) -> str:
    """Combine version and size: a version that is a time may be exact to the second only."""
    return f"{entry.version} {entry.size}"


def count(names: Iterable[str]) -> int:
    """Count the sessions of a listing."""
    return sum(objects.parse_session(name) is not None for name in names)


def summary_name(name: str) -> str:
    """Make the name of the summary beside a session's object."""
    return f"{name.removesuffix('.json')}.md"


def batches(wanted: Iterable[str], size_of: Callable[[str], int]) -> Iterator[list[str]]:
    """Split the names, in their order, into parts that are read or sent at once."""
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
