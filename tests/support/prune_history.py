"""Large histories made quickly, and pruned, for the tests of pruning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pytest_espperf.history import HistoryStore, encode_session, marks, names
from pytest_espperf.history.prune import PruneChoice, choose, plan, remove
from pytest_espperf.history.rows import Query, SessionRow
from pytest_espperf.model.artifact import SessionArtifact


def put(store: HistoryStore, artifact: SessionArtifact, *decisions: str) -> None:
    """A session and decisions about it, unsynced: tests make thousands."""
    stem = names.session_stem(artifact.timestamp_utc, artifact.tag)
    (store.folder / f"{stem}.json").write_bytes(encode_session(artifact))
    for kind in decisions:
        mark = marks.encode_mark(marks.Mark(session_id=artifact.session_id))
        (store.folder / names.mark_name(kind, stem)).write_bytes(mark)


def all_rows(store: HistoryStore) -> list[SessionRow]:
    return store.select(Query(newest_first=False))


def prune(store: HistoryStore, *, keep: int = 1, baseline: int = 200, **how: Any) -> PruneChoice:
    rows = all_rows(store)
    choice = choose(rows, keep=keep, baseline=baseline, **how)
    for leaving in plan(store.folder, choice):
        assert remove(store.folder, leaving)
    return choice


def days(count: int) -> Iterator[tuple[int, str]]:
    return ((number, f"2026{1 + number // 28:02d}{1 + number % 28:02d}T000000Z") for number in range(count))
