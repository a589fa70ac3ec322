"""Two sessions side by side, phase by phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pytest_espperf.model.artifact import CellAggregate, PathAggregate, SessionArtifact
from pytest_espperf.model.registry import METRICS, REQUEST_RATE
from pytest_espperf.model.text import clip, printable

COLUMNS: tuple[str, ...] = tuple(
    name
    for name in METRICS
    if name in CellAggregate.__struct_fields__ and name in PathAggregate.__struct_fields__
)
"""The metrics that cells and paths have alike."""

_SHOWN_OF_A_VALUE = 40

Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class Difference:
    """A fact that has to be equal for a comparison, and is not; None where it is not recorded."""

    field: str
    a: object
    b: object


@dataclass(frozen=True)
class ComparedCell:
    """Medians of a cell, or of one of its paths.

    Attributes:
        cell: ``profile:phase``.
        path: "" for the cell as a whole.
        unit: of the throughput.
        a, b: metric of :data:`COLUMNS` -> median, in the metric's unit.
        slower: metric -> change from A to B in percent, slower positive; of
            :data:`~pytest_espperf.model.gates.POINTS` in percentage points; None where it is unknown.
        noise: metric -> change in percent, slower positive, up to which it is noise. Only of metrics that
            have such a limit, and of sessions that are comparable.
        beyond_noise: whether a change is larger, or errors rose or fell.
    """

    cell: str
    path: str
    a: Figures
    b: Figures
    slower: Figures
    noise: Figures = field(default_factory=dict)
    beyond_noise: bool = False
    unit: str = REQUEST_RATE


@dataclass(frozen=True)
class ComparedFigure:
    """A figure that only some phases have, or one of the firmware's own, in two sessions.

    Attributes:
        name: of the cell, ``profile:phase``; of an own figure ``figure:boot_ms``.
        metric: name of the metric.
        unit: of the values.
        better: which direction is better.
        a, b: medians; None where a session has none, or in another unit or direction.
        slower_pct: change from A to B, for the worse positive; None where it is unknown.
    """

    name: str
    metric: str
    unit: str
    better: str
    a: float | None
    b: float | None
    slower_pct: float | None


ChangeWord = Literal["worse", "better", "within-noise", "unknown"]


@dataclass(frozen=True)
class ProfileChange:
    """Change of one profile over all of its phases.

    Attributes:
        profile: its name.
        verdict: ``worse`` where it is slower than the noise explains or has more errors, ``better`` likewise,
            ``within-noise``, or ``unknown`` where one of the sessions has no figures of it.
        metric: the one that the change is given in; "" where only errors changed, or nothing is known.
        unit: of a throughput that counts no requests.
        a, b: its values, over the phases as a gate has them.
        slower_pct: its change in percent, slower positive.
        noise_pct: the slowdown up to which it is noise.
        errors: by how many percentage points errors rose or, negative, fell; None where that is no change.
    """

    profile: str
    verdict: ChangeWord
    metric: str = ""
    a: float | None = None
    b: float | None = None
    slower_pct: float | None = None
    noise_pct: float | None = None
    errors: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class RuleResult:
    """Result of a plain rule at one cell: ``name`` is ``profile:phase:metric``."""

    name: str
    rule: str
    broken: bool
    detail: str = ""


@dataclass(frozen=True)
class Comparison:
    """Comparison of session B with session A.

    Attributes:
        unknown: why it is unknown whether they are comparable; "" where nothing does.
        differences: what is not equal.
        cells: those that both have, each followed by its paths, the worst first.
        only_a, only_b: cells and paths (``profile:phase /path``) that one of the two has.
        rules: the result of each plain rule at each cell.
        profiles: the change of each profile that both have; empty where the sessions are not comparable.
        figures: what only some phases have, and the firmware's own.
    """

    a: SessionArtifact
    b: SessionArtifact
    unknown: str
    differences: tuple[Difference, ...]
    cells: tuple[ComparedCell, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    rules: tuple[RuleResult, ...] = ()
    profiles: tuple[ProfileChange, ...] = ()
    figures: tuple[ComparedFigure, ...] = ()

    @property
    def comparable(self) -> bool:
        """Whether figures of the two may be judged against each other."""
        return not self.unknown and not self.differences

    @property
    def broken(self) -> list[RuleResult]:
        """The rules that B breaks."""
        return [rule for rule in self.rules if rule.broken]

    def why_not(self) -> str:
        """Explain why they are not comparable, in one sentence; "" where they are."""
        if self.unknown:
            return self.unknown
        parts = [f"{one.field} ({_value(one.a)} in A, {_value(one.b)} in B)" for one in self.differences]
        return printable(f"they differ in {', '.join(parts)}") if parts else ""


def _value(value: object) -> str:
    return "not recorded" if value is None else clip(repr(value), _SHOWN_OF_A_VALUE)
