"""How much a gate moves when nothing changed, and the threshold that follows.

With ``x`` a round's composite and ``y`` a session's median of them, for ``H`` sessions of ``R`` rounds::

    Vw   variance between rounds in the history, of the undisturbed ones (round_variance)
    Vn   the same of the candidate
    vb   variance of the history's y, winsorised at 3 robust standard deviations
    v    = [n0 (C_R Vw + t0^2) + (H - 1) vb] / (n0 + H - 1)          prior t0 = 0.02, worth n0 sessions
                                                                     (H < 10: t0^2 = max(0.02^2, Vw, V))
    v    = max(v max(1, median over the gates of vb / v), C_R Vw + 0.005^2)   the median from H >= 4 on
    tau2 = v - C_R Vw
    s2   = tau2 + C_R max(Vw, (Vw + Vn) / 2) + c_H v                 c_H: variance of the history's median
    T    = max(ln 1.05, t[1 - alpha_g; n0 + H - 1] s)                the gates' alpha_g add up to alpha

Every profile has the same share of alpha; of it, its gates have parts in proportion to 1 / s (weighted
Bonferroni: Spjotvoll 1972; Genovese, Roeder and Wasserman 2006). A p95 that moves five times as much as the
throughput would use up half of the alarms that a profile is allowed, and find next to nothing with them.
Of each equal part a quarter is the gate's own, whatever it is like: what is slow in the tail alone shows
there alone. In an open loop the parts are equal: there throughput holds still because the schedule does.

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
        within_df: degrees of freedom of ``within``; 0 where no session had two rounds.
        spread: variance of a session's value, shrunk towards the prior.
        excess: winsorised variance of the sessions' values over ``spread``; None below 4 sessions.
        sessions: H.
        rounds: the sessions' typical number of rounds.
        df: degrees of freedom, ``n0 + H - 1``, and what a reference board's slope took less.
        prior_share: the prior's weight in ``spread``, ``n0 / df``.
    """

    centre: float
    within: float
    within_df: int
    spread: float
    excess: float | None
    sessions: int
    rounds: int
    df: float
    prior_share: float

    @property
    def measured_within(self) -> float:
        """``within`` where it was measured, 0.0 where it is the prior."""
        return self.within if self.within_df else 0.0

    @property
    def round_share(self) -> float:
        """``C_R Vw``, the rounds' part in the variance of a session's value."""
        return median_variance(self.rounds) * self.measured_within

    def session_variance(self, factor: float) -> float:
        """``tau2``: movement from session to session beyond that of the rounds."""
        return max(self.spread * factor - self.round_share, p.SESSION_SIGMA_FLOOR**2)


@dataclass(frozen=True)
class Noise:
    """What one gate can tell.

    Attributes:
        history: where it comes from.
        sigma: standard error of ``d``, the candidate's value minus the centre.
        threshold: T, the log ratio above which a change is called.
        pairs_alpha: chance of a false alarm that A/B pairs of this gate have.
    """

    history: History
    sigma: float
    threshold: float
    pairs_alpha: float

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


def history_noise(past: Sequence[Sequence[float]], fitted: float = 0.0) -> History:
    """The noise of the sessions of the bar.

    Args:
        past: the rounds' composites of each session, none empty.
        fitted: degrees of freedom that a reference board's slope took from the sessions, below 1 for each.
    """
    values = session_values(past)
    count = len(values)
    measured = round_variance(past)
    within = p.PRIOR_ROUND_SIGMA**2 if measured is None else measured
    rounds = round(median(len(rounds) for rounds in past))
    weight = prior_weight(count)
    free = max(0.0, count - 1 - fitted)
    between = winsorised_variance(values) * (count - 1) / free if free else 0.0
    session = p.PRIOR_SESSION_SIGMA**2
    if count < p.YOUNG:
        session = max(session, within)
    prior = median_variance(rounds) * within + session
    spread = (weight * prior + free * between) / (weight + free)
    return History(
        centre=median(values),
        within=within,
        within_df=0 if measured is None else sum(len(rounds) - 1 for rounds in past),
        spread=spread,
        excess=between / spread if count >= 4 else None,
        sessions=count,
        rounds=rounds,
        df=weight + free,
        prior_share=weight / (weight + free),
    )


def series_noise(series: Series) -> History:
    """The noise of a gate's bar."""
    return history_noise(series.past, series.environment.fitted if series.environment else 0.0)


def common_factor(histories: Sequence[History]) -> float:
    """How much all gates together moved more than each was expected to; 1.0 or more."""
    excesses = [history.excess for history in histories if history.excess is not None]
    return max(1.0, median(excesses)) if excesses else 1.0


def centre_variance(sessions: int) -> float:
    """``c_H``: variance of the median of H sessions' values, as a share of one's; ``pi / 2H`` from 5 on."""
    return median_variance(sessions) if sessions < 5 else math.pi / (2 * sessions)


def gate_sigma(
    history: History, *, factor: float, rounds: int, within_now: float | None, leverage: float = 0.0
) -> float:
    """Standard error of a gate's ``d``.

    Args:
        history: the bar's noise.
        factor: of :func:`common_factor`.
        rounds: the candidate's rounds.
        within_now: the candidate's variance between rounds, None where it has one round.
        leverage: of a reference board, see :mod:`pytest_espperf.gate.reference`.
    """
    within = history.measured_within
    session = history.session_variance(factor)
    spread = session + history.round_share
    here = within
    if within_now is not None and history.within_df:
        here = max(within, (within + within_now) / 2)
    if history.sessions < p.YOUNG and here > within:
        # How sessions differ is not known yet: by no less than rounds do, and there are more of these now.
        floor = p.PRIOR_SESSION_SIGMA**2
        more = history.prior_share * (max(floor, here) - max(floor, within))
        session, spread = session + more, spread + more
    known = centre_variance(history.sessions) + leverage
    square = session + median_variance(rounds) * here + known * spread
    return math.sqrt(square)


def alpha_shares(
    series: Sequence[Series], sigmas: Sequence[float], least_share: float = p.LEAST_SHARE
) -> list[float]:
    """Each gate's part of an alpha that all share, 1.0 in all.

    Profiles have equal parts; of them a gate has ``least_share`` of an equal part, and of the rest a part as
    1 / sigma (an equal one in an open loop).

    Args:
        series: the gates.
        sigmas: each gate's standard deviation (or another measure of its noise), above 0.
        least_share: of an equal part of its profile's, what every gate has.
    """
    weights = [1.0 if one.paced else 1 / sigma for one, sigma in zip(series, sigmas, strict=True)]
    profiles: dict[str, list[float]] = {}
    for one, weight in zip(series, weights, strict=True):
        profiles.setdefault(one.profile, []).append(weight)
    shares = []
    for one, weight in zip(series, weights, strict=True):
        gates = profiles[one.profile]
        least = least_share / len(gates)
        shares.append((least + (1 - least_share) * weight / sum(gates)) / len(profiles))
    return shares


def gate_noises(
    series: Sequence[Series], histories: Sequence[History], sigmas: Sequence[float], alpha: float
) -> list[Noise]:
    """The thresholds of gates that share ``alpha``, given their histories and standard errors."""
    single = alpha_shares(series, sigmas)
    floor = p.SESSION_SIGMA_FLOOR
    # By information, 1 / variance: what pairs cannot prove in the tail alone is inconclusive, never the bar.
    within = [max(floor**2, history.within) for history in histories]
    pairs = alpha_shares(series, within, least_share=0.0)
    return [
        Noise(
            history=history,
            sigma=sigma,
            threshold=max(p.MIN_CHANGE, t_quantile(alpha * share, history.df) * sigma),
            pairs_alpha=p.ALPHA_PAIRS * pairs_share,
        )
        for history, sigma, share, pairs_share in zip(histories, sigmas, single, pairs, strict=True)
    ]


def noises(series: Sequence[Series], *, alpha: float, factor: float | None = None) -> dict[str, Noise]:
    """The thresholds of gates that share ``alpha``, by gate name.

    ``factor`` is the common factor to use instead of these gates' own.
    """
    histories = [series_noise(one) for one in series]
    common = common_factor(histories) if factor is None else factor
    sigmas = [
        gate_sigma(
            history,
            factor=common,
            rounds=len(one.now),
            within_now=round_variance([one.now]),
            leverage=one.environment.leverage if one.environment else 0.0,
        )
        for one, history in zip(series, histories, strict=True)
    ]
    found = gate_noises(series, histories, sigmas, alpha)
    return {one.name: noise for one, noise in zip(series, found, strict=True)}
