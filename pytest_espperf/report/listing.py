"""The table of sessions, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_espperf.model.text import printable
from pytest_espperf.model.verdicts import mood_of
from pytest_espperf.report.layout import Line, columns
from pytest_espperf.report.view import signed_pct

SHOWN_OF_AN_ID = 8

_HEAD = ("time (UTC)", "id", "verdict", "board", "tag", "slower")
_CAN_SHRINK = (_HEAD.index("board"), _HEAD.index("tag"))
_LEAST = 8


@dataclass(frozen=True)
class ListedSession:
    """One session of a listing.

    Attributes:
        time: its stamp, ``20260131T235959Z``.
        worst_pct: the worst change of its gates in percent, slower positive; None where it has none.
        standing: ``held-back`` or ``provisional`` where its verdict does not say whether it is a baseline.
        copies: how many other files hold the same session.
    """

    time: str
    session_id: str
    verdict: str
    board: str
    tag: str
    worst_pct: float | None = None
    accepted: bool = False
    pinned: bool = False
    standing: str = ""
    copies: int = 0


def render_listing(sessions: Iterable[ListedSession], *, width: int | None = None) -> list[Line]:
    """Render the table, head first, in the order given.

    Args:
        sessions: to be listed.
        width: columns to keep to where board and tag can be cut for it; None: nothing is cut.
    """
    rows = [(_cells(session), mood_of(session.verdict)) for session in sessions]
    widths = [max(map(len, column)) for column in zip(_HEAD, *(cells for cells, _ in rows), strict=True)]
    if width is not None:
        _shrink(widths, width)
    head = Line(_joined(_HEAD, widths), bold=True)
    return [head, *(Line(_joined(cells, widths), mood) for cells, mood in rows)]


def _cells(session: ListedSession) -> tuple[str, ...]:
    marks = "".join(
        f"+{mark}"
        for mark, given in (
            (session.standing, session.standing and not session.accepted),
            ("accepted", session.accepted),
            ("pinned", session.pinned),
            (f"{session.copies} cop{'ies' if session.copies > 1 else 'y'}", session.copies),
        )
        if given
    )
    cells = (
        session.time,
        session.session_id[:SHOWN_OF_AN_ID],
        session.verdict + marks,
        session.board,
        session.tag,
        signed_pct(session.worst_pct),
    )
    return tuple(map(printable, cells))


def _shrink(widths: list[int], width: int) -> None:
    """Cut the wider of board and tag, as far as there is something to cut."""
    while sum(widths) + len(widths) - 1 > width:
        wider = max(_CAN_SHRINK, key=widths.__getitem__)
        if widths[wider] <= _LEAST:
            return
        widths[wider] -= 1


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One row, a blank between two columns."""
    *texts, last = widths
    return columns(cells, [*(width + 1 for width in texts), last], texts=len(texts))
