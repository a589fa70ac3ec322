"""The gate of answers that wait for acknowledgements which clients delay.

The load engine acknowledges at once, so that no figure shows it. A firmware that begins to send its answers
in two writes costs each of its clients 40 to 200 ms a request all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pytest_espperf.model.artifact import DELAYED_ACK, Finding, GateRow, Json, SessionArtifact
from pytest_espperf.model.findings import DELAYED_ACKS
from pytest_espperf.model.verdicts import VerdictWord

RULE = "delayed-ack"

CURE = "set TCP_NODELAY on the accepted socket, or send head and body by one write"


def _found(session: SessionArtifact) -> Json:
    found = session.device.get(DELAYED_ACK)
    return found if isinstance(found, dict) else {}


def waits_ms(session: SessionArtifact) -> dict[str, float]:
    """Return each path's wait in milliseconds: 0.0 where it has none; paths not asked for are missing."""
    found = _found(session)
    waits = found.get("waits_ms", {})
    return {path: float(waits.get(path, 0.0)) for path in found.get("asked", ())}


def _paths(session: SessionArtifact, profile: str) -> set[str]:
    cells = (cell for cell in session.aggregated.values() if cell.profile == profile)
    return {path for cell in cells for path in cell.path_metrics}


def delayed_ack_rows(
    candidate: SessionArtifact, baselines: Mapping[str, Sequence[SessionArtifact]]
) -> Iterator[GateRow]:
    """Make a row for each profile with paths that wait and did not, or the other way round.

    Each path is compared with the newest session of the baseline that asked for it.
    """
    now = waits_ms(candidate)
    for profile, baseline in baselines.items():
        before = {path: ms for session in baseline for path, ms in waits_ms(session).items()}
        both = [path for path in now if path in before and path in _paths(candidate, profile)]
        begun = [path for path in both if now[path] and not before[path]]
        ended = [path for path in both if before[path] and not now[path]]
        if begun:
            yield _row(profile, "regressed", before=0.0, now=max(now[path] for path in begun), paths=begun)
        elif ended:
            yield _row(profile, "improved", before=max(before[path] for path in ended), now=0.0, paths=ended)


def _row(profile: str, verdict: VerdictWord, *, before: float, now: float, paths: Sequence[str]) -> GateRow:
    named = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    if verdict == "regressed":
        detail = f"each answer of {named} now waits {now:.0f} ms for the client's acknowledgement: {CURE}"
    else:
        detail = f"answers of {named} wait for the client's acknowledgement no longer"
    return GateRow(
        name=f"{profile}:delayed_ack",
        profile=profile,
        metric="delayed_ack",
        rule=RULE,
        verdict=verdict,
        baseline=before,
        now=now,
        sessions=1,
        detail=detail,
    )


def delayed_ack_findings(
    candidate: SessionArtifact, baselines: Mapping[str, Sequence[SessionArtifact]]
) -> Iterator[Finding]:
    """Report that answers wait; warn where the baseline does not show it, or the figures contain the wait."""
    waits = {path: ms for path, ms in waits_ms(candidate).items() if ms}
    if not waits:
        return
    measured = bool(_found(candidate).get("measured"))
    known = all(
        any(waits_ms(one).get(path) for one in epoch) for epoch in baselines.values() for path in waits
    )
    named = ", ".join(list(waits)[:3]) + (f" and {len(waits) - 3} more" if len(waits) > 3 else "")
    least, most = min(waits.values()), max(waits.values())
    wait = f"{most:.0f} ms" if most - least < 1 else f"{least:.0f} to {most:.0f} ms"
    message = f"answers of {named} wait {wait} for the acknowledgement of their first part, "
    message += f"which clients delay: {CURE}. "
    message += (
        "This computer delays it as well: the figures of this session contain that wait, and a change of the "
        "handler can hide behind it."
        if measured
        else "The figures of this session do not contain it; browsers and other clients wait for it."
    )
    yield Finding(
        severity="info" if known and baselines and not measured else "warn",
        kind=DELAYED_ACKS,
        message=message,
    )
