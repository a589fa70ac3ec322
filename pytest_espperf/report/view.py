"""The one view that every renderer draws: verdict first, then gates, then where, then what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pytest_espperf.model.artifact import (
    ANSWERS,
    CAPACITY,
    DETECTABLE,
    FAILING,
    GATE_OFF,
    MAIN_RULE,
    NAMED_BASELINE,
    NOT_MEASURED,
    OWN_TEST,
    WORKER,
    CellAggregate,
    Finding,
    GateRow,
    PathAggregate,
    Place,
    SessionArtifact,
    Verdict,
)
from pytest_espperf.model.registry import METRICS
from pytest_espperf.model.text import grouped

Mood = Literal["good", "bad", "warn", "plain"]

MOODS: dict[str, Mood] = {
    "unchanged": "good",
    "improved": "good",
    "no-baseline": "good",
    "inconclusive": "warn",
    "environment-shift": "warn",
    "incomplete": "warn",
    "regressed": "bad",
    "drift": "bad",
    "failed": "bad",
}

MEANINGS = {
    "unchanged": "a slowdown beyond the tolerance is excluded",
    "improved": "faster than the accepted sessions",
    "no-baseline": "nothing comparable was accepted before; this session is the first",
    "inconclusive": "slower or not, this session cannot tell",
    "environment-shift": "both firmwares are slower now: the bench changed, not the firmware",
    "regressed": "slower than the accepted sessions",
    "drift": "a slow slide since the beginning of this epoch",
    "failed": "a budget was broken, or the board could not be measured",
    "incomplete": "not everything planned was measured: shown, never compared against",
}

NAMED_IN_VAIN = "nothing of it could be compared with the baseline that was named"
"""What a failed session means that has no other fault."""

SWITCHED_OFF = "the comparison was switched off"
NOTHING_COMPARED = "nothing of it could be compared with earlier sessions"
NOT_ALL_COMPARED = "not every profile could be compared with earlier sessions"
"""What an inconclusive session means that has no inconclusive gate: none at all, or none of a profile."""

STARVED = "not every client got an answer"
"""What an inconclusive session means in which the board served fewer connections than there were clients."""
OTHER_ANSWERS = "the board answers something else than in the accepted sessions"
"""What an inconclusive session means in which what is measured is not what it was."""

NOTHING_MEASURED = "the board was not measured"
"""What a failed session means in which no phase was measured."""

LOST_WORKER = "a worker was lost, and with it a part of what was planned: shown, never compared against"

MOST_PCT = 300.0
UNKNOWN = "cannot be told"
"""What stands in place of a threshold or bound above 300 %, which says nothing about a board."""

NEXT_STEPS = {
    "regressed": ("run again to confirm; failing sessions never become the baseline",),
    "drift": ("compare with the oldest sessions of this epoch: no single change did it",),
    "inconclusive": (
        (
            "run again with more or longer runs (--perf-runs, --perf-long-duration), or with less load on "
            "this computer; --perf-strict makes this verdict fail"
        ),
    ),
    STARVED: ("follow the warning above and run again: what was measured is the clients that were served",),
    OTHER_ANSWERS: ("see whether the board answers what it should: the warnings above say what changed",),
    SWITCHED_OFF: (),
    NOTHING_COMPARED: ("fix the warnings above and run again: this session is no baseline",),
    NOT_ALL_COMPARED: ("fix the warnings above and run again",),
    "failed": ("fix the findings above and run again",),
    LOST_WORKER: ("find out what ended the worker (the test, a signal, memory), then run again",),
    "incomplete": ("run without -k, --lf or an interruption to be judged",),
}

BLAMING = frozenset({"regressed", "drift", "failed", "inconclusive"})
"""Verdicts of a gate after which the reader wants to know where."""

_WORST_FIRST = (
    "failed",
    "regressed",
    "drift",
    "inconclusive",
    "environment-shift",
    "improved",
    "no-baseline",
)


@dataclass(frozen=True)
class CellRow:
    """Medians of one cell (or of one of its paths), with the change to the previous session in percent."""

    name: str
    rps: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    error_rate: float | None
    p95_change_pct: float | None = None
    rps_change_pct: float | None = None
    is_path: bool = False


@dataclass(frozen=True)
class View:
    """What is shown of a session."""

    verdict: str
    mood: Mood
    meaning: str
    facts: tuple[tuple[str, str], ...]
    gates: tuple[GateRow, ...]
    cells: tuple[CellRow, ...]
    findings: tuple[Finding, ...]
    places: tuple[Place, ...]
    detectable: str
    next_steps: tuple[str, ...]


def make_view(session: SessionArtifact) -> View:
    """The view of a session that has its verdict; one without is shown as incomplete."""
    gate = session.gate
    verdict = gate.kind if gate is not None else "incomplete"
    gates = sorted(gate.gates, key=_worst_first) if gate is not None else []
    told = gate.findings if gate is not None else []
    meaning = meaning_of(gate) if gate is not None else MEANINGS[verdict]
    advice = NEXT_STEPS.get(meaning, NEXT_STEPS.get(verdict, ()))
    findings = sorted(
        (finding for finding in told if finding.kind != DETECTABLE),
        key=lambda finding: ("fail", "warn", "info").index(finding.severity),
    )
    return View(
        verdict=verdict,
        mood=MOODS[verdict],
        meaning=_culprits(gates) + meaning,
        facts=_facts(session),
        gates=tuple(gates),
        cells=tuple(_cells(session)),
        findings=tuple(findings),
        places=tuple(gate.places) if gate is not None else (),
        detectable=next((finding.message for finding in told if finding.kind == DETECTABLE), ""),
        next_steps=(*_where_to_look(session), *advice, *_own_budgets(session), *_accept(session)),
    )


def _own_budgets(session: SessionArtifact) -> Iterator[str]:
    """How a board that is slow by nature gets a baseline: a session that breaks a budget is none."""
    findings = session.gate.findings if session.gate is not None else []
    if any(finding.kind == "budget" and finding.severity == "fail" for finding in findings):
        yield (
            "a board that is slow by nature needs budgets of its own: --perf-max-p95-ms, --perf-max-p99-ms, "
            "or limits of its profile"
        )


def meaning_of(verdict: Verdict) -> str:
    """A verdict in words."""
    failing = {finding.kind for finding in verdict.findings if finding.severity == "fail"}
    if verdict.kind == "failed" and failing == {NAMED_BASELINE}:
        return NAMED_IN_VAIN
    of_all = {finding.kind for finding in verdict.findings if not finding.where}
    if verdict.kind == "failed" and NOT_MEASURED in of_all:
        return NOTHING_MEASURED
    if verdict.kind == "incomplete" and WORKER in of_all:
        return LOST_WORKER
    if verdict.kind == "inconclusive" and any(one.kind == ANSWERS for one in verdict.findings):
        return OTHER_ANSWERS
    if verdict.kind != "inconclusive" or any(row.verdict == "inconclusive" for row in verdict.gates):
        return MEANINGS[verdict.kind]
    if any(finding.kind == CAPACITY for finding in verdict.findings):
        return STARVED
    off = any(finding.kind == GATE_OFF for finding in verdict.findings)
    if off:
        return SWITCHED_OFF
    return NOT_ALL_COMPARED if any(row.rule == MAIN_RULE for row in verdict.gates) else NOTHING_COMPARED


def blamed(session: SessionArtifact) -> list[Place]:
    """The paths of the profiles that are called slower, by their p95, worst first."""
    if session.gate is None:
        return []
    slow = {row.profile for row in session.gate.gates if row.verdict in BLAMING}
    return [place for place in session.gate.places if place.profile in slow and place.metric == "p95_ms"]


def _accept(session: SessionArtifact) -> tuple[str, ...]:
    """How an intended slowdown is accepted: this very session, in this very history."""
    gate = session.gate
    if gate is None or not (gate.kind in {"regressed", "drift"} or gate.held_back):
        return ()
    folder = session.settings.get("perf_history")
    where = f' "--perf-history={folder}"' if folder else ""
    return (f'if it is intended: espperf accept {session.session_id[:8] or "latest"} --reason "..."{where}',)


def _where_to_look(session: SessionArtifact) -> tuple[str, ...]:
    worst = next(iter(blamed(session)), None)
    if worst is None or worst.d_pct <= 0:
        return ()
    return (
        f"look at {worst.path} in {worst.profile}:{worst.phase} first, {worst.d_pct:.0f} % slower at p95",
    )


def legend(gates: Sequence[GateRow]) -> str:
    """Units and directions of the gated metrics, in one sentence; "" where there is none."""
    metrics = dict.fromkeys(row.metric for row in gates if row.metric in METRICS)
    told = [
        f"{name} in {METRICS[name].unit} ({'more' if METRICS[name].better == 'higher' else 'less'} is better)"
        for name in metrics
    ]
    if not told:
        return ""
    return (
        f"{', '.join(told)}; slower is positive, fails at: the smallest slowdown that fails, at most: the "
        "largest that is not excluded"
    )


def _culprits(gates: list[GateRow]) -> str:
    """``python_heavy is `` where gates name who is slower, else ""."""
    names = list(dict.fromkeys(row.profile for row in gates if row.verdict == "regressed" and row.profile))
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} " if names else ""


def _worst_first(row: GateRow) -> tuple[int, float]:
    rank = _WORST_FIRST.index(row.verdict) if row.verdict in _WORST_FIRST else len(_WORST_FIRST)
    return rank, -(row.d_pct or 0.0)


def _facts(session: SessionArtifact) -> tuple[tuple[str, str], ...]:
    commit = session.environment.get("git_commit")
    dirty = " (uncommitted changes)" if session.environment.get("git_dirty") else ""
    firmware = session.device.get("firmware")
    facts = [
        ("session", session.session_id),
        ("time", session.timestamp_utc),
        ("tag", session.tag),
        ("target", session.target),
        ("firmware", str(firmware or "")),
        ("commit", f"{commit}{dirty}" if commit else ""),
        ("profiles", ", ".join(session.profiles)),
        ("runs", str(session.runs_per_profile)),
        ("stopped", session.hard_stop_reason),
    ]
    return tuple((name, value) for name, value in facts if value)


def _cells(session: SessionArtifact) -> list[CellRow]:
    rows = []
    for name, cell in session.aggregated.items():
        change = session.comparison_to_previous.get(name, {})
        rows.append(
            replace(
                _row(name, cell),
                p95_change_pct=change.get("p95_ms_median_pct"),
                rps_change_pct=change.get("rps_ok_median_pct"),
            )
        )
        # The slowest path first: they tell where.
        paths = [replace(_row(path, figures), is_path=True) for path, figures in cell.path_metrics.items()]
        rows += sorted(paths, key=lambda row: -(row.p95_ms or 0.0))
    return rows


def _row(name: str, figures: CellAggregate | PathAggregate) -> CellRow:
    return CellRow(
        name=name,
        rps=figures.rps_ok.median,
        p50_ms=figures.p50_ms.median,
        p95_ms=figures.p95_ms.median,
        p99_ms=figures.p99_ms.median,
        error_rate=figures.error_rate.median,
    )


def finding_text(finding: Finding) -> str:
    """A finding's message after the place it is about, which is named once."""
    if not finding.where or finding.message.startswith(finding.where):
        return finding.message
    return f"{finding.where}: {finding.message}"


def signed_pct(value: float | None) -> str:
    """``+80.5 %``, never ``-0.0 %``; ``-`` where there is none."""
    if value is None:
        return "-"
    if abs(value) < 1000:
        return f"{round(value, 1) + 0.0:+.1f} %"
    return f"{value:+.0f} %" if abs(value) < 1e12 else f"{value:+.3g} %"


def bound_text(row: GateRow, value: float | None) -> str:
    """A threshold or bound of a gate: ``7.4 %``; :data:`UNKNOWN` where it is too large to mean anything.

    ``-`` where the gate was not judged that way.
    """
    if value is None:
        # Rows of the first version have no number of rounds.
        return UNKNOWN if row.rounds and row.metric != "p99_ms" else "-"
    return f"{value:.1f} %" if abs(value) <= MOST_PCT else UNKNOWN


def format_metric(metric: str, value: float | None) -> str:
    """A gate's value, without its unit: see :func:`legend`."""
    if value is None or metric not in METRICS:
        return "-" if value is None else f"{value:g}"
    return grouped(value, METRICS[metric].digits)


def gate_message(row: GateRow) -> str:
    """A gate's answer in one sentence."""
    if row.detail:
        return f"{row.verdict}: {row.detail}"
    return row.verdict if row.d_pct is None else f"{row.verdict}: {row.name} is {row.d_pct:.1f} % slower"


def failing_gates(verdict: Verdict) -> list[GateRow]:
    """The gates that say so."""
    return [row for row in verdict.gates if row.verdict in FAILING]


def failing_findings(verdict: Verdict) -> list[Finding]:
    """The failing findings that no gate of the same name stands for, a project's own tests included."""
    gated = {row.name for row in failing_gates(verdict)}
    return [
        finding
        for finding in verdict.findings
        if finding.severity == "fail" and finding_name(finding) not in gated
    ]


def finding_name(finding: Finding) -> str:
    """What a finding is called: the place it is about, or what it is."""
    return finding.where or finding.kind


def failures(verdict: Verdict) -> list[tuple[str, str]]:
    """``(name, message)`` of failing gates, then findings; without what pytest has reported by itself."""
    found = [(row.name, gate_message(row)) for row in failing_gates(verdict)]
    found += [
        (finding_name(finding), f"{verdict.kind}: {finding.message}")
        for finding in failing_findings(verdict)
        if finding.kind != OWN_TEST
    ]
    return found
