"""``--perf-hard-timeout-s``: the seconds that one board's session may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pytest_espperf.session.context import Context
from pytest_espperf.session.plan import PlannedPhase


class HardTimeout:
    """Counts the seconds of a session against its hard timeout.

    The whole time since the session was made counts in a run with one board. In a run with several, only the
    board's own phases count, since the board waits while others are measured.
    """

    def __init__(self, context: Context) -> None:
        self._settings = context.settings
        self._clock = context.clock
        self._several = context.boards > 1
        self._spent_s = 0.0
        self._since_s = None if self._several else context.began_s

    @property
    def spent_s(self) -> float:
        """Seconds that count so far."""
        return self._spent_s + (self._clock() - self._since_s if self._since_s is not None else 0.0)

    @property
    def left_s(self) -> float:
        """Seconds that are left; infinity without a limit."""
        limit = self._settings.perf_hard_timeout_s
        return max(0.0, limit - self.spent_s) if limit else float("inf")

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the time of this block, which belongs to one of the board's own phases."""
        if self._since_s is not None:
            yield
            return
        self._since_s = self._clock()
        try:
            yield
        finally:
            self._spent_s, self._since_s = self.spent_s, None

    def add(self, seconds: float) -> None:
        """Count the time of a phase in a worker; of one board it passes here as well."""
        if self._several:
            self._spent_s += seconds

    def reason(self, planned: PlannedPhase, runs: int) -> str:
        """Say that no time is left at a phase; "" while there is some.

        Args:
            planned: the phase.
            runs: planned runs of the session.
        """
        if self.left_s:
            return ""
        whose = " in this board's own phases" if self._several else ""
        return (
            f"hard timeout: {self.spent_s:.1f} s of {self._settings.perf_hard_timeout_s:g} s "
            f"({self._settings.where('perf_hard_timeout_s')}) had passed{whose} at {planned.label(runs)}"
        )
