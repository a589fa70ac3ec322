"""The time for which a thread wanted a processor and had none, as Linux counts it; other systems do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SCHEDSTAT = Path("/proc/thread-self/schedstat")
"""Nanoseconds on a processor, nanoseconds ready and waiting for one, turns on a processor (proc(5))."""


@dataclass(frozen=True)
class CpuTurns:
    """The turns that a thread had on a processor.

    Attributes:
        waited_s: seconds for which it was ready to run and did not.
        turns: how often it was let onto a processor; at least once.
    """

    waited_s: float
    turns: int

    def since(self, before: CpuTurns) -> CpuTurns:
        """Subtract an earlier reading."""
        return CpuTurns(self.waited_s - before.waited_s, max(1, self.turns - before.turns))


def cpu_turns() -> CpuTurns | None:
    """Read the turns of the calling thread since its start; None where the system does not count them."""
    try:
        fields = SCHEDSTAT.read_text(encoding="ascii").split()
        ran_ns, waited_ns, turns = (int(field) for field in fields[:3])
    except (OSError, ValueError):
        return None
    # A kernel that does not count has 0 everywhere.
    return CpuTurns(waited_ns * 1e-9, turns) if ran_ns else None


def lost_share(waited: float, turning: float, standing: float) -> float:
    """Estimate the share of its clients' time that a closed loop lost by waiting for a processor, 0..1.

    No client lost more than the thread waited. Two figures show how many of them stood still meanwhile; the
    higher one counts.

    Args:
        waited: share of the loop's time in which its thread waited.
        turning: share of the clients' time from an answer's arrival to their next request. It holds all
            that was lost where the kernel stamped the arrival, and nothing of it elsewhere.
        standing: answers taken at one turn on a processor, per client: those clients stood still before it.
    """
    return min(waited, max(turning, waited * min(1.0, standing)))
