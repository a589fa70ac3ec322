"""The drift guard: a slow slide that a rolling baseline follows and is blind to.

One-sided CUSUM (Page 1954) per gate: ``S = max(0, S + clip(z, -3, 3) - 1)``, alarm from 6 on, where z
is a session's value against the *reference* in standard errors of :mod:`pytest_espperf.gate.noise`.

The reference is the pinned sessions of the epoch; without any it is the epoch's first 20. While the
epoch is shorter than 30 it is all but the last 10, or the first half, or the first 5, whichever is most, so
that a young history is guarded too. Sessions
after the reference are summed, the candidate last. A session only alarms where it is slow itself, by more
than the smallest change that matters (5 %).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.noise import common_factor, gate_error, history_noise
from pytest_espperf.gate.series import Series, session_values
from pytest_espperf.gate.stats import round_variance

SLIDE_SHARE = 1 / 3
"""Share of a loss that the last accepted session must already have had to call the loss a slide.

An even slide that is noticed at its second step had half of its loss by then, a single step had none.
"""


@dataclass(frozen=True)
class Drift:
    """CUSUM of one gate at the candidate.

    Attributes:
        score: S.
        limit: the score from which on it is an alarm.
        z: the candidate against the reference, in standard errors.
        moved: the same as a log ratio, slower positive.
        centre: the reference's value (log composite).
        reference: sessions in the reference.
        watched: sessions summed, the candidate included.
    """

    score: float
    limit: float
    z: float
    moved: float
    centre: float
    reference: int
    watched: int

    @property
    def alarm(self) -> bool:
        """Whether the gate has drifted, and this session is slow itself."""
        return self.score >= self.limit and self.z > p.DRIFT_ALLOWANCE and self.moved > p.MIN_CHANGE


def _reference(series: Series) -> tuple[tuple[int, ...], int] | None:
    """Return the indices of the epoch that are the reference, and where watching starts; None if too few."""
    count = len(series.epoch)
    if count < p.DRIFT_MIN_REFERENCE:
        return None
    if series.pins:
        return series.pins, series.pins[-1] + 1
    size = min(p.DRIFT_REFERENCE, max(p.DRIFT_MIN_REFERENCE, count // 2, count - p.DRIFT_WATCHED))
    return tuple(range(size)), size


def drifts(series: list[Series], boards: int = 1) -> dict[str, Drift]:
    """Compute the CUSUM of each gate that has a reference, by gate name; ``boards``: those of the run."""
    chosen = {one.name: ref for one in series if (ref := _reference(one)) is not None}
    guarded = [one for one in series if one.name in chosen]
    noise = {
        one.name: history_noise(
            one.epoch[:known],
            planned=one.rounds_planned,
            calm=one.calm[:known],
        )
        for one in guarded
        for known in [max(p.DRIFT_MIN_REFERENCE, chosen[one.name][1])]
    }
    factor = common_factor(list(noise.values()))
    found: dict[str, Drift] = {}
    for one in guarded:
        indices, start = chosen[one.name]
        values = session_values(one.epoch)
        centre = median(values[index] for index in indices)
        history = replace(noise[one.name], centre=centre, anchors=len(indices))
        sigma = gate_error(
            history, factor=factor, rounds=len(one.now), within_now=round_variance([one.now])
        ).sigma
        score, z = 0.0, 0.0
        watched = [*values[start:], median(one.now)]
        for value in watched:
            z = (value - centre) / sigma
            score = max(0.0, score + min(max(z, -p.DRIFT_CLIP), p.DRIFT_CLIP) - p.DRIFT_ALLOWANCE)
        found[one.name] = Drift(
            score=score,
            limit=p.drift_alarm(boards),
            z=z,
            moved=watched[-1] - centre,
            centre=centre,
            reference=len(indices),
            watched=len(watched),
        )
    return found


def is_slide(series: Series, centre: float) -> bool:
    """Whether a good part of a loss was already there in the last accepted session.

    Then this session's change is not what broke the baseline: the word is ``drift``, not ``regressed``.
    """
    d = median(series.now) - centre
    before = median(series.epoch[-1]) - centre
    return d > 0 and before >= SLIDE_SHARE * d
