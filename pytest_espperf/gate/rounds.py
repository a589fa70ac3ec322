"""Detection of disturbed rounds: stalled by something that the other rounds did not meet.

A hang of a few seconds in one round of three moves no median, but it widens every estimate of the noise, so
that the session can see nothing. A round is *disturbed* where a gate of its profile lies more than
``max(ln 1.25, 4 sigma)`` above the median of the session's other rounds. ``sigma`` is the standard deviation
of undisturbed rounds, estimated from those below their session's median
(:func:`~pytest_espperf.gate.stats.quiet_variance`).

Both gates of the profile leave a disturbed round out, in earlier sessions too: at most two, and fewer than
half, of all rounds and of the planned ones. Where more stand out, or one of those measured again stands out
as well, none is left out: the board is restless, and the noise has to show it. Of two rounds that differ by
more than the limit one was disturbed, and which one is known after measuring again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.stats import quiet_variance
from pytest_espperf.model.artifact import RunRole

RoundKey = tuple[RunRole, int]
"""Role and run index of a round."""

Readings = Mapping[str, Mapping[RoundKey, float]]
"""Of one session's profile: metric -> round -> log composite, slower larger."""

Limits = Mapping[str, float]
"""Metric -> log ratio above a session's other rounds at which a round is disturbed."""


@dataclass(frozen=True)
class Disturbed:
    """The disturbed rounds of one profile in one session.

    Attributes:
        rounds: those that are left out.
        unclear: two rounds differ so much that one of them was disturbed, and it is not known which.
    """

    rounds: frozenset[RoundKey] = frozenset()
    unclear: bool = False

    @property
    def count(self) -> int:
        """Number of rounds that are worth measuring again."""
        return len(self.rounds) or int(self.unclear)

    def left(self, readings: Readings) -> Readings:
        """Return the readings without the rounds that are left out."""
        return {
            metric: {key: value for key, value in values.items() if key not in self.rounds}
            for metric, values in readings.items()
        }


UNDISTURBED = Disturbed()


def disturbance_limits(sessions: Iterable[Readings], metrics: Sequence[str]) -> dict[str, float]:
    """Compute the limit of each metric.

    Args:
        sessions: the readings of every profile in every session: they share one estimate of the noise.
        metrics: the gated ones.
    """
    known = list(sessions)
    limits = {}
    for metric in metrics:
        rounds = [list(readings.get(metric, {}).values()) for readings in known]
        variance = quiet_variance(rounds, p.PRIOR_ROUND_SIGMA**2, p.PRIOR_ROUND_DF)
        limits[metric] = max(p.DISTURBED_LEAST, p.DISTURBED_SIGMAS * math.sqrt(variance))
    return limits


def find_disturbed(readings: Readings, limits: Limits) -> Disturbed:
    """Find the disturbed rounds of one profile in one session."""
    rounds = {key for metric in limits for key in readings.get(metric, {})}
    if len(rounds) == 2:
        return Disturbed(unclear=any(_differ(readings.get(m, {}), limit) for m, limit in limits.items()))
    found = frozenset(
        key for metric, limit in limits.items() for key in _stand_out(readings.get(metric, {}), limit)
    )
    return Disturbed(found) if _may_be_left_out(found, rounds) else UNDISTURBED


def _may_be_left_out(found: Collection[RoundKey], rounds: Collection[RoundKey]) -> bool:
    planned = [key for key in rounds if key[0] == "run"]
    stalled = [key for key in found if key[0] == "run"]
    if 0 < len(stalled) < len(found):  # it stalled again
        return False
    # Of two planned rounds one may go: which one was disturbed shows when they are measured again.
    most_planned = max(1, (len(planned) - 1) // 2) if len(planned) > 1 else 0
    most = min(p.DISTURBED_MOST, (len(rounds) - 1) // 2)
    return len(found) <= most and len(stalled) <= most_planned


def _differ(values: Mapping[RoundKey, float], limit: float) -> bool:
    return len(values) == 2 and max(values.values()) - min(values.values()) > limit


def _stand_out(values: Mapping[RoundKey, float], limit: float) -> list[RoundKey]:
    return [
        key
        for key, value in values.items()
        if len(values) > 2 and value - median(other for name, other in values.items() if name != key) > limit
    ]
