"""The rules that compare a profile with its bar: noise floor, confirmation, p99, errors, plain rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import msgspec

from pytest_espperf.artifact import GateRow, RunRole, SessionArtifact
from pytest_espperf.gate import policy as p
from pytest_espperf.gate.noise import Noise
from pytest_espperf.gate.pairs import pairs_result
from pytest_espperf.gate.series import TAIL, Series, natural, rounds_of


def pct(log_ratio: float) -> float:
    """A log ratio in percent: 0.0953 -> 10.0."""
    return 100.0 * math.expm1(log_ratio)


def _above_floor(series: Series, d: float, centre: float, policy: p.GatePolicy) -> bool:
    """Whether a change is larger than the user's absolute floor for the metric, either way."""
    floor = policy.min_effect.get(series.metric)
    if floor is None:
        return True
    moved = natural(centre + d, series.metric) - natural(centre, series.metric)
    return abs(moved) > floor


def _single_shot(d: float, noise: Noise, *, above_floor: bool) -> tuple[str, str]:
    """The word of the single-shot rule and what to say about it."""
    size = abs(d)
    slow = d > 0
    if size <= noise.threshold or not above_floor:
        if size > noise.threshold:
            return "unchanged", "beyond the noise, but below the absolute floor that was asked for"
        if d > noise.suspect:
            return "unchanged", "suspect: slower than usual, within the noise of this bench"
        return "unchanged", ""
    if size <= noise.bar:
        return (
            ("inconclusive", "slower, but this bench is too noisy to call it") if slow else ("unchanged", "")
        )
    return ("regressed", "") if slow else ("improved", "")


def _confirm_rounds(series: Series, noise: Noise, policy: p.GatePolicy) -> tuple[str, str]:
    """Confirmation B: the median of all rounds, and the new ones by themselves."""
    centre = noise.history.centre
    every = median((*series.now, *series.again)) - centre
    new = median(series.again) - centre
    rounds = "1 more round" if len(series.again) == 1 else f"{len(series.again)} more rounds"
    said = f"{rounds}: {pct(new):+.1f} %, all together {pct(every):+.1f} %"
    if every > noise.bar and new > noise.bar / 2 and _above_floor(series, every, centre, policy):
        return "regressed", f"confirmed by {said}"
    return "inconclusive", f"not confirmed by {said}"


def _by_pairs(series: Series, noise: Noise, word: str, policy: p.GatePolicy) -> tuple[str, str]:
    """Confirmation C for a suspect gate: word and detail."""
    count = len(series.pairs)
    if count < p.MIN_PAIRS:
        unsure = "inconclusive" if word in ("regressed", "inconclusive") else word
        return unsure, f"only {count} complete A/B pairs, {p.MIN_PAIRS} are needed"
    result = pairs_result(series, noise)
    said = (
        f"{count} A/B pairs: {pct(result.change):+.1f} % against a threshold of {pct(result.threshold):.1f} %"
    )
    old = median(before for before, _ in series.pairs)
    if result.slower and _above_floor(series, result.change, old, policy):
        return "regressed", f"confirmed by {said}"
    if word in ("regressed", "inconclusive"):
        if result.change > (median(series.now) - noise.history.centre) / 2:
            return "inconclusive", f"neither confirmed nor excluded by {said}"
        return "environment-shift", f"not the firmware: {said}"
    return word, f"suspect, cleared by {said}"


def gate_row(series: Series, noise: Noise, policy: p.GatePolicy) -> GateRow:
    """One gate's row: the single-shot rule, then what confirmation says about it."""
    now = median(series.now)
    centre = noise.history.centre
    d = now - centre
    word, detail = _single_shot(d, noise, above_floor=_above_floor(series, d, centre, policy))
    suspect = d > noise.suspect if series.metric != TAIL else word in ("regressed", "inconclusive")
    confirmation = ""
    if series.pairs and suspect:
        confirmation = "pairs"
        word, detail = _by_pairs(series, noise, word, policy)
    elif series.again and word == "regressed":
        confirmation = "rounds"
        word, detail = _confirm_rounds(series, noise, policy)
    return GateRow(
        name=series.name,
        profile=series.profile,
        metric=series.metric,
        verdict=word,
        d_pct=pct(d),
        threshold_pct=pct(noise.threshold),
        smallest_detectable_pct=pct(noise.bar),
        reliable_pct=pct(noise.reliable),
        baseline=natural(centre, series.metric),
        now=natural(now, series.metric),
        sessions=noise.history.sessions,
        suspect=suspect,
        confirmation=confirmation,
        detail=detail,
    )


def tail_refusal(session: SessionArtifact, series: Series, noise: Noise) -> str:
    """Why p99 of a profile cannot be gated, "" where it can."""
    pooled: dict[str, int] = {}
    for phases in rounds_of(session, series.profile).values():
        for name, result in phases.items():
            pooled[name] = pooled.get(name, 0) + result.report.ok
    least = min(pooled.values(), default=0)
    if least < p.TAIL_MIN_REQUESTS:
        return f"{least} requests in all rounds, {p.TAIL_MIN_REQUESTS} are needed for p99"
    if noise.blunt:
        return f"p99 moves too much here: only {pct(noise.threshold):.0f} % or more would stand out"
    return ""


def tail_row(session: SessionArtifact, series: Series, noise: Noise, policy: p.GatePolicy) -> GateRow:
    """The p99 gate of a profile, ``not-gateable`` with its reason where it cannot be judged.

    A change must show in every phase by itself, by half of the threshold: p99 hangs on few requests, and
    its distribution is skewed as no t quantile knows.
    """
    reason = tail_refusal(session, series, noise)
    if not reason:
        row = gate_row(series, noise, policy)
        if row.verdict != "unchanged" and any(abs(shift) <= noise.bar / 2 for shift in series.by_phase):
            detail = "not in every phase alike: a few rare events decide it"
            return msgspec.structs.replace(row, verdict="unchanged", suspect=False, detail=detail)
        return row
    centre, now = noise.history.centre, median(series.now)
    return GateRow(
        name=series.name,
        profile=series.profile,
        metric=series.metric,
        verdict="not-gateable",
        d_pct=pct(now - centre),
        baseline=natural(centre, series.metric),
        now=natural(now, series.metric),
        sessions=noise.history.sessions,
        detail=reason,
    )


def _cell_values(
    session: SessionArtifact, profile: str, metric: str, roles: Sequence[RunRole]
) -> dict[str, float]:
    """Median of a metric over the rounds, by phase; phases without a figure are missing."""
    values: dict[str, list[float]] = {}
    for role in roles:
        for phases in rounds_of(session, profile, (role,)).values():
            for name, result in phases.items():
                value: float | None = getattr(result.report, metric)
                if value is not None and math.isfinite(value):
                    values.setdefault(name, []).append(value)
    return {name: median(found) for name, found in values.items()}


def _plain_change(
    metric: str, before: float, after: float, policy: p.GatePolicy
) -> tuple[float, bool] | None:
    """Change for the worse (percent, of ``error_rate`` points) and whether it passes the absolute floor."""
    worse = p.worse_by(metric, before, after)
    if metric != "error_rate" and before <= 0:
        return None
    change = worse if metric == "error_rate" else 100.0 * worse / before
    return change, worse > policy.min_effect.get(metric, 0.0)


def plain_rows(
    candidate: SessionArtifact, profile: str, last: SessionArtifact, policy: p.GatePolicy
) -> list[GateRow]:
    """The rules of ``--perf-fail-on``: cell medians against the bar's last session.

    The percentage is of the previous median, for ``error_rate`` percentage points. Confirmation rounds,
    where there are any, are counted in: the rule then judges the median of all. Where there are A/B pairs,
    a broken rule must also be broken between their two halves.
    """
    again = bool(rounds_of(candidate, profile, ("confirm",)))
    rows = []
    for metric, limit in policy.fail_on:
        before = _cell_values(last, profile, metric, ("run",))
        after = _cell_values(candidate, profile, metric, ("run", "confirm"))
        old = _cell_values(candidate, profile, metric, ("ab-baseline",))
        new = _cell_values(candidate, profile, metric, ("ab-candidate",))
        unit = "points" if metric == "error_rate" else "%"
        for phase in (name for name in after if name in before):
            found = _plain_change(metric, before[phase], after[phase], policy)
            if found is None:
                continue
            change, big = found
            word, detail, confirmation = "unchanged", "", ""
            if change > limit and big:
                word, detail = "regressed", f"rule {metric}:{limit:g}%: {change:+.1f} {unit}"
                confirmation = "rounds" if again else ""
                if phase in old and phase in new:
                    confirmation = "pairs"
                    paired = _plain_change(metric, old[phase], new[phase], policy)
                    if paired is not None and not (paired[0] > limit and paired[1]):
                        word = "environment-shift"
                        detail += f"; {paired[0]:+.1f} {unit} between the firmwares now"
            rows.append(
                GateRow(
                    name=f"{profile}:{phase}:{metric}",
                    profile=profile,
                    metric=metric,
                    rule="fail-on",
                    verdict=word,
                    d_pct=change,
                    threshold_pct=limit,
                    baseline=before[phase],
                    now=after[phase],
                    sessions=1,
                    suspect=word != "unchanged",
                    confirmation=confirmation,
                    detail=detail,
                )
            )
    return rows
