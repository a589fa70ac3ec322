"""The choice of the gate that stands for others where there is room for one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from pytest_espperf.model.artifact import (
    FAIL_ON_RULE,
    MAIN_RULE,
    GateRow,
    PhaseReport,
    SessionArtifact,
    Verdict,
)
from pytest_espperf.model.registry import METRICS, REQUEST_RATE, Metric, kind_of_path, rate_unit
from pytest_espperf.model.verdicts import NOT_GATEABLE, VERDICTS, rank

MAIN_METRIC = "rps_ok"
"""The metric that gives the size of a change where several changed alike: it is the steadiest."""

TAIL = "p99_ms"
"""The metric that is gated where there are requests enough."""

POINTS = "error_rate"
"""The metric whose change is given in percentage points: it is a percentage itself."""


def of_throughput(paced: Mapping[str, bool]) -> tuple[str, ...]:
    """Choose the phases (or cells) of a profile that its throughput is the mean of.

    Args:
        paced: of each whether a schedule or pauses, and not the board, set its pace: such a one tells next to
            nothing, and counts only where all are.
    """
    return tuple(name for name, flag in paced.items() if not flag) or tuple(paced)


def units_of(session: SessionArtifact) -> dict[str, str]:
    """Map each profile and cell (``profile:phase``) that counts something other than requests to its unit."""
    return {name: unit for name, unit in _all_units(session).items() if unit != REQUEST_RATE}


def _all_units(session: SessionArtifact) -> dict[str, str]:
    profiles: dict[str, dict[str, PhaseReport]] = {}
    for _, one in session.results():
        profiles.setdefault(one.profile, {})[one.phase] = one.report
    units = {}
    for profile, own in profiles.items():
        chosen = of_throughput({phase: report.paced for phase, report in own.items()})
        units[profile] = rate_unit(own[phase].kind for phase in chosen)
        units |= {f"{profile}:{phase}": rate_unit((report.kind,)) for phase, report in own.items()}
    return units


def with_units(rows: Iterable[GateRow], session: SessionArtifact) -> list[GateRow]:
    """Give gates of a throughput, of a profile or of one phase, the unit of what their session counts."""
    units = _all_units(session)

    def unit_of(row: GateRow) -> str:
        unit = units.get(row.name.rpartition(":")[0]) or units.get(row.profile, REQUEST_RATE)
        return unit if unit != REQUEST_RATE else ""

    return [
        structs.replace(row, unit=unit_of(row)) if row.metric == MAIN_METRIC and row.profile else row
        for row in rows
    ]


def with_counted(session: SessionArtifact) -> SessionArtifact:
    """Add to cells and gates of earlier versions what they count, as their reports say."""
    kinds = {
        f"{one.profile}:{one.phase}": one.report.kind
        for _, one in session.results()
        if one.report.kind != "requests"
    }
    aggregated = dict(session.aggregated)
    for name in aggregated.keys() & kinds.keys():
        cell, kind = aggregated[name], kinds[name]
        paths = {
            path: structs.replace(one, kind=kind_of_path(kind, place))
            for place, (path, one) in enumerate(cell.path_metrics.items())
        }
        aggregated[name] = structs.replace(cell, kind=kind, path_metrics=paths)
    gate = session.gate
    if kinds and gate is not None:
        gate = structs.replace(gate, gates=with_units(gate.gates, session))
    return structs.replace(session, aggregated=aggregated, gate=gate) if kinds else session


def change_of(row: GateRow) -> float | None:
    """Return the change of a gate as it is shown: see :func:`divided`; of errors in percentage points."""
    if row.metric == POINTS:
        return None if row.baseline is None or row.now is None else row.now - row.baseline
    return divided_pct(row, row.d_pct)


def divided(metric: Metric | None, slower_pct: float) -> float:
    """Convert a change, slower positive, so that a reader who divides the two values gets its size.

    A throughput that doubles takes 50 % less time, and is 100 % faster: whatever is shown says 100.
    """
    if metric is None or metric.better != "higher" or not -100 < slower_pct < 0:
        return slower_pct
    return 100 - 100 / (1 + slower_pct / 100)


def divided_pct(row: GateRow, slower_pct: float | None) -> float | None:
    """Convert a change of a gate, slower positive, to the scale of :func:`divided`; None stays.

    That of a rule of ``--perf-fail-on`` is in percent of the value before, as its limit is.
    """
    if slower_pct is None or row.rule == FAIL_ON_RULE:
        return slower_pct
    return divided(row.described, slower_pct)


def change_words(metric: Metric | None) -> tuple[str, str]:
    """Return the words for a change for the worse and the better: an own figure is not slower or faster."""
    own = metric is not None and metric.name not in METRICS
    return ("worse", "better") if own else ("slower", "faster")


def worst_first(gates: Iterable[GateRow]) -> list[GateRow]:
    """Sort gates: the worst verdict first, then the largest slowdown."""
    return sorted(gates, key=lambda row: (rank(row.verdict), -(row.d_pct or 0.0)))


def has_news(row: GateRow) -> bool:
    """Whether a gate was judged, and its verdict is not neutral."""
    return row.verdict in VERDICTS and not VERDICTS[row.verdict].neutral


def gate_of_profile(gates: Sequence[GateRow], profile: str) -> GateRow | None:
    """Choose the gate that stands for a profile: the worst; the throughput where its verdict is as bad.

    None where no gate of the profile has a change.
    """
    own = [row for row in worst_first(gates) if row.profile == profile and change_of(row) is not None]
    own = [row for row in own if _says_something(row)] or own
    alike = [row for row in own if row.verdict == own[0].verdict and has_news(row)]
    return next((row for row in alike if row.metric == MAIN_METRIC), own[0] if own else None)


def _says_something(row: GateRow) -> bool:
    """Whether a gate is not one of errors that are as many as before: these are the usual case."""
    return row.metric != POINTS or has_news(row) or bool(change_of(row))


def worst_gate(verdict: Verdict) -> GateRow | None:
    """Choose the gate that stands for a session: that of its worst profile; None where nothing was judged."""
    judged = [
        row
        for row in worst_first(verdict.gates)
        if row.verdict != NOT_GATEABLE and change_of(row) is not None
    ]
    judged = [row for row in judged if _says_something(row)] or judged
    if any(row.at_least_pct is not None for row in judged):
        # Of firmwares in pairs, those that the answer is about: "faster" is no gate's worst verdict.
        answer = [row for row in judged if row.rule == MAIN_RULE and row.metric != POINTS]
        judged = [row for row in answer if row.verdict == verdict.kind] or judged
    return gate_of_profile(judged, judged[0].profile) if judged else None
