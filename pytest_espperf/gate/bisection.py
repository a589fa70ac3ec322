"""Which of a line of commits made the board slower: beliefs from noisy readings, and what to measure next.

Commit 0 is the good end, commit n the bad one; each reading is the log ratio of one commit to the good end,
measured beside it. A plain bisect forgets how sure each answer was, and is wrong for good after one wrong
answer. Here every reading changes the probability of each of three kinds of hypotheses:

- *none*: the bad end is as fast as the good one;
- *one step*: it began at commit c, and all commits from c on are slower by the same, unknown amount;
- *two steps*: at c < d, with an unknown level between them.

Levels and the standard deviation of a reading are not known: the likelihood is integrated over a grid of
both. Of a reading's distribution a share is wild (a round that something else disturbed), so that no single
reading decides. Commits between which nothing was measured share the evidence, in proportion to what is
known of them beforehand; so do those that cannot be built. The next commit is the one whose reading is
expected to say most (mutual information of the reading and the level that the commit has).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

CERTAIN = 0.97
"""Probability from which on an answer stands: where things happen that the model does not know (a bench that
wanders), 95 % of such answers are right (``tools/bench_bisect.py``)."""

LEAST_STEP = math.log(1.02)
"""Log ratio below which a step is none."""

MOST_STEP = math.log(4.0)
"""Log ratio of the largest step that is distinguished from larger ones."""

NONE_PRIOR, TWO_PRIOR = 0.2, 0.08
"""Probability beforehand of no step, and of two; one step has the rest."""

WILD_SHARE, WILD_SCALE = 0.05, 0.05
"""Share of the readings that something else disturbed, and the scale (log ratio) of their distribution."""

READY_WORTH = 1.1
"""Times as much as a reading of a commit is worth that need not be built any more."""

LEAST_END_READINGS, END_SHARE = 2, 6
"""Readings of the bad end before any other commit is measured, and every how many it is measured again: what
is believed of the step's size decides how all others are read."""

_LEVELS = 61
_NOISES = tuple(0.003 * (0.2 / 0.003) ** (i / 8) for i in range(9))
_NOISE_USUAL, _NOISE_SPREAD = math.log(0.02), 0.9
_GRID = 41
_SEVERAL_FROM = 0.9
_LOOK_FOR_SEVERAL = 12
_ROOT_TAU = math.sqrt(2 * math.pi)

_STEP = (math.log(MOST_STEP) - math.log(LEAST_STEP)) / (_LEVELS - 1)
_STEPS = tuple(LEAST_STEP * math.exp(i * _STEP) for i in range(_LEVELS))

Shares = tuple[float, float, float]
AnswerKind = Literal["open", "found", "none", "several"]


@dataclass(frozen=True)
class BisectionReading:
    """One commit, measured beside the good end.

    Attributes:
        commit: its number, 0 for the good end.
        change: log ratio to the good end, slower positive.
        spread: its standard deviation, as a multiple of that of an ordinary reading.
    """

    commit: int
    change: float
    spread: float = 1.0


@dataclass(frozen=True)
class Beliefs:
    """What the readings say.

    Attributes:
        none: probability that the bad end is not slower.
        began: of each commit from 1 on, the probability that the step began there: the only one, or the
            larger of two.
        first: the same of the first of two steps.
        second: the same of the second.
        change: log ratio of the bad end to the good one, if there is a step.
        change_sd: its standard deviation.
        between: log ratio of the commits between two steps.
        noise: standard deviation of an ordinary reading, log ratio.
        level: of each commit, the probability that it has the good end's level, one between two steps, and
            the bad end's.
    """

    none: float
    began: tuple[float, ...]
    first: tuple[float, ...]
    second: tuple[float, ...]
    change: float
    change_sd: float
    between: float
    noise: float
    level: tuple[Shares, ...]

    @property
    def two(self) -> float:
        """Probability of two steps."""
        return math.fsum(self.first)


@dataclass(frozen=True)
class StepAt:
    """One step.

    Attributes:
        commits: the commits it may have begun at that no measurement can distinguish, the likeliest first.
        probability: that it began at one of them.
        change: log ratio.
    """

    commits: tuple[int, ...]
    probability: float
    change: float


@dataclass(frozen=True)
class BisectionAnswer:
    """Where the search stands.

    Attributes:
        kind: ``open`` while nothing is certain.
        steps: the likeliest place of the step; of both where there are several; empty for ``none``.
        probability: of the answer; of an open one, of its likeliest.
    """

    kind: AnswerKind
    steps: tuple[StepAt, ...]
    probability: float


def reading_of(commit: int, level: float, before: float, after: float | None = None) -> BisectionReading:
    """Make a reading of one round of a commit, and the rounds of the good end before and after it.

    What changes evenly with time falls on both alike.

    Args:
        commit: its number.
        level: log composite of its round, slower larger.
        before: that of the good end's round before.
        after: that of the one after, where there was one.
    """
    if after is None:
        return BisectionReading(commit, level - before, math.sqrt(2 / 1.5))
    return BisectionReading(commit, level - (before + after) / 2)


def believe(weights: Sequence[float], readings: Sequence[BisectionReading]) -> Beliefs:
    """Compute the beliefs from all readings.

    Args:
        weights: of each commit from 1 to the bad end, how likely a step begins there, above 0; only their
            ratios count.
        readings: in any order.

    Raises:
        ValueError: there is no commit, or a reading of none of them.
    """
    count = len(weights)
    if not count or any(not 0 <= reading.commit <= count for reading in readings):
        raise ValueError(f"readings are of commits 0 to {count}")
    evidence = _Evidence(weights, readings)
    single = evidence.beliefs(several=False)
    if max(single.began) < _SEVERAL_FROM and len(readings) < _LOOK_FOR_SEVERAL:
        return single
    return evidence.beliefs(several=True)


def answer_of(beliefs: Beliefs, unbuilt: Collection[int] = ()) -> BisectionAnswer:
    """Say where the search stands.

    Args:
        beliefs: see :func:`believe`.
        unbuilt: the commits that cannot be measured.
    """
    if beliefs.none >= CERTAIN:
        return BisectionAnswer("none", (), beliefs.none)
    if beliefs.two > 0.5:
        first = _likeliest(beliefs.first, unbuilt, beliefs.between)
        second = _likeliest(beliefs.second, unbuilt, beliefs.change - beliefs.between)
        least = min(first.probability, second.probability)
        return BisectionAnswer("several" if least >= CERTAIN else "open", (first, second), least)
    step = _likeliest(beliefs.began, unbuilt, beliefs.change)
    return BisectionAnswer("found" if step.probability >= CERTAIN else "open", (step,), step.probability)


def next_commit(
    beliefs: Beliefs,
    readings: Sequence[BisectionReading],
    unbuilt: Collection[int] = (),
    ready: Collection[int] = (),
) -> int:
    """Choose the commit whose reading is expected to say most.

    The bad end comes first, until it is known whether there is a step at all.

    Args:
        beliefs: see :func:`believe`.
        readings: that they come from.
        unbuilt: the commits that cannot be measured; never the bad end.
        ready: those that are built already.
    """
    bad = len(beliefs.began)
    of_the_end = sum(reading.commit == bad for reading in readings)
    wanted = max(LEAST_END_READINGS, len(readings) // END_SHARE)
    if of_the_end < wanted or beliefs.none > 1 - CERTAIN:
        return bad
    gain = _Gain(beliefs)

    def worth(commit: int) -> float:
        return gain.of(beliefs.level[commit - 1]) * (READY_WORTH if commit in ready else 1.0)

    return max((commit for commit in range(1, bad + 1) if commit not in unbuilt), key=worth)


# --- evidence


Place = tuple[int, ...]
"""A hypothesis: the gaps between measured commits in which steps lie: (), (3,) or (1, 3)."""


class _AtNoise(NamedTuple):
    """Hypotheses at one noise: log evidence; mean level between two steps; log weight of each end level."""

    places: dict[Place, float]
    between: dict[Place, float]
    levels: list[float]


class _Evidence:
    """Log likelihoods of the readings of each measured commit, at each level and noise."""

    def __init__(self, weights: Sequence[float], readings: Sequence[BisectionReading]) -> None:
        total = math.fsum(weights)
        self._weights = [weight / total for weight in weights]
        measured: dict[int, list[BisectionReading]] = {}
        for reading in sorted(readings, key=lambda reading: reading.commit):
            measured.setdefault(reading.commit, []).append(reading)
        # The good end's readings tell the noise alone.
        good = measured.pop(0, [])
        self._commits = list(measured)
        ends = [0, *self._commits, len(weights)]
        self._gaps = [range(low + 1, high + 1) for low, high in pairwise(ends)]
        self._gap_weights = [math.fsum(self._weights[c - 1] for c in gap) for gap in self._gaps]
        self._prior = [
            -(((math.log(noise) - _NOISE_USUAL) / _NOISE_SPREAD) ** 2) / 2
            + math.fsum(_log_density(one.change, one.spread * noise) for one in good)
            for noise in _NOISES
        ]
        rows = list(measured.values())
        self._still = [[_fit(row, 0.0, noise) for row in rows] for noise in _NOISES]
        self._moved = [[[_fit(row, level, noise) for level in _STEPS] for row in rows] for noise in _NOISES]

    def beliefs(self, *, several: bool) -> Beliefs:
        """Weigh all hypotheses."""
        noises = [self._weigh(i, several=several) for i in range(len(_NOISES))]
        top = max(max(one.places.values()) for one in noises)
        masses: dict[Place, float] = {}
        by_noise: list[float] = []
        for one in noises:
            here = {place: math.exp(value - top) for place, value in one.places.items()}
            by_noise.append(math.fsum(here.values()))
            for place, mass in here.items():
                masses[place] = masses.get(place, 0.0) + mass
        total = math.fsum(by_noise)
        shares = {place: mass / total for place, mass in masses.items()}
        noise = math.exp(math.fsum(m * math.log(s) for m, s in zip(by_noise, _NOISES, strict=True)) / total)
        change, change_sd = _moments([one.levels for one in noises])
        likeliest = noises[max(range(len(_NOISES)), key=by_noise.__getitem__)]
        return self._beliefs(shares, likeliest.between, change, change_sd, noise)

    def _beliefs(
        self,
        shares: Mapping[Place, float],
        between: Mapping[Place, float],
        change: float,
        change_sd: float,
        noise: float,
    ) -> Beliefs:
        began: dict[int, float] = {}
        first: dict[int, float] = {}
        second: dict[int, float] = {}
        for place, share in shares.items():
            if len(place) == 1:
                _add(began, place[0], share)
            elif len(place) == 2:
                _add(first, place[0], share)
                _add(second, place[1], share)
                _add(began, place[0] if 2 * between[place] > change else place[1], share)
        pair = max(between, key=lambda place: shares[place], default=())
        ones, firsts, seconds = self._spread(began), self._spread(first), self._spread(second)
        only = self._spread({place[0]: share for place, share in shares.items() if len(place) == 1})
        return Beliefs(
            none=shares[()],
            began=tuple(ones),
            first=tuple(firsts),
            second=tuple(seconds),
            change=change,
            change_sd=change_sd,
            between=between.get(pair, 0.0),
            noise=noise,
            level=tuple(_level_shares(only, firsts, seconds)),
        )

    def _weigh(self, i: int, *, several: bool) -> _AtNoise:
        """Weigh all hypotheses at one noise."""
        prior, count = self._prior[i], len(self._commits)
        below = [0.0, *accumulate(self._still[i])]  # of the commits before a gap, at the good end's level
        above = _running(self._moved[i])
        ends = [_log_mean(row) for row in above]
        places: dict[Place, float] = {(): prior + below[count] + math.log(NONE_PRIOR)}
        ones = [gap for gap, weight in enumerate(self._gap_weights) if weight > 0]
        share = 1 - NONE_PRIOR - (TWO_PRIOR if several else 0.0)
        # Log evidence of what comes before each gap, of each way in which the end can begin in it.
        before = {gap: [prior + math.log(share * self._gap_weights[gap]) + below[gap]] for gap in ones}
        places |= {(gap,): values[0] + ends[gap] for gap, values in before.items()}
        between: dict[Place, float] = {}
        for first in ones if several else ():
            middle = [0.0] * _LEVELS
            for second in range(first + 1, count + 1):
                middle = [a + b for a, b in zip(middle, self._moved[i][second - 1], strict=True)]
                if self._gap_weights[second] > 0:
                    weight = TWO_PRIOR * 2 * self._gap_weights[first] * self._gap_weights[second]
                    head = prior + math.log(weight) + below[first] + _log_mean(middle)
                    before[second].append(head)
                    places[first, second] = head + ends[second]
                    between[first, second] = _moments([middle])[0]
        heads = {gap: _log_sum(values) for gap, values in before.items()}
        levels = [_log_sum([head + above[gap][n] for gap, head in heads.items()]) for n in range(_LEVELS)]
        return _AtNoise(places, between, levels)

    def _spread(self, by_gap: Mapping[int, float]) -> list[float]:
        """Share what a gap has among its commits."""
        spread = [0.0] * len(self._weights)
        for gap, share in by_gap.items():
            for commit in self._gaps[gap]:
                spread[commit - 1] = share * self._weights[commit - 1] / self._gap_weights[gap]
        return spread


def _add(masses: dict[int, float], key: int, mass: float) -> None:
    masses[key] = masses.get(key, 0.0) + mass


def _level_shares(
    only: Sequence[float], firsts: Sequence[float], seconds: Sequence[float]
) -> Iterator[Shares]:
    end = entered = 0.0
    for one, first, second in zip(only, firsts, seconds, strict=True):
        end += one + second
        entered += first - second
        yield max(0.0, 1.0 - end - entered), max(0.0, entered), end


def _log_density(off: float, noise: float) -> float:
    """Log density of a reading that is ``off`` its level: normal, and now and then wild (Cauchy)."""
    z = off / noise
    usual = math.exp(-z * z / 2) / (noise * _ROOT_TAU)
    scale = WILD_SCALE + 2 * noise
    wild = 1 / (math.pi * scale * (1 + (off / scale) ** 2))
    return math.log((1 - WILD_SHARE) * usual + WILD_SHARE * wild)


def _fit(readings: Sequence[BisectionReading], level: float, noise: float) -> float:
    return math.fsum(_log_density(one.change - level, one.spread * noise) for one in readings)


def _running(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Sum each column from each row to the last; behind the last, zeros."""
    sums = [[0.0] * _LEVELS]
    for row in reversed(rows):
        sums.append([a + b for a, b in zip(sums[-1], row, strict=True)])
    return sums[::-1]


def _log_sum(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def _log_mean(values: Sequence[float]) -> float:
    return _log_sum(values) - math.log(len(values))


def _moments(rows: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Mean and standard deviation of the level, from log weights of each level."""
    top = max(max(row) for row in rows)
    weights = [math.fsum(math.exp(row[n] - top) for row in rows) for n in range(_LEVELS)]
    total = math.fsum(weights)
    mean = math.fsum(w * level for w, level in zip(weights, _STEPS, strict=True)) / total
    var = math.fsum(w * (level - mean) ** 2 for w, level in zip(weights, _STEPS, strict=True)) / total
    return mean, math.sqrt(var)


# --- answers


def _likeliest(began: Sequence[float], unbuilt: Collection[int], change: float) -> StepAt:
    """Return the commits, indistinguishable by measuring, of which one is likeliest."""
    blocks: list[list[int]] = [[]]
    for commit in range(1, len(began) + 1):
        blocks[-1].append(commit)
        if commit not in unbuilt:  # a reading of it tells those up to it from those after it
            blocks.append([])
    best = max(filter(None, blocks), key=lambda block: math.fsum(began[c - 1] for c in block))
    order = sorted(best, key=lambda commit: -began[commit - 1])
    return StepAt(tuple(order), math.fsum(began[c - 1] for c in best), change)


# --- what to measure next


class _Gain:
    """Expected drop of the entropy of a commit's level by one reading of it, in nats."""

    def __init__(self, beliefs: Beliefs) -> None:
        noise = beliefs.noise
        wider = math.hypot(noise, beliefs.change_sd)
        shapes = ((0.0, noise), (beliefs.between, wider), (beliefs.change, wider))
        low = min(level for level, _ in shapes) - 4 * wider
        high = max(level for level, _ in shapes) + 4 * wider
        points = [low + (high - low) * i / (_GRID - 1) for i in range(_GRID)]
        densities = [[math.exp(_log_density(x - level, sd)) for x in points] for level, sd in shapes]
        self._columns = list(zip(*[[d / math.fsum(row) for d in row] for row in densities], strict=True))

    def of(self, shares: Shares) -> float:
        """Mutual information of a reading and the level."""
        gain = 0.0
        for column in self._columns:
            mixed = math.fsum(p * d for p, d in zip(shares, column, strict=True))
            gain += math.fsum(p * d * math.log(d / mixed) for p, d in zip(shares, column, strict=True) if p)
        return gain


# --- what is known beforehand

UNLIKELY = 0.1
"""Weight of a commit that touches only files that no firmware is built from, and ..."""

LIKELY = 1.0
"""... of any other."""

_IDLE = re.compile(
    r"""(?:^|.*/)(?:\.?ci|\.circleci|\.github|\.gitlab|\.idea|\.vscode|docs?|documentation|examples?|tests?)/
    | (?:.*/)?(?:\.editorconfig|\.gitignore|\.gitattributes|\.gitlab-ci\.yml|\.pre-commit-config\.yaml
        |\.clang-format|codeowners)$
    | (?:.*/)?(?:authors|changelog|contributing|copying|licen[cs]e|notice|readme)(?:\.\w+)?$
    | .*\.(?:md|rst|adoc|txt|png|svg|drawio|pdf)$""",
    re.VERBOSE | re.IGNORECASE,
)
_BUILT_FROM = frozenset({"cmakelists.txt", "requirements.txt", "constraints.txt"})


def weight_of(paths: Collection[str]) -> float:
    """Weigh a commit by the files that it touches: documents, tests and CI seldom change a firmware's speed.

    Args:
        paths: with ``/``; none for unknown.
    """
    return UNLIKELY if paths and all(map(_is_idle, paths)) else LIKELY


def _is_idle(path: str) -> bool:
    return path.rpartition("/")[2].lower() not in _BUILT_FROM and _IDLE.match(path) is not None
