"""The index of a folder: a row of each session, so that no session is read to list or choose some.

Each use compares names, sizes, modification times and inodes of the folder's files with the snapshot, reads
what is new or changed, and forgets what is gone. In a folder that cannot be written the refreshed rows live
in memory only.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from pytest_espperf.errors import ArtifactError, HistoryError, NewerSchemaError
from pytest_espperf.history import marks, names, snapshot
from pytest_espperf.history.folder import HistoryFolder
from pytest_espperf.history.load import for_judging
from pytest_espperf.history.rows import (
    GATE_FACTS,
    MEDIANS,
    Keys,
    OwnMedian,
    Query,
    SessionRow,
    keys_of,
    with_copies,
)
from pytest_espperf.history.skim import Skimmer
from pytest_espperf.history.snapshot import Entry, FileState
from pytest_espperf.model.artifact import Comparability, SessionArtifact
from pytest_espperf.model.standing import KEPT_OUT_MOST
from pytest_espperf.system import regular

_T = TypeVar("_T")

_INODE_BITS = 2**63 - 1
_PROGRESS_EVERY = 64
_BEGINNINGS = ("perf_", *(f"{kind}_perf_" for kind in marks.KINDS))

_Index = Mapping[str, Entry]
"""Entries of the index by the name of their file."""

_Decisions = Mapping[tuple[str, str], marks.Mark]
"""The decisions that count, by their kind and by the id (or, without one, the file) of their session."""

_encode = msgspec.msgpack.Encoder().encode
_decode_row = msgspec.msgpack.Decoder(SessionRow).decode
_decode_mark = msgspec.msgpack.Decoder(marks.Mark).decode
_decode_details = msgspec.msgpack.Decoder(
    tuple[
        dict[str, list[float | None]],
        dict[str, list[Any]],
        dict[str, dict[str, float | None]],
        dict[str, OwnMedian],
    ]
).decode


def select(history: HistoryFolder, query: Query | None = None) -> list[SessionRow]:
    """Choose the rows that ``query`` describes (all, newest first, without one).

    Raises:
        HistoryError: the folder cannot be read.
    """
    asked = query or Query()
    keys = None if asked.comparable_with is None else keys_of(asked.comparable_with)
    limit = asked.limit if asked.limit is None else max(asked.limit, 0)

    def choose(index: _Index) -> list[SessionRow]:
        rows = _rows(history, index, keys, newest_first=asked.newest_first)
        chosen = itertools.islice((row for row in rows if asked.matches(row, keys)), limit)
        return (
            [with_details(row, index[row.name].details) for row in chosen] if asked.details else list(chosen)
        )

    return _ask(history, choose)


def baseline(
    history: HistoryFolder, comparability: Comparability, *, per_profile: int
) -> list[SessionArtifact]:
    """Load the sessions to judge against, oldest first: the newest ``per_profile`` of each profile.

    The newest that were kept out after all of these come last. All lack what judging does not need, see
    :func:`pytest_espperf.history.load.for_judging`.

    Raises:
        HistoryError: the folder cannot be read.
    """
    keys = keys_of(comparability)
    query = Query(completed_only=True, comparable_with=comparability)

    def choose(index: _Index) -> list[SessionArtifact]:
        counts: Counter[str] = Counter()
        chosen: list[SessionArtifact] = []
        for row in _rows(history, index, keys, newest_first=True):
            if all(counts[name] >= per_profile for name in keys.profiles):
                break
            waits = row.kept_out and not counts and len(chosen) < KEPT_OUT_MOST
            if not (row.in_history or waits):
                continue
            common = keys.common(row) if query.matches(row, keys) else []
            if any(counts[name] < per_profile for name in common):
                loaded = history.load_rows([row])
                if loaded:
                    counts.update(common if row.in_history else ())
                    chosen += map(for_judging, loaded)
        return chosen[::-1]

    return _ask(history, choose)


def copied(history: HistoryFolder) -> list[SessionRow]:
    """List the rows of the sessions that have copies, whenever they came into the folder.

    Raises:
        HistoryError: the folder cannot be read.
    """

    def choose(index: _Index) -> list[SessionRow]:
        decisions = _decisions(history, index)
        return [_decided(row, decisions) for row in _copied(index)]

    return _ask(history, choose)


def _ask(history: HistoryFolder, choose: Callable[[_Index], _T]) -> _T:
    """Ask the index; one with a right checksum and malformed rows, which is forged, is rebuilt."""
    try:
        return choose(_fresh(history, snapshot.read_snapshot(history.folder)))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return choose(_fresh(history, ()))


def with_details(row: SessionRow, details: bytes) -> SessionRow:
    """Fill in the details that the index keeps of a row: figures alone, since all rows have the same names.

    Raises:
        ValueError, msgspec.MsgspecError, RecursionError: they are no details.
    """
    medians, gates, some, own = _decode_details(details)
    return msgspec.structs.replace(
        row,
        medians={
            cell: dict(zip(MEDIANS, values, strict=True)) | some.get(cell, {})
            for cell, values in medians.items()
        },
        gates={name: dict(zip(GATE_FACTS, values, strict=True)) for name, values in gates.items()},
        own=own,
    )


def _details_of(row: SessionRow) -> bytes:
    medians = {cell: [values[name] for name in MEDIANS] for cell, values in (row.medians or {}).items()}
    some = {
        cell: more
        for cell, values in (row.medians or {}).items()
        if (more := {name: value for name, value in values.items() if name not in MEDIANS})
    }
    gates = {name: list(facts.values()) for name, facts in (row.gates or {}).items()}
    return _encode((medians, gates, some, row.own or {}))


def _rows(
    history: HistoryFolder, index: _Index, keys: Keys | None, *, newest_first: bool
) -> Iterator[SessionRow]:
    """Iterate over each session once, in the order of the history, with its copies and decisions.

    With ``keys`` only over those that may be comparable; unknown ones compare with nothing.
    """
    base_key = None if keys is None else keys.base
    if base_key == "":
        return
    decisions = _decisions(history, index)
    originals = {row.name: row for row in _copied(index)}
    copies = {name for row in originals.values() for name in row.copies}
    for entry in _in_order(history, index.values(), newest_first=newest_first):
        if entry.name not in copies and base_key in (None, entry.base_key):
            yield _decided(originals.get(entry.name) or _row(entry), decisions)


def _row(entry: Entry) -> SessionRow:
    """Decode the row of an entry.

    Raises:
        ValueError, msgspec.MsgspecError, RecursionError: it is no row of this file. What a row names, copies
            among it, is opened, and removed.
    """
    row = _decode_row(entry.row)
    if row.name != entry.name or row.copies:
        raise ValueError("a row of another file")
    return row


def _copied(index: _Index) -> list[SessionRow]:
    counts = Counter(entry.session_id for entry in index.values() if entry.row)
    several = {session_id for session_id, count in counts.items() if count > 1}
    return with_copies(_row(entry) for entry in index.values() if entry.row and entry.session_id in several)


def _in_order(history: HistoryFolder, entries: Iterable[Entry], *, newest_first: bool) -> list[Entry]:
    """Sort the sessions before ``history.until``; those dated in the future come before all others."""
    horizon = names.horizon()

    def place(entry: Entry) -> tuple[bool, str, int, str]:  # as names.place_of
        return entry.stamp <= horizon, entry.stamp, entry.number, entry.file[0]

    sessions = (entry for entry in entries if entry.row)
    until = history.until
    if until is not None:
        last = (until.stamp <= horizon, *until)
        sessions = (entry for entry in sessions if place(entry) < last)
    return sorted(sessions, key=place, reverse=newest_first)


def _decisions(history: HistoryFolder, index: _Index) -> _Decisions:
    """Collect the decisions that count; misplaced ones are skipped."""
    found: dict[tuple[str, str], marks.Mark] = {}
    # One beside a copy counts as well: whoever took it meant the session.
    for name in sorted(name for name, entry in index.items() if entry.mark):
        kind, session = names.parse_mark(name) or ("", "")
        about = index.get(session)
        if about is None or not about.row:
            continue
        mark = _decode_mark(index[name].mark)
        if mark.session_id == about.session_id:
            found.setdefault((kind, mark.session_id or session), mark)
        else:
            history.skip(ArtifactError(marks.MISPLACED, path=history.folder / name, field="$.session_id"))
    return found


def _decided(row: SessionRow, decisions: _Decisions) -> SessionRow:
    key = row.session_id or row.name
    accepted, pinned = decisions.get(("accept", key)), ("pin", key) in decisions
    if accepted is None and not pinned:
        return row
    return msgspec.structs.replace(row, accepted=accepted.as_accepted() if accepted else None, pinned=pinned)


# --- keeping it up to date ----------------------------------------------------------------------


def _fresh(history: HistoryFolder, entries: Iterable[Entry]) -> _Index:
    """Bring the entries up to date with the folder; files that cannot be used are skipped."""
    now = _scan(history)
    known = {entry.file: entry for entry in entries}
    if known.keys() != now:
        known = _refreshed(history, known, now)
    index = {entry.file[0]: entry for entry in known.values()}
    for name in sorted(name for name, entry in index.items() if entry.error is not None):
        entry = index[name]
        kind = NewerSchemaError if entry.newer else ArtifactError
        history.skip(kind(entry.error or "", path=history.folder / name, field=entry.field))
    return index


def _refreshed(
    history: HistoryFolder, known: Mapping[FileState, Entry], now: set[FileState]
) -> dict[FileState, Entry]:
    """Forget what is gone, read what is new, and write the new snapshot."""
    kept = {state: entry for state, entry in known.items() if state in now}
    new = _read_all(history, [state for state in now if state not in kept])
    found = kept | {entry.file: entry for entry in new}
    # A file that can never be opened changes nothing.
    if history.keeps_index and (new or len(kept) < len(known)):
        snapshot.write_snapshot(history.folder, found.values())
    return found


def _scan(history: HistoryFolder) -> set[FileState]:
    """List name, size, modification time and inode of every session and decision in the folder."""
    found: set[FileState] = set()
    try:
        with os.scandir(history.folder) as entries:
            for entry in entries:
                name = entry.name
                if not _is_text(name):
                    history.skip(ArtifactError(names.NAMELESS, path=history.folder / name))
                elif name.endswith(".json") and name.startswith(_BEGINNINGS):
                    with contextlib.suppress(OSError):  # gone meanwhile
                        # What a link leads to is never read: the link itself is what stands there.
                        status = entry.stat(follow_symlinks=False)
                        inode = status.st_ino & _INODE_BITS
                        found.add((name, status.st_size, status.st_mtime_ns, inode))
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise HistoryError(f"the history folder {history.folder} cannot be read: {reason}") from error
    return found


def _is_text(name: str) -> bool:
    """Whether a file's name can be kept in the index; on Linux it may be any bytes."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _read_all(history: HistoryFolder, files: Sequence[FileState]) -> list[Entry]:
    """Read the files; those that cannot be read just now are left out and skipped."""
    skimmer = Skimmer()
    found = []
    for done, file in enumerate(files):
        if done % _PROGRESS_EVERY == 0:
            history.progress(done, len(files))
        entry = _read(history, file, skimmer)
        if entry is not None:
            found.append(entry)
    history.progress(len(files), len(files))
    return found


def _read(history: HistoryFolder, file: FileState, skimmer: Skimmer) -> Entry | None:
    path = history.folder / file[0]
    try:
        if not names.is_session_name(path.name):
            return Entry(file, mark=_encode(marks.read_mark(path)))
        key = names.order_key(path.name)
        if key is None:
            return Entry(file, error=names.NAMELESS)  # named each time, and opened never
        row = skimmer.row(path, key)
    except ArtifactError as error:
        if isinstance(error.__cause__, OSError):  # may be readable the next time, with the same size and time
            if regular.exists(path):
                history.skip(error)
            return None
        return Entry(file, error=error.reason, field=error.field, newer=isinstance(error, NewerSchemaError))
    return Entry(
        file,
        stamp=row.stamp,
        number=row.number,
        session_id=row.session_id,
        base_key=row.base_key,
        row=_encode(msgspec.structs.replace(row, medians=None, gates=None, own=None)),
        details=_details_of(row),
    )
