"""Decisions between a local history, where each is a mark beside its session, and a shared one of events.

Every event that is known lies in a folder of this machine's copy; the newest one of a kind and session is in
force. Which event each mark stands for is recorded (*applied*). So what the user did since is seen: a mark
that says something else is a new decision, one that is gone an undone one. The order of writing makes it
safe to be killed anywhere: an event is kept first, then its mark, then the record.
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
    """The events that are known here.

    Args:
        history: the folder with sessions and their marks.
        folder: where the events are kept.
        applied: the name of the event that each ``<kind>_<session>`` stands for; changed in place, and to
            be kept by the caller after :meth:`apply`.

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
        """Every known event's object."""
        return {name: objects.encode_event(event) for name, event in self._events.items()}

    def learn(self, name: str, data: bytes) -> None:
        """Keep an event of somebody else's.

        Raises:
            ArtifactError: it is none.
        """
        self._keep(objects.decode_event(name, data))

    def collect(self, rows: Sequence[SessionRow]) -> int:
        """Make events of what was decided here since the last time; how many."""
        made = 0
        for key, own in self._sessions(rows):
            before = self._events.get(self._applied.get("_".join(key), ""))
            newest = self._newest.get(key)
            mark = self._mark(key, own)
            if mark is not None and mark not in (_said(before), _said(newest)):
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
        """Bring the marks to what the newest events say; what was decided here meanwhile is left alone."""
        for key, own in self._sessions(rows):
            newest = self._newest.get(key)
            slot = "_".join(key)
            before = self._events.get(self._applied.get(slot, ""))
            if newest is None or newest == before:
                continue
            if self._mark(key, own) not in (None, _said(before), _said(newest)):
                continue
            for row in own:
                name = names.mark_name(key[0], row.name.removesuffix(".json"))
                if newest.undo:
                    files.remove(self._history / name)
                else:
                    files.write_atomic(self._history, name, marks.encode_mark(newest.mark))
            self._applied[slot] = newest.name

    def forget(self, session: str) -> None:
        """A session comes in anew, without marks: what is known of it is to be applied again."""
        for kind in marks.KINDS:
            self._applied.pop(f"{kind}_{session}", None)

    def _sessions(self, rows: Sequence[SessionRow]) -> Iterator[tuple[_Key, list[SessionRow]]]:
        """Each kind and session that there is a mark or an event of, with the session's rows."""
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
        """The mark beside a session that counts; None where there is none."""
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


def _said(event: Event | None) -> marks.Mark | None:
    """The mark that stands beside a session while an event is in force."""
    return event.mark if event is not None and not event.undo else None
