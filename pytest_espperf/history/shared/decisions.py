"""Decisions in both forms: marks beside the sessions of a local history, events in a shared one.

Every known event lies in a folder of this machine's copy; the newest one of a kind and session is in force.
The event that each mark corresponds to is recorded (*applied*). So what the user did since can be seen: a
mark that differs is a new decision, one that is gone is withdrawn. The order of writing (event, mark, record)
makes it safe to be killed at any moment.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from pytest_espperf.errors import ArtifactError
from pytest_espperf.history import files, marks, names
from pytest_espperf.history.load import read_bounded
from pytest_espperf.history.rows import SessionRow
from pytest_espperf.history.shared import objects
from pytest_espperf.history.shared.objects import Event

_Key = tuple[str, str]
"""Kind, and name of the session."""


class Decisions:
    """Known events of a shared history, and the marks of its local copy.

    Args:
        history: the folder with sessions and their marks.
        folder: of the events.
        applied: the name of the event that each ``<kind>_<session>`` corresponds to; changed in place, to be
            saved by the caller after :meth:`apply`.

    Raises:
        HistoryError: a folder cannot be read; from the methods, cannot be written.
    """

    def __init__(self, history: Path, folder: Path, applied: dict[str, str]) -> None:
        self._history = history
        self._folder = folder
        self._applied = applied
        self._events: dict[str, Event] = {}
        self._newest: dict[_Key, Event] = {}
        for name in files.list_names(folder):
            if objects.is_decision(name):
                # What cannot be read here is as unknown as what never came here.
                with contextlib.suppress(ArtifactError):
                    self._add(objects.decode_event(name, read_bounded(folder / name, marks.MAX_BYTES)))

    def __contains__(self, name: object) -> bool:
        return name in self._events

    def encoded(self) -> dict[str, bytes]:
        """Encode every known event as its object."""
        return {name: objects.encode_event(event) for name, event in self._events.items()}

    def learn(self, name: str, data: bytes) -> None:
        """Save an event of another machine.

        Raises:
            ArtifactError: it is no event.
        """
        self._keep(objects.decode_event(name, data))

    def collect(self, rows: Sequence[SessionRow]) -> int:
        """Make events of the decisions taken here since the last time; returns how many."""
        made = 0
        for key, own in self._sessions(rows):
            before = self._events.get(self._applied.get("_".join(key), ""))
            newest = self._newest.get(key)
            mark = self._mark(key, own)
            if mark is not None and mark not in (_mark_of(before), _mark_of(newest)):
                event = objects.make_event(key[0], mark, undo=False, after=before.stamp if before else "")
            elif mark is None and before is not None and before == newest and not before.undo:
                at = names.format_stamp(datetime.now(timezone.utc))
                undone = marks.Mark(session_id=own[0].session_id, at=at)
                event = objects.make_event(key[0], undone, undo=True, after=before.stamp)
            else:
                continue
            self._keep(event)
            self._applied["_".join(key)] = event.name
            made += 1
        return made

    def apply(self, rows: Sequence[SessionRow]) -> None:
        """Bring the marks up to date with the newest events; decisions taken here meanwhile are kept."""
        for key, own in self._sessions(rows):
            newest = self._newest.get(key)
            slot = "_".join(key)
            before = self._events.get(self._applied.get(slot, ""))
            if newest is None or newest == before:
                continue
            if self._mark(key, own) not in (None, _mark_of(before), _mark_of(newest)):
                continue
            for row in own:
                name = names.mark_name(key[0], row.name.removesuffix(".json"))
                if newest.undo:
                    files.remove(self._history / name)
                else:
                    files.write_atomic(self._history, name, marks.encode_mark(newest.mark))
            self._applied[slot] = newest.name

    def forget(self, session: str) -> None:
        """Apply the events of a session again: it is imported anew, without marks."""
        for kind in marks.KINDS:
            self._applied.pop(f"{kind}_{session}", None)

    def _sessions(self, rows: Sequence[SessionRow]) -> Iterator[tuple[_Key, list[SessionRow]]]:
        """Iterate over each kind and session with a mark or an event, with the session's rows."""
        present = frozenset(files.list_names(self._history))
        grouped: dict[str, list[SessionRow]] = defaultdict(list)
        for row in rows:
            if row.session_id:
                grouped[objects.session_name(row.session_id)].append(row)
        for session, own in grouped.items():
            for kind in marks.KINDS:
                key = (kind, session)
                if key in self._newest or any(
                    names.mark_name(kind, row.name.removesuffix(".json")) in present for row in own
                ):
                    yield key, own

    def _mark(self, key: _Key, own: Sequence[SessionRow]) -> marks.Mark | None:
        """Read the mark beside a session that counts; None where there is none."""
        for row in own:
            with contextlib.suppress(ArtifactError):
                path = self._history / names.mark_name(key[0], row.name.removesuffix(".json"))
                mark = marks.read_mark(path)
                if mark.session_id == row.session_id:
                    return mark
        return None

    def _keep(self, event: Event) -> None:
        files.write_atomic(self._folder, event.name, objects.encode_event(event))
        self._add(event)

    def _add(self, event: Event) -> None:
        self._events[event.name] = event
        key = (event.kind, event.session)
        newest = self._newest.get(key)
        if newest is None or event.order > newest.order:
            self._newest[key] = event


def _mark_of(event: Event | None) -> marks.Mark | None:
    """Get the mark that lies beside a session while an event is in force; None for a withdrawal."""
    return event.mark if event is not None and not event.undo else None
