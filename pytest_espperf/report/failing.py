"""What fails a session, by name: for test reports, JUnit files and annotations alike."""

from __future__ import annotations

from pytest_espperf.artifact import FAILING, OWN_TEST, Finding, GateRow, Verdict


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
