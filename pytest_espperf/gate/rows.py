"""The rules that compare a profile with its baseline: noise floor, confirmation, p99, errors, plain rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import msgspec

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.noise import Noise
from pytest_espperf.gate.pairs import pairs_result
from pytest_espperf.gate.series import COMPOSITES, GATES, Series, natural, rounds_of
from pytest_espperf.gate.stats import variance
from pytest_espperf.model.artifact import FAIL_ON_RULE, MAIN_RULE, GateRow, RunRole, SessionArtifact, Verdict
from pytest_espperf.model.computer import own_fault
from pytest_espperf.model.gates import TAIL
from pytest_espperf.model.verdicts import NOT_GATEABLE

_MOST_LOG_RATIO = 700.0
"""``exp`` of it is 1e304."""


def pct(log_ratio: float) -> float:
    """Convert a log ratio to percent: 0.0953 -> 10.0; at most as much as a number holds."""
    return 100.0 * math.expm1(min(log_ratio, _MOST_LOG_RATIO))


def is_composite(row: GateRow) -> bool:
    """Whether a row is one of the gates that every profile has, judged by its noise."""
    return row.rule == MAIN_RULE and row.metric in COMPOSITES


def has_bound(row: GateRow) -> bool:
    """Whether a row is judged by its noise, and so by what is excluded: of these none is left unclear."""
    return row.rule == MAIN_RULE and row.metric in GATES


def above_floor(series: Series, d: float, centre: float, policy: p.GatePolicy) -> bool:
    """Whether a change is larger than the user's absolute floor for the metric, either way."""
    floor = policy.min_effect.get(series.metric)
    if floor is None:
        return True
    moved = natural(centre + d, series.metric) - natural(centre, series.metric)
    return abs(moved) > floor


def tolerance_of(series: Series, policy: p.GatePolicy) -> float:
    """Return the log ratio of the slowdown that ``unchanged`` excludes; infinite where another gate does."""
    return p.tolerance_of(series.metric, policy.tolerance, paced=series.paced, alone=series.alone)


@dataclass(frozen=True)
class _GateVerdict:
    """Verdict of a gate: word, reason, how it was confirmed, whether it looks slower without proof."""

    word: str
    detail: str = ""
    confirmation: str = ""
    looks_slower: bool = False
    at_most: float | None = None


def _from_history(series: Series, noise: Noise, policy: p.GatePolicy) -> _GateVerdict:
    """Judge the session's own rounds against the baseline: slower, excluded, or neither."""
    centre = noise.history.centre
    d = median(series.every) - centre
    confirmation = "rounds" if series.again else ""
    if not above_floor(series, d, centre, policy):
        beyond = abs(d) > noise.threshold
        detail = "beyond the noise, but below the absolute floor that was asked for" if beyond else ""
        return _GateVerdict("unchanged", detail, confirmation)
    if d < -noise.smallest:
        return _GateVerdict("improved", "", confirmation)
    tolerance = tolerance_of(series, policy)
    if d > noise.threshold:
        return _slower(series, noise, d)
    at_most = noise.at_most(d)
    # Planned rounds that looked slower, and not so when measured again, spoil a baseline as well.
    slowest = max(d, median(series.now) - centre)
    looks_slower = series.metric != TAIL and slowest > noise.looks_slower(tolerance)
    if at_most > tolerance:
        detail = _why_not_excluded(series, noise, policy, d)
        return _GateVerdict("inconclusive", detail, confirmation, looks_slower)
    suspect = d > noise.suspect
    detail = "suspect: slower than usual, within the noise of this bench" if suspect else ""
    return _GateVerdict("unchanged", detail, confirmation, looks_slower)


def _slower(series: Series, noise: Noise, d: float) -> _GateVerdict:
    """Judge a change beyond the threshold: proven, to be measured again, or not confirmed."""
    centre = noise.history.centre
    if series.ended == "slower" and series.metric == "rps_ok" and min(series.now) - centre > noise.smallest:
        return _GateVerdict(
            "regressed",
            f"each of its {len(series.now)} runs is beyond the threshold",
            confirmation="rounds",
        )
    if series.again:
        planned, new = median(series.now) - centre, median(series.again) - centre
        # A young baseline's threshold rests on all rounds: neither half of them has to pass it by itself.
        least = noise.smallest / 2 if noise.history.young else noise.smallest
        if d > noise.smallest and planned > least and new > noise.smallest / 2:
            return _GateVerdict("regressed", f"confirmed by {_more_runs(series)}", "rounds")
        detail = f"not confirmed by {_more_runs(series)}, in which it is {_slower_by(new)}"
        return _GateVerdict("inconclusive", detail, "rounds", looks_slower=True)
    if d > noise.smallest:
        return _GateVerdict("regressed")
    return _GateVerdict("inconclusive", "slower, but this bench is too noisy to call it", looks_slower=True)


def _more_runs(series: Series) -> str:
    """Count the runs that a profile was measured again: ``3 more runs``."""
    return "1 more run" if len(series.again) == 1 else f"{len(series.again)} more runs"


def _slower_by(change: float) -> str:
    """Describe a log ratio: ``12 % slower``, ``3 % faster``."""
    return f"{pct(change):.0f} % slower" if change >= 0 else f"{-pct(change):.0f} % faster"


def _why_not_excluded(series: Series, noise: Noise, policy: p.GatePolicy, d: float) -> str:
    again = f" after {_more_runs(series)}" if series.again else ""
    bound = printed(pct(noise.at_most(d)))
    upto = (
        f"how much slower it may be is unknown{again}"
        if bound is None
        else f"a slowdown of up to {bound:.0f} % is not excluded{again}"
    )
    return f"{upto}: {_advice(series, noise, policy)}"


def _advice(series: Series, noise: Noise, policy: p.GatePolicy) -> str:
    """Explain what limits a gate most, and what helps."""
    sessions = noise.history.sessions
    if len(series.every) == 1:
        return "one run does not show how runs differ: measure more (--perf-runs)"
    if noise.error.limit == "rounds":
        return (
            f"its runs differ by {pct(noise.error.rounds):.0f} %: make them longer or more "
            "(--perf-long-duration, --perf-runs), or reduce other load on this computer"
        )
    if noise.error.limit == "few sessions" and policy.baseline != "history":
        return (
            "a single earlier session is too little to go by: compare with the history "
            "(--perf-baseline=history), or with the old firmware directly (--perf-ab-baseline-cmd, "
            "--perf-ab-candidate-cmd)"
        )
    if noise.error.limit == "few sessions":
        return (
            f"{sessions} earlier session{'s are' if sessions > 1 else ' is'} too little to go by: "
            "the answer sharpens with each further session"
        )
    return (
        "this bench moves too much from session to session: compare with the old firmware directly "
        "(--perf-ab-baseline-cmd, --perf-ab-candidate-cmd)"
    )


def _by_pairs(series: Series, noise: Noise, before: _GateVerdict, policy: p.GatePolicy) -> _GateVerdict:
    """Judge by the pairs of both firmwares a gate that the baseline leaves open (confirmation C)."""
    count = len(series.pairs)
    asked = before.word in ("regressed", "inconclusive")
    if count < p.MIN_PAIRS:
        detail = f"only {count} complete A/B pairs, {p.MIN_PAIRS} are needed"
        word = "inconclusive" if asked else before.word
        return _GateVerdict(word, detail, "pairs", before.looks_slower or before.word == "regressed")
    result = pairs_result(series, noise)
    measured = (
        f"{count} A/B pairs: {pct(result.change):+.1f} % against a threshold of {pct(result.threshold):.1f} %"
    )

    def answer(word: str, detail: str, *, looks_slower: bool = False) -> _GateVerdict:
        return _GateVerdict(word, detail, "pairs", looks_slower, result.at_most)

    old = median(earlier for earlier, _ in series.pairs)
    if result.slower and above_floor(series, result.change, old, policy):
        return answer("regressed", f"confirmed by {measured}")
    if not asked:
        return answer(before.word, f"suspect, cleared by {measured}")
    d = median(series.every) - noise.history.centre
    slower = d > noise.threshold
    # What the pairs excluded must be less than the tolerance, and of a loss that was seen less than half.
    if result.at_most > tolerance_of(series, policy) or (slower and result.change > d / 2):
        detail = (
            f"neither confirmed nor excluded by {measured}: measure longer (--perf-long-duration), or with "
            "less load on this computer"
        )
        return answer("inconclusive", detail, looks_slower=slower or result.change > p.MIN_CHANGE_PAIRS)
    if slower:
        return answer("environment-shift", f"not the firmware: {measured}")
    bound = pct(result.at_most)
    return answer("unchanged", f"a slowdown of more than {bound:.0f} % is excluded by {measured}")


def printed(percent: float) -> float | None:
    """Return a threshold or bound as it is shown: None where it is too large to mean anything."""
    return percent if percent <= p.PRINTED_MOST_PCT else None


def gate_row(series: Series, noise: Noise, policy: p.GatePolicy) -> GateRow:
    """Make one gate's row: judged by the baseline, then by A/B pairs."""
    centre = noise.history.centre
    now = median(series.every)
    d = now - centre
    answer = _from_history(series, noise, policy)
    tail = series.metric == TAIL
    suspect = answer.word in ("regressed", "inconclusive") or (d > noise.suspect and not tail)
    if series.pairs and suspect:
        answer = _by_pairs(series, noise, answer, policy)
    return GateRow(
        name=series.name,
        profile=series.profile,
        metric=series.metric,
        verdict=answer.word,
        d_pct=pct(d),
        threshold_pct=printed(pct(noise.threshold)),
        smallest_detectable_pct=printed(pct(noise.smallest)),
        reliable_pct=printed(pct(noise.reliable)),
        at_most_pct=None
        if tail
        else printed(pct(noise.at_most(d) if answer.at_most is None else answer.at_most)),
        baseline=natural(centre, series.metric),
        now=natural(now, series.metric),
        sessions=noise.history.sessions,
        rounds=len(series.every),
        suspect=suspect,
        confirmation=answer.confirmation,
        looks_slower=answer.looks_slower,
        detail=answer.detail,
    )


def tail_refusal(session: SessionArtifact, series: Series, noise: Noise) -> str:
    """Explain why p99 of a profile cannot be gated, "" where it can."""
    pooled: dict[str, int] = {}
    for phases in rounds_of(session, series.profile).values():
        for name, result in phases.items():
            pooled[name] = pooled.get(name, 0) + result.report.ok
    least = min(pooled.values(), default=0)
    if least < p.TAIL_MIN_REQUESTS:
        early = f", it ended after {len(series.now)} of {series.planned} runs" if series.ended else ""
        return f"{least} requests in all runs, {p.TAIL_MIN_REQUESTS} are needed for p99{early}"
    if noise.blunt:
        smallest = printed(pct(noise.threshold))
        only = "" if smallest is None else f": only {smallest:.0f} % or more would stand out"
        return f"p99 moves too much here{only}"
    return ""


def tail_row(session: SessionArtifact, series: Series, noise: Noise, policy: p.GatePolicy) -> GateRow:
    """Judge p99 of a profile: ``not-gateable`` with its reason where it cannot be judged.

    A change must show in every phase by itself, by half of the threshold: p99 hangs on few requests, and
    its distribution is skewed as no t quantile knows.
    """
    reason = tail_refusal(session, series, noise)
    if not reason:
        row = gate_row(series, noise, policy)
        if row.verdict != "unchanged" and any(abs(shift) <= noise.smallest / 2 for shift in series.by_phase):
            detail = "not in every phase alike: a few rare events decide it"
            return msgspec.structs.replace(
                row, verdict="unchanged", suspect=False, looks_slower=False, detail=detail
            )
        return row
    centre, now = noise.history.centre, median(series.every)
    return GateRow(
        name=series.name,
        profile=series.profile,
        metric=series.metric,
        verdict=NOT_GATEABLE,
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
                value = result.report.value(metric)
                if value is not None and math.isfinite(value) and not own_fault(result.report):
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
    """Apply the rules of ``--perf-fail-on``: cell medians against the baseline's last session.

    The percentage is of the previous median, for ``error_rate`` percentage points. Confirmation runs,
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
                    rule=FAIL_ON_RULE,
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


Counted = list[tuple[int, int]]
"""(requests, errors) of each round."""


def count(session: SessionArtifact, profile: str, role: RunRole = "run") -> Counted:
    """Count requests and errors of each round of a profile; without what this computer was at fault for."""
    found = []
    for phases in rounds_of(session, profile, (role,)).values():
        reports = [result.report for result in phases.values() if not own_fault(result.report)]
        asked = sum(report.requests_total for report in reports)
        if asked:
            found.append((asked, sum(report.err for report in reports)))
    return found


def rate(rounds: Counted) -> float:
    """Pooled error rate in percent; 0.0 where nothing was asked."""
    asked = sum(requests for requests, _ in rounds)
    return 100.0 * sum(errors for _, errors in rounds) / asked if asked else 0.0


def spread(sessions: Sequence[Counted]) -> float:
    """Pool the standard deviation of error rates between the rounds of a session, in percentage points."""
    rates = [[100.0 * errors / requests for requests, errors in rounds] for rounds in sessions]
    freedom = sum(len(one) - 1 for one in rates)
    return math.sqrt(sum((len(one) - 1) * variance(one) for one in rates) / freedom) if freedom else 0.0


def too_many(rounds: Counted, baseline: float, rise: float = p.ERROR_POINTS) -> bool:
    """Whether the rule fails against a baseline rate in percent, by a rise in percentage points."""
    limit = baseline + rise
    touched = [errors for _, errors in rounds if errors]
    if sum(touched) < p.ERROR_MIN_COUNT or len(touched) < p.ERROR_MIN_ROUNDS:
        return False
    worst = max(range(len(rounds)), key=lambda i: rounds[i][1] / rounds[i][0])
    return rate(rounds) > limit and rate(rounds[:worst] + rounds[worst + 1 :]) > limit


def error_change(candidate: SessionArtifact, profile: str, past: Sequence[SessionArtifact]) -> float:
    """Compute by how many percentage points errors lie above the baseline; 0.0 without an error."""
    now = count(candidate, profile)
    rates = [rate(rounds) for session in past if (rounds := count(session, profile))]
    return rate(now) - median(rates) if rates and any(errors for _, errors in now) else 0.0


def error_row(candidate: SessionArtifact, profile: str, past: Sequence[SessionArtifact]) -> GateRow | None:
    """Apply the error-rate rule: more errors than the baseline had. None where there is nothing to compare.

    Pooled over a profile's phases and rounds, a session regressed where its error rate lies more than half a
    percentage point above the median of the baseline's sessions, with at least 5 errors in at least 2 rounds,
    and still does with its worst round left out: a stall confined to one run is not a regression, also not on
    a board that always has a few errors. Where the errors of the baseline vary from round to round, the rise
    must also exceed three standard errors of a session's rate; a smaller one is inconclusive.

    A failing row is measured again like any other: with confirmation runs all rounds together must
    fail, and the new ones alone must show half of the rise; with A/B pairs the new firmware must
    fail against the old.
    """
    now = count(candidate, profile)
    counted = [rounds for session in past if (rounds := count(session, profile))]
    if not now or not counted:
        return None
    baseline = median(rate(rounds) for rounds in counted)
    rise = max(p.ERROR_POINTS, p.ERROR_SIGMAS * spread(counted) / math.sqrt(len(now)))
    word, detail, confirmation = "unchanged", "", ""
    if too_many(now, baseline):
        word = "regressed"
        errors = sum(errors for _, errors in now)
        detail = f"{errors} errors, {rate(now) - baseline:+.2f} percentage points"
        old, new = count(candidate, profile, "ab-baseline"), count(candidate, profile, "ab-candidate")
        again = count(candidate, profile, "confirm")
        if old and new:
            confirmation = "pairs"
            if not too_many(new, rate(old)):
                word, detail = "environment-shift", f"{detail}; the old firmware fares as badly now"
        elif again:
            confirmation = "rounds"
            if not (too_many(now + again, baseline) and rate(again) > baseline + p.ERROR_POINTS / 2):
                word, detail = "inconclusive", f"{detail}; not confirmed by {len(again)} more runs"
        if word == "regressed" and confirmation != "pairs" and not too_many(now + again, baseline, rise):
            word = "inconclusive"
            detail += (
                f"; errors vary as much from run to run here, {rise:.1f} points and more would stand out"
            )
    return GateRow(
        name=f"{profile}:error_rate",
        profile=profile,
        metric="error_rate",
        rule="error-rate",
        verdict=word,
        baseline=baseline,
        now=rate(now),
        sessions=len(counted),
        suspect=word != "unchanged",
        confirmation=confirmation,
        looks_slower=word == "inconclusive",
        detail=detail,
    )


def _percent(value: float) -> str:
    """Round up to what a person says: 6.3 -> "7 %"; a promise must not be rounded down."""
    whole = int(value)
    return f"{whole if value - whole < 0.05 else whole + 1} %"


def detectable(verdict: Verdict) -> dict[str, float]:
    """Profile -> slowdown in percent that would have been noticed nine times in ten.

    A profile that is slower shows in each of its gates; the sharpest of them counts.
    """
    found: dict[str, float] = {}
    for row in verdict.gates:
        if is_composite(row) and row.reliable_pct is not None:
            found[row.profile] = min(found.get(row.profile, row.reliable_pct), row.reliable_pct)
    return found


def detectable_sentence(verdict: Verdict) -> str:
    """Describe in one sentence what this session would have noticed; "" where nothing was compared.

    Example: "This session would have noticed (nine times in ten) c_static_only being 7 % slower or more,
    python_heavy 9 %; smaller slowdowns can pass unseen."
    """
    parts = [(profile, _percent(value)) for profile, value in detectable(verdict).items()]
    if not parts:
        return ""
    (name, least), *rest = parts
    listed = ", ".join(
        [f"{name} being {least} slower or more", *(f"{other} {value}" for other, value in rest)]
    )
    return f"This session would have noticed (nine times in ten) {listed}; smaller slowdowns can pass unseen."
