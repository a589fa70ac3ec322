"""Findings about what stands between the gate and the board: the generator (this computer), and the link.

A phase that was *bound* is not compared at all, see :mod:`pytest_espperf.gate.series`. Where the generator
only had to wait for a processor, its figures are compared all the same: what they lost by that is known, and
a slowdown beyond it must not pass. Neither is anything subtracted for the link.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from pytest_espperf.gate.policy import MIN_CHANGE
from pytest_espperf.gate.series import bound, cells_of
from pytest_espperf.gate.stats import mad, mad_to_sigma
from pytest_espperf.model.artifact import Finding, LinkReport, PhaseReport, PhaseResult, SessionArtifact
from pytest_espperf.model.computer import STOOD_STILL, advice, describe_lack, local_kinds, own_fault
from pytest_espperf.model.findings import GENERATOR_BOUND, LINK

LOST = -math.expm1(-MIN_CHANGE)
"""Share of its throughput, median of its runs, from which on what a cell lost is reported: less is no change
that the gate could call."""


SHORT = "was short of processors"


@dataclass(frozen=True)
class Loss:
    """Throughput that one cell lost because the generator waited for a processor.

    Attributes:
        cell: ``profile:phase``.
        share: of its throughput, 0..1.
        boards: how many boards were driven at the same time, at most.
    """

    cell: str
    share: float
    boards: int


def generator_findings(session: SessionArtifact) -> Iterator[Finding]:
    """Report each cell of a session that was bound or spoilt, and in one finding all that lost something."""
    cells = cells_of(session)
    again = {run.profile for run in session.raw_runs if run.role == "confirm"}
    for cell, results in cells.items():
        at_fault = [result.report for result in results if own_fault(result.report)]
        if at_fault:
            measured_again = " Measured again." if results[0].profile in again else ""
            yield _finding(f"{cell}: {_faults(at_fault, len(results))}{measured_again}", cell)
        if paced := sum(bound(result.report) and not own_fault(result.report) for result in results):
            yield _finding(
                f"{cell}: this computer, not the board, set the pace in {paced} of {len(results)} runs; "
                "they are not compared.",
                cell,
            )
    if found := losses(cells):
        worst = max(found, key=lambda loss: loss.share)
        others = f", and {len(found) - 1} more less" if len(found) > 1 else ""
        yield _finding(f"this computer {SHORT}: {_cost(worst, worst.cell)}{others}. {_advice(worst.boards)}")


def _faults(at_fault: Sequence[PhaseReport], of: int) -> str:
    """Describe what this computer lacked or did in some runs of a cell, and what to do about it."""
    local: Counter[str] = Counter()
    for report in at_fault:
        local.update(local_kinds(report.error_kinds))
    runs = f"in {len(at_fault)} of {of} runs; they are not compared"
    if local:
        kind, _ = local.most_common(1)[0]
        return f"{describe_lack(kind)} {runs}. It is not the board's fault: {advice(kind)}."
    stopped_s = sum(report.generator.stopped_s for report in at_fault if report.generator is not None)
    return f"{STOOD_STILL} for {stopped_s:.1f} s {runs}. Keep it awake, and end other work on it."


def host_finding(sessions: Mapping[str, SessionArtifact]) -> Finding | None:
    """Combine what the sessions of several boards show of the computer that drove them all; None for nothing.

    Args:
        sessions: by the name of their board.
    """
    paced: dict[str, int] = {}
    worst: dict[str, Loss] = {}
    for board, session in sessions.items():
        cells = cells_of(session)
        if count := sum(any(bound(result.report) for result in results) for results in cells.values()):
            paced[board] = count
        if found := losses(cells):
            worst[board] = max(found, key=lambda loss: loss.share)
    parts = []
    if paced:
        most = max(paced, key=lambda board: paced[board])
        cells_there = "1 phase" if paced[most] == 1 else f"{paced[most]} phases"
        parts.append(
            f"this computer, not the board, set the pace on {len(paced)} of {len(sessions)} boards "
            f"({cells_there} of {most}), in runs that are not compared"
        )
    if worst:
        board, loss = max(worst.items(), key=lambda item: item[1].share)
        cost = _cost(loss, f"{loss.cell} of {board}")
        parts.append(
            f"{'it' if parts else 'this computer'} {SHORT} on {len(worst)} of {len(sessions)} boards: {cost}"
        )
    boards = max((_boards(session) for session in sessions.values()), default=1)
    return _finding(f"{'; '.join(parts)}. {_advice(boards)}") if parts else None


def losses(cells: Mapping[str, Sequence[PhaseResult]]) -> list[Loss]:
    """List the cells that lost enough to be reported; by ``profile:phase``."""
    found = []
    for cell, results in cells.items():
        generators = [result.report.generator for result in results if result.report.generator is not None]
        shares = [one.lost_share for one in generators if one.lost_share is not None]
        if shares and (share := median(shares)) > LOST:
            found.append(Loss(cell, share, max(one.boards for one in generators)))
    return found


def _boards(session: SessionArtifact) -> int:
    generators = [result.report.generator for results in cells_of(session).values() for result in results]
    return max((one.boards for one in generators if one is not None), default=1)


def _cost(loss: Loss, whose: str) -> str:
    lost = f"{100 * loss.share:.0f} %"
    return f"waiting for one cost {whose} {lost} of its throughput, which is compared all the same"


def _advice(boards: int) -> str:
    if boards > 1:
        return (
            f"It drove up to {boards} boards at once: use fewer workers (-n {boards // 2}), a faster "
            "computer, or end other work on it."
        )
    return "Use a faster one, or end other work on it."


def _finding(message: str, where: str = "") -> Finding:
    return Finding(severity="warn", kind=GENERATOR_BOUND, where=where, message=message)


MOVED = math.log(1.5)
"""Log ratio of the medians below which a link has not moved ..."""


MOVED_SIGMAS = 3.0
"""... nor below so many robust standard deviations of the history's ..."""


MOVED_MS = 2.0
"""... nor by fewer milliseconds than matter to a request."""


LEAST_CONNECTS = 8
"""Connects of a session, and LEAST_SESSIONS of the baseline, below which nothing is reported."""


LEAST_SESSIONS = 3


LOST_SHARE = 0.02
"""Share of connects with a lost packet from which on it is reported; two at least."""


def _links(session: SessionArtifact) -> list[LinkReport]:
    """List the readings of a session, each connect once."""
    results = (result for run in session.raw_runs for result in run.results)
    return [_own(result.report.link) for result in results if result.report.link is not None]


def _own(link: LinkReport) -> LinkReport:
    """Leave out of a reading what the phase before has as well."""
    return LinkReport(
        connect_ms=link.connect_ms[link.shared_connects :],
        retransmitted=max(0, link.retransmitted - link.shared_retransmitted),
        failed=max(0, link.failed - link.shared_failed),
    )


def idle_connect_ms(session: SessionArtifact) -> float | None:
    """Median connect time of a session while the board was idle; None where too few were made."""
    times = [ms for link in _links(session) for ms in link.connect_ms]
    return median(times) if len(times) >= LEAST_CONNECTS else None


def link_findings(candidate: SessionArtifact, baseline: Sequence[SessionArtifact]) -> Iterator[Finding]:
    """Report a link to the board that lost packets, refused connects, or moved against the baseline.

    Connects to the idle board around every phase are answered by its network stack: where their median left
    what it was in the sessions of the baseline, or packets were lost, slower answers may be the link's. That
    stands in the verdict and is never subtracted from it.

    Args:
        candidate: the session.
        baseline: the sessions that it is compared with.
    """
    for note in candidate.device.get("notes", ()):
        yield Finding(severity="warn", kind=LINK, message=f"{note}.")
    links = _links(candidate)
    lost = sum(link.retransmitted for link in links)
    made = lost + sum(len(link.connect_ms) for link in links)
    refused = sum(link.failed for link in links)
    if refused:
        yield Finding(
            severity="warn",
            kind=LINK,
            message=f"the idle board refused {refused} of {made + refused} connects around its phases.",
        )
    if lost >= 2 and lost >= LOST_SHARE * made:
        yield Finding(
            severity="warn",
            kind=LINK,
            message=f"the link lost packets: {lost} of {made} connects to the idle board did not get through "
            "at once.",
        )
    now = idle_connect_ms(candidate)
    past = [ms for session in baseline if (ms := idle_connect_ms(session)) is not None and ms > 0]
    if now is None or now <= 0 or len(past) < LEAST_SESSIONS:
        return
    logs = [math.log(ms) for ms in past]
    usual = median(logs)
    reach = max(MOVED, MOVED_SIGMAS * mad_to_sigma(len(logs)) * mad(logs))
    if abs(math.log(now) - usual) > reach and abs(now - math.exp(usual)) > MOVED_MS:
        slower = "slower" if math.log(now) > usual else "faster"
        yield Finding(
            severity="warn",
            kind=LINK,
            message=f"the link to the board is {slower} than before: a connect while it was idle took "
            f"{now:.1f} ms (median), {math.exp(usual):.1f} ms in the {len(past)} sessions before. What is "
            "measured may be the link's.",
        )
