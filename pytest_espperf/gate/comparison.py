"""Two sessions side by side, by the gate's comparability and plain rules. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from msgspec import structs

from pytest_espperf.errors import UsageError
from pytest_espperf.gate import GatePolicy
from pytest_espperf.gate.baseline import PROFILES, profiles_of
from pytest_espperf.gate.changes import (
    Limits,
    gate_limits,
    more_errors,
    profile_changes,
    readings_of,
    spread_limit,
)
from pytest_espperf.gate.differences import differing
from pytest_espperf.gate.own import comparable, own_plain_rows
from pytest_espperf.gate.policy import worse_by
from pytest_espperf.gate.rows import pct, plain_rows
from pytest_espperf.gate.series import COMPOSITES
from pytest_espperf.model.artifact import CellAggregate, Json, PathAggregate, SessionArtifact
from pytest_espperf.model.comparison import (
    COLUMNS,
    ComparedCell,
    ComparedFigure,
    Comparison,
    Difference,
    Figures,
    RuleResult,
)
from pytest_espperf.model.gates import POINTS
from pytest_espperf.model.registry import METRICS, Metric, own_gate, rate_unit

_MOST_LOG_RATIO = 600.0
"""Beyond it a change in percent is more than a number holds."""

Rules = Sequence[tuple[str, float]]


def compare(a: SessionArtifact, b: SessionArtifact, rules: Rules = ()) -> Comparison:
    """Session B against session A.

    Args:
        a: the one to compare with.
        b: the one that is compared.
        rules: ``(metric, percent)`` as of ``--perf-fail-on``: what B may be worse by.

    Raises:
        UsageError: there are rules, and the two are not comparable or have no figure for one of them; or one
            of the sessions compares firmwares.
    """
    for which, session in (("A", a), ("B", b)):
        if session.contest is not None:
            raise UsageError(
                f"{which}, {session.session_id}, compares firmwares: it has the figures of several, and its "
                f"own answer (espperf show {session.session_id[:8]})"
            )
    unknown = _unknown(a, b)
    comparison = Comparison(
        a=a,
        b=b,
        unknown=unknown,
        differences=() if unknown else tuple(_differences(a, b)),
        cells=tuple(_cells(a, b)),
        only_a=tuple(_lacking(a, b)),
        only_b=tuple(_lacking(b, a)),
        figures=tuple(_figures(a, b)),
    )
    if comparison.comparable:
        comparison = _with_noise(comparison)
    if not rules:
        return comparison
    if not comparison.comparable:
        raise UsageError(f"no rule can be applied to these sessions: {comparison.why_not()}")
    return replace(comparison, rules=tuple(_apply(a, b, rules)))


def _with_noise(comparison: Comparison) -> Comparison:
    """Add what of the changes is noise."""
    a, b = comparison.a, comparison.b
    limits = gate_limits(a, b)
    return replace(
        comparison,
        profiles=tuple(profile_changes(a, b, limits)),
        cells=tuple(_against_noise(a, b, cell, limits) for cell in comparison.cells),
    )


def _against_noise(
    a: SessionArtifact, b: SessionArtifact, cell: ComparedCell, limits: Limits
) -> ComparedCell:
    then, now = (readings_of(session, cell.cell, cell.path) for session in (a, b))
    profile = b.aggregated[cell.cell].profile
    noise = {
        metric: max(limits.get(f"{profile}:{metric}", 0.0), spread_limit(then[metric], now[metric]))
        for metric in COMPOSITES
        if then[metric] and now[metric]
    }
    return replace(
        cell,
        noise={metric: pct(limit) for metric, limit in noise.items()},
        beyond_noise=more_errors(then.counted, now.counted)
        or more_errors(now.counted, then.counted)
        or any((cell.a[metric] is None) != (cell.b[metric] is None) for metric in COMPOSITES)
        or any(_beyond(cell.slower[metric], limit) for metric, limit in noise.items()),
    )


def _beyond(slower_pct: float | None, limit: float) -> bool:
    return slower_pct is not None and slower_pct > -100 and abs(math.log1p(slower_pct / 100)) > limit


def _unknown(a: SessionArtifact, b: SessionArtifact) -> str:
    for which, session in (("A", a), ("B", b)):
        if session.comparability is None:
            return f"{which} has no record of what was measured"
    if not set(profiles_of(a)) & set(profiles_of(b)):
        return "they have no profile in common"
    return ""


def _differences(a: SessionArtifact, b: SessionArtifact) -> Iterator[Difference]:
    """Compare the facts that have to be equal; of profiles, those that both have."""
    common = [profile for profile in profiles_of(b) if profile in profiles_of(a)]
    then, now = _facts(a, common), _facts(b, common)
    for name in differing(now, then):
        yield Difference(field=name, a=then.get(name), b=now.get(name))


def _facts(session: SessionArtifact, profiles: Sequence[str]) -> Json:
    assert session.comparability is not None
    facts = dict(session.comparability.fields)
    own = facts.pop(PROFILES, None)
    shared = {name: own.get(name) for name in profiles} if isinstance(own, dict) else {}
    return _flat({**facts, PROFILES: shared})


def _flat(fields: Json, prefix: str = "") -> Json:
    """Nested facts by the dotted path to each, so that the one that differs is named."""
    flat: Json = {}
    for name, value in fields.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {}
        flat |= inner or {f"{prefix}{name}": value}
    return flat


def _cells(a: SessionArtifact, b: SessionArtifact) -> Iterator[ComparedCell]:
    cells = [
        _compared(name, "", a.aggregated[name], cell)
        for name, cell in b.aggregated.items()
        if name in a.aggregated
    ]
    for cell in sorted(cells, key=_worst_first):
        yield cell
        then, now = a.aggregated[cell.cell].path_metrics, b.aggregated[cell.cell].path_metrics
        paths = [_compared(cell.cell, path, then[path], share) for path, share in now.items() if path in then]
        yield from sorted(paths, key=_worst_first)


def _compared(
    cell: str, path: str, before: CellAggregate | PathAggregate, after: CellAggregate | PathAggregate
) -> ComparedCell:
    then, now = _medians(before), _medians(after)
    slower = {metric: _slower(metric, then[metric], now[metric]) for metric in COLUMNS}
    unit = rate_unit((before.kind, after.kind))
    return ComparedCell(cell=cell, path=path, a=then, b=now, slower=slower, unit=unit)


def _medians(figures: CellAggregate | PathAggregate) -> Figures:
    return {metric: getattr(figures, metric).median for metric in COLUMNS}


def _slower(metric: str, before: float | None, after: float | None) -> float | None:
    """Compute the change as in gate rows: of a ratio in percent, slower positive; of errors in points."""
    if before is None or after is None:
        return None
    if metric == POINTS:
        return worse_by(metric, before, after)
    if before <= 0 or after <= 0:
        return None
    faster = math.log(before) - math.log(after)
    if abs(faster) > _MOST_LOG_RATIO:
        return None
    return pct(faster if METRICS[metric].better == "higher" else -faster)


def _figures(a: SessionArtifact, b: SessionArtifact) -> Iterator[ComparedFigure]:
    """Compare what only some phases have, in the cells of both, and then the firmware's own figures."""
    for name, cell in b.aggregated.items():
        then = a.aggregated.get(name)
        for metric in (one for one in METRICS if then is not None and METRICS[one].only_some):
            before = then.summary(metric).median if then is not None else None
            after = cell.summary(metric).median
            if before is not None or after is not None:
                yield _figure(name, METRICS[metric], before, after)
    for name in dict.fromkeys([*b.figures, *a.figures]):
        before_one, after_one = a.figures.get(name), b.figures.get(name)
        shown = after_one or before_one
        assert shown is not None
        alike = before_one is not None and comparable(shown, before_one)
        yield _figure(
            own_gate(name),
            shown.metric(name),
            before_one.median if before_one is not None and alike else None,
            after_one.median if after_one is not None else None,
        )


def _figure(name: str, metric: Metric, before: float | None, after: float | None) -> ComparedFigure:
    slower = None
    if before is not None and after is not None and min(before, after) > 0:
        faster = math.log(before) - math.log(after)
        slower = pct(faster if metric.better == "higher" else -faster)
    return ComparedFigure(name, metric.name, metric.unit, metric.better, before, after, slower)


def _worst_first(cell: ComparedCell) -> float:
    """By what the gate judges of every profile, and by errors where they rose: p99 hangs on few requests."""
    changes = [value for metric in COMPOSITES if (value := cell.slower[metric]) is not None]
    more_errors = cell.slower[POINTS] or 0.0
    return -max([*changes, *([more_errors] if more_errors > 0 else [])], default=0.0)


def _lacking(having: SessionArtifact, other: SessionArtifact) -> Iterator[str]:
    """Cells and paths that only one of the two has."""
    for name, cell in having.aggregated.items():
        counterpart = other.aggregated.get(name)
        if counterpart is None:
            yield name
        else:
            yield from (
                f"{name} {path}" for path in cell.path_metrics if path not in counterpart.path_metrics
            )


def _apply(a: SessionArtifact, b: SessionArtifact, rules: Rules) -> Iterator[RuleResult]:
    """Each rule on each cell that A has a figure for; where B has none, it is broken."""
    # Whose firmware B's own A/B pairs were measured against is not known: they excuse nothing here.
    b = structs.replace(b, raw_runs=[run for run in b.raw_runs if run.role in ("run", "confirm")])
    for metric, limit in dict.fromkeys(rules):
        rule = f"{metric}:{limit:g}%"
        policy = GatePolicy(fail_on=((metric, limit),))
        applied = False
        for expected in own_plain_rows(a, [a], policy):
            applied = True
            own = next(iter(own_plain_rows(b, [a], policy)), None)
            detail = f"rule {rule}: A has {expected.now:,.6g}, B has no such figure"
            yield RuleResult(
                expected.name,
                rule,
                broken=own is None or own.verdict == "regressed",
                detail=detail if own is None else own.detail,
            )
        for profile in profiles_of(b):
            found = {row.name: row for row in plain_rows(b, profile, a, policy)}
            for expected in plain_rows(a, profile, a, policy):
                applied = True
                row = found.get(expected.name)
                if row is None:
                    detail = f"rule {rule}: A has {expected.now:,.1f}, B has no such figure"
                    yield RuleResult(expected.name, rule, broken=True, detail=detail)
                else:
                    yield RuleResult(row.name, rule, broken=row.verdict == "regressed", detail=row.detail)
        if not applied:
            raise UsageError(f"the rule {rule} can be applied to nothing: A has no such figure")
