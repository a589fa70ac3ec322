"""Old firmware against new in one session, without a history: its artifact to series, answers to a verdict.

The rounds of the old firmware have the role ``ab-baseline``, those of the new one ``ab-candidate``; rounds of
one ``run_index`` are a pair. Each half is judged as a session of its own where no comparison is needed
(budgets, crashes, errors), and says whose finding it is.

Two boards are measured at the same time: in pair 1 the old firmware is on the first one and the new one on
the second, later it is the reverse. What the boards differ by leaves with that, and is reported.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from msgspec import structs

from pytest_espperf.gate.answers import changed_answers
from pytest_espperf.gate.baseline import profiles_of
from pytest_espperf.gate.findings import answer_findings
from pytest_espperf.gate.generator import generator_findings
from pytest_espperf.gate.health import budget_findings
from pytest_espperf.gate.places import places
from pytest_espperf.gate.policy import GatePolicy
from pytest_espperf.gate.rows import error_row, pct, plain_rows, printed
from pytest_espperf.gate.sequential import PairAnswer, PairSeries, PairWord
from pytest_espperf.gate.series import (
    COMPOSITES,
    GATES,
    Rounds,
    composite,
    gateable_phases,
    natural,
    phases_with,
    rounds_of,
)
from pytest_espperf.model.artifact import (
    Finding,
    GateRow,
    Json,
    PhaseResult,
    RunRole,
    SessionArtifact,
    Verdict,
)
from pytest_espperf.model.findings import BROKEN, BUDGET, NOT_MEASURED
from pytest_espperf.model.gates import MAIN_METRIC, of_throughput, with_units
from pytest_espperf.model.metrics import aggregate
from pytest_espperf.model.verdicts import NOT_GATEABLE, NOT_SLOWER, session_word

OLD: RunRole = "ab-baseline"
NEW: RunRole = "ab-candidate"

WORDS: Mapping[PairWord, str] = {
    "slower": "regressed",
    "faster": "improved",
    "same": "unchanged",
    "open": "inconclusive",
}
"""The verdict of a gate by the answer of its pairs."""


@dataclass(frozen=True)
class Trouble:
    """What ended a comparison before its answer.

    Attributes:
        label: of the firmware that was measured, "" for neither.
        message: what happened, in words.
    """

    label: str
    message: str


def half(session: SessionArtifact, role: RunRole) -> SessionArtifact:
    """Return the rounds of one firmware as a session of its own."""
    runs = [structs.replace(run, role="run", board="") for run in session.raw_runs if run.role == role]
    answers = session.answers if role == NEW else {}
    rounds = {run.run_index for run in runs}
    return structs.replace(
        session,
        raw_runs=runs,
        aggregated=aggregate(runs),
        answers=answers,
        hard_stop_reason="",
        runs_per_profile=len(rounds),
    )


def series_of(session: SessionArtifact) -> list[PairSeries]:
    """Make the series of a comparison's gates, profile by profile, from the pairs that are complete."""
    old, new = half(session, OLD), half(session, NEW)
    places = _places(session)
    return [one for profile in profiles_of(session) for one in _series_of_profile(profile, old, new, places)]


def _series_of_profile(
    profile: str, old: SessionArtifact, new: SessionArtifact, swapped: Mapping[int, bool]
) -> Iterator[PairSeries]:
    before, after = _whole_pairs(old, new, profile)
    also = gateable_phases(before)
    phases = tuple(name for name in gateable_phases(after) if name in also)
    paced = {
        name: any(name in one and one[name].report.paced for one in (*before.values(), *after.values()))
        for name in phases
    }
    for metric in GATES:
        names: Sequence[str] = phases
        if metric == MAIN_METRIC:
            names = of_throughput(paced)
        elif metric not in COMPOSITES:
            had = phases_with(old, profile, metric)
            names = [name for name in phases_with(new, profile, metric) if name in phases and name in had]
            if not names:
                continue
        pairs = _pairs(before, after, names, metric)
        yield PairSeries(
            profile,
            metric,
            tuple(pairs.values()),
            paced=all(paced.values()) and bool(paced),
            swapped=tuple(swapped[index] for index in pairs) if swapped else (),
            grain=_grain([*before.values(), *after.values()], names) if metric == MAIN_METRIC else 0.0,
        )


def _whole_pairs(old: SessionArtifact, new: SessionArtifact, profile: str) -> tuple[Rounds, Rounds]:
    """Return the rounds of both firmwares in the pairs of a profile in which both have every phase.

    A firmware that crashed, or Ctrl-C, ends a pair in its midst: the phases that it has are no round.
    """
    before, after = rounds_of(old, profile), rounds_of(new, profile)
    phases = {name for one in (*before.values(), *after.values()) for name in one}
    whole = [
        index
        for index in sorted(before.keys() & after.keys())
        if phases == before[index].keys() == after[index].keys()
    ]
    return {index: before[index] for index in whole}, {index: after[index] for index in whole}


def _grain(rounds: Sequence[Mapping[str, PhaseResult]], names: Sequence[str]) -> float:
    """Return the step (log ratio) in which a profile's throughput comes: the mean of its phases' steps."""
    steps = []
    for name in names:
        reports = [one[name].report for one in rounds if name in one]
        counts = [report.ok for report in reports if report.ok > 0]
        if counts:
            most = max(report.clients for report in reports)
            steps.append(math.log1p(_step(counts, most) / median(counts)))
    return sum(steps) / len(names) if names else 0.0


def _step(counts: Sequence[int], most: int) -> int:
    """Return the step in which numbers of answers come, 1 or more and at most ``most``.

    The clients of a board that answers them in turn end a phase together or not at all: then numbers differ
    by multiples of the clients. A round in four may be off, as where an answer came just too late.
    """
    for step in range(min(most, *counts), 1, -1):
        ((_, alike),) = Counter(count % step for count in counts).most_common(1)
        if 4 * alike >= 3 * len(counts):
            return step
    return 1


def _pairs(
    before: Rounds, after: Rounds, names: Sequence[str], metric: str
) -> dict[int, tuple[float, float]]:
    """Composites (old, new) of each pair that has both."""
    found = {}
    for index in sorted(before.keys() & after.keys()):
        old, new = composite(before[index], names, metric), composite(after[index], names, metric)
        if old is not None and new is not None:
            found[index] = (old, new)
    return found


def _places(session: SessionArtifact) -> dict[int, bool]:
    """Tell of each pair whether the firmwares have changed places; empty where there is one board."""
    boards = {run.run_index: run.board for run in session.raw_runs if run.role == OLD and run.board}
    first = boards.get(min(boards)) if boards else ""
    return {index: board != first for index, board in boards.items()}


def pair_count(session: SessionArtifact) -> int:
    """Count the whole pairs of the profile that was measured most often."""
    old, new = half(session, OLD), half(session, NEW)
    return max((len(_whole_pairs(old, new, name)[0]) for name in profiles_of(session)), default=0)


def board_gaps(answers: Mapping[str, PairAnswer]) -> dict[str, float]:
    """Compute by how many percent the second board is slower than the first, by profile."""
    return {
        answer.profile: round(pct(answer.boards), 2)
        for name, answer in answers.items()
        if answer.boards is not None and name.endswith(f":{MAIN_METRIC}")
    }


@dataclass(frozen=True)
class Judged:
    """What the verdict on a comparison is made of.

    Attributes:
        series: see :func:`series_of`.
        answers: to them, by name.
        trouble: what ended it early; None where nothing did.
        labels: of the old and of the new firmware.
        findings: further ones.
    """

    series: Sequence[PairSeries]
    answers: Mapping[str, PairAnswer]
    trouble: Trouble | None = None
    labels: tuple[str, str] = ("old", "new")
    findings: Sequence[Finding] = field(default_factory=list)


def judge_contest(session: SessionArtifact, judged: Judged, policy: GatePolicy) -> Verdict:
    """Judge a comparison of two firmwares by the answers of its pairs.

    Args:
        session: with the rounds of both.
        judged: what is known of them.
        policy: floors, rules, and the tolerance that a gate was asked for.
    """
    old, new = half(session, OLD), half(session, NEW)
    baselines = {profile: [old] for profile in profiles_of(session)}
    rows = [_row(one, judged.answers[one.name], policy) for one in judged.series]
    rows += [row for name in baselines if (row := error_row(new, name, [old])) is not None]
    rows += [row for name in baselines for row in plain_rows(new, name, old, policy)]
    changed = changed_answers(new, baselines)
    rows = [
        structs.replace(row, verdict="inconclusive", detail="the firmwares answer something else")
        if row.profile in changed and row.verdict in NOT_SLOWER
        else row
        for row in rows
    ]
    findings = [
        *_trouble(judged),
        *_of_halves(old, new, judged.labels),
        *answer_findings(changed, "the firmwares answer something else, old -> new"),
        *generator_findings(_both(session)),
        *judged.findings,
    ]
    words = [row.verdict for row in rows]
    if not any(row.verdict != NOT_GATEABLE for row in rows):
        words.append("inconclusive")
    kind = session_word(words)
    if any(finding.severity == "fail" for finding in findings):
        kind = "failed"
    if session.partial:
        kind = "incomplete"
    baseline: Json = {"mode": "pairs", "sessions": [], "latest": None, "epoch": None}
    return Verdict(
        kind=kind,
        baseline=baseline,
        gates=with_units(rows, session),
        findings=findings,
        places=places(new, baselines),
    )


def _row(series: PairSeries, answer: PairAnswer, policy: GatePolicy) -> GateRow:
    word, detail = WORDS[answer.word], ""
    centre = median(old for old, _ in series.pairs) if series.pairs else None
    before = natural(centre, series.metric) if centre is not None else None
    now = natural(centre + answer.change, series.metric) if centre is not None else None
    if before is not None and now is not None and word in {"regressed", "improved"}:
        floor = policy.min_effect.get(series.metric)
        if floor is not None and abs(now - before) <= floor:
            word, detail = "unchanged", f"a change within the floor of {floor:g}"
    bounded = math.isfinite(answer.threshold)
    many = "1 pair" if answer.pairs == 1 else f"{answer.pairs} pairs"
    if not series.pairs:
        word, detail = NOT_GATEABLE, "no pair has figures that can be compared"
    elif word == "inconclusive":
        detail = f"neither slower nor excluded by {many}"
    return GateRow(
        name=series.name,
        profile=series.profile,
        metric=series.metric,
        verdict=word,
        d_pct=pct(answer.change) if series.pairs else None,
        threshold_pct=printed(pct(answer.threshold)) if bounded else None,
        smallest_detectable_pct=printed(pct(answer.threshold)) if bounded else None,
        at_most_pct=printed(pct(answer.high)) if math.isfinite(answer.high) else None,
        at_least_pct=printed(pct(answer.low)) if math.isfinite(answer.low) else None,
        baseline=before,
        now=now,
        rounds=answer.pairs,
        confirmation="pairs" if bounded else "",
        detail=detail or f"{many} of old and new firmware",
    )


def _trouble(judged: Judged) -> Iterator[Finding]:
    trouble = judged.trouble
    if trouble is None:
        return
    message = trouble.message
    if trouble.label and f"the {trouble.label} firmware" not in message:
        message = f"the {trouble.label} firmware: {message}"
    yield Finding(severity="fail", kind=NOT_MEASURED, message=f"{message}.")


def _of_halves(old: SessionArtifact, new: SessionArtifact, labels: tuple[str, str]) -> Iterator[Finding]:
    """List findings that need no comparison, with the name of the firmware that they are about.

    What the old firmware does as well fails nothing: it is no fault of the new one.
    """
    before, after = budget_findings(old), budget_findings(new)
    shared = {(one.kind, one.where) for one in before if one.severity == "fail"}
    for finding in after:
        both = finding.severity == "fail" and (finding.kind, finding.where) in shared
        severity = "warn" if both else finding.severity
        too = f"; the {labels[0]} firmware does, too" if both else ""
        yield structs.replace(
            finding, severity=severity, message=_attributed(finding.message, f"the {labels[1]} firmware{too}")
        )
    told = {(one.kind, one.where) for one in after}
    for finding in before:
        if finding.kind in {BROKEN, BUDGET} and (finding.kind, finding.where) in told:
            continue
        severity = "warn" if finding.severity == "fail" else finding.severity
        yield structs.replace(
            finding, severity=severity, message=_attributed(finding.message, f"the {labels[0]} firmware")
        )


def _attributed(message: str, whose: str) -> str:
    return f"{message.removesuffix('.')} ({whose})."


def _both(session: SessionArtifact) -> SessionArtifact:
    """Return all rounds as those of one session: this computer measured them."""
    runs = [structs.replace(run, role="run") for run in session.raw_runs]
    return structs.replace(session, raw_runs=runs)
