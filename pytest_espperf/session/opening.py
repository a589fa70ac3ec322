"""The first words of a session: the board, what will run, about how long, and the baseline."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from pytest_espperf.model.workload import PhaseSpec
from pytest_espperf.session.context import Context
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.progress import foreseen_s

LINE = 70
"""Characters of a line, which stands behind the name of this package in 80 columns."""

JOINT = "\u00a0"
"""What holds a number and its unit on one line, until the lines are made."""

MOST_NAMES = 3
"""Profiles that are named; of more, their number is given."""


def opening_lines(context: Context, phases: Sequence[PlannedPhase], board: str, against: str) -> list[str]:
    """Describe a session before its first phase, in one line or two.

    Example: ``board sim: c_static_only x 3 runs (burst 2 s, long 3 s), about 20 s; no baseline yet``.

    Args:
        context: of the session.
        phases: what will be measured of its plan; at least one.
        board: its name.
        against: the baseline in words, "" where it is not known yet.
    """
    profiles = list(dict.fromkeys(planned.profile.name for planned in phases))
    names = ", ".join(profiles) if len(profiles) <= MOST_NAMES else f"{len(profiles)} profiles"
    runs = len({planned.run for planned in phases})
    times = {name: [one for one in phases if one.phase.name == name] for name in _phase_names(phases)}
    listed = ", ".join(_phase(name, found) for name, found in times.items())
    line = (
        f"board {board}: {names} x {runs} run{'s' if runs != 1 else ''} ({listed}), about{JOINT}"
        f"{_duration(foreseen_s(context, phases))}"
    )
    text = f"{line}; {against}" if against else line
    return [one.replace(JOINT, " ") for one in textwrap.wrap(text, LINE, subsequent_indent="  ")]


def _phase_names(phases: Sequence[PlannedPhase]) -> list[str]:
    return list(dict.fromkeys(planned.phase.name for planned in phases))


def _phase(name: str, found: Sequence[PlannedPhase]) -> str:
    lengths = sorted({planned.phase.duration_s for planned in found})
    manners = {_manner(planned.phase) for planned in found}
    manner = manners.pop() if len(manners) == 1 else ""
    if lengths[0] == lengths[-1]:
        return f"{name}{JOINT}{lengths[0]:g}{JOINT}s{manner}"
    return f"{name} {lengths[0]:g} to {lengths[-1]:g}{JOINT}s{manner}"


def _manner(phase: PhaseSpec) -> str:
    """Say how a phase asks, where that is not request by request over connections that are kept."""
    words = [
        (phase.kind == "page", "of pages"),
        (not phase.reuse, "without reuse"),
        (phase.think_time_s > 0, "with pauses"),
    ]
    return "".join(f" {word}" for applies, word in words if applies)


def _duration(seconds: float) -> str:
    """Round a time to what an estimate is worth: ``15 s``, ``5 min``, ``1 h 20 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds)):d}{JOINT}s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes}{JOINT}min"
    return f"{minutes // 60}{JOINT}h{JOINT}{minutes % 60}{JOINT}min"
