"""Whether the link to the board moved: said in the verdict, never subtracted from it.

Connects to the idle board around every phase are answered by its network stack: where their median left
what it was in the sessions of the baseline, or packets were lost, slower answers may be the link's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median

from pytest_espperf.artifact import Finding, LinkReport, SessionArtifact
from pytest_espperf.gate.stats import mad, mad_to_sigma

MOVED = math.log(1.5)
"""Log ratio of the medians below which a link has not moved ..."""

MOVED_SIGMAS = 3.0
"""... nor below so many robust standard deviations of the history's ..."""

MOVED_MS = 2.0
"""... nor by fewer milliseconds than matter to a request."""

LEAST_CONNECTS = 8
"""Connects of a session, and LEAST_SESSIONS of the baseline, below which nothing is said."""

LEAST_SESSIONS = 3

LOST_SHARE = 0.02
"""Share of connects with a lost packet from which on it is said; two at least."""


def _links(session: SessionArtifact) -> list[LinkReport]:
    """The readings of a session, each connect once."""
    results = (result for run in session.raw_runs for result in run.results)
    return [_own(result.report.link) for result in results if result.report.link is not None]


def _own(link: LinkReport) -> LinkReport:
    """Without what the phase before has as well."""
    return LinkReport(
        connect_ms=link.connect_ms[link.shared_connects :],
        retransmitted=max(0, link.retransmitted - link.shared_retransmitted),
        failed=max(0, link.failed - link.shared_failed),
    )


def idle_connect_ms(session: SessionArtifact) -> float | None:
    """Median connect time of a session while the board was idle; None where too few were made."""
    times = [ms for link in _links(session) for ms in link.connect_ms]
    return median(times) if len(times) >= LEAST_CONNECTS else None


def link_findings(candidate: SessionArtifact, bar: Sequence[SessionArtifact]) -> Iterator[Finding]:
    """What a reader should know of the link.

    Args:
        candidate: the session.
        bar: the sessions that it is compared with.
    """
    for note in candidate.device.get("notes", ()):
        yield Finding(severity="warn", kind="link", message=f"{note}.")
    links = _links(candidate)
    lost = sum(link.retransmitted for link in links)
    made = lost + sum(len(link.connect_ms) for link in links)
    refused = sum(link.failed for link in links)
    if refused:
        yield Finding(
            severity="warn",
            kind="link",
            message=f"the idle board refused {refused} of {made + refused} connects around its phases.",
        )
    if lost >= 2 and lost >= LOST_SHARE * made:
        yield Finding(
            severity="warn",
            kind="link",
            message=f"the link lost packets: {lost} of {made} connects to the idle board did not get through "
            "at once.",
        )
    now = idle_connect_ms(candidate)
    past = [ms for session in bar if (ms := idle_connect_ms(session)) is not None and ms > 0]
    if now is None or now <= 0 or len(past) < LEAST_SESSIONS:
        return
    logs = [math.log(ms) for ms in past]
    usual = median(logs)
    reach = max(MOVED, MOVED_SIGMAS * mad_to_sigma(len(logs)) * mad(logs))
    if abs(math.log(now) - usual) > reach and abs(now - math.exp(usual)) > MOVED_MS:
        slower = "slower" if math.log(now) > usual else "faster"
        yield Finding(
            severity="warn",
            kind="link",
            message=f"the link to the board is {slower} than before: a connect while it was idle took "
            f"{now:.1f} ms (median), {math.exp(usual):.1f} ms in the {len(past)} sessions before. What is "
            "measured may be the link's.",
        )
