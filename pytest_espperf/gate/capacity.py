"""Clients that never get an answer: the board serves fewer connections at once than the phases have clients.

Such a session measures the clients that were served, and is never green. It is *inconclusive*, and joins the
baseline, so that later sessions are compared with it; but where the board served more in the baseline, the
firmware has lost some of its connections, and the session *failed*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pytest_espperf.gate.series import cells_of, no_success
from pytest_espperf.model.artifact import Capacity, Finding, PhaseReport, SessionArtifact
from pytest_espperf.model.computer import own_fault
from pytest_espperf.model.findings import CAPACITY

_MET = {
    "unanswered": "never get an answer",
    "refused": "are refused",
    "closed": "are closed at once",
    "busy": "are answered 503",
}

_OPTIONS = ("burst", "long")
"""Phases whose clients an option sets."""


def sentence(capacity: Capacity, clients: Mapping[str, int]) -> str:
    """Describe how many clients get nothing, and what to do; "" where each one is served.

    Args:
        capacity: of the board.
        clients: how many there are, by phase (``burst``) or by cell (``page:burst``).
    """
    serves = capacity.connections
    starved = {name: count for name, count in clients.items() if count > serves}
    if not capacity.ended or not starved:
        return ""
    most = max(starved.values())
    connections = "1 connection" if serves == 1 else f"{serves} connections"
    return (
        f"{most - serves} of {most} clients {_MET[capacity.ended]}: the board serves {connections} at once; "
        f"{_advice(starved, serves)}"
    )


def _advice(cells: Iterable[str], clients: int) -> str:
    """Advise how to give some phases so many clients."""
    phases = list(dict.fromkeys(name.rpartition(":")[2] for name in cells))
    options = [f"--perf-{phase}-clients {clients}" for phase in phases if phase in _OPTIONS]
    tables = [f"clients = {clients} to phase {phase!r}" for phase in phases if phase not in _OPTIONS]
    advice = [f"pass {' '.join(options)}"] if options else []
    advice += [f"give {' and '.join(tables)}"] if tables else []
    return f"{', '.join(advice)}, or give the board more sockets"


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
        if not starvation and (starved := _starved(cell, reports)):
            yield Finding(severity="warn", kind=CAPACITY, where=cell, message=f"{cell}: {starved}.")


def _starved(cell: str, reports: Sequence[PhaseReport]) -> str:
    """Describe how many clients got nothing in most runs of a cell while others did; "" where none."""
    runs = [report for report in reports if report.never_answered and not no_success(report)]
    if 2 * len(runs) < len(reports) or not runs:
        return ""
    most = max(runs, key=lambda report: report.never_answered)
    return (
        f"{most.never_answered} of {most.clients} clients never got an answer in {len(runs)} of "
        f"{len(reports)} runs; {_advice([cell], most.clients - most.never_answered)}"
    )
