"""Recording of samples, for every engine that drives a phase."""

from __future__ import annotations

import math

from pytest_espperf.load.endpoint import Endpoint
from pytest_espperf.load.outcomes import OutcomeTable
from pytest_espperf.model.samples import PhaseSamples

_RECENT = 1000


class Recorder:
    """Writes one phase's observations; times are ``perf_counter_ns`` values.

    What began (open loop: was meant to begin) before ``begin_ns`` is warm-up, and dropped.

    Attributes:
        samples: the result in the making.
        table: its outcomes.
        errors: errors recorded so far.
        last_end_ns: when the last recorded request ended; ``begin_ns`` before there was one.
    """

    def __init__(self, samples: PhaseSamples) -> None:
        self.samples = samples
        self.table = OutcomeTable(samples.outcomes, samples.reasons)
        self.begin_ns = 0
        self.last_end_ns = 0
        self.errors = 0
        self._open_loop = samples.rate_rps is not None
        self._opening = None if samples.reuse else samples.opening_s.append
        self._start = samples.start_s.append
        self._service = samples.service_s.append
        self._ttfb = samples.ttfb_s.append
        self._lag = samples.lag_s.append
        self._path = samples.path.append
        self._outcome = samples.outcome.append

    def start_at(self, begin_ns: int) -> None:
        """Set when the phase (without its warm-up) begins."""
        self.begin_ns = self.last_end_ns = begin_ns

    def add(  # noqa: PLR0917 - once per request: naming the arguments would cost more than storing them
        self,
        path: int,
        outcome: int,
        start_ns: int,
        first_ns: int,
        end_ns: int,
        intended_ns: int,
        opening_ns: int = 0,
    ) -> None:
        """Record one request.

        ``first_ns`` is 0 if no byte came; ``intended_ns`` is of an open loop only, and ``opening_ns``, what
        opening its connection took, of clients that open one for each request.
        """
        begin_ns = self.begin_ns
        if self._open_loop:
            if intended_ns < begin_ns:
                self._warm(path, outcome, start_ns, end_ns)
                return
            self._lag((start_ns - intended_ns) * 1e-9)
        elif start_ns < begin_ns:
            self._warm(path, outcome, start_ns, end_ns)
            return
        self._start((start_ns - begin_ns) * 1e-9)
        self._service((end_ns - start_ns) * 1e-9)
        self._ttfb((first_ns - start_ns) * 1e-9 if first_ns else math.nan)
        self._path(path)
        self._outcome(outcome)
        if self._opening is not None:
            self._opening(opening_ns * 1e-9)
        if self.table.wrong[outcome]:
            self.errors += 1
        if end_ns > self.last_end_ns:  # noqa: PLR1730 - max() takes three times as long
            self.last_end_ns = end_ns

    def _warm(self, path: int, outcome: int, start_ns: int, end_ns: int) -> None:
        """Keep a warm-up request whose answer came within the phase: the board was not silent then."""
        if end_ns >= self.begin_ns and self.samples.outcomes[outcome].status is not None:
            offset_s = (end_ns - self.begin_ns) * 1e-9
            self.samples.warm_answers.append((offset_s, (end_ns - start_ns) * 1e-9, path))

    def connected(self, start_ns: int, connection: Endpoint) -> None:
        """Record that a connection was opened, which began at ``start_ns``, and what of it was TLS."""
        if start_ns < self.begin_ns:
            return
        samples = self.samples
        samples.connect_s.append((connection.opened_ns - start_ns) * 1e-9)
        if connection.is_encrypted:
            samples.handshake_s.append((connection.opened_ns - connection.connected_ns) * 1e-9)
            samples.resumed += connection.is_resumed

    def stale(self, now_ns: int) -> None:
        """Record that a request is sent again because its kept-alive connection died unanswered."""
        if now_ns >= self.begin_ns:
            self.samples.stale_retries += 1

    def longest_answer_s(self, path: int) -> float | None:
        """Find the longest service time of an answer to a path so far; None before the first."""
        samples = self.samples
        return max(
            (
                took
                for took, of, outcome in zip(samples.service_s, samples.path, samples.outcome, strict=True)
                if of == path and samples.outcomes[outcome].status is not None
            ),
            default=None,
        )

    def recent_p95_ms(self) -> float | None:
        """Compute the 95th percentile (nearest rank) of the last 1,000 service times; None without any."""
        recent = sorted(self.samples.service_s[-_RECENT:])
        return recent[math.ceil(0.95 * len(recent)) - 1] * 1e3 if recent else None
