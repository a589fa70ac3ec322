"""How much a gate moves when nothing changed, and the threshold that follows.

With ``x`` a round's composite and ``y`` a session's median of them, for ``H`` sessions of ``R`` rounds::

    Vw   variance between rounds in the history, winsorised at 3 robust standard deviations
    Vn   the same of the candidate
    vb   variance of the history's y, winsorised likewise
    v    = [n0 (C_R Vw + t0^2) + (H - 1) vb] / (n0 + H - 1)          prior t0 = 0.02, worth n0 sessions
                                                                     (H < 10: t0^2 = max(0.02^2, Vw, V))
    v    = max(v max(1, median over the gates of vb / v), C_R Vw + 0.005^2)   the median from H >= 4 on
    tau2 = v - C_R Vw
    s2   = tau2 + C_R max(Vw, (Vw + Vn) / 2) + c_H v                 c_H: variance of the history's median
    T    = max(ln 1.05, t[1 - alpha / G; n0 + H - 1] s)              G gates share alpha

V is ``max(Vw, (Vw + Vn) / 2)``. ``C_R`` is :func:`pytest_espperf.gate.stats.median_variance`. Winsorising
keeps one disturbed round from blinding a session: its median does not move, so its variance must not either.
While a history is too short to tell how sessions differ, they are taken to differ by no less than rounds do:
a bench that moves by 5 % within the hour will not hold still over night. Sessions with a single round say
nothing about the variance between rounds: the prior of it then enters ``v`` and nothing else does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.series import Series, session_values
from pytest_espperf.gate.stats import (
    NINE_IN_TEN,
    median_variance,
    round_variance,
    t_quantile,
    winsorised_variance,
)


@dataclass(frozen=True)
class History:
    """The noise of one gate's history, before the gates are looked at together.

    Variances are of log ratios: 0.0004 is a standard deviation of 2 %.

    Attributes:
        centre: the bar, median of the sessions' values.
        within: variance between rounds, or the prior where sessions have one round.
        within_known: whether any session had two rounds or more.
        spread: variance of a session's value, shrunk towards the prior.
        excess: winsorised variance of the sessions' values over ``spread``; None below 4 sessions.
        sessions: H.
        rounds: the sessions' typical number of rounds.
        df: degrees of freedom, ``n0 + H - 1``.
        prior_share: the prior's weight in ``spread``, ``n0 / (n0 + H - 1)``.
    """

    centre: float
    within: float
    within_known: bool
    spread: float
    excess: float | None
    sessions: int
    rounds: int
    df: int
    prior_share: float


@dataclass(frozen=True)
class Noise:
    """What one gate can tell.

    Attributes:
        history: where it comes from.
        sigma: standard error of ``d``, the candidate's value minus the centre.
        threshold: T, the log ratio above which a change is called.
    """

    history: History
    sigma: float
    threshold: float

    @property
    def blunt(self) -> bool:
        """Whether the threshold is above 20 %: changes near it are inconclusive."""
        return self.threshold > p.BLUNT

    @property
    def bar(self) -> float:
        """The log ratio that an observed change must exceed."""
        share = (self.threshold - p.BLUNT) / (p.BLUNT_FULL - p.BLUNT)
        return self.threshold * (1.0 + (p.BLUNT_FACTOR - 1.0) * min(1.0, max(0.0, share)))

    @property
    def suspect(self) -> float:
        """The log ratio above which a change is worth a second look."""
        return max(p.MIN_CHANGE_SUSPECT, p.SUSPECT_SIGMAS * self.sigma)

    @property
    def reliable(self) -> float:
        """The true log ratio that would be called nine times in ten."""
        return self.bar + NINE_IN_TEN * self.sigma


def prior_weight(sessions: int) -> int:
    """``n0``: how many sessions the prior is worth beside a history of so many."""
    return p.PRIOR_WEIGHT if sessions >= p.YOUNG else p.PRIOR_WEIGHT_YOUNG


def history_noise(past: Sequence[Sequence[float]]) -> History:
    """The noise of the sessions of the bar, each given as its rounds' composites (none empty)."""
    values = session_values(past)
    count = len(values)
    measured = round_variance(past)
    within = p.PRIOR_ROUND_SIGMA**2 if measured is None else measured
    rounds = round(median(len(rounds) for rounds in past))
    weight = prior_weight(count)
    between = winsorised_variance(values)
    session = p.PRIOR_SESSION_SIGMA**2
    if count < p.YOUNG:
        session = max(session, within)
    prior = median_variance(rounds) * within + session
    spread = (weight * prior + (count - 1) * between) / (weight + count - 1)
    return History(
        centre=median(values),
        within=within,
        within_known=measured is not None,
        spread=spread,
        excess=between / spread if count >= 4 else None,
        sessions=count,
        rounds=rounds,
        df=weight + count - 1,
        prior_share=weight / (weight + count - 1),
    )


def common_factor(histories: Sequence[History]) -> float:
    """How much all gates together moved more than each was expected to; 1.0 or more."""
    excesses = [history.excess for history in histories if history.excess is not None]
    return max(1.0, median(excesses)) if excesses else 1.0


def centre_variance(sessions: int) -> float:
    """``c_H``: variance of the median of H sessions' values, as a share of one's; ``pi / 2H`` from 5 on."""
    return median_variance(sessions) if sessions < 5 else math.pi / (2 * sessions)


def gate_noise(
    history: History, *, factor: float, alpha: float, gates: int, rounds: int, within_now: float | None
) -> Noise:
    """The threshold of one gate.

    Args:
        history: the bar's noise.
        factor: of :func:`common_factor`.
        alpha: chance of a false alarm that the gates share.
        gates: G.
        rounds: the candidate's rounds.
        within_now: the candidate's variance between rounds, None where it has one round.
    """
    within = history.within if history.within_known else 0.0
    share = median_variance(history.rounds) * within
    spread = max(history.spread * factor, share + p.SESSION_SIGMA_FLOOR**2)
    session = spread - share
    here = within
    if within_now is not None and history.within_known:
        here = max(within, (within + within_now) / 2)
    if history.sessions < p.YOUNG and here > within:
        # How sessions differ is not known yet: by no less than rounds do, and there are more of these now.
        floor = p.PRIOR_SESSION_SIGMA**2
        more = history.prior_share * (max(floor, here) - max(floor, within))
        session, spread = session + more, spread + more
    square = session + median_variance(rounds) * here + centre_variance(history.sessions) * spread
    sigma = math.sqrt(square)
    threshold = max(p.MIN_CHANGE, t_quantile(alpha / gates, history.df) * sigma)
    return Noise(history=history, sigma=sigma, threshold=threshold)


def noises(series: Sequence[Series], *, alpha: float, factor: float | None = None) -> dict[str, Noise]:
    """The thresholds of gates that share ``alpha``, by gate name.

    ``factor`` is the common factor to use instead of these gates' own.
    """
    histories = {one.name: history_noise(one.past) for one in series}
    common = common_factor(list(histories.values())) if factor is None else factor
    return {
        one.name: gate_noise(
            histories[one.name],
            factor=common,
            alpha=alpha,
            gates=len(series),
            rounds=len(one.now),
            within_now=round_variance([one.now]),
        )
        for one in series
    }
