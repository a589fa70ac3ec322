"""Benches that share a history: each has a copy of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.history_samples import session

from pytest_espperf.history import HistoryStore
from pytest_espperf.history.shared.address import parse_url
from pytest_espperf.history.shared.remote import Remote
from pytest_espperf.history.shared.sync import Sync


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here takes the power away: what a process has written is there, whatever becomes of it."""
    monkeypatch.setattr("os.fsync", lambda _: None)


class Bench:
    """One machine."""

    def __init__(self, url: str, folder: Path, *, bound_s: float = 30.0) -> None:
        self.url = parse_url(url)
        self.folder = folder
        self.sync = Sync(self.url, folder, bound_s=bound_s)
        self.store.prepare()

    @property
    def store(self) -> HistoryStore:
        """As the next process would open it."""
        return HistoryStore(self.folder)

    def save(self, session_id: str, timestamp: str = "20260101T000000Z", **changes: Any) -> Path:
        artifact = session(session_id, timestamp, **changes)
        return self.store.save(artifact, f"# {session_id}\n", latest=True).json_path

    def push(self) -> int:
        """Share what is not shared yet; how many objects that were."""
        done = self.sync.push()
        return done.sessions + done.decisions

    def ids(self) -> list[str]:
        """Of all sessions, as often as they are here."""
        return sorted(artifact.session_id for artifact in self.store.sessions())

    def decided(self) -> dict[str, tuple[str | None, bool]]:
        """For what each session was accepted, and whether it is pinned."""
        return {
            one.session_id: (one.accepted["reason"] if one.accepted else None, one.pinned)
            for one in self.store.sessions()
        }

    def there(self, folder: str) -> list[str]:
        """The names of the objects in a folder of the shared history."""
        with Remote(self.url, 30.0) as remote:
            return sorted(remote.listing(folder))

    def put(self, folder: str, objects: Mapping[str, bytes]) -> None:
        """Somebody writes into the shared history."""
        with Remote(self.url, 30.0) as remote:
            remote.write(folder, objects)

    def get(self, folder: str, name: str) -> bytes:
        with Remote(self.url, 30.0) as remote:
            data = remote.read(folder, [name])[name]
        assert isinstance(data, bytes)
        return data
