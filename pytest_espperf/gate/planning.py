"""Planning of sessions: what a bench can see, and how many rounds a wanted slowdown takes.

The same arithmetic as the gate's, asked the other way round: sessions of one firmware show how a bench
moves between rounds and between sessions; that gives the threshold of a future session.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.baseline import profiles_of
from pytest_espperf.gate.noise import (
    History,
    Noise,
    common_factor,
    gate_error,
    gate_noises,
    history_noise,
)
from pytest_espperf.gate.series import COMPOSITES, Series, build_all, undisturbed_rounds
from pytest_espperf.gate.stats import median_variance
from pytest_espperf.model.artifact import SessionArtifact


@dataclass(frozen=True)
class BenchNoise:
    """Noise of a bench at one gate, and the smallest slowdown that it shows.

    Attributes:
        round_sigma_pct: movement from round to round, percent.
        session_sigma_pct: movement from session to session beyond that, percent.
        smallest_pct: smallest slowdown that would be called nine times in ten, percent.
    """

    profile: str
    metric: str
    round_sigma_pct: float
    session_sigma_pct: float
    smallest_pct: float


def _planned(
    series: Sequence[Series], histories: Sequence[History], *, rounds: int, sessions: int
) -> list[Noise]:
    """Predict the noise of a future session of ``rounds`` rounds, judged against so many like it."""
    factor = common_factor(histories)
    share = median_variance(rounds)
    planned = [
        replace(
            history,
            within_df=sessions * (rounds - 1) if history.within_df else 0,
            between=history.session_variance(factor) + share * history.measured_within,
            between_df=sessions - 1,
            median_share=share,
            sessions=sessions,
            anchors=sessions,
        )
        for history in histories
    ]
    errors = [
        gate_error(history, factor=1.0, rounds=rounds, within_now=history.measured_within)
        for history in planned
    ]
    return gate_noises(series, planned, errors, p.ALPHA)


def _series(artifacts: Sequence[SessionArtifact]) -> list[Series]:
    """Build the gates of sessions of one firmware; all of them are the history."""
    if not artifacts:
        return []
    last = artifacts[-1]
    rounds = undisturbed_rounds(last, dict.fromkeys(profiles_of(last), artifacts), len(artifacts))
    return build_all(last, rounds, COMPOSITES, len(artifacts))


def bench_noise(artifacts: Sequence[SessionArtifact], *, sessions: int = 20) -> list[BenchNoise]:
    """Estimate from repeated sessions of one firmware what a bench can see, per gate.

    ``sessions`` is the length of history that the smallest slowdown is given for.
    """
    series = _series(artifacts)
    if not series:
        return []
    histories = [history_noise(one.epoch) for one in series]
    factor = common_factor(histories)
    rounds = round(median(len(rounds) for one in series for rounds in one.epoch))
    planned = _planned(series, histories, rounds=rounds, sessions=sessions)
    return [
        BenchNoise(
            profile=one.profile,
            metric=one.metric,
            round_sigma_pct=100 * math.sqrt(history.within),
            session_sigma_pct=100 * math.sqrt(history.session_variance(factor)),
            smallest_pct=100 * math.expm1(noise.reliable),
        )
        for one, history, noise in zip(series, histories, planned, strict=True)
    ]


def rounds_needed(
    artifacts: Sequence[SessionArtifact], wanted_pct: float, *, sessions: int = 20, most: int = 50
) -> int | None:
    """Fewest rounds with which every profile being ``wanted_pct`` slower would be called nine times in ten.

    A profile counts as seen where one of its gates sees it. None where even ``most`` rounds do not
    do: then the movement between sessions is the limit, and only A/B pairs get below it.

    Raises:
        ValueError: ``wanted_pct`` is not positive.
    """
    if not wanted_pct > 0:
        raise ValueError(f"the wanted slowdown must be above 0 %, not {wanted_pct}")
    target = math.log1p(wanted_pct / 100)
    series = _series(artifacts)
    histories = [history_noise(one.epoch) for one in series]
    for rounds in range(1, most + 1):
        planned = _planned(series, histories, rounds=rounds, sessions=sessions)
        best: dict[str, float] = {}
        for one, noise in zip(series, planned, strict=True):
            best[one.profile] = min(best.get(one.profile, math.inf), noise.reliable)
        if best and max(best.values()) <= target:
            return rounds
    return None
