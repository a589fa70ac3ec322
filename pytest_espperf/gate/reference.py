"""The control board: changes seen on both boards come from the environment, and are subtracted.

A session may measure a second board, whose firmware never changes, interleaved with its own rounds (rounds
of the role ``reference``). Of session s a gate then has ``y_s``, the median of its rounds, and ``z_s``, that
of the reference's, both log ratios. What the two share is estimated from the earlier sessions, as a slope
that is shrunk towards one half by as many sessions as the prior of the noise is worth, and subtracted::

    u_s = z_s - median of z, pulled in to 3 standard deviations
    b   = (n0 t0^2 / 2 + sum u_s (y_s - median of y)) / (n0 t0^2 + sum u_s^2),    0 <= b <= 1
    y'  = y - b u

A regression slope makes allowance for the noise of ``z`` by itself: a reference that only adds noise has a
slope near 0. What remains uncertain about b widens the standard error of the candidate by the leverage of
its own ``u``, as in any regression (Draper and Smith 1998, section 3.1)::

    s2 + v u^2 / (n0 t0^2 + sum u_s^2)

A slope that was fitted to the baseline follows a part of the baseline's noise. It takes
``sum u_s^2 / (n0 t0^2 + sum u_s^2)`` degrees of freedom, less than one as far as it is shrunk (Hastie,
Tibshirani and Friedman 2009, section 3.4.1), by which the spread of what remains is made wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.stats import mad, mad_to_sigma

LEAST_SESSIONS = 5
"""Sessions of the baseline with a reference from which on it is used; at least half of them must have one."""

PULLED_IN = 3.0
PRIOR_SLOPE = 0.5


@dataclass(frozen=True)
class Environment:
    """Surroundings of a session at one gate, as the control board shows them.

    Attributes:
        moved: ``u`` of the candidate: how much slower the reference was than usual, a log ratio.
        slope: ``b``, the share of it that the board shows.
        leverage: ``u^2 / (n0 t0^2 + sum u_s^2)``.
        fitted: degrees of freedom that the slope took, 0 to 1.
        shifts: ``b u`` of each session of the epoch, to be subtracted; 0.0 where it had no reference.
    """

    moved: float
    slope: float
    leverage: float
    fitted: float
    shifts: tuple[float, ...]

    @property
    def shift(self) -> float:
        """Log ratio that is subtracted from the candidate."""
        return self.slope * self.moved


def environment(
    epoch: Sequence[float], references: Sequence[float | None], now: float | None, depth: int
) -> Environment | None:
    """Estimate the environment of a candidate; None where the reference has too few sessions.

    Args:
        epoch: the value of each session of the epoch, oldest first.
        references: the reference's value in each of them, None where there was none.
        now: the reference's value in the candidate's session, None where there was none.
        depth: how many of the newest sessions of the epoch are the baseline.
    """
    baseline = list(zip(epoch, references, strict=True))[-depth:]
    known = [(value, reference) for value, reference in baseline if reference is not None]
    if now is None or len(known) < LEAST_SESSIONS or 2 * len(known) < len(baseline):
        return None
    usual = median(reference for _, reference in known)
    level = median(value for value, _ in known)
    spread = mad_to_sigma(len(known)) * mad([reference for _, reference in known])
    limit = PULLED_IN * max(spread, p.SESSION_SIGMA_FLOOR)

    def moved(reference: float) -> float:
        return max(-limit, min(limit, reference - usual))

    weight = p.PRIOR_WEIGHT * p.PRIOR_SESSION_SIGMA**2
    seen = sum(moved(reference) ** 2 for _, reference in known)
    total = weight + seen
    shared = weight * PRIOR_SLOPE + sum(moved(reference) * (value - level) for value, reference in known)
    slope = max(0.0, min(1.0, shared / total))
    return Environment(
        moved=moved(now),
        slope=slope,
        leverage=moved(now) ** 2 / total,
        fitted=seen / total,
        shifts=tuple(0.0 if reference is None else slope * moved(reference) for reference in references),
    )
