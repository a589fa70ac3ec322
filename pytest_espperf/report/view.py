"""The one view that every renderer draws: verdict first, then gates, then where, then what to do.

Names and messages of what fails a session stand here as well, for test reports, JUnit files and annotations
alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_espperf.model.artifact import (
    MAIN_RULE,
    CellAggregate,
    Finding,
    GateRow,
    PathAggregate,
    PathChange,
    SessionArtifact,
    Verdict,
)
from pytest_espperf.model.findings import (
    ANSWERS,
    BUDGET,
    CAPACITY,
    DETECTABLE,
    GATE_OFF,
    INCOMPARABLE,
    NAMED_BASELINE,
    NO_BASELINE,
    NO_USABLE_BASELINE,
    OWN_TEST,
    SEVERITIES,
    STOPPED,
    WORKER,
)
from pytest_espperf.model.gates import MAIN_METRIC, divided_pct
from pytest_espperf.model.registry import METRICS, PER_SECOND, Metric, own_gate, rate_unit
from pytest_espperf.model.verdicts import (
    BLAMING,
    CLIENTS_WITHOUT_ANSWER,
    COMPARISON_OFF,
    FAILING,
    LEFT_OUT,
    LOST_WORKER,
    NAMED_BASELINE_UNUSABLE,
    NOT_ALL_COMPARED,
    NOTHING_COMPARED,
    OTHER_ANSWERS,
    SLOWER,
    VERDICTS,
    Headline,
    Mood,
    mood_of,
    rank,
)
from pytest_espperf.report import contest, slowdown

WHY_NO_BASELINE = (INCOMPARABLE, NO_USABLE_BASELINE)
"""Findings that say why earlier sessions are no baseline."""

MOST_PCT = 300.0
UNKNOWN = "unknown"
"""What stands in place of a threshold or bound above 300 %, which means nothing."""

_SLOW = re.compile(r"\bp9[59] [\d,.]+ ms is above the budget of ")
"""A budget of latency that is exceeded, as the finding says it."""


@dataclass(frozen=True)
class CellRow:
    """Medians of a phase of a profile, or of one of its paths; ``unit`` is that of the throughput."""

    name: str
    rps: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    error_rate: float | None
    unit: str
    is_path: bool = False

    def rate(self, column: str) -> str:
        """Format the throughput for a column of this unit, with its own where the column has several."""
        value = format_metric(METRICS[MAIN_METRIC], self.rps)
        counted = f" {self.unit.removesuffix('/s')}" if column == PER_SECOND and self.rps is not None else ""
        return f"{value}{counted}"


@dataclass(frozen=True)
class ShownFigure:
    """A figure that only some phases have, or one of the firmware's own.

    Attributes:
        name: of the cell, ``profile:phase``; of an own figure the gate's.
        metric: what it is.
        value: median over the runs, or over the figure's values.
    """

    name: str
    metric: Metric
    value: float


@dataclass(frozen=True)
class View:
    """Contents of every report about a session.

    Attributes:
        verdict: its word.
        mood: how it is meant.
        meaning: the verdict in words, without a full stop.
        facts: what was measured, by name.
        gates: worst first.
        cells: medians of what was measured.
        figures: what only some phases have, and the firmware's own.
        findings: all but the slowdown that would have been noticed, worst first.
        further: the same without those that the headline says already.
        places: paths against the baseline, worst first.
        detectable: the slowdown that would have been noticed, in one sentence.
        next_steps: what to do, one sentence each.
        words: what verdicts of gates are called, where it is not their own word.
        intervals: changes of gates are known by an interval, in place of a threshold and a bound.
        sides: what the two figures of a change are called: heads of columns.
    """

    verdict: str
    mood: Mood
    meaning: str
    facts: tuple[tuple[str, str], ...]
    gates: tuple[GateRow, ...]
    cells: tuple[CellRow, ...]
    figures: tuple[ShownFigure, ...]
    findings: tuple[Finding, ...]
    further: tuple[Finding, ...]
    places: tuple[PathChange, ...]
    detectable: str
    next_steps: tuple[str, ...]
    words: Mapping[str, str]
    intervals: bool
    sides: tuple[str, str]

    def word(self, row: GateRow) -> str:
        """Return what the verdict of a gate is called."""
        return self.words.get(row.verdict, row.verdict)

    def change(self, row: GateRow) -> str:
        """Format the change of a gate, slower positive: ``+12.0 %``."""
        return signed_pct(divided_pct(row, row.d_pct))


def make_view(session: SessionArtifact) -> View:
    """Make the view of a session that has its verdict; one without is shown as incomplete."""
    gate = session.gate
    verdict = gate.kind if gate is not None else "incomplete"
    gates = _worst_first(gate.gates) if gate is not None else []
    carried = gate.findings if gate is not None else []
    compared = contest.headline(session)
    headline = compared or (headline_of(gate) if gate is not None else VERDICTS[verdict].headline)
    findings = sorted(
        (finding for finding in carried if finding.kind != DETECTABLE),
        key=lambda finding: SEVERITIES.index(finding.severity),
    )
    return View(
        verdict=contest.word_of(session, verdict),
        mood=mood_of(verdict),
        meaning=headline.text,
        facts=_facts(session),
        gates=tuple(gates),
        cells=tuple(_cells(session)),
        figures=tuple(shown_figures(session)),
        findings=tuple(findings),
        further=tuple(finding for finding in findings if not _in_headline(finding, verdict, headline)),
        places=tuple(gate.places) if gate is not None else (),
        detectable=next((finding.message for finding in carried if finding.kind == DETECTABLE), ""),
        next_steps=(
            *_where_to_look(session),
            *headline.next_steps,
            *_required(session),
            *_own_budgets(session),
            *_accept(session),
        ),
        words=contest.gate_words(session),
        intervals=contest.is_ab(session),
        sides=contest.sides(session),
    )


def _in_headline(finding: Finding, verdict: str, headline: Headline) -> bool:
    """Whether the headline says what a finding says: by its text, or by the verdict's word."""
    if finding.kind == NO_BASELINE:
        return verdict == "no-baseline"
    return headline.text.startswith(_clause(finding))


def _required(session: SessionArtifact) -> Iterator[str]:
    """Explain why a session without a baseline fails where the user asked for one."""
    gate = session.gate
    if gate is not None and gate.kind == "no-baseline" and session.settings.get("perf_require_baseline"):
        yield (
            "--perf-require-baseline fails a session without a baseline: check that the history of earlier "
            "runs is there (--perf-history)"
        )


def _own_budgets(session: SessionArtifact) -> Iterator[str]:
    """Advise how a board that is slow by nature gets a baseline: no session that exceeds a budget is one.

    A board that stopped the session is not slow by nature, nor is one that exceeds a budget of errors.
    """
    findings = session.gate.findings if session.gate is not None else []
    if not session.hard_stop_reason and any(
        finding.kind == BUDGET and finding.severity == "fail" and _SLOW.search(finding.message)
        for finding in findings
    ):
        yield (
            "a board that is slow by nature needs budgets of its own: --perf-max-p95-ms, --perf-max-p99-ms, "
            "or limits of its profile"
        )


def headline_of(verdict: Verdict) -> Headline:
    """Choose the headline of a verdict: what is slower, and by how much; what failed; why it is unclear."""
    usual = VERDICTS[verdict.kind].headline
    if verdict.kind in SLOWER:
        return replace(usual, text=slowdown.headline(verdict.gates) or usual.text)
    if verdict.kind == "failed":
        return _of_failed(verdict, usual)
    if verdict.kind == "no-baseline":
        return _of_first(verdict, usual)
    if verdict.kind == "incomplete":
        lost = any(finding.kind == WORKER and not finding.where for finding in verdict.findings)
        return LOST_WORKER if lost else usual
    return _of_inconclusive(verdict, usual) if verdict.kind == "inconclusive" else usual


def _of_failed(verdict: Verdict, usual: Headline) -> Headline:
    failing = [finding for finding in verdict.findings if finding.severity == "fail"]
    if {finding.kind for finding in failing} == {NAMED_BASELINE}:
        return NAMED_BASELINE_UNUSABLE
    first = next(iter(failing), None)
    if first is None:
        return usual
    rest = len(failing) - 1 if first.kind != STOPPED else 0  # what was stopped explains the rest
    more = f" (and {rest} more finding{'s' if rest > 1 else ''})" if rest else ""
    return replace(usual, text=f"{_clause(first)}{more}")


def _of_first(verdict: Verdict, usual: Headline) -> Headline:
    """Say why there is no baseline."""
    if any(finding.kind == GATE_OFF for finding in verdict.findings):
        return COMPARISON_OFF
    reasons = [finding for finding in verdict.findings if finding.kind in WHY_NO_BASELINE]
    why = next((finding for finding in reasons if finding.severity == "warn"), None)
    return replace(LEFT_OUT, text=_clause(why)) if why is not None else usual


def _clause(finding: Finding) -> str:
    return finding_text(finding).removesuffix(".")


def _of_inconclusive(verdict: Verdict, usual: Headline) -> Headline:
    kinds = {finding.kind for finding in verdict.findings}
    if ANSWERS in kinds:
        return OTHER_ANSWERS
    if any(row.verdict == "inconclusive" for row in verdict.gates):
        return usual
    if CAPACITY in kinds:
        return CLIENTS_WITHOUT_ANSWER
    if GATE_OFF in kinds:
        return COMPARISON_OFF
    return NOT_ALL_COMPARED if any(row.rule == MAIN_RULE for row in verdict.gates) else NOTHING_COMPARED


def blamed(session: SessionArtifact) -> list[PathChange]:
    """List the paths of the profiles that are called slower, by their p95, worst first."""
    if session.gate is None:
        return []
    slow = {row.profile for row in session.gate.gates if row.verdict in BLAMING}
    return [place for place in session.gate.places if place.profile in slow and place.metric == "p95_ms"]


def _accept(session: SessionArtifact) -> tuple[str, ...]:
    """Advise how an intended slowdown is accepted: this very session, in this very history."""
    gate = session.gate
    if gate is None or session.contest is not None or not (gate.kind in SLOWER or gate.held_back):
        return ()
    folder = session.settings.get("perf_history")
    where = f' "--perf-history={folder}"' if folder else ""
    return (f'if it is intended: espperf accept {session.session_id[:8] or "latest"} --reason "..."{where}',)


def _where_to_look(session: SessionArtifact) -> tuple[str, ...]:
    gates = session.gate.gates if session.gate is not None else []
    if session.contest is not None and not any(row.verdict in FAILING for row in gates):
        return ()  # nothing is known to be slower there
    worst = next(iter(blamed(session)), None)
    if worst is None or worst.d_pct <= 0:
        return ()
    moved = METRICS[worst.metric].change(worst.baseline, worst.now)
    return (f"look at {worst.path} in {worst.profile}:{worst.phase} first: p95 {moved}",)


def legend(gates: Sequence[GateRow], *, intervals: bool = False) -> str:
    """Units and directions of the gated metrics, in one sentence; "" where there is none.

    Args:
        gates: those of the table.
        intervals: see :class:`View`.
    """
    metrics = dict.fromkeys(row.described for row in gates if row.described is not None)
    parts = []
    for one in metrics:
        unit = f" in {one.unit}" if one.unit else ""
        parts.append(f"{one.name}{unit} ({'more' if one.better == 'higher' else 'less'} is better)")
    if not parts:
        return ""
    if intervals:
        return f"{', '.join(parts)}; slower is positive, interval: the changes that are not excluded"
    return (
        f"{', '.join(parts)}; slower is positive, fails at: the smallest slowdown that fails, at most: the "
        "largest that is not excluded"
    )


def _worst_first(gates: Sequence[GateRow]) -> list[GateRow]:
    """Sort gates by verdict and change; of a slower profile, the gate that stands for it comes first."""
    leads = {row.profile: row for row in slowdown.leads(gates)}

    def place(row: GateRow) -> tuple[int, float, bool, float]:
        lead = leads.get(row.profile, row) if row.verdict in FAILING else row
        return rank(row.verdict), -(lead.d_pct or 0.0), row is not lead, -(row.d_pct or 0.0)

    return sorted(gates, key=place)


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
        *(contest.basis(session.contest) if session.contest is not None else ()),
    ]
    return tuple((name, value) for name, value in facts if value)


def _cells(session: SessionArtifact) -> list[CellRow]:
    rows = []
    for name, cell in session.aggregated.items():
        rows.append(_row(name, cell))
        # The slowest path first: it shows where.
        paths = [replace(_row(path, figures), is_path=True) for path, figures in cell.path_metrics.items()]
        rows += sorted(paths, key=lambda row: -(row.p95_ms or 0.0))
    return rows


def shown_figures(session: SessionArtifact) -> Iterator[ShownFigure]:
    """List the figures that only some phases have, and then the firmware's own."""
    for name, cell in session.aggregated.items():
        for metric, summary in cell.figures.items():
            if metric in METRICS and summary.median is not None:
                yield ShownFigure(name, METRICS[metric], summary.median)
    for name, figure in session.figures.items():
        if figure.median is not None:
            yield ShownFigure(own_gate(name), figure.metric(name), figure.median)


def _row(name: str, figures: CellAggregate | PathAggregate) -> CellRow:
    return CellRow(
        name=name,
        rps=figures.rps_ok.median,
        p50_ms=figures.p50_ms.median,
        p95_ms=figures.p95_ms.median,
        p99_ms=figures.p99_ms.median,
        error_rate=figures.error_rate.median,
        unit=rate_unit((figures.kind,)),
    )


def finding_text(finding: Finding) -> str:
    """Put a finding's message behind the place that it is about, which is named once."""
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
    """Format a threshold or bound of a gate: ``7.4 %``; :data:`UNKNOWN` where it is too large.

    ``-`` where the gate was not judged that way.
    """
    if value is None:
        # Rows of the first version have no number of rounds.
        return UNKNOWN if row.rounds and row.metric != "p99_ms" else "-"
    shown = divided_pct(row, value) or 0.0
    return f"{shown:.1f} %" if abs(shown) <= MOST_PCT else UNKNOWN


def interval_text(row: GateRow) -> str:
    """Format the interval of a gate's change, slower positive: ``+7.3 to +13.7 %``."""
    if row.rule != MAIN_RULE or row.metric == "error_rate":
        return "-"
    low, high = (divided_pct(row, value) for value in (row.at_least_pct, row.at_most_pct))
    if low is None and high is None:
        return UNKNOWN if row.rounds else "-"
    if high is None or abs(high) > MOST_PCT:
        return f"above {signed_pct(low)}"
    if low is None:
        return f"below {signed_pct(high)}"
    return f"{signed_pct(low).removesuffix(' %')} to {signed_pct(high)}"


def format_metric(metric: Metric | None, value: float | None) -> str:
    """Format a gate's value, without its unit: see :func:`legend`."""
    if value is None or metric is None:
        return "-" if value is None else f"{value:g}"
    return metric.number(value)


def failing_gates(verdict: Verdict) -> list[GateRow]:
    """List the gates whose verdict fails the session."""
    return [row for row in verdict.gates if row.verdict in FAILING]


def failing_findings(verdict: Verdict) -> list[Finding]:
    """List the failing findings that no gate of the same name stands for, a project's own tests included."""
    gated = {row.name for row in failing_gates(verdict)}
    return [
        finding
        for finding in verdict.findings
        if finding.severity == "fail" and finding_name(finding) not in gated
    ]


def finding_name(finding: Finding) -> str:
    """Name a finding by the place that it is about, or else by its kind."""
    return finding.where or finding.kind


def failures(verdict: Verdict) -> list[tuple[str, str]]:
    """``(name, message)`` of failing gates, then findings; without what pytest has reported by itself."""
    found = [(row.name, slowdown.gate_message(row, verdict.gates)) for row in failing_gates(verdict)]
    found += [
        (finding_name(finding), f"{verdict.kind}: {finding.message}")
        for finding in failing_findings(verdict)
        if finding.kind != OWN_TEST
    ]
    return found
