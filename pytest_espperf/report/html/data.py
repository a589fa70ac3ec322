"""The data that the HTML pages are drawn from. :mod:`pytest_espperf.output` gathers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_espperf.model.artifact import PhaseReport, SessionArtifact
from pytest_espperf.model.registry import OWN, Metric, find_metric

PointKind = Literal["history", "accepted", "pinned", "doubtful", "failing", "elsewhere"]
"""How a session stands: part of the history, decided upon, unclear, or failed here or elsewhere.

``trend.js`` knows them by their place in this list.
"""

OTHER_WORKLOAD = "other settings"
"""What a point opens whose session had another workload than the one before it."""

Curve = Sequence[tuple[float, float]]
"""``(percentile, milliseconds)``, ascending."""


@dataclass(frozen=True)
class TrendSession:
    """One session of a history, in a few words.

    Attributes:
        file: its file name in the history; it identifies the session on a page.
        when: its time, for people.
        moment: its time, for programs, as ``2026-01-31T23:59:59Z``.
        session_id: of the session.
        board: which it was measured on.
        tag: "" where it has none.
        verdict: the session's word.
        commit, firmware: "" where unknown; a commit is short.
        worst_pct: the worst change of a gate, slower positive; None where none was judged.
        is_this: the session of the report.
        link: URL of its own report, relative to the page; "" where there is none.
    """

    file: str
    when: str
    session_id: str = ""
    board: str = ""
    tag: str = ""
    verdict: str = ""
    commit: str = ""
    firmware: str = ""
    worst_pct: float | None = None
    is_this: bool = False
    link: str = ""
    moment: str = ""

    @property
    def name(self) -> str:
        """Name for people: the tag, or the beginning of the id."""
        return self.tag or self.session_id[:8]


@dataclass(frozen=True)
class TrendPoint:
    """One session at one gate.

    Attributes:
        session: whose point it is.
        value: in the metric's unit.
        verdict: of this gate, "" where it was not judged.
        kind: how the session stands to the history.
        baseline: what it was compared with; None where with nothing.
        limit: the value from which on it would have been called slower.
        d_pct: its change, slower positive.
        opens: why earlier sessions are no longer the baseline from here on; "" where they are.
    """

    session: TrendSession
    value: float
    kind: PointKind
    verdict: str = ""
    baseline: float | None = None
    limit: float | None = None
    d_pct: float | None = None
    opens: str = ""

    @property
    def words(self) -> str:
        """Verdict of the gate, with that of the session where it is another one."""
        own, all_in_all = self.verdict, self.session.verdict
        return f"{own} (session: {all_in_all})" if own and own != all_in_all else all_in_all


@dataclass(frozen=True)
class LevelChange:
    """A session at which the level of a gate changed.

    Attributes:
        at: place of its point: the first one of the new level.
        before, after: the levels, in the metric's unit.
        d_pct: their difference in percent, slower positive.
        confidence: from 0 to 1, that it is no chance.
    """

    at: int
    before: float
    after: float
    d_pct: float
    confidence: float


@dataclass(frozen=True)
class Trend:
    """The history of one gate on one board, oldest first.

    Of a firmware's own figure the profile is "", and unit and direction are given; of a throughput that
    counts no requests its unit.

    Attributes:
        changes: where its level changed, oldest first.
    """

    board: str
    profile: str
    metric: str
    points: tuple[TrendPoint, ...]
    unit: str = ""
    better: str = ""
    changes: tuple[LevelChange, ...] = ()

    @property
    def group(self) -> str:
        """The profile; of an own figure what stands in its place."""
        return self.profile or OWN

    @property
    def name(self) -> str:
        """Name of the gate: ``python_heavy:p95_ms``, ``figure:boot_ms``."""
        return f"{self.group}:{self.metric}"

    @property
    def described(self) -> Metric:
        """Label, unit and direction of its metric."""
        found = find_metric(self.metric, self.unit, self.better or "lower")
        assert found is not None
        return found


@dataclass(frozen=True)
class HistoryPage:
    """Every session and every gate of a history.

    Attributes:
        sessions: oldest first.
        trends: one for each gate of each board.
    """

    sessions: tuple[TrendSession, ...] = ()
    trends: tuple[Trend, ...] = ()


@dataclass(frozen=True)
class Distribution:
    """The latencies of one cell, all runs together: now, and in the baseline ([] where none)."""

    cell: str
    now: Curve
    baseline: Curve


@dataclass(frozen=True)
class Course:
    """One cell over its runs: ``(label, report)`` in the order in which they were driven."""

    cell: str
    runs: tuple[tuple[str, PhaseReport], ...]


@dataclass(frozen=True)
class Excerpt:
    """Lines of the serial log around an event."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class ReportData:
    """A session and what stands around it.

    Attributes:
        session: with its verdict.
        compared: the sessions of its baseline that are in the history, oldest first.
        trends: one for each gate.
        distributions: one for each cell.
        courses: likewise.
        excerpts: of the serial log.
        left_out: sessions of the history that are too old to be drawn.
    """

    session: SessionArtifact
    compared: tuple[TrendSession, ...] = ()
    trends: tuple[Trend, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    courses: tuple[Course, ...] = ()
    excerpts: tuple[Excerpt, ...] = ()
    left_out: int = 0
