"""Clients that never get an answer: the board serves fewer connections at once than the phases have clients.

Such a session measures the clients that were served, and is never green. It is *inconclusive*, and joins the
baseline, so that later sessions are compared with it; but where the board served more in the baseline, the
firmware has lost some of its connections, and the session *failed*.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_espperf.gate.series import cells_of, no_success
from pytest_espperf.model.artifact import Capacity, ErrorReason, Finding, PhaseReport, SessionArtifact
from pytest_espperf.model.capacity import advice, sentence
from pytest_espperf.model.computer import own_fault
from pytest_espperf.model.error_kinds import LOGIN
from pytest_espperf.model.findings import CAPACITY


def capacity_findings(candidate: SessionArtifact, baseline: Sequence[SessionArtifact]) -> Iterator[Finding]:
    """Report clients that got nothing, from a session and its baseline, oldest first."""
    cells = {
        cell: [result.report for result in results if not own_fault(result.report)]
        for cell, results in cells_of(candidate).items()
    }
    cells = {cell: reports for cell, reports in cells.items() if reports}
    now = candidate.capacity
    starvation = ""
    if now is not None:
        starvation = sentence(now, {cell: max(report.clients for report in cells[cell]) for cell in cells})
        before = next((one.capacity for one in reversed(baseline) if one.capacity is not None), None)
        if now.ended and before is not None and now.connections < before.connections:
            least = "" if before.ended else "at least "
            yield Finding(
                severity="fail",
                kind=CAPACITY,
                message=f"the board serves {now.connections} connections at once, and served {least}"
                f"{before.connections} in the baseline"
                + (f": {starvation}." if starvation else f" (one more is {now.ended})."),
            )
            return
        if starvation:
            yield Finding(severity="warn", kind=CAPACITY, message=f"{starvation}.")
    for cell, reports in cells.items():
        if not starvation and (starved := _starved(cell, reports, now)):
            yield Finding(severity="warn", kind=CAPACITY, where=cell, message=f"{cell}: {starved}.")


def _starved(cell: str, reports: Sequence[PhaseReport], capacity: Capacity | None) -> str:
    """Describe how many clients got nothing in most runs of a cell while others did; "" where none.

    More sockets are no remedy where the board served as many clients when it was asked, or where the clients'
    own errors name another cause.
    """
    runs = [report for report in reports if report.never_answered and not no_success(report)]
    if 2 * len(runs) < len(reports) or not runs:
        return ""
    most = max(runs, key=lambda report: report.never_answered)
    said = (
        f"{most.never_answered} of {most.clients} clients never got an answer in {len(runs)} of "
        f"{len(reports)} runs"
    )
    cause = next((str(reason) for reason in most.error_reasons if _names_cause(reason)), "")
    if cause:
        return f"{said}, and met: {cause}"
    if capacity is not None and capacity.connections >= most.clients:
        return f"{said}, though the board served {capacity.connections} connections at once when it was asked"
    return f"{said}; {advice([cell], most.clients - most.never_answered)}"


def _names_cause(reason: ErrorReason) -> bool:
    """Whether an error says itself why a client got no answer: its body was not taken, its login or TLS."""
    return (
        reason.kind in {"WriteTimeout", LOGIN}
        or reason.reason.startswith(f"{LOGIN}: ")
        or "TLS handshake" in reason.reason
    )
