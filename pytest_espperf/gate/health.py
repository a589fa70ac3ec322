"""Rules that need no baseline: nothing measured, exceeded budgets, leaks, fragmentation.

Absolute budgets are judged on the cell: it fails where at least half of its rounds break one, and more
than one does (or there is only one). That is the median over the rounds against the budget, whatever
the budget, so that a stall confined to one run is a warning. Hard evidence needs no majority: a phase
without a single successful request, a reboot or a crash among the reasons, a session that was stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from statistics import median

from msgspec import structs

from pytest_espperf.gate.baseline import profiles_of
from pytest_espperf.gate.generator import generator_findings
from pytest_espperf.gate.policy import LEAK_MIN_LOSS, LEAK_MIN_PHASES, GatePolicy
from pytest_espperf.gate.series import cells_of, no_success, results_of, rounds_of
from pytest_espperf.gate.stats import falling_score, theil_sen
from pytest_espperf.model.artifact import ErrorReason, Finding, PhaseResult, SessionArtifact
from pytest_espperf.model.computer import own_fault
from pytest_espperf.model.figures import COLLECTED, COUNTERS, number_at
from pytest_espperf.model.findings import (
    BROKEN,
    BUDGET,
    CONSOLE,
    CUT_SHORT,
    ERRORS,
    FRAGMENTATION,
    LEAK,
    NOT_MEASURED,
    RATE_LIMITED,
    RISEN_COUNTERS,
    STALLED,
    STOPPED,
)

HARD_REASONS = (
    "reboot",
    "panic",
    "crash",
    "brownout",
    "guru meditation",
    "abort()",
    "no successful request",
)
"""Words in a reason of failure that fail the session even if one run alone has it; in lower case."""

REASONS = 3
"""Reasons of errors that are named of one profile."""

STALL_SHARE = 0.1
"""Share of a phase's duration lost to outages from which on a finding reports it."""

LEAK_SCORE = 2.326
"""Kendall z from which on a fall is no accident: 99 % quantile of the normal distribution."""

LEAK_CELLS = 5 / 6
"""Share of the cells whose free heap falls from which on a session does not end early."""

LEAK_GOING_ON = 0.25
"""Share of the loss that must fall after the middle of the session."""

LEAK_PEAKS = 0.5
"""Share of the loss that the highest free heap of the last third must have lost as well."""

COLLAPSE_FACTOR = 0.5
"""``internal_largest / internal_free`` must not fall below this share of what it was ..."""

COLLAPSE_RATIO = 0.25
"""... together with less than a quarter of the free heap in one piece."""


def health_findings(candidate: SessionArtifact, policy: GatePolicy) -> list[Finding]:
    """Every finding that needs no baseline."""
    return [
        *_measured(candidate),
        *_budgets(candidate),
        *_too_few(candidate),
        *_crashes_in_pairs(candidate),
        *generator_findings(candidate),
        *_errors(candidate),
        *_conditions(candidate),
        *memory_findings(candidate, policy),
    ]


def budget_findings(candidate: SessionArtifact) -> list[Finding]:
    """List findings about absolute budgets, crashes and errors of a session's own rounds."""
    return [*_budgets(candidate), *_errors(candidate)]


def _measured(candidate: SessionArtifact) -> Iterator[Finding]:
    if candidate.hard_stop_reason:
        yield Finding(
            severity="fail", kind=STOPPED, message=f"the session was stopped: {candidate.hard_stop_reason}"
        )
    if not _has_phases(candidate):
        yield _not_measured("", "no phase was measured: this firmware cannot be judged.")


def _has_phases(candidate: SessionArtifact) -> bool:
    return any(run.results for run in candidate.raw_runs if run.role == "run")


def _not_measured(where: str, message: str) -> Finding:
    return Finding(severity="fail", kind=NOT_MEASURED, where=where, message=message)


def _too_few(candidate: SessionArtifact) -> Iterator[Finding]:
    """Report profiles without enough runs; behind what may be the cause, so that this is the headline."""
    for profile in profiles_of(candidate) if _has_phases(candidate) else ():
        rounds = rounds_of(candidate, profile)
        planned = asked_rounds(candidate, profile) or len(rounds)
        names = dict.fromkeys(name for phases in rounds.values() for name in phases)
        valid = sum(
            all(name in phases and not no_success(phases[name].report) for name in names)
            for phases in rounds.values()
        )
        if not rounds:
            yield _not_measured(profile, f"{profile} was never measured.")
        elif valid * 2 < planned and not candidate.partial:
            many = f"{valid} complete runs of {planned}: too few to judge"
            yield _not_measured(profile, f"{profile} has {many}.")


def asked_rounds(session: SessionArtifact, profile: str) -> int:
    """Count the planned rounds of a profile: fewer where it ended early."""
    ended = session.ended_early.get(profile)
    return ended.after if ended is not None else session.runs_per_profile


def _hard(result: PhaseResult) -> str:
    for reason in result.fail_reasons:
        if any(word in reason.lower() for word in HARD_REASONS):
            return reason
    if not no_success(result.report):
        return ""
    # Why: of the computer, or of the errors that the phase counted.
    return own_fault(result.report) or next(iter(result.fail_reasons), "no successful request")


def _crashes_in_pairs(candidate: SessionArtifact) -> Iterator[Finding]:
    """A/B pairs are not judged by budgets; that a firmware died in one of them is evidence all the same."""
    for run in candidate.raw_runs:
        if run.role not in ("ab-candidate", "ab-baseline"):
            continue
        for result in run.results:
            if reason := _hard(result):
                new = run.role == "ab-candidate"
                yield Finding(
                    severity="fail" if new else "warn",
                    kind=BROKEN,
                    where=f"{result.profile}:{result.phase}",
                    message=f"{result.profile}:{result.phase}: {reason} ({'new' if new else 'old'} firmware, "
                    f"A/B pair {run.run_index}).",
                )


def _budgets(candidate: SessionArtifact) -> Iterator[Finding]:
    for cell, results in cells_of(candidate).items():
        hard = [reason for result in results if (reason := _hard(result))]
        broken = [result for result in results if not result.passed]
        runs = f"{len(results)} run{'s' if len(results) > 1 else ''}"
        if hard:
            yield Finding(
                severity="fail",
                kind=BROKEN,
                where=cell,
                message=f"{cell}: {hard[0]} ({len(hard)} of {runs}).",
            )
        elif broken:
            most = len(broken) * 2 >= len(results) and (len(broken) > 1 or len(results) == 1)
            reason = next((r for result in broken for r in result.fail_reasons), "no reason was recorded")
            tail = "" if most else " A single bad run does not fail the session."
            if not most and len(broken) > 1:
                tail = " Most runs are within the budget."
            yield Finding(
                severity="fail" if most else "warn",
                kind=BUDGET,
                where=cell,
                message=f"{cell}: {reason} ({len(broken)} of {runs}).{tail}",
            )


def _errors(candidate: SessionArtifact) -> Iterator[Finding]:
    """Report why requests failed, profile by profile, where no exceeded budget does already."""
    for profile in profiles_of(candidate):
        results = [result for result in results_of(candidate) if result.profile == profile]
        budgets = " ".join(text for result in results for text in result.fail_reasons)
        found: dict[tuple[str, str], ErrorReason] = {}
        for result in results:
            for one in result.report.error_reasons:
                # The rate limiter has a finding of its own.
                if one.kind != "http_429" and str(one) not in budgets:
                    first = found.setdefault((one.kind, one.path), structs.replace(one, count=0))
                    found[one.kind, one.path] = structs.replace(first, count=first.count + one.count)
        reasons = sorted(
            (structs.replace(one, requests=_asked(results, one.path)) for one in found.values()),
            key=lambda one: -one.count,
        )
        if reasons:
            more = f"; {len(reasons) - REASONS} more kinds" if len(reasons) > REASONS else ""
            yield Finding(
                kind=ERRORS,
                where=profile,
                message=f"{profile}: errors: {'; '.join(map(str, reasons[:REASONS]))}{more}.",
            )


def _asked(results: Iterable[PhaseResult], path: str) -> int:
    """Count the requests of a path in all of these phases."""
    reports = (result.report.path_metrics.get(path) for result in results)
    return sum(report.requests_total for report in reports if report is not None)


def _conditions(candidate: SessionArtifact) -> Iterator[Finding]:
    for cell, results in cells_of(candidate).items():
        cut = [result.report.cut_short for result in results if result.report.cut_short]
        if cut:
            yield Finding(
                severity="warn",
                kind=CUT_SHORT,
                where=cell,
                message=f"{cell}: {len(cut)} of {len(results)} runs ended before their time: {cut[0]}.",
            )
        counters: Counter[str] = Counter()
        for result in results:
            counters.update(result.report.counters)
        if counters:
            risen = ", ".join(f"{n} {COUNTERS.get(name, name)}" for name, n in counters.items())
            yield Finding(
                severity="info",
                kind=RISEN_COUNTERS,
                where=cell,
                message=f"{cell}: the board counted {risen}.",
            )
        lines = [event for result in results for event in result.report.events if not event.fatal]
        if lines:
            more = f" ({len(lines)} such lines)" if len(lines) > 1 else ""
            yield Finding(
                severity="warn",
                kind=CONSOLE,
                where=cell,
                message=f"{cell}: on the serial console: {lines[0]}{more}.",
            )
        limited = sum(result.report.status_counts.get("429", 0) for result in results)
        if limited:
            yield Finding(
                severity="warn",
                kind=RATE_LIMITED,
                where=cell,
                message=f"{cell}: {limited} answers were 429: the board's rate limiter was measured.",
            )
        stalled = [
            r.report.stalled_s
            for r in results
            if r.report.stalled_s > STALL_SHARE * r.report.duration and not own_fault(r.report)
        ]
        if stalled:
            yield Finding(
                severity="warn",
                kind=STALLED,
                where=cell,
                message=f"{cell}: {sum(stalled):.1f} s without an answer in {len(stalled)} of {len(results)} "
                "runs; latencies do not show it.",
            )


def _telemetry(candidate: SessionArtifact, key: str) -> tuple[dict[str, list[tuple[float, float]]], float]:
    """Per cell the points (thousands of requests so far, bytes), and the thousands of requests in all."""
    points: dict[str, list[tuple[float, float]]] = {}
    asked = 0
    for result in results_of(candidate):
        asked += result.report.requests_total
        if (value := number_at(result.report.mem_after, key)) is not None:
            points.setdefault(f"{result.profile}:{result.phase}", []).append((asked / 1000, value))
    return points, asked / 1000


def may_leak(candidate: SessionArtifact, policy: GatePolicy) -> bool:
    """Whether free heap falls in nearly all cells, by more than half of the leak budget.

    Too little for a verdict, and enough to go on measuring: a slow leak needs rounds to show.
    """
    for key, budget in policy.leak_bytes_per_1k.items():
        if key in COLLECTED:  # it falls whenever it is not collected
            continue
        cells = [points for points in _telemetry(candidate, key)[0].values() if len(points) > 1]
        falling = sum(
            points[0][1] - points[-1][1] > budget / 2 * (points[-1][0] - points[0][0]) for points in cells
        )
        if cells and falling >= LEAK_CELLS * len(cells):
            return True
    return False


def memory_findings(candidate: SessionArtifact, policy: GatePolicy) -> list[Finding]:
    """Apply the leak rule and the fragmentation rule.

    A leak is a fall of free heap over the *session* (each phase alone may be within its budget) that is

    * steeper than the budget: median slope of all pairs of phases of the same cell, so that the cells'
      different working sets do not matter, in bytes per 1,000 requests;
    * no accident: seasonal Kendall score above its 99 % quantile, which a garbage collector's sawtooth
      does not reach;
    * large: more bytes in all than pools and lingering sockets take;
    * going on: a quarter of it or more after the middle of the session, so that what a board allocates
      once, while it warms up, is none;
    * true of the peaks too: a heap that comes back to where it was, if only once, has not leaked.

    What is lost beyond a phase's budget and stays lost needs no trend: a board may have nothing left to lose.
    """
    found: list[Finding] = []
    for key, budget in policy.leak_bytes_per_1k.items():
        if key in COLLECTED:
            found += _collected_leak(candidate, key, budget)
            continue
        cells, asked = _telemetry(candidate, key)
        strata = list(cells.values()) if any(len(points) > 2 for points in cells.values()) else []
        flat = sorted(point for points in cells.values() for point in points)
        if not strata:
            strata = [flat]
        slope = theil_sen(strata)
        if len(flat) < LEAK_MIN_PHASES or slope is None or -slope <= budget:
            continue
        third = len(flat) // 3
        parts = [[y for _, y in part] for part in (flat[:third], flat[third:-third], flat[-third:])]
        first, middle, last = (median(part) for part in parts)
        large = -slope * asked > LEAK_MIN_LOSS.get(key, 0.0)
        goes_on = middle - last > LEAK_GOING_ON * (first - last) > 0
        peaks_fall = max(parts[0]) - max(parts[2]) > LEAK_PEAKS * (first - last)
        if falling_score(strata) > LEAK_SCORE and large and goes_on and peaks_fall:
            found.append(_leak(key, (slope, budget), (flat[0][1], flat[-1][1]), asked))
    leaking = {finding.where for finding in found}
    found += [finding for finding in _never_back(candidate) if finding.where not in leaking]
    return [*found, *_collapse(candidate)]


def _leak(key: str, slopes: tuple[float, float], heap: tuple[float, float], asked: float) -> Finding:
    """Make the finding of a leak.

    Args:
        key: which heap.
        slopes: how it falls, and its budget, in bytes per 1,000 requests.
        heap: bytes at the beginning and at the end.
        asked: thousands of requests in between.
    """
    (slope, budget), (first, last) = slopes, heap
    return Finding(
        severity="fail",
        kind=LEAK,
        where=key,
        message=f"{key} falls by {-slope / 1024:.1f} KB per 1,000 requests (budget {budget / 1024:.1f} KB): "
        f"from {first / 1024:.0f} KB to {last / 1024:.0f} KB in {asked * 1000:.0f} requests.",
    )


def _collected_leak(candidate: SessionArtifact, key: str, budget: float) -> Iterator[Finding]:
    """Apply the leak rule to a heap with a garbage collector, which falls until it is collected.

    Its readings, before and after each phase, lie anywhere on a saw-tooth: only their peaks show what is in
    use. It leaks where the peaks of the session's thirds fall by more than any step between two readings, a
    collection's among them; where each third has a collection (a rise), since a heap that only falls may not
    have been full yet; and where the fall is steeper than the budget and no accident.
    """
    points, asked = [], 0
    for result in results_of(candidate):
        report = result.report
        for tree, more in ((report.mem_before, 0), (report.mem_after, report.requests_total)):
            asked += more
            if (value := number_at(tree, key)) is not None:
                points.append((asked / 1000, value))
    third = len(points) // 3
    slope = theil_sen([points])
    if len(points) < 2 * LEAK_MIN_PHASES or slope is None or -slope <= budget:
        return
    values = [value for _, value in points]
    steps = [after - before for before, after in pairwise(values)]
    bounds = (0, third, len(points) - third, len(points))
    collected = all(any(step > 0 for step in steps[max(0, a - 1) : b - 1]) for a, b in pairwise(bounds))
    first, middle, last = (max(values[a:b]) for a, b in pairwise(bounds))
    fell = first - last > max(LEAK_MIN_LOSS[key], *map(abs, steps))
    if collected and first > middle > last and fell and falling_score([points]) > LEAK_SCORE:
        yield _leak(key, (slope, budget), (first, last), asked / 1000)


def _never_back(candidate: SessionArtifact) -> Iterator[Finding]:
    """Report a loss beyond one phase's budget that is still there at the end: it is no single bad run's."""
    results = results_of(candidate)
    for key in LEAK_MIN_LOSS:
        budget = candidate.thresholds.get(f"max_{key}_drop")
        first = next((v for r in results if (v := number_at(r.report.mem_before, key)) is not None), None)
        after = [v for r in results if (v := number_at(r.report.mem_after, key)) is not None]
        if budget is None or first is None or len(after) < LEAK_MIN_PHASES:
            continue
        best = max(after[-(len(after) // 3) :])
        if first - best > budget:
            yield Finding(
                severity="fail",
                kind=LEAK,
                where=key,
                message=f"{key} fell from {first / 1024:.0f} KB to {best / 1024:.0f} KB and did not come "
                f"back (budget of a phase: {budget / 1024:.0f} KB).",
            )


def _collapse(candidate: SessionArtifact) -> Iterator[Finding]:
    ratios = []
    for result in results_of(candidate):
        free = number_at(result.report.mem_after, "internal_free")
        largest = number_at(result.report.mem_after, "internal_largest")
        if free and largest is not None:
            ratios.append(largest / free)
    if len(ratios) < LEAK_MIN_PHASES:
        return
    third = len(ratios) // 3
    before, after = median(ratios[:third]), median(ratios[-third:])
    if after < COLLAPSE_RATIO and after < COLLAPSE_FACTOR * before:
        yield Finding(
            severity="fail",
            kind=FRAGMENTATION,
            where="internal_largest",
            message=f"heap fragmentation: the largest free block fell from {100 * before:.0f} % to "
            f"{100 * after:.0f} % of the free internal heap.",
        )
