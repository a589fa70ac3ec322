"""Who asks for what, and when. Pure: no clock, no network, no randomness.

A profile's paths become one *rotation*: each path as often as its weight, spread as evenly as weights
allow (smooth weighted round-robin). Client ``i`` of a closed loop walks it from place ``i``; an open
loop walks it by the number of the start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_espperf.errors import UsageError

_NS_PER_S = 1_000_000_000


def rotation(weights: Sequence[int]) -> tuple[int, ...]:
    """Smooth weighted round-robin: the indices of ``weights`` in the order of one full turn.

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
    """How many starts ``k / rate_rps`` lie in ``[0, duration_s)``; 0 for an empty duration.

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
    """When start ``number`` of an open loop is meant to happen, in ns after the phase's start.

    Computed from the number, not summed up, so that no rounding accumulates; negative numbers are the
    warm-up's.
    """
    return round(number * _NS_PER_S / rate_rps)


def backoff_s(failures: int) -> float:
    """Pause in seconds after ``failures`` >= 1 failures in a row: 10 ms, doubling, at most 500 ms."""
    return float(min(0.5, 0.01 * 2 ** min(failures - 1, 10)))
