"""The figures that the exports share: medians of cells with their spread, session facts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import TypeGuard

from pytest_espperf.model.artifact import CellAggregate, PathAggregate, PhaseReport, SessionArtifact, Summary
from pytest_espperf.model.registry import METRICS, OWN, Metric, find_metric, rate_unit
from pytest_espperf.report.clock import moment_of

GREATEST = 1e15
"""Figures above it are left out: a file from elsewhere may hold any float, and sums of them no sense."""


@dataclass(frozen=True)
class Figure:
    """One metric of a cell, or of one of its paths, over the planned runs; values in the metric's unit.

    Attributes:
        path: "" for all paths together.
        low, high: the least and the greatest of the runs.
        runs: how many there were.
    """

    profile: str
    phase: str
    path: str
    metric: Metric
    median: float
    low: float
    high: float
    runs: int

    @property
    def cell(self) -> str:
        """Name of the cell, ``profile:phase``."""
        return f"{self.profile}:{self.phase}"

    @property
    def is_own(self) -> bool:
        """Whether it is one of the firmware's own: then ``profile`` is ``figure``, and ``phase`` its name."""
        return self.metric.name not in METRICS

    @property
    def name(self) -> str:
        """Name for people: ``shop:burst p95``, ``figure:boot_ms``."""
        return self.cell if self.is_own else f"{self.cell} {self.metric.label}"

    @property
    def key(self) -> str:
        """Name for programs: ``shop:burst.p95_ms``, ``figure:boot_ms``."""
        return self.cell if self.is_own else f"{self.cell}.{self.metric.name}"


def usable(value: float | None) -> TypeGuard[float]:
    """Whether a figure exists and can be calculated with."""
    return value is not None and math.isfinite(value) and abs(value) <= GREATEST


def cells(session: SessionArtifact) -> list[CellAggregate]:
    """List the session's cells, each profile and phase once."""
    unique: dict[tuple[str, str], CellAggregate] = {}
    for cell in session.aggregated.values():
        unique.setdefault((cell.profile, cell.phase), cell)
    return list(unique.values())


def figures(session: SessionArtifact, *, paths: bool = False) -> Iterator[Figure]:
    """Every figure that has a median, phase by phase, then the firmware's own; of paths where asked for."""
    for cell in cells(session):
        yield from _figures_of(cell, "", cell)
        if paths:
            for path, aggregate in cell.path_metrics.items():
                if path:
                    yield from _figures_of(cell, path, aggregate)
    for name, figure in session.figures.items():
        values = [value for value in figure.values if usable(value)]
        if values:
            yield Figure(
                profile=OWN,
                phase=name,
                path="",
                metric=figure.metric(name),
                median=median(values),
                low=min(values),
                high=max(values),
                runs=len(values),
            )


def _figures_of(cell: CellAggregate, path: str, aggregate: CellAggregate | PathAggregate) -> Iterator[Figure]:
    for name, metric in METRICS.items():
        summary: Summary | None = (
            aggregate.summary(name)
            if isinstance(aggregate, CellAggregate)
            else getattr(aggregate, name, None)
        )
        if summary is None or not usable(summary.median):
            continue
        ends = [end for end in (summary.median, summary.best, summary.worst) if usable(end)]
        yield Figure(
            profile=cell.profile,
            phase=cell.phase,
            path=path,
            metric=find_metric(name, rate_unit((aggregate.kind,))) or metric,
            median=summary.median,
            low=min(ends),
            high=max(ends),
            runs=cell.sample_count,
        )


def planned_reports(session: SessionArtifact, profile: str, phase: str) -> list[tuple[int, PhaseReport]]:
    """List the planned runs of a cell with their index, those that its medians are made of."""
    return [
        (run.run_index, result.report)
        for run in session.raw_runs
        if run.role == "run"
        for result in run.results
        if (result.profile, result.phase) == (profile, phase)
    ]


def began(session: SessionArtifact) -> datetime | None:
    """When the session began, in UTC; None where its time is not written as this package writes it."""
    return moment_of(session.timestamp_utc)


def board_of(session: SessionArtifact) -> str:
    """Return the board's identity, or where it was reached."""
    fields = session.comparability.fields if session.comparability is not None else {}
    return str(fields.get("board") or session.target)


def properties(session: SessionArtifact) -> list[tuple[str, str]]:
    """List names and values of a session: what it was, its verdict, the medians of its cells."""
    facts = [
        ("session_id", session.session_id),
        ("tag", session.tag),
        ("board", board_of(session)),
        ("verdict", session.gate.kind if session.gate is not None else ""),
        ("overall_pass", str(session.overall_pass).lower()),
    ]
    medians = [(figure.key, f"{figure.median:.6g}") for figure in figures(session)]
    return [(f"espperf.{name}", value) for name, value in facts + medians if value]
