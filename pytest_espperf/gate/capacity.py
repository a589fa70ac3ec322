"""Clients that never get an answer: the board serves fewer connections at once than the phases have clients.

Such a session measures the clients that were served, and is never green. It is *inconclusive*, and joins the
baseline, so that later sessions are compared with it; but where the board served more in the baseline, the
firmware has lost some of its connections, and the session *failed*.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_espperf.gate.series import cells_of, no_success
from pytest_espperf.model.artifact import CAPACITY, Finding, PhaseReport, SessionArtifact
from pytest_espperf.model.capacity import advice, sentence
from pytest_espperf.model.computer import own_fault


def capacity_findings(candidate: SessionArtifact, baseline: Sequence[SessionArtifact]) -> Iterator[Finding]:
    """What a session and its baseline, oldest first, say of the clients that got nothing."""
    cells = {
        cell: [result.report for result in results if not own_fault(result.report)]
        for cell, results in cells_of(candidate).items()
    }
    cells = {cell: reports for cell, reports in cells.items() if reports}
    now = candidate.capacity
    said = ""
    if now is not None:
        said = sentence(now, {cell: max(report.clients for report in cells[cell]) for cell in cells})
        before = next((one.capacity for one in reversed(baseline) if one.capacity is not None), None)
        if now.ended and before is not None and now.connections < before.connections:
            least = "" if before.ended else "at least "
            yield Finding(
                severity="fail",
                kind=CAPACITY,
                message=f"the board serves {now.connections} connections at once, and served {least}"
                f"{before.connections} in the baseline"
                + (f": {said}." if said else f" (one more is {now.ended})."),
            )
            return
        if said:
            yield Finding(severity="warn", kind=CAPACITY, message=f"{said}.")
    for cell, reports in cells.items():
        if not said and (starved := _starved(cell, reports)):
            yield Finding(severity="warn", kind=CAPACITY, where=cell, message=f"{cell}: {starved}.")


def _starved(cell: str, reports: Sequence[PhaseReport]) -> str:
    """How many clients got nothing in most runs of a cell while others did; "" where none."""
    runs = [report for report in reports if report.never_answered and not no_success(report)]
    if 2 * len(runs) < len(reports) or not runs:
        return ""
    most = max(runs, key=lambda report: report.never_answered)
    return (
        f"{most.never_answered} of {most.clients} clients never got an answer in {len(runs)} of "
        f"{len(reports)} runs; {advice([cell], most.clients - most.never_answered)}"
    )
