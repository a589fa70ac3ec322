"""What a reference to a session means.

In this order: ``latest`` (and ``latest~2``: two completed sessions before it), a session's id, its file
name with or without the suffix, a tag (its newest completed session), the beginning of an id (at least four
characters, meaning one session only). A reference is compared with what is in the folder and never opened
as a path.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from pytest_espperf.errors import HistoryError
from pytest_espperf.history import names
from pytest_espperf.history.load import load_session
from pytest_espperf.history.rows import Query, SessionRow

if TYPE_CHECKING:
    from pytest_espperf.history.store import HistoryStore, SavedSession

MIN_PREFIX = 4
"""Fewest characters of an id that are taken as its beginning."""

_SHOWN = 5
_LATEST = re.compile(r"latest(?:~([0-9]{1,9}))?")


def find(store: HistoryStore, ref: str) -> SavedSession:
    """The one session that ``ref`` means.

    Raises:
        HistoryError: none is meant, or more than one; the message lists candidates.
        ArtifactError: the file that is meant cannot be read.
    """
    rows = store.select(Query(newest_first=True))
    name = _name_of(store, ref, rows)
    entry = store.entry(name)
    if entry is None:
        load_session(store.folder / name)  # says what is wrong with it
        raise HistoryError(f"{name} in {store.folder} went away while it was read")
    return entry


def _name_of(store: HistoryStore, ref: str, rows: list[SessionRow]) -> str:
    match = _LATEST.fullmatch(ref)
    if match:
        return _counted_back(store, rows, int(match[1] or 0))
    by_id = [row for row in rows if row.session_id == ref]
    if by_id:
        return _only(ref, by_id)
    for name in (ref, f"{ref}.json"):
        if name in store.file_names():
            return name
    wanted = names.clean_tag(ref)
    tagged = [row for row in rows if row.tag and (row.tag == ref or names.clean_tag(row.tag) == wanted != "")]
    if tagged:
        return next((row for row in tagged if row.completed), tagged[0]).name
    beginning = [row for row in rows if len(ref) >= MIN_PREFIX and row.session_id.startswith(ref)]
    if beginning:
        return _only(ref, beginning)
    raise HistoryError(_missing(store, ref, rows))


def _counted_back(store: HistoryStore, rows: list[SessionRow], count: int) -> str:
    """``latest~count``: from the session of ``latest.json``, or the newest, back over completed ones."""
    completed = [row for row in rows if row.completed]
    latest = store.latest()
    start = next((i for i, row in enumerate(completed) if latest and row.session_id == latest.session_id), 0)
    if start + count >= len(completed):
        have = f"{len(completed) - start} completed sessions up to the latest"
        raise HistoryError(f"latest~{count} does not exist: {store.folder} has {have}")
    return completed[start + count].name


def _only(ref: str, rows: list[SessionRow]) -> str:
    if len(rows) > 1:
        raise HistoryError(f"{ref!r} means {len(rows)} sessions; name one: {_listed(rows)}")
    return rows[0].name


def _missing(store: HistoryStore, ref: str, rows: list[SessionRow]) -> str:
    if not rows:
        return f"no session {ref!r}: {store.folder} holds no session"
    known = {word: row for row in reversed(rows) for word in (row.tag, row.session_id, row.name) if word}
    near = difflib.get_close_matches(ref, known, n=_SHOWN, cutoff=0.6)
    some = list({known[word].name: known[word] for word in near}.values()) or rows[:_SHOWN]
    return f"no session {ref!r} in {store.folder}; {'near' if near else 'newest'}: {_listed(some)}"


def _listed(rows: list[SessionRow]) -> str:
    shown = ", ".join(f"{row.name} ({row.session_id})" for row in rows[:_SHOWN])
    return shown + (", ..." if len(rows) > _SHOWN else "")
