"""How often ``espperf bisect`` names the right commit, after how many measurements: simulated searches.

::

    python tools/bench_bisect.py

A commit somewhere in a line is slower, and all after it. Each measurement flashes and measures one commit,
and then the good end again, as the command does. A round's level moves with three things: its own noise and
its boot's (``--noise``, the standard deviation of both together), a slow walk of the bench (a third of that
from one round to the next), and now and then something that makes a round 5 to 60 % slower (2 % of rounds).
Of the commits a third touches documents only; the culprit never is one.

The rival is what ``git bisect run`` does with a script that measures each commit once and calls it bad where
it is slower than half of the step, and knows its true size.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from pytest_espperf.gate.bisection import (
    LIKELY,
    UNLIKELY,
    BisectionReading,
    answer_of,
    believe,
    next_commit,
    reading_of,
)

DISTURBED = 0.02
WALK = 1 / 3


@dataclass(frozen=True)
class Search:
    """One kind of simulated search.

    Attributes:
        commits: length of the line.
        step: log ratio of the slowdown; 0 for none.
        noise: standard deviation of a round, log ratio.
        unbuilt: share of the commits that cannot be built.
        most: measurements after which it ends.
    """

    commits: int
    step: float
    noise: float
    unbuilt: float = 0.0
    most: int = 100


SEARCHES = (
    Search(12, math.log(1.12), 0.01),
    Search(12, math.log(1.12), 0.03),
    Search(12, math.log(1.12), 0.05),
    Search(12, math.log(1.05), 0.02),
    Search(12, math.log(1.12), 0.03, unbuilt=0.2),
    Search(12, 0.0, 0.03),
    Search(100, math.log(1.12), 0.01),
    Search(100, math.log(1.12), 0.04),
)


@dataclass(frozen=True)
class End:
    """How a search ended.

    Attributes:
        kind: of the answer; ``open`` where it ran to its limit.
        right: whether it is the true one.
        measurements: of commits, the good end's beside them not counted.
        plain: whether the plain bisect named the right commit.
    """

    kind: str
    right: bool
    measurements: int
    plain: bool


class Board:
    """Gives the level of a commit's round: the culprit and all after it are slower."""

    def __init__(self, search: Search, rng: random.Random) -> None:
        self._search, self._rng = search, rng
        count = search.commits
        idle = {c for c in range(1, count) if rng.random() < 1 / 3}
        self.weights = [UNLIKELY if c in idle else LIKELY for c in range(1, count + 1)]
        self.unbuilt = {c for c in range(1, count) if rng.random() < search.unbuilt}
        self.culprit = rng.choice([c for c in range(1, count + 1) if c not in idle])
        self._walk = 0.0

    def round(self, commit: int) -> float:
        """Measure one round."""
        rng, noise = self._rng, self._search.noise
        self._walk += rng.gauss(0.0, noise * WALK)
        level = self._search.step if commit >= self.culprit else 0.0
        disturbed = rng.uniform(0.05, 0.6) if rng.random() < DISTURBED else 0.0
        return level + self._walk + rng.gauss(0.0, noise) + disturbed


def searched(search: Search, seed: int) -> End:
    """Simulate one search, and the plain one beside it."""
    rng = random.Random(seed)
    board = Board(search, rng)
    readings: list[BisectionReading] = []
    before = board.round(0)
    met: set[int] = set()
    while True:
        beliefs = believe(board.weights, readings)
        answer = answer_of(beliefs, met)
        if answer.kind != "open" or len(readings) == search.most:
            break
        commit = next_commit(beliefs, readings, met, {reading.commit for reading in readings})
        if commit in board.unbuilt:
            met.add(commit)
            continue
        level, after = board.round(commit), board.round(0)
        readings.append(reading_of(commit, level, before, after))
        before = after
    right = answer.kind == ("found" if search.step else "none")
    if search.step and answer.steps:
        right = right and board.culprit in answer.steps[0].commits
    return End(answer.kind, right, len(readings), plain_bisect(search, board) == board.culprit)


def plain_bisect(search: Search, board: Board) -> int:
    """Search as ``git bisect run`` does, and name the first bad commit."""
    good, bad = 0, search.commits
    while bad - good > 1:
        between = [c for c in range(good + 1, bad) if c not in board.unbuilt]
        if not between:
            break
        middle = min(between, key=lambda c: abs(c - (good + bad) / 2))
        if board.round(middle) - board.round(0) > search.step / 2:
            bad = middle
        else:
            good = middle
    return bad


def rows(trials: int, seed: int, workers: int, searches: Sequence[Search]) -> Iterator[str]:
    """Simulate all searches; make a line of each kind."""
    with ProcessPoolExecutor(workers) as pool:
        for search in searches:
            seeds = range(seed, seed + trials)
            ends = list(
                pool.map(searched, [search] * trials, seeds, chunksize=max(1, trials // 8 // workers))
            )
            counts = Counter(end.kind for end in ends)
            right = sum(end.right for end in ends) / trials
            wrong = sum(not end.right and end.kind != "open" for end in ends) / trials
            plain = f"{sum(end.plain for end in ends) / trials:8.0%}" if search.step else f"{'':>8}"
            middle = statistics.median(end.measurements for end in ends)
            tenth = sorted(end.measurements for end in ends)[int(trials * 0.9)]
            yield (
                f"{search.commits:7} {math.expm1(search.step):6.0%} {search.noise:6.0%} {search.unbuilt:8.0%}"
                f" {right:8.1%} {wrong:7.1%} {counts['open'] / trials:6.1%} {middle:8.0f} {tenth:5} {plain}"
            )


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line per kind of search."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(argv)
    print(f"{given.trials} simulated searches of each kind, seed {given.seed}")
    print("commits   step  noise  unbuilt    right   wrong   open   median   90 %    plain")
    for line in rows(given.trials, given.seed, given.workers, SEARCHES):
        print(line, flush=True)


if __name__ == "__main__":
    main()
