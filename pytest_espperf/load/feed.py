"""What each client asks for next, and when. Pure: no clock, no network, no randomness.

A profile's paths become one *rotation*: each path as often as its weight, spread as evenly as weights
allow (smooth weighted round-robin). Client ``i`` of a closed loop walks it from place ``i``; an open
loop walks it by the number of the start. A feed hands the requests out; the caller passes the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_espperf.errors import UsageError
from pytest_espperf.load.requests import PreparedRequest

_NS_PER_S = 1_000_000_000
_ENDLESS = 1 << 62

_EARLY_S = 0.003
"""Seconds by which a timer may be early: a pause up to the end of a phase would be followed by a request."""


class ClosedFeed:
    """A closed loop: every client asks for its next path as soon as it has an answer.

    Args:
        turn: the prepared requests of one rotation.
        begin_ns: when the measured part begins; requests before it are warm-up.
        duration_s: how long from then on requests are started.
        most: places of the rotation; none is taken behind the last of them.
    """

    def __init__(
        self, turn: Sequence[PreparedRequest], begin_ns: int, duration_s: float, most: int = _ENDLESS
    ) -> None:
        self._turn = tuple(turn)
        self._most = most
        self._taken: dict[int, int] = {}
        self._given_up = False
        self._stop_ns = begin_ns + round(duration_s * _NS_PER_S)

    def take(self, client: int, now_ns: int) -> tuple[PreparedRequest, int] | None:
        """Take the client's next request and its intended start (now); None when the phase starts no more.

        The first request of all is made however late it is: a computer that stood still for the whole phase
        would else report a board that gave no answer.
        """
        if now_ns >= self._stop_ns and (self._taken or self._given_up):
            return None
        place = self._taken.get(client, client)
        if place >= self._most:
            return None
        self._taken[client] = place + 1
        return self._turn[place % len(self._turn)], now_ns

    def has_ended(self, now_ns: int) -> bool:
        """Whether no further request is started."""
        return now_ns >= self._stop_ns

    def left_s(self, now_ns: int) -> float:
        """Return for how many seconds requests are still started."""
        return max(0.0, (self._stop_ns - now_ns) / _NS_PER_S)

    def next_due_ns(self) -> int | None:
        """Return None: a closed loop has no intended starts."""
        return None

    def give_up(self) -> int:
        """End the feed; return the number of starts left unmade: a closed loop intends none."""
        self._stop_ns = 0
        self._given_up = True
        return 0


class OpenFeed:
    """An open loop: starts at fixed times, whether or not answers have come.

    Args:
        turn: the prepared requests of one rotation; start number ``k`` takes place ``k``.
        begin_ns: when start 0 is due.
        duration_s: starts are due in ``[begin, begin + duration)``.
        rate_rps: starts per second.
        warmup_s: how long before ``begin_ns`` (discarded) starts at the same rate begin.
    """

    def __init__(
        self,
        turn: Sequence[PreparedRequest],
        begin_ns: int,
        duration_s: float,
        rate_rps: float,
        warmup_s: float,
    ) -> None:
        self._turn = tuple(turn)
        self._begin_ns = begin_ns
        self._rate_rps = rate_rps
        self._stop = count_of_starts(rate_rps, duration_s)
        self._next = -count_of_starts(rate_rps, warmup_s)
        self._due_ns = self._due(self._next)

    def _due(self, number: int) -> int:
        return self._begin_ns + intended_start_ns(number, self._rate_rps)

    def take(self, client: int, now_ns: int) -> tuple[PreparedRequest, int] | None:  # noqa: ARG002 - the loops' common shape
        """Take the next request whose start is due, and that time; None if none is due (any more)."""
        if self._next >= self._stop or now_ns < self._due_ns:
            return None
        number, due_ns = self._next, self._due_ns
        self._next = number + 1
        self._due_ns = self._due(self._next)
        return self._turn[number % len(self._turn)], due_ns

    def has_ended(self, now_ns: int) -> bool:  # noqa: ARG002 - the loops' common shape
        """Whether no further request is started."""
        return self._next >= self._stop

    def next_due_ns(self) -> int | None:
        """Return the time of the next start; None after the last."""
        return self._due_ns if self._next < self._stop else None

    def give_up(self) -> int:
        """End the feed; return the number of measured starts left unmade."""
        left = self._stop - max(0, self._next)
        self._next = self._stop = max(0, self._stop)
        return max(0, left)


Feed = ClosedFeed | OpenFeed


def rotation(weights: Sequence[int]) -> tuple[int, ...]:
    """Order the indices of ``weights`` by smooth weighted round-robin, for one full turn.

    Index ``i`` occurs ``weights[i] / gcd(weights)`` times. With equal weights this is ``0, 1, 2, ...``.

    Raises:
        UsageError: no weights, or one below 1.
    """
    if not weights:
        raise UsageError("a profile needs at least one request")
    if min(weights) < 1:
        raise UsageError(f"a request's weight must be at least 1, not {min(weights)}")
    divisor = math.gcd(*weights)
    steps = [weight // divisor for weight in weights]
    total = sum(steps)
    credit = [0] * len(steps)
    order: list[int] = []
    for _ in range(total):
        for index, step in enumerate(steps):
            credit[index] += step
        best = max(range(len(credit)), key=lambda index: (credit[index], -index))
        credit[best] -= total
        order.append(best)
    return tuple(order)


def count_of_starts(rate_rps: float, duration_s: float) -> int:
    """Count the starts ``k / rate_rps`` in ``[0, duration_s)``; 0 for an empty duration.

    Raises:
        UsageError: the rate is not a positive, finite number.
    """
    if not (rate_rps > 0 and math.isfinite(rate_rps)):
        raise UsageError(f"a phase's rate must be above 0 requests/s, not {rate_rps}")
    # A product such as 0.1 * 30 may land a hair off the integer it means.
    product = rate_rps * duration_s
    nearest = round(product)
    return max(0, nearest if math.isclose(product, nearest, rel_tol=1e-12) else math.ceil(product))


def intended_start_ns(number: int, rate_rps: float) -> int:
    """Compute the intended time of start ``number`` of an open loop, in ns after the phase's start.

    Computed from the number, not summed up, so that no rounding accumulates; negative numbers are the
    warm-up's.
    """
    return round(number * _NS_PER_S / rate_rps)


def pause_s(feed: Feed, think_time_s: float, now_ns: int) -> float:
    """Compute for how many seconds a client pauses now: no longer than its feed lasts."""
    if not think_time_s or not isinstance(feed, ClosedFeed):
        return 0.0
    left_s = feed.left_s(now_ns)
    return min(think_time_s, left_s + _EARLY_S) if left_s else 0.0


def backoff_s(failures: int) -> float:
    """Compute the pause in seconds after ``failures`` >= 1 in a row: 10 ms, doubling, at most 500 ms."""
    return float(min(0.5, 0.01 * 2 ** min(failures - 1, 10)))
