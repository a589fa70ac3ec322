"""The gates of a firmware's own figures: boot time, file sizes, lines of its console, values of tests. Pure.

A session has one value of each: the median of its values, which need not be of one kind (a gauge is read
behind every phase), so that only the movement from session to session is known. With ``y`` the logarithm,
slower larger, of H sessions of the baseline, ``d`` the candidate's minus their median::

    v  = max(variance of the baseline's y, 0.02^2)
    s2 = v (1 + c_H),  df = H - 1
    T  = max(ln 1.05, t[1 - alpha_g; df] s)          slower where d > T
    U  = d + t[0.95; df] s                           a slowdown of more than U is excluded

Below :data:`pytest_espperf.gate.policy.FIGURE_SESSIONS` sessions, and where U is beyond the tolerance, the
gate is ``not-gateable``, with the reason: it says nothing, and keeps no session from being ``unchanged``. All
such gates have together the alpha of one more profile, in equal parts.

The size of a file does not move by chance. It is compared exactly, with a small floor, from the first session
on. Values of zero or less have no ratio: they are ``not-gateable``, and a budget or a floor can watch them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from statistics import median

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.noise import centre_variance
from pytest_espperf.gate.rows import pct, printed
from pytest_espperf.gate.series import ProfileRounds, phases_with, rounds_of
from pytest_espperf.gate.stats import NINE_IN_TEN, t_quantile, variance
from pytest_espperf.model.artifact import FAIL_ON_RULE, OWN_RULE, Finding, GateRow, OwnFigure, SessionArtifact
from pytest_espperf.model.findings import BUDGET, FIGURES
from pytest_espperf.model.registry import GATED_FIGURES, OWN, Metric, own_gate
from pytest_espperf.model.verdicts import NOT_GATEABLE

EXACT_SOURCE = "file"
"""Source of figures that do not move by chance."""

OF_PATHS = ("upload_mb_s", "download_mb_s")
"""Figures of phases that hang on which paths were requested."""

NAMED_MOST = 5
"""Names in one sentence; the others are counted."""


@dataclass(frozen=True)
class OwnSeries:
    """A figure of the firmware's own in the candidate and in the sessions of the baseline.

    Attributes:
        name: its name.
        figure: the candidate's.
        past: the value of each session of the baseline that can be compared, oldest first.
    """

    name: str
    figure: OwnFigure
    past: tuple[float, ...]

    @property
    def now(self) -> float:
        """The candidate's value."""
        assert self.figure.median is not None
        return self.figure.median

    @property
    def metric(self) -> Metric:
        """Its unit and direction."""
        return self.figure.metric(self.name)

    @property
    def exact(self) -> bool:
        """Whether it does not move by chance."""
        return self.figure.source == EXACT_SOURCE

    @property
    def refusal(self) -> str:
        """Why it cannot be judged, "" where it can."""
        if not self.past:
            return "no earlier session has it"
        if self.now <= 0 or min(self.past) <= 0:
            which = "its value is" if self.now <= 0 else "earlier sessions have a value of"
            return f"{which} zero or less, and has no ratio: set a budget (--perf-figure-limit)"
        if not self.exact and len(self.past) < p.FIGURE_SESSIONS:
            many = f"{len(self.past)} earlier session{'s have' if len(self.past) > 1 else ' has'} it"
            return f"{many}, {p.FIGURE_SESSIONS} are needed to know how it moves"
        return ""

    @property
    def centre(self) -> float:
        """The baseline's value."""
        return median(self.past)

    def shift(self, before: float) -> float:
        """Compute the log ratio of the change from a value, for the worse positive."""
        ratio = math.log(self.now) - math.log(before)
        return -ratio if self.metric.better == "higher" else ratio


def comparable(figure: OwnFigure, earlier: OwnFigure) -> bool:
    """Whether a figure of an earlier session is the same, and has values."""
    return bool(earlier.values) and (figure.unit, figure.better) == (earlier.unit, earlier.better)


def own_series(candidate: SessionArtifact, baseline: Sequence[SessionArtifact]) -> list[OwnSeries]:
    """Pair the candidate's own figures with those of the sessions of the baseline, oldest first."""
    return [
        OwnSeries(
            name,
            figure,
            tuple(
                value
                for session in baseline
                if (earlier := session.figures.get(name)) is not None
                and comparable(figure, earlier)
                and (value := earlier.median) is not None
            ),
        )
        for name, figure in candidate.figures.items()
        if figure.values
    ]


def count_noisy(series: Sequence[OwnSeries]) -> int:
    """Count the figures that are judged by chance, and so take part of what all gates share."""
    return sum(not one.refusal and not one.exact for one in series)


def own_rows(series: Sequence[OwnSeries], policy: p.GatePolicy, alpha: float) -> list[GateRow]:
    """Make the row of each figure.

    Args:
        series: of all figures.
        policy: how to judge.
        alpha: chance of a false alarm that they have together.
    """
    share = alpha / max(1, count_noisy(series))
    return [_row(one, policy, share) for one in series]


def _row(series: OwnSeries, policy: p.GatePolicy, alpha: float) -> GateRow:
    metric = series.metric
    row = {
        "name": own_gate(series.name),
        "metric": series.name,
        "rule": OWN_RULE,
        "now": series.now,
        "sessions": len(series.past),
        "unit": metric.unit,
        "better": metric.better,
    }
    if series.past:
        row["baseline"] = series.centre
    if series.refusal:
        return GateRow(**row, verdict=NOT_GATEABLE, detail=series.refusal)  # type: ignore[arg-type] # as named
    d = series.shift(series.centre)
    floor = policy.min_effect.get(own_gate(series.name))
    moved = abs(series.now - series.centre)
    row["d_pct"] = pct(d)
    if series.exact:
        beyond = moved > floor if floor is not None else abs(d) > p.EXACT_MIN_CHANGE
        word = "unchanged" if not beyond or not d else "regressed" if d > 0 else "improved"
        limit = pct(p.EXACT_MIN_CHANGE) if floor is None else 100.0 * floor / series.centre
        return GateRow(
            **row,  # type: ignore[arg-type] # as named
            verdict=word,
            threshold_pct=printed(limit),
            smallest_detectable_pct=printed(limit),
            at_most_pct=printed(max(0.0, pct(d))),
        )
    free = len(series.past) - 1
    logs = [math.log(value) for value in series.past]
    spread = max(variance(logs), p.PRIOR_SESSION_SIGMA**2)
    sigma = math.sqrt(spread * (1.0 + centre_variance(len(series.past))))
    threshold = max(p.MIN_CHANGE, t_quantile(alpha, free) * sigma)
    at_most = d + t_quantile(p.EXCLUDED_TAIL, free) * sigma
    word, detail = _word(d, threshold, at_most, policy)
    if word != "unchanged" and floor is not None and moved <= floor:
        word, detail = "unchanged", "beyond the noise, but below the absolute floor that was asked for"
    return GateRow(
        **row,  # type: ignore[arg-type] # as named
        verdict=word,
        threshold_pct=printed(pct(threshold)),
        smallest_detectable_pct=printed(pct(threshold)),
        reliable_pct=printed(pct(threshold + NINE_IN_TEN * sigma)),
        at_most_pct=printed(pct(at_most)),
        detail=detail,
    )


def _word(d: float, threshold: float, at_most: float, policy: p.GatePolicy) -> tuple[str, str]:
    """Choose the verdict of a figure that moves by chance, and its reason."""
    if d > threshold:
        return "regressed", ""
    if d < -threshold:
        return "improved", ""
    if at_most > math.log1p(policy.tolerance):
        least = printed(pct(threshold))
        only = "" if least is None else f": only {least:.0f} % or more would stand out"
        return NOT_GATEABLE, f"it moves too much from session to session{only}"
    return "unchanged", ""


def own_plain_rows(
    candidate: SessionArtifact, baseline: Sequence[SessionArtifact], policy: p.GatePolicy
) -> list[GateRow]:
    """Apply the rules of ``--perf-fail-on`` that name own figures, against the baseline's last session."""
    rows = []
    for rule, limit in policy.fail_on:
        name = rule.removeprefix(f"{OWN}:")
        figure = candidate.figures.get(name) if rule != name else None
        if figure is None or not baseline:
            continue
        for series in own_series(candidate, baseline[-1:]):
            if series.name != name or not series.past or series.past[-1] <= 0:
                continue
            before = series.past[-1]
            worse = before - series.now if figure.better == "higher" else series.now - before
            change = 100.0 * worse / before
            broken = change > limit and worse > policy.min_effect.get(rule, 0.0)
            rows.append(
                GateRow(
                    name=f"{rule}:fail-on",
                    metric=name,
                    rule=FAIL_ON_RULE,
                    verdict="regressed" if broken else "unchanged",
                    d_pct=change,
                    threshold_pct=limit,
                    baseline=before,
                    now=series.now,
                    sessions=1,
                    unit=figure.unit,
                    better=figure.better,
                    detail=f"rule {rule}:{limit:g}%: {change:+.1f} %" if broken else "",
                )
            )
    return rows


def figure_rule_findings(candidate: SessionArtifact, policy: p.GatePolicy) -> Iterator[Finding]:
    """Report the rules and floors that name an own figure without a value: they are no rules at all."""
    yield from _without_value(candidate, dict(policy.fail_on), "a rule (--perf-fail-on)")
    yield from _without_value(candidate, policy.min_effect, "a floor (--perf-min-effect)")


def _without_value(candidate: SessionArtifact, named: Iterable[str], what: str) -> Iterator[Finding]:
    """Report the own figures among some metrics that have no value, in a session that was measured whole."""
    if candidate.partial or not candidate.raw_runs:
        return
    for where in named:
        name = where.removeprefix(f"{OWN}:")
        figure = candidate.figures.get(name)
        if name != where and (figure is None or figure.median is None):
            message = f"{where} has {what}, and no value in this session."
            yield Finding(severity="warn", kind=FIGURES, where=where, message=message)


def figure_budget_findings(candidate: SessionArtifact) -> Iterator[Finding]:
    """Report the own figures that exceed their absolute budgets, and those with one and without a value."""
    yield from _without_value(candidate, candidate.thresholds, "a budget (--perf-figure-limit)")
    for where, limit in candidate.thresholds.items():
        name = where.removeprefix(f"{OWN}:")
        figure = candidate.figures.get(name) if name != where else None
        if figure is None or figure.median is None:
            continue
        value, metric = figure.median, figure.metric(name)
        if value > limit if figure.better == "lower" else value < limit:
            side = "above" if figure.better == "lower" else "below"
            message = f"{where}: {metric.format(value)} is {side} the budget of {metric.format(limit)}"
            yield Finding(severity="fail", kind=BUDGET, where=where, message=message)


def own_findings(
    candidate: SessionArtifact, baseline: Sequence[SessionArtifact], profiles: Sequence[ProfileRounds]
) -> Iterator[Finding]:
    """Name figures that the newest session of the baseline had and this one lacks, or the reverse.

    Args:
        candidate: the session.
        baseline: its sessions, oldest first.
        profiles: the candidate's, with the sessions of their epochs.
    """
    if baseline:
        yield from _own_changes(candidate, baseline)
    for one in profiles:
        if one.epoch:
            yield from _phase_changes(candidate, one.epoch[-1], one.profile)


def _own_changes(candidate: SessionArtifact, baseline: Sequence[SessionArtifact]) -> Iterator[Finding]:
    now, then = candidate.figures, baseline[-1].figures
    if gone := [own_gate(name) for name in then if name not in now]:
        yield Finding(
            severity="warn",
            kind=FIGURES,
            message=f"{_named(gone)}: the last session of the baseline has it, and this one does not.",
        )
    if new := [own_gate(name) for name in now if not any(name in session.figures for session in baseline)]:
        yield Finding(kind=FIGURES, message=f"{_named(new)}: new, so that there is nothing to compare with.")
    for name, figure in now.items():
        earlier = then.get(name)
        if earlier is not None and not comparable(figure, earlier):
            yield Finding(
                severity="warn",
                kind=FIGURES,
                where=own_gate(name),
                message=f"{own_gate(name)} was in {_kind(earlier)} before, and is in {_kind(figure)} now: "
                "not compared with those sessions.",
            )


def _phase_changes(candidate: SessionArtifact, last: SessionArtifact, profile: str) -> Iterator[Finding]:
    """Name gated figures of phases that only one of two sessions has, in a profile that both have."""
    for metric in GATED_FIGURES:
        now, then = set(phases_with(candidate, profile, metric)), set(phases_with(last, profile, metric))
        short = _too_short((candidate, last), profile, now ^ then) if metric in OF_PATHS else ()
        if short:
            yield Finding(
                severity="warn" if then - now else "info",
                kind=FIGURES,
                where=profile,
                message=f"{profile}:{metric} is not compared in {_named(sorted(short))}, which is too short "
                "for its paths: in some runs not each of them was requested. Measure longer "
                "(--perf-long-duration, or duration_s of the phase).",
            )
            now, then = now - short, then - short
        if then - now:
            yield Finding(
                severity="warn",
                kind=FIGURES,
                where=profile,
                message=f"{profile}:{metric}: the last session of the baseline has it in "
                f"{_named(sorted(then))}, this one "
                f"{f'in {_named(sorted(now))}' if now else 'has none'}.",
            )
        elif now - then:
            yield Finding(
                kind=FIGURES,
                where=profile,
                message=f"{profile}:{metric} is new in {_named(sorted(now - then))}: "
                "nothing to compare with.",
            )


def _too_short(sessions: Iterable[SessionArtifact], profile: str, phases: AbstractSet[str]) -> set[str]:
    """Return the phases in which a path was requested in some runs and not in others."""
    asked: dict[str, list[set[str]]] = {}
    for session in sessions:
        for run in rounds_of(session, profile).values():
            for name in phases & run.keys():
                paths = run[name].report.path_metrics
                asked.setdefault(name, []).append({p for p, one in paths.items() if one.requests_total})
    return {name for name, runs in asked.items() if any(one != set.union(*runs) for one in runs)}


def _kind(figure: OwnFigure) -> str:
    more = "more" if figure.better == "higher" else "less"
    return f"{figure.unit or 'no unit'} ({more} is better)"


def _named(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMED_MOST} more" if len(listed) > NAMED_MOST else ""
    return f"{', '.join(listed[:NAMED_MOST])}{more}"
