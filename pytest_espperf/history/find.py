"""Resolution of a reference to a session, among all sessions or those of one board.

In this order: ``latest`` (and ``latest~2``: two completed sessions before it), a session's id, its file
name with or without the suffix, a tag (its newest completed session), the beginning of an id (at least four
characters, meaning one session only). A reference is compared with what is in the folder and never opened
as a path. A comparison of firmwares is no completed session in this sense.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from itertools import islice

from pytest_espperf.errors import HistoryError
from pytest_espperf.history import index, names
from pytest_espperf.history.folder import HistoryFolder, SavedSession
from pytest_espperf.history.load import load_listed
from pytest_espperf.history.rows import Query, SessionRow
from pytest_espperf.model.artifact import SessionArtifact

MIN_PREFIX = 4
"""Fewest characters of an id that are taken as its beginning."""

_SHOWN = 5
_MOST_READ = 50
_LATEST = re.compile(r"latest(?:~([0-9]{1,9}))?")


def find(history: HistoryFolder, ref: str, *, board: str = "", one_board: bool = False) -> SavedSession:
    """Find the one session that ``ref`` refers to.

    Args:
        history: its folder.
        ref: the reference.
        board: consider only sessions of this board, by its identity, or without one by its address;
            "" for any.
        one_board: refuse a tag that several boards have.

    Raises:
        HistoryError: no session matches, or more than one; the message lists candidates.
        ArtifactError: the file that is meant cannot be read.
    """
    every = index.select(history, Query(newest_first=True))
    rows = _of_board(history, every, board) if board else every
    known = [name for row in rows for name in (row.name, *row.copies)] if board else history.file_names()
    name = _by_name(history, ref, rows, known) or _by_tag(ref, rows, one_board) or _by_beginning(ref, rows)
    if not name:
        raise HistoryError(_missing(history, ref, rows, board) + _elsewhere(ref, every if board else []))
    row = next((row for row in rows if name in {row.name, *row.copies}), None)
    entry = history.entry_of(row) if row is not None else history.entry(name)
    if entry is None:
        load_listed(history.folder / name)  # raises what is wrong with it
        raise HistoryError(f"{name} in {history.folder} disappeared while it was read")
    return entry


def latest(history: HistoryFolder) -> SessionArtifact | None:
    """Read the latest completed session: ``latest.json``, or the newest completed one where that is bad.

    Raises:
        HistoryError: the folder cannot be read.
    """
    copy = history.copy_of_latest()
    if copy is not None:
        return copy
    completed = index.select(history, Query(completed_only=True))
    entries = (history.entry_of(row) for row in completed)
    return next((entry.artifact for entry in entries if entry is not None), None)


def _of_board(history: HistoryFolder, rows: list[SessionRow], board: str) -> list[SessionRow]:
    own = [row for row in rows if row.board == board] or [row for row in rows if row.target == board]
    if not own:
        boards = _boards(rows) or "none"
        raise HistoryError(f"no session of board {board!r} in {history.folder}; boards there: {boards}")
    return own


def _by_name(history: HistoryFolder, ref: str, rows: list[SessionRow], known: list[str]) -> str:
    """Resolve ``latest``, an id or a file name to a file name; "" where it is none of them."""
    match = _LATEST.fullmatch(ref)
    if match:
        return _counted_back(history, rows, int(match[1] or 0))
    by_id = [row for row in rows if row.session_id == ref]
    if by_id:
        return _only(ref, by_id)
    return next((name for name in (ref, f"{ref}.json") if name in known), "")


def _by_tag(ref: str, rows: list[SessionRow], one_board: bool) -> str:
    tagged = _tagged(rows, ref)
    if one_board:
        _refuse_several_boards(ref, tagged)
    return next((row.name for row in tagged if row.completed), tagged[0].name if tagged else "")


def _tagged(rows: list[SessionRow], ref: str) -> list[SessionRow]:
    wanted = names.clean_tag(ref)
    return [row for row in rows if row.tag and (row.tag == ref or names.clean_tag(row.tag) == wanted != "")]


def _refuse_several_boards(ref: str, tagged: list[SessionRow]) -> None:
    newest: dict[str, SessionRow] = {}
    for row in tagged:
        newest.setdefault(row.board, row)
    if len(newest) > 1:
        listed = _some(f"{board!r} ({row.session_id})" for board, row in newest.items())
        raise HistoryError(
            f"{len(newest)} boards have sessions tagged {ref!r}: choose a board (--board), or name "
            f"one session; the newest of each: {listed}"
        )


def _by_beginning(ref: str, rows: list[SessionRow]) -> str:
    beginning = [row for row in rows if len(ref) >= MIN_PREFIX and row.session_id.startswith(ref)]
    return _only(ref, beginning) if beginning else ""


def _counted_back(history: HistoryFolder, rows: list[SessionRow], count: int) -> str:
    """Resolve ``latest~count``: from the session of ``latest.json``, or the newest, back over completed."""
    completed = [row for row in rows if row.completed]
    newest = latest(history)
    start = next((i for i, row in enumerate(completed) if newest and row.session_id == newest.session_id), 0)
    if start + count >= len(completed):
        count_there = len(completed) - start
        have = f"{count_there} completed session{'' if count_there == 1 else 's'} up to the latest"
        have = have if count_there else "no completed session"
        named = f"latest~{count}" if count else "latest"
        raise HistoryError(
            f"{named} does not exist: {history.folder} has {have}{_comparisons(history, rows)}"
        )
    return completed[start + count].name


def _comparisons(history: HistoryFolder, rows: list[SessionRow]) -> str:
    """Name the newest comparison of firmwares, which no ``latest`` means; "" without one."""
    # Rows do not say what a session is: those that are not completed are read, the newest first.
    others = (row for row in rows if not row.completed and not row.comparability_key)
    for row in islice(others, _MOST_READ):
        entry = history.entry_of(row)
        if entry is not None and entry.artifact.contest is not None:
            return (
                f"; a comparison of firmwares is never 'latest', and the newest one is "
                f"{row.session_id[:8]} (espperf show {row.session_id[:8]})"
            )
    return ""


def _only(ref: str, rows: list[SessionRow]) -> str:
    if len(rows) > 1:
        raise HistoryError(f"{ref!r} matches {len(rows)} sessions; name one: {_listed(rows)}")
    return rows[0].name


def _missing(history: HistoryFolder, ref: str, rows: list[SessionRow], board: str) -> str:
    if not rows:
        return f"no session {ref!r}: {history.folder} holds no session"
    known = {word: row for row in reversed(rows) for word in (row.tag, row.session_id, row.name) if word}
    near = difflib.get_close_matches(ref, known, n=_SHOWN, cutoff=0.6)
    some = list({known[word].name: known[word] for word in near}.values()) or rows[:_SHOWN]
    whose = f" of board {board!r}" if board else ""
    return f"no session {ref!r}{whose} in {history.folder}; {'near' if near else 'newest'}: {_listed(some)}"


def _elsewhere(ref: str, rows: list[SessionRow]) -> str:
    """List the other boards that have such a session."""
    meant = _tagged(rows, ref) or [row for row in rows if ref in {row.session_id, row.name}]
    return f". Other boards have it: {_boards(meant)}" if meant else ""


def _boards(rows: list[SessionRow]) -> str:
    return _some(repr(board) for board in dict.fromkeys(row.board for row in rows))


def _listed(rows: list[SessionRow]) -> str:
    return _some(f"{row.name} ({row.session_id})" for row in rows)


def _some(words: Iterable[str]) -> str:
    every = list(words)
    return ", ".join(every[:_SHOWN]) + (", ..." if len(every) > _SHOWN else "")
