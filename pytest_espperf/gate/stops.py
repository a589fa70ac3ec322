"""Rounds in which the generator stood still, and those that were measured again in their place.

A laptop that was closed, a paused virtual machine, a stopped process: such a round is no measurement of the
board. It is measured again, and the new round is judged as the planned one that it stands for.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pytest_espperf.model.artifact import RawRun, SessionArtifact
from pytest_espperf.model.computer import stood_still


def stopped_rounds(raw_runs: Iterable[RawRun]) -> dict[str, list[int]]:
    """List the planned rounds of each profile in which the generator stood still, where there are any."""
    found: dict[str, list[int]] = {}
    for run in raw_runs:
        if run.role == "run" and _stood_still(run):
            found.setdefault(run.profile, []).append(run.run_index)
    return found


def without_stops(session: SessionArtifact) -> SessionArtifact:
    """Replace the stopped planned rounds of a session by as many as were measured again."""
    runs = replace_stopped(session.raw_runs)
    return session if runs is session.raw_runs else msgspec.structs.replace(session, raw_runs=runs)


def replace_stopped(raw_runs: list[RawRun]) -> list[RawRun]:
    """Replace the stopped planned rounds among runs; return the runs themselves where none stood still."""
    stopped = stopped_rounds(raw_runs)
    if not stopped:
        return raw_runs
    spare = {
        profile: [
            run
            for run in raw_runs
            if run.role == "confirm" and run.profile == profile and not _stood_still(run)
        ]
        for profile in stopped
    }
    replaced = {
        (profile, index): again
        for profile, indices in stopped.items()
        for index, again in zip(indices, spare[profile], strict=False)
    }
    used = {id(again) for again in replaced.values()}
    runs = []
    for run in raw_runs:
        again = replaced.get((run.profile, run.run_index)) if run.role == "run" else None
        if again is not None:
            runs.append(msgspec.structs.replace(again, role="run", run_index=run.run_index))
        elif id(run) not in used:
            runs.append(run)
    return runs


def _stood_still(run: RawRun) -> bool:
    return any(stood_still(result.report) for result in run.results)
