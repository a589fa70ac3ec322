"""The table of sessions, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_espperf.model.gates import POINTS
from pytest_espperf.model.text import clip, printable
from pytest_espperf.model.verdicts import mood_of
from pytest_espperf.report.layout import Line, columns, short_commit
from pytest_espperf.report.view import signed_pct

SHOWN_OF_AN_ID = 8
SHOWN_OF_A_COMMIT = 7

_LEAST = {"board": 7, "tag": 7, "firmware": 7, "worst gate": 16, "verdict": 12}
"""Columns that can be cut, and what stays of them."""


@dataclass(frozen=True)
class ListedSession:
    """One session of a listing.

    Attributes:
        time: its time for a reader.
        worst_gate: the gate that stands for it, ``profile:metric``; "" where it has none.
        worst_change: its change in percent, slower positive; of errors in percentage points.
        commit, dirty: of the firmware's repository, and whether something in it was not committed.
        firmware: its version where the user named it.
        word: what a comparison of firmwares calls its answer; "" for its verdict's own word.
        standing: ``held-back`` or ``provisional`` where its verdict does not say whether it is a baseline.
        copies: how many other files hold the same session.
    """

    time: str
    session_id: str
    verdict: str
    board: str
    tag: str
    worst_gate: str = ""
    worst_change: float | None = None
    commit: str = ""
    dirty: bool = False
    firmware: str = ""
    accepted: bool = False
    pinned: bool = False
    standing: str = ""
    copies: int = 0
    word: str = ""


def render_listing(
    sessions: Iterable[ListedSession], *, width: int | None = None, time: str = "time"
) -> list[Line]:
    """Render the table, head first, in the order given.

    The board stands above the table where all sessions have the same.

    Args:
        sessions: to be listed.
        width: columns to keep to, as far as texts can be cut for it; None: nothing is cut.
        time: head of the column of times.
    """
    listed = list(sessions)
    boards = list(dict.fromkeys(session.board for session in listed))
    table = {name: [_cell(session, name) for session in listed] for name in _COLUMNS}
    shown = [name for name in _COLUMNS if not (name == "board" and len(boards) == 1)]
    heads = [time if name == "time" else name for name in shown]
    widths = [max(map(len, (head, *table[name]))) for head, name in zip(heads, shown, strict=True)]
    if width is not None:
        _shrink(shown, widths, width)
    rows = (_row(session, shown, widths) for session in listed)
    lines = [Line(clip(f"sessions of {boards[0]}", width or 1_000))] if len(boards) == 1 and boards[0] else []
    return [*lines, Line(_joined(heads, widths), bold=True), *rows]


_COLUMNS = ("time", "id", "verdict", "board", "tag", "firmware", "worst gate")


def _cell(session: ListedSession, column: str, width: int = 0) -> str:
    """Text of a session in a column; of the worst gate as much as a width has room for, 0 for all of it."""
    if column == "worst gate":
        return _gate(session, width)
    texts = {
        "time": session.time,
        "id": session.session_id[:SHOWN_OF_AN_ID],
        "verdict": session.verdict + _marks(session) + (f" ({session.word})" if session.word else ""),
        "board": session.board,
        "tag": session.tag,
        "firmware": session.firmware or short_commit(session.commit, SHOWN_OF_A_COMMIT, dirty=session.dirty),
    }
    return printable(texts[column])


def _marks(session: ListedSession) -> str:
    return "".join(
        f"+{mark}"
        for mark, given in (
            (session.standing, session.standing and not session.accepted),
            ("accepted", session.accepted),
            ("pinned", session.pinned),
            (f"{session.copies} cop{'ies' if session.copies > 1 else 'y'}", session.copies),
        )
        if given
    )


def _gate(session: ListedSession, width: int) -> str:
    """``python_heavy:rps_ok +80.2 %``; the profile is cut first, since metric and change tell more."""
    if not session.worst_gate:
        return ""
    profile, colon, metric = printable(session.worst_gate).rpartition(":")
    if metric == POINTS and session.worst_change is not None:
        change = f"{round(session.worst_change, 1) + 0.0:+.1f} pt"
    else:
        change = signed_pct(session.worst_change)
    end = f"{colon}{metric} {change}"
    return f"{clip(profile, max(4, width - len(end))) if width else profile}{end}"


def _row(session: ListedSession, shown: Sequence[str], widths: Sequence[int]) -> Line:
    cells = [_cell(session, name, width) or "-" for name, width in zip(shown, widths, strict=True)]
    return Line(_joined(cells, widths), mood_of(session.verdict))


def _shrink(shown: Sequence[str], widths: list[int], width: int) -> None:
    """Cut the column that has most to give, as long as there is one."""
    while sum(widths) + len(widths) - 1 > width:
        spare = [own - _LEAST.get(name, own) for name, own in zip(shown, widths, strict=True)]
        if max(spare) <= 0:
            return
        widths[spare.index(max(spare))] -= 1


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One row, a blank between two columns."""
    return columns(cells, [width + 1 for width in widths], texts=len(widths)).rstrip()
