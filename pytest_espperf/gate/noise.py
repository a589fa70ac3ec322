"""The noise of a gate when nothing changed, and what follows: the threshold, and what is excluded.

With ``x`` a round's composite and ``y`` a session's median of them, for ``H`` sessions of the baseline and a
candidate with ``n`` rounds (disturbed rounds left out, see :mod:`pytest_espperf.gate.rounds`)::

    Vw   variance between rounds in the baseline (round_variance), Vn the same in the candidate
    vb   variance of the baseline's y, winsorised at 3 robust standard deviations
    C_n  variance of the median of n values, as a share of one's (stats.median_variance)
    C    mean over the baseline's sessions of C_R, R their rounds; see below for sessions that ended early
    c_H  variance of the baseline's median, as a share of one session's: pi / 2H from 5 sessions on

**From 10 sessions on** they show their own noise::

    v    = [4 (C Vw + 0.02^2) + (H - 1) vb] / (4 + H - 1)
    v    = max(v max(1, median over the gates of vb / v), C Vw + 0.005^2)
    tau2 = v - C Vw                                                  movement from session to session
    s2   = tau2 + C_n max(Vw, (Vw + Vn) / 2) + c_H v                 n: at most the planned rounds
    df   = (4 + H - 1) min(1, s2 / (v (1 + c_H)))                    at least 3

**Fewer than 10** show little of it, so that the rounds of all of them and of the candidate are pooled, and
sessions are taken to differ by no less than rounds do::

    V    = [2 (5 %)^2 + f_h Vw + f_n Vn] / (2 + f_h + f_n)           f: rounds - 1, of each session
    tau2 = [6 max(t0^2, V without its prior) + (H - 1)(vb - C V)] / (6 + H - 1), at least 0.005^2
           t0 = 0.03 where H = 1, else 0.02
    s2   = tau2 (1 + c_H) + r,  r = C_n max(V, Vn / 3) + c_H C V
    df   = s2^2 / [(tau2 (1 + c_H))^2 / (H + 5) + r^2 / (2 + f_h + f_n)]      (Satterthwaite 1946)

Then, for the change ``d`` of the candidate against the centre of the baseline::

    T = max(ln 1.05, t[1 - alpha_g; df] s)       slower where d > T; the gates' alpha_g add up to alpha
    U = d + t[0.95; df] s                        a slowdown of more than U is excluded

Two one-sided tests (non-inferiority: ICH E9, section 3.3.2; Schuirmann 1987): a session may be neither.

Every profile has the same share of alpha; of it, its gates have parts in proportion to 1 / s (weighted
Bonferroni: Spjotvoll 1972; Genovese, Roeder and Wasserman 2006). A p95 that moves five times as much as the
throughput would use up half of the alarms that a profile is allowed, and find next to nothing with them.
Of each equal part a quarter is the gate's own, whatever it is like: what is slow in the tail alone shows
there alone. In an open loop the parts are equal: there throughput holds still because the schedule does.

**Sessions that ended early** on good news (:mod:`pytest_espperf.gate.early`) leave low values as they are and
measure high ones again. Uncorrected, the baseline lies low by 4-8 % of sqrt(Vw) and varies by 5 % of Vw too
little (simulated). So such a session counts with ``C_R - 0.03``, and the centre is raised by 0.03 sqrt(Vw)
times their share. A threshold of n planned rounds, from sessions that have fewer, subtracts more from v than
was known exactly: hence the smaller df above. Winsorising keeps one odd session from blinding the gate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.series import COMPOSITES, Series, session_values
from pytest_espperf.gate.stats import (
    NINE_IN_TEN,
    median_variance,
    round_variance,
    t_quantile,
    winsorised_variance,
)

Limit = Literal["rounds", "few sessions", "sessions"]
"""What limits a gate most: its rounds differ, the baseline is short, or sessions differ."""

_FEW_SESSIONS = 5
_LEAST_DF = 3.0


@dataclass(frozen=True)
class History:
    """The noise of one gate's baseline, before the gates are looked at together.

    Variances are of log ratios: 0.0004 is a standard deviation of 2 %.

    Attributes:
        centre: the baseline: median of the sessions' values.
        within: ``Vw``, variance between rounds, or the prior where sessions have one round.
        within_df: degrees of freedom of ``within``; 0 where no session had two rounds.
        between: ``vb``, winsorised variance of the sessions' values.
        between_df: ``H - 1``, and what a control board's slope took less.
        median_share: ``C``.
        sessions: ``H``, the sessions that the noise is estimated from.
        anchors: the sessions whose median ``centre`` is.
    """

    centre: float
    within: float
    within_df: int
    between: float
    between_df: float
    median_share: float
    sessions: int
    anchors: int

    @property
    def young(self) -> bool:
        """Whether there are too few sessions to know how sessions differ."""
        return self.sessions < p.YOUNG

    @property
    def measured_within(self) -> float:
        """``within`` where it was measured, 0.0 where it is the prior."""
        return self.within if self.within_df else 0.0

    @property
    def round_share(self) -> float:
        """``C Vw``, the rounds' part in the variance of a session's value."""
        return self.median_share * self.measured_within

    @property
    def df(self) -> float:
        """Degrees of freedom of :attr:`spread`."""
        return prior_weight(self.sessions) + self.between_df

    @property
    def spread(self) -> float:
        """``v``: variance of a session's value, shrunk towards the prior."""
        prior = self.median_share * self.within + p.PRIOR_SESSION_SIGMA**2
        return (prior_weight(self.sessions) * prior + self.between_df * self.between) / self.df

    @property
    def excess(self) -> float | None:
        """Variance of sessions over what is expected of them; None below 4 sessions."""
        return self.between / self.spread if self.sessions >= 4 else None

    def session_variance(self, factor: float) -> float:
        """``tau2``: movement from session to session beyond that of the rounds."""
        return max(self.spread * factor - self.round_share, p.SESSION_SIGMA_FLOOR**2)


@dataclass(frozen=True)
class Error:
    """Standard error of a gate's change.

    Attributes:
        sigma: standard error of ``d``, the candidate's value minus the centre (log ratio).
        df: its degrees of freedom.
        limit: what it comes from most.
        rounds: standard deviation between rounds (log ratio).
    """

    sigma: float
    df: float
    limit: Limit = "sessions"
    rounds: float = 0.0


@dataclass(frozen=True)
class Noise:
    """Noise and thresholds of one gate.

    Attributes:
        history: where it comes from.
        error: the standard error of the change.
        threshold: T, the log ratio above which a change is called.
        pairs_alpha: chance of a false alarm that A/B pairs of this gate have.
    """

    history: History
    error: Error
    threshold: float
    pairs_alpha: float

    @property
    def sigma(self) -> float:
        """Standard error of ``d``."""
        return self.error.sigma

    @property
    def blunt(self) -> bool:
        """Whether the threshold is above 20 %: changes near it are inconclusive."""
        return self.threshold > p.BLUNT

    @property
    def smallest(self) -> float:
        """The log ratio that an observed change must exceed to be called."""
        if self.history.young:
            return self.threshold
        share = (self.threshold - p.BLUNT) / (p.BLUNT_FULL - p.BLUNT)
        return self.threshold * (1.0 + (p.BLUNT_FACTOR - 1.0) * min(1.0, max(0.0, share)))

    @property
    def suspect(self) -> float:
        """The log ratio above which a change is worth a second look."""
        return max(p.MIN_CHANGE_SUSPECT, p.SUSPECT_SIGMAS * self.sigma)

    @property
    def reliable(self) -> float:
        """The true log ratio that would be called nine times in ten."""
        return self.smallest + NINE_IN_TEN * self.sigma

    def at_most(self, change: float) -> float:
        """U: a slowdown of more than this log ratio is excluded where ``change`` was observed."""
        return change + t_quantile(p.EXCLUDED_TAIL, self.error.df) * self.sigma

    def looks_slower(self, tolerance: float) -> float:
        """X: the log ratio above which a session that is not called slower is kept out of the baseline.

        Of two sessions that differ by more than the tolerance, on a bench that moves as much, the first may
        be the odd one: kept to the tolerance, all later ones could be held back.
        """
        stands_out = p.LOOKS_SLOWER_SIGMAS * self.sigma
        if self.history.sessions > 1:
            # A tolerance that this bench cannot see would hold back most of its sessions.
            usual = min(p.LOOKS_SLOWER_LEAST_SIGMAS * self.sigma, math.log1p(p.TOLERANCE))
            stands_out = min(stands_out, max(tolerance, usual))
        return max(p.MIN_CHANGE, stands_out)


def prior_weight(sessions: int) -> int:
    """Return how many sessions the prior is worth beside a baseline of so many."""
    return p.PRIOR_WEIGHT if sessions >= p.YOUNG else p.PRIOR_WEIGHT_YOUNG


def history_noise(
    past: Sequence[Sequence[float]],
    fitted: float = 0.0,
    *,
    planned: int = 0,
    calm: Sequence[bool] = (),
) -> History:
    """Measure the noise of the sessions of the baseline.

    Args:
        past: the rounds' composites of each session, none empty.
        fitted: degrees of freedom that a control board's slope took from the sessions, below 1 for each.
        planned: rounds that sessions are planned to have; more claim no more. 0 for no such limit.
        calm: which sessions ended early on good news; empty for none.
    """
    values = session_values(past)
    measured = round_variance(past)
    within = p.PRIOR_ROUND_SIGMA**2 if measured is None else measured
    early = list(calm) or [False] * len(past)
    least = median_variance(planned) if planned else 0.0
    shares = [
        max(least, median_variance(len(rounds)) - (p.STOP_SHARE if ended else 0.0))
        for rounds, ended in zip(past, early, strict=True)
    ]
    return History(
        centre=median(values) + p.STOP_SHARE * fmean(early) * math.sqrt(measured or 0.0),
        within=within,
        within_df=0 if measured is None else sum(len(rounds) - 1 for rounds in past),
        between=winsorised_variance(values) * (len(values) - 1) / free
        if (free := max(0.0, len(values) - 1 - fitted))
        else 0.0,
        between_df=free,
        median_share=fmean(shares),
        sessions=len(values),
        anchors=len(values),
    )


def series_noise(series: Series) -> History:
    """Measure the noise of a gate's baseline."""
    return history_noise(
        series.past,
        series.environment.fitted if series.environment else 0.0,
        planned=series.rounds_planned,
        calm=series.calm_past,
    )


def common_factor(histories: Sequence[History]) -> float:
    """Return by which factor all gates together moved more than each was expected to; at least 1.0."""
    excesses = [history.excess for history in histories if history.excess is not None]
    return max(1.0, median(excesses)) if excesses else 1.0


def composites_factor(series: Sequence[Series]) -> float:
    """Return the common factor of the gates that every profile has; the others take it from them."""
    return common_factor([series_noise(one) for one in series if one.metric in COMPOSITES])


def centre_variance(sessions: int) -> float:
    """``c_H``: variance of the median of H sessions' values, as a share of one's; ``pi / 2H`` from 5 on."""
    return median_variance(sessions) if sessions < 5 else math.pi / (2 * sessions)


def gate_error(
    history: History,
    *,
    factor: float,
    rounds: int,
    within_now: float | None,
    leverage: float = 0.0,
) -> Error:
    """Compute the standard error of a gate's ``d``, its degrees of freedom, and what it comes from.

    Args:
        history: the baseline's noise.
        factor: of :func:`common_factor`; a young history has none.
        rounds: the candidate's rounds.
        within_now: the candidate's variance between rounds, None where it has one round, or is to come.
        leverage: of a control board, see :mod:`pytest_espperf.gate.reference`.
    """
    known = centre_variance(history.anchors) + leverage
    if history.young:
        return _young_error(history, known=known, rounds=rounds, within_now=within_now)
    within = history.measured_within
    session = history.session_variance(factor)
    spread = session + history.round_share
    here = within
    if within_now is not None and history.within_df:
        here = max(within, (within + within_now) / 2)
    share = median_variance(rounds) * here
    square = session + share + known * spread
    return Error(
        sigma=math.sqrt(square),
        df=max(_LEAST_DF, history.df * min(1.0, square / (spread * (1.0 + known)))),
        limit="rounds" if share + known * history.round_share > square / 2 else "sessions",
        rounds=math.sqrt(here),
    )


def _young_error(history: History, *, known: float, rounds: int, within_now: float | None) -> Error:
    sources = [(history.within_df, history.measured_within)]
    if within_now is not None:
        sources.append((rounds - 1, within_now))
    df = sum(count for count, _ in sources)
    squares = math.fsum(count * variance for count, variance in sources)
    measured = squares / df if df else 0.0
    pooled_df = p.PRIOR_ROUND_DF + df
    pooled = (p.PRIOR_ROUND_DF * p.PRIOR_ROUND_SIGMA**2 + squares) / pooled_df
    least = p.PRIOR_SINGLE_SIGMA if history.sessions == 1 else p.PRIOR_SESSION_SIGMA
    weight, free = prior_weight(history.sessions), history.between_df
    tau2 = max(
        (weight * max(least**2, measured) + free * (history.between - history.median_share * pooled))
        / (weight + free),
        p.SESSION_SIGMA_FLOOR**2,
    )
    # Today may be another kind of day: rounds that differ by more than chance (5 to 10 % for an
    # F of 3 with so few degrees of freedom) count by themselves.
    here = max(pooled, within_now / 3) if within_now is not None else pooled
    sessions = (1.0 + known) * tau2
    share = median_variance(rounds) * here + known * history.median_share * pooled
    square = sessions + share
    limit: Limit = "few sessions" if history.sessions < _FEW_SESSIONS else "sessions"
    if share > sessions or (history.between_df < _FEW_SESSIONS and measured > least**2):
        limit = "rounds"  # they are what sessions are taken to differ by
    return Error(
        sigma=math.sqrt(square),
        df=square**2 / (sessions**2 / (weight + free) + share**2 / pooled_df),
        limit=limit,
        rounds=math.sqrt(here),
    )


def alpha_of(series: Sequence[Series]) -> float:
    """Return the chance of a false alarm that all gates share: smaller where sessions end early."""
    early = any(one.ended or any(one.calm_past) for one in series)
    return p.ALPHA_EARLY if early else p.ALPHA


def alpha_shares(
    series: Sequence[Series], sigmas: Sequence[float], least_share: float = p.LEAST_SHARE
) -> list[float]:
    """Each gate's part of an alpha that all share, 1.0 in all.

    Profiles have equal parts; of them a gate has ``least_share`` of an equal part, and of the rest a part as
    1 / sigma (an equal one where all phases are paced).

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
    series: Sequence[Series], histories: Sequence[History], errors: Sequence[Error], alpha: float
) -> list[Noise]:
    """Compute the thresholds of gates that share ``alpha``, given their histories and standard errors."""
    single = alpha_shares(series, [error.sigma for error in errors])
    floor = p.SESSION_SIGMA_FLOOR
    # By information, 1 / variance: what pairs cannot prove in the tail alone is inconclusive.
    within = [max(floor**2, history.within) for history in histories]
    pairs = alpha_shares(series, within, least_share=0.0)
    return [
        Noise(
            history=history,
            error=error,
            threshold=max(p.MIN_CHANGE, t_quantile(alpha * share, error.df) * error.sigma),
            pairs_alpha=p.ALPHA_PAIRS * pairs_share,
        )
        for history, error, share, pairs_share in zip(histories, errors, single, pairs, strict=True)
    ]


def noises(
    series: Sequence[Series], *, alpha: float, factor: float | None = None, planned: bool = False
) -> dict[str, Noise]:
    """Compute the thresholds of gates that share ``alpha``, by gate name.

    Args:
        series: the gates.
        alpha: chance of any false alarm among them.
        factor: the common factor to use instead of these gates' own.
        planned: of the planned rounds, in place of those measured so far, whose noise then does not count.
    """
    histories = [series_noise(one) for one in series]
    common = common_factor(histories) if factor is None else factor
    errors = [
        gate_error(
            history,
            factor=common,
            rounds=one.rounds_planned if planned else counted_rounds(one, history),
            within_now=None if planned else round_variance([one.every]),
            leverage=one.environment.leverage if one.environment else 0.0,
        )
        for one, history in zip(series, histories, strict=True)
    ]
    found = gate_noises(series, histories, errors, alpha)
    return {one.name: noise for one, noise in zip(series, found, strict=True)}


def counted_rounds(series: Series, history: History) -> int:
    """Count the candidate's rounds that its standard error may use.

    Beside an old history no more than planned: what makes rounds be measured again is their session's effect,
    which more rounds do not average out, and which sessions of the planned rounds have taught the threshold.
    """
    every = len(series.every)
    return every if history.young else min(every, series.rounds_planned)
