"""The data that the HTML report is drawn from. :mod:`pytest_espperf.output.reports` gathers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_espperf.model.artifact import PhaseReport, SessionArtifact

PointKind = Literal["history", "failing", "elsewhere", "doubtful", "accepted", "pinned"]
"""How a session stands: part of the history, failed here or elsewhere, unclear, or decided upon."""

Curve = Sequence[tuple[float, float]]
"""``(percentile, milliseconds)``, ascending."""


@dataclass(frozen=True)
class TrendPoint:
    """One session at one gate.

    Attributes:
        when: its time, for people.
        value: in the metric's unit.
        verdict: the session's word.
        kind: how it stands to the history.
        name: its tag, or the beginning of its id.
        baseline: what it was compared with; None where with nothing.
        limit: the value from which on it would have been called slower.
        d_pct: its change, slower positive.
        opens_epoch: earlier sessions are no longer the baseline from here on.
        is_this: the session of the report.
    """

    when: str
    value: float
    verdict: str
    kind: PointKind
    name: str = ""
    baseline: float | None = None
    limit: float | None = None
    d_pct: float | None = None
    opens_epoch: bool = False
    is_this: bool = False


@dataclass(frozen=True)
class Trend:
    """The history of one gate, oldest first."""

    name: str
    metric: str
    points: tuple[TrendPoint, ...]


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
        trends: one for each gate.
        distributions: one for each cell.
        courses: likewise.
        excerpts: of the serial log.
        left_out: sessions of the history that are too old to be drawn.
    """

    session: SessionArtifact
    trends: tuple[Trend, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    courses: tuple[Course, ...] = ()
    excerpts: tuple[Excerpt, ...] = ()
    left_out: int = 0
