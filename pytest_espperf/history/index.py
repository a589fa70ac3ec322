"""``index.sqlite``: the rows of all sessions, so that nothing has to be read to list or choose.

Each use compares names, sizes, modification times and inodes of the folder's files with the snapshot, reads
what is new or changed, and forgets what is gone. In a folder that cannot be written the refreshed rows live
in memory only.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from pytest_espperf.errors import ArtifactError, HistoryError, NewerSchemaError
from pytest_espperf.history import marks, names
from pytest_espperf.history.folder import HistoryFolder, SavedSession
from pytest_espperf.history.load import for_judging
from pytest_espperf.history.rows import (
    GATE_FACTS,
    MEDIANS,
    Query,
    SessionRow,
    keys_of,
    row_of,
    with_copies,
)
from pytest_espperf.history.skim import Skimmer
from pytest_espperf.model.artifact import Comparability, SessionArtifact
from pytest_espperf.model.standing import KEPT_OUT_MOST
from pytest_espperf.system import regular

try:
    import sqlite3

    from pytest_espperf.history import snapshot
except ImportError:  # pragma: no cover - a Python built without it: slower, not wrong
    sqlite3 = None  # type: ignore[assignment]

_T = TypeVar("_T")
_INT64_MASK = 2**63 - 1
_TOLD_EVERY = 64

_Stat = tuple[str, int, int, int]
_Marks = dict[tuple[str, str], marks.Mark]

_encode = msgspec.json.Encoder().encode
_decode_row = msgspec.json.Decoder(SessionRow).decode
_decode_detail = msgspec.json.Decoder(tuple[dict[str, list[float | None]], dict[str, list[Any]]]).decode
_decode_mark = msgspec.json.Decoder(marks.Mark).decode


def select(history: HistoryFolder, query: Query | None = None) -> list[SessionRow]:
    """The rows that ``query`` describes (all, newest first, without one).

    Raises:
        HistoryError: the folder cannot be read.
    """
    asked = query or Query()
    keys = None if asked.comparable_with is None else keys_of(asked.comparable_with)
    limit = asked.limit if asked.limit is None else max(asked.limit, 0)

    def take(rows: Iterator[SessionRow]) -> list[SessionRow]:
        return list(itertools.islice((row for row in rows if asked.matches(row, keys)), limit))

    return _with_rows(history, asked, keys.base if keys else None, take)


def baseline(
    history: HistoryFolder, comparability: Comparability, *, per_profile: int
) -> list[SessionArtifact]:
    """The sessions to judge against, oldest first: the newest ``per_profile`` of each profile.

    The newest that were kept out after all of these come last. All lack what judging does not need, see
    :func:`pytest_espperf.history.load.for_judging`.

    Raises:
        HistoryError: the folder cannot be read.
    """
    keys = keys_of(comparability)
    query = Query(completed_only=True, comparable_with=comparability)

    def take(rows: Iterator[SessionRow]) -> list[SessionArtifact]:
        counts: Counter[str] = Counter()
        chosen: list[SessionArtifact] = []
        for row in rows:
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

    return _with_rows(history, query, keys.base, take)


def _with_rows(
    history: HistoryFolder, query: Query, base_key: str | None, take: Callable[[Iterator[SessionRow]], _T]
) -> _T:
    """What ``take`` makes of the rows; where the index fails (a dying disk), of the files themselves."""
    if base_key == "":  # comparability unknown: nothing compares
        return take(iter(()))
    if sqlite3 is not None:
        with (
            contextlib.suppress(sqlite3.Error, msgspec.MsgspecError),
            contextlib.closing(_rows(history, query, base_key)) as rows,
        ):
            return take(rows)
    return take(_rows_from_files(history, query))


def _rows(history: HistoryFolder, query: Query, base_key: str | None) -> Generator[SessionRow, None, None]:
    """Rows in the order of the history, each session once; a superset of what ``query`` describes."""
    with contextlib.closing(_fresh(history)) as connection:
        decisions = _decisions(history, connection)
        originals = {row.name: row.copies for row in _copied(connection)}
        copies = {name for names_ in originals.values() for name in names_}
        direction = "DESC" if query.newest_first else "ASC"
        table, detail = (
            ("session JOIN detail USING (name)", "detail") if query.details else ("session", "NULL")
        )
        for part, bounds in _parts(history, newest_first=query.newest_first):
            conditions, values = ["row IS NOT NULL", part], list[Any](bounds)
            if base_key is not None:
                conditions.append("base_key = ?")
                values.append(base_key)
            cursor = connection.execute(
                f"SELECT name, row, {detail} FROM {table} WHERE {' AND '.join(conditions)} "  # noqa: S608 - constants only
                f"ORDER BY stamp {direction}, number {direction}, name {direction}",
                values,
            )
            for name, blob, figures in cursor:
                row = _decode_row(blob)
                if row.name != name:  # it would be opened, or removed, under that name
                    raise sqlite3.DatabaseError("a row of another file")
                if row.name in copies:
                    continue
                if row.name in originals:
                    row = msgspec.structs.replace(row, copies=originals[row.name])
                yield _decided(row if figures is None else _detailed(row, figures), decisions)


def _parts(history: HistoryFolder, *, newest_first: bool) -> list[tuple[str, Sequence[Any]]]:
    """The sessions in the order of the history: those dated in the future come before all others."""
    horizon, until = names.horizon(), history.until
    past: tuple[str, Sequence[Any]] = ("stamp <= ?", [horizon])
    future: tuple[str, Sequence[Any]] = ("stamp > ?", [horizon])
    parts = [future, past]
    if until is not None:
        earlier = "(stamp, number, name) < (?, ?, ?)"
        if until.stamp > horizon:
            parts = [(f"stamp > ? AND {earlier}", [horizon, *until])]
        else:
            parts = [future, (f"stamp <= ? AND {earlier}", [horizon, *until])]
    return parts[::-1] if newest_first else parts


def _detailed(row: SessionRow, figures: bytes) -> SessionRow:
    medians, gates = _decode_detail(figures)
    return msgspec.structs.replace(
        row,
        medians={cell: dict(zip(MEDIANS, values, strict=True)) for cell, values in medians.items()},
        gates={name: dict(zip(GATE_FACTS, values, strict=True)) for name, values in gates.items()},
    )


def copied(history: HistoryFolder) -> list[SessionRow]:
    """The rows of the sessions that have copies, whenever they came into the folder.

    Raises:
        HistoryError: the folder cannot be read.
    """
    if sqlite3 is not None:
        with (
            contextlib.suppress(sqlite3.Error, msgspec.MsgspecError),
            contextlib.closing(_fresh(history)) as connection,
        ):
            decisions = _decisions(history, connection)
            return [_decided(row, decisions) for row in _copied(connection)]
    return _copied_of_files([_row_of_file(entry) for entry in history.every_file()])


def _copied(connection: sqlite3.Connection) -> list[SessionRow]:
    rows = connection.execute(
        "SELECT row FROM session WHERE row IS NOT NULL AND session_id IN (SELECT session_id FROM session "
        "WHERE row IS NOT NULL AND session_id != '' GROUP BY session_id HAVING COUNT(*) > 1)"
    )
    return with_copies([_decode_row(blob) for (blob,) in rows])


def _copied_of_files(rows: Sequence[SessionRow]) -> list[SessionRow]:
    """The same of rows that are decided already, each by the files beside it."""
    by_name = {row.name: row for row in rows}

    def decided(row: SessionRow) -> SessionRow:
        every = [by_name[name] for name in (row.name, *row.copies)]
        accepted = next((one.accepted for one in every if one.accepted is not None), None)
        return msgspec.structs.replace(row, accepted=accepted, pinned=any(one.pinned for one in every))

    return [decided(row) for row in with_copies(rows)]


def _rows_from_files(history: HistoryFolder, query: Query) -> Iterator[SessionRow]:
    originals = {row.name: row for row in copied(history)}
    copies = {name for row in originals.values() for name in row.copies}
    for entry in history.every_file(newest_first=query.newest_first):
        row = _row_of_file(entry)
        if row.name in copies:
            continue
        if row.name in originals:
            told = originals[row.name]
            row = msgspec.structs.replace(row, copies=told.copies, accepted=told.accepted, pinned=told.pinned)
        yield row if query.details else msgspec.structs.replace(row, medians=None, gates=None)


def _row_of_file(entry: SavedSession) -> SessionRow:
    key = names.order_key(entry.json_path.name)
    assert key is not None
    artifact = entry.artifact
    return msgspec.structs.replace(row_of(artifact, key), accepted=artifact.accepted, pinned=artifact.pinned)


def _fresh(history: HistoryFolder) -> sqlite3.Connection:
    """A connection to rows that agree with the folder; bad files are named in the history."""
    now = _scan(history)
    old = snapshot.open_snapshot(history.folder)
    if old is not None:
        try:
            known = _known(old)
            if known == now:
                _name_skipped(history, old)
                return old
            return _refreshed(history, old, known, now)
        except sqlite3.DatabaseError:  # its checksum is right and its content is not
            old.close()
        except BaseException:
            old.close()
            raise
    return _refreshed(history, None, set(), now)


def _refreshed(
    history: HistoryFolder, old: sqlite3.Connection | None, known: set[_Stat], now: set[_Stat]
) -> sqlite3.Connection:
    """Rows in memory that agree with the folder, and left there as the new snapshot; ``old`` is closed."""
    memory = sqlite3.connect(":memory:")
    try:
        if old is None:
            snapshot.make_tables(memory)
        else:
            old.backup(memory)
            old.close()
        before = memory.total_changes if old is not None else -1
        _forget(memory, known - now)
        _learn(history, memory, now - known)
        memory.commit()
        _name_skipped(history, memory)
        if memory.total_changes != before and now:  # a file that can never be opened changes nothing
            snapshot.write_snapshot(history.folder, memory)
    except BaseException:
        memory.close()
        raise
    return memory


def _scan(history: HistoryFolder) -> set[_Stat]:
    """Name, size, modification time and inode of every session and decision in the folder."""
    found: set[_Stat] = set()
    try:
        with os.scandir(history.folder) as entries:
            for entry in entries:
                name = entry.name
                if not _is_text(name):
                    history.skip(ArtifactError(names.NAMELESS, path=history.folder / name))
                elif name.endswith(".json") and name.startswith(("perf_", "accept_perf_", "pin_perf_")):
                    with contextlib.suppress(OSError):  # gone meanwhile
                        # What a link leads to is never read: the link itself is what stands there.
                        status = entry.stat(follow_symlinks=False)
                        inode = status.st_ino & _INT64_MASK
                        found.add((name, status.st_size, status.st_mtime_ns, inode))
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise HistoryError(f"the history folder {history.folder} cannot be read: {reason}") from error
    return found


def _is_text(name: str) -> bool:
    """Whether a file's name can be kept in a database; on Linux it may be any bytes."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _known(connection: sqlite3.Connection) -> set[_Stat]:
    known: set[_Stat] = set(connection.execute("SELECT name, size, mtime_ns, inode FROM session"))
    known.update(connection.execute("SELECT name, size, mtime_ns, inode FROM mark"))
    return known


def _forget(connection: sqlite3.Connection, gone: Iterable[_Stat]) -> None:
    stale = [(name,) for name, *_ in gone]
    connection.executemany("DELETE FROM session WHERE name = ?", stale)
    connection.executemany("DELETE FROM detail WHERE name = ?", stale)
    connection.executemany("DELETE FROM mark WHERE name = ?", stale)


def _learn(history: HistoryFolder, connection: sqlite3.Connection, new: Collection[_Stat]) -> None:
    skimmer = Skimmer()
    for done, status in enumerate(new):
        if done % _TOLD_EVERY == 0:
            history.progress(done, len(new))
        if names.is_session_name(status[0]):
            _learn_session(history, connection, status, skimmer)
        else:
            _learn_mark(history, connection, status)
    history.progress(len(new), len(new))


def _learn_session(
    history: HistoryFolder, connection: sqlite3.Connection, status: _Stat, skimmer: Skimmer
) -> None:
    path = history.folder / status[0]
    key = names.order_key(path.name)
    if key is None:  # kept as a row without a session: named each time, and opened never
        _insert_session(connection, [*status, "", 0, "", "", None, names.NAMELESS, "", False])
        return
    try:
        row = skimmer.row(path, key)
    except ArtifactError as error:
        if isinstance(error.__cause__, OSError):  # may be readable the next time, with the same size and time
            if regular.exists(path):
                history.skip(error)
            return
        newer = isinstance(error, NewerSchemaError)
        _insert_session(
            connection,
            [*status, key.stamp, key.number, "", "", None, error.reason, error.field, newer],
        )
    else:
        # The names of the figures are the same in every row: only the figures are kept.
        medians = {cell: list(values.values()) for cell, values in (row.medians or {}).items()}
        gates = {name: list(facts.values()) for name, facts in (row.gates or {}).items()}
        detail = _encode((medians, gates))
        blob = _encode(msgspec.structs.replace(row, medians=None, gates=None))
        facts = [row.stamp, row.number, row.base_key, row.session_id]
        _insert_session(connection, [*status, *facts, blob, None, None, False])
        connection.execute("INSERT INTO detail VALUES (?, ?)", (path.name, detail))


def _insert_session(connection: sqlite3.Connection, values: list[Any]) -> None:
    connection.execute(f"INSERT INTO session VALUES ({', '.join('?' * 12)})", values)  # noqa: S608 - marks only


def _learn_mark(history: HistoryFolder, connection: sqlite3.Connection, status: _Stat) -> None:
    parsed = names.parse_mark(status[0])
    if parsed is None:
        return
    path = history.folder / status[0]
    blob = reason = field = None
    try:
        blob = _encode(marks.read_mark(path))
    except ArtifactError as error:
        if isinstance(error.__cause__, OSError):
            if regular.exists(path):
                history.skip(error)
            return
        reason, field = error.reason, error.field
    values = [*status, *parsed, blob, reason, field]
    connection.execute(f"INSERT INTO mark VALUES ({', '.join('?' * 9)})", values)  # noqa: S608 - marks only


def _decisions(history: HistoryFolder, connection: sqlite3.Connection) -> _Marks:
    """The decisions that count, by kind and session; misplaced ones are named in the history."""
    found: _Marks = {}
    # One beside a copy counts as well: whoever took it meant the session.
    rows = connection.execute(
        "SELECT m.name, m.kind, m.session, m.mark, s.session_id "
        "FROM mark m JOIN session s ON s.name = m.session "
        "WHERE m.mark IS NOT NULL AND s.row IS NOT NULL ORDER BY m.name"
    )
    for name, kind, session, blob, session_id in rows:
        mark = _decode_mark(blob)
        if mark.session_id == session_id:
            found.setdefault((kind, session_id or session), mark)
        else:
            history.skip(ArtifactError(marks.MISPLACED, path=history.folder / name, field="$.session_id"))
    return found


def _decided(row: SessionRow, decisions: _Marks) -> SessionRow:
    key = row.session_id or row.name
    accepted, pinned = decisions.get(("accept", key)), ("pin", key) in decisions
    if accepted is None and not pinned:
        return row
    return msgspec.structs.replace(row, accepted=accepted.as_accepted() if accepted else None, pinned=pinned)


def _name_skipped(history: HistoryFolder, connection: sqlite3.Connection) -> None:
    rows = connection.execute(
        "SELECT name, error, field, newer FROM session WHERE row IS NULL "
        "UNION ALL SELECT name, error, field, 0 FROM mark WHERE mark IS NULL ORDER BY 1"
    )
    for name, reason, field, newer in rows:
        kind = NewerSchemaError if newer else ArtifactError
        history.skip(kind(reason, path=history.folder / name, field=field))
