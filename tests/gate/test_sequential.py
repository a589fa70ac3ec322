"""Pairs of two firmwares, decided one by one: words, properties, and error rates on seeded simulations."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given, seed
from hypothesis import strategies as st
from scipy import stats as oracle

from pytest_espperf.gate.sequential import (
    LAST_SHARE,
    PairAnswer,
    PairPlan,
    PairSeries,
    decide,
    open_profiles,
)

PLAN = PairPlan()
QUIET = (0.002, -0.003, 0.001, 0.004, -0.002, -0.001, 0.003, -0.004, 0.0, 0.002)

Draw = Callable[[random.Random], float]


def series(
    change: float,
    count: int,
    *,
    metric: str = "rps_ok",
    noise: float = 1.0,
    profile: str = "p",
    paced: bool = False,
) -> PairSeries:
    """Pairs that differ by a change, and by little else."""
    quiet = [noise * QUIET[i % len(QUIET)] for i in range(2 * count)]
    pairs = tuple((1.0 + quiet[2 * i], 1.0 + change + quiet[2 * i + 1]) for i in range(count))
    return PairSeries(profile, metric, pairs, paced)


def answer(one: PairSeries, plan: PairPlan = PLAN) -> PairAnswer:
    return decide([one], plan)[one.name]


@pytest.mark.parametrize(
    ("change", "word"), [(0.0, "same"), (0.2, "slower"), (-0.2, "faster"), (0.01, "same"), (-0.01, "same")]
)
def test_words(change: float, word: str) -> None:
    found = answer(series(change, 6))
    assert found.word == word
    assert found.pairs == 6
    assert found.low < found.change < found.high
    assert found.change == pytest.approx(change, abs=0.004)


STEPS = ((94, 96), (94, 96), (94, 96), (94, 96), (92, 94), (90, 96))
"""Answers of two equal firmwares in a second, by two clients that a board serves in turn."""


def test_figures_that_agree_by_rounding_prove_nothing() -> None:
    logs = tuple((-math.log(old), -math.log(new)) for old, new in STEPS)
    for pairs in (logs, tuple((new, old) for old, new in logs)):
        coarse = answer(PairSeries("p", "rps_ok", pairs, grain=math.log(96 / 94)))
        assert coarse.word in {"same", "open"}
        assert coarse.low < 0 < coarse.high
        assert answer(PairSeries("p", "rps_ok", pairs)).word in {"slower", "faster"}  # as it looks without


@pytest.mark.parametrize("boards", [False, True])
@pytest.mark.parametrize("noise", [0.0, 0.002, 0.005, 0.02])
def test_rounded_figures_of_equal_firmwares_raise_no_alarm(noise: float, boards: bool) -> None:
    rng = random.Random(3)
    grain = 0.025
    words: Counter[str] = Counter()
    for _ in range(60):
        # Where they lie between two steps differs by a hair: far below what is called a change.
        level = rng.uniform(0, grain)
        values = [
            [grain * round((level + offset + rng.gauss(0, noise)) / grain) for offset in (0.0, 0.004)]
            for _ in range(8)
        ]
        pairs = tuple((old, new) for old, new in values)
        swapped = tuple(i % 2 == 1 for i in range(8)) if boards else ()
        words[answer(PairSeries("p", "rps_ok", pairs, swapped=swapped, grain=grain)).word] += 1
    assert words["slower"] == words["faster"] == 0
    assert words["same"] >= 40 or noise > 0.01  # of the rest the two lie on either side of a step


def test_a_change_of_several_steps_is_found() -> None:
    pairs = ((0.0, 0.1), (0.025, 0.1), (0.0, 0.125), (0.0, 0.1), (0.025, 0.125))
    assert answer(PairSeries("p", "rps_ok", pairs, grain=0.025)).word == "slower"


def test_a_step_far_below_the_noise_changes_nothing() -> None:
    loud = series(0.02, 8, noise=8.0)
    fine = answer(replace(loud, grain=0.004))
    assert fine.threshold == pytest.approx(answer(loud).threshold, rel=1e-3)
    assert fine.high == pytest.approx(answer(loud).high, rel=1e-3)


def test_nothing_is_decided_before_the_least_pairs() -> None:
    for count in range(3):
        found = answer(series(0.5, count))
        assert (found.word, found.high, found.threshold) == ("open", math.inf, math.inf)
    assert answer(series(0.5, 5), replace(PLAN, least_pairs=6)).word == "open"
    assert answer(series(0.5, 6), replace(PLAN, least_pairs=6)).word == "slower"


def test_open_at_the_last_pair_is_the_end() -> None:
    loud = series(0.04, 16, noise=20.0)
    found = answer(loud)
    assert (found.word, found.last) == ("open", True)
    assert open_profiles({found.name: found}) == []
    before = answer(replace(loud, pairs=loud.pairs[:-1]))
    assert (before.word, before.last) == ("open", False)
    assert open_profiles({before.name: before}) == ["p"]


def test_the_tail_of_a_closed_loop_may_move_four_times_as_much() -> None:
    by_15 = math.log(1.15)
    assert answer(series(0.0, 8, noise=8.0)).high < by_15  # the noise is not what decides
    closed = answer(series(0.06, 8, metric="p95_ms", noise=8.0))
    paced = answer(series(0.06, 8, metric="p95_ms", noise=8.0, paced=True))
    assert (closed.word, paced.word) == ("same", "open")


def test_throughput_that_a_schedule_sets_excludes_nothing() -> None:
    assert answer(series(0.01, 4, noise=20.0, paced=True)).word == "same"
    assert answer(series(0.01, 4, noise=20.0)).word == "open"
    assert answer(series(0.3, 6, paced=True)).word == "slower"  # the board cannot keep up


def test_a_slower_gate_decides_its_profile_and_a_faster_one_does_not() -> None:
    def words(*of_gates: str) -> list[str]:
        answers = {
            f"p:{i}": PairAnswer(f"p:{i}", word, 0.0, 0.0, 0.0, 5, 0.0)  # type: ignore[arg-type]
            for i, word in enumerate(of_gates)
        }
        return open_profiles(answers)

    assert words("slower", "open") == []
    assert words("faster", "open") == ["p"]
    assert words("faster", "same") == []
    assert words("same", "open") == ["p"]


def test_a_disturbed_pair_moves_nothing() -> None:
    clean = series(0.0, 8)
    hung = list(clean.pairs)
    hung[3] = (hung[3][0], hung[3][1] + 1.5)
    found = answer(replace(clean, pairs=tuple(hung)))
    assert found.word == "same"
    assert abs(found.change) < 0.005


def test_what_a_decided_profile_has_not_spent_is_left_to_the_others() -> None:
    loud = series(0.05, 16, noise=10.0, profile="open")
    others = [series(0.0, 5, profile=f"same{i}") for i in range(2)]
    with_decided = decide([loud, *others], PLAN)["open:rps_ok"].threshold
    with_open = decide([loud, *(replace(loud, profile=f"o{i}") for i in range(2))], PLAN)["open:rps_ok"]
    alone = decide([loud], PLAN)["open:rps_ok"].threshold
    assert with_decided == alone < with_open.threshold
    # One pair before the end nobody knows yet who will be open then.
    early = replace(loud, pairs=loud.pairs[:14])
    assert decide([early, *others], PLAN)["open:rps_ok"].threshold > answer(early).threshold


@pytest.mark.parametrize("plan", [PLAN, PairPlan(most_pairs=3), PairPlan(least_pairs=5, most_pairs=30)])
def test_the_looks_share_alpha(plan: PairPlan) -> None:
    looks = plan.most_pairs - plan.least_pairs
    assert plan.share(last=True) + looks * (plan.share(last=False) if looks else 0) == pytest.approx(1.0)
    assert plan.share(last=True) in (1.0, LAST_SHARE)


def test_two_boards_that_differ_cancel_and_the_difference_is_said() -> None:
    def twin(count: int, swapped: tuple[bool, ...], change: float) -> PairSeries:
        base = series(change, count)
        # The second board is 10 % slower. It has the new firmware first.
        pairs = tuple(
            (old + 0.1, new) if crossed else (old, new + 0.1)
            for (old, new), crossed in zip(base.pairs, swapped, strict=True)
        )
        return replace(base, pairs=pairs, swapped=swapped)

    straight = answer(twin(6, (False,) * 6, 0.0))
    assert (straight.word, straight.boards) == ("open", None)
    crossed = (False, False, False, True, True, True)
    for change, word in ((0.0, "same"), (0.2, "slower"), (-0.2, "faster")):
        found = answer(twin(6, crossed, change))
        assert found.word == word
        assert found.change == pytest.approx(change, abs=0.004)
        assert found.boards == pytest.approx(0.1, abs=0.004)
    uneven = answer(twin(7, (*crossed, True), 0.0))
    assert uneven.boards == pytest.approx(0.1, abs=0.004)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PairPlan(least_pairs=2), "fewer than 3 pairs"),
        (lambda: PairPlan(most_pairs=2), "at least 3"),
        (lambda: PairPlan(tolerance=0.0), "above 0"),
        (lambda: PairPlan(tolerance=math.inf), "above 0"),
        (lambda: PairPlan(alpha=0.7), "between 0 and 0.5"),
        (lambda: PairSeries("p", "rps_ok", ((0.0, 0.0),), swapped=(True, False)), "1 pairs, but 2"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


VALUES = st.floats(-0.5, 0.5, allow_nan=False)
PAIRS = st.lists(st.tuples(VALUES, VALUES), min_size=3, max_size=16).map(tuple)


@seed(1)
@given(PAIRS)
def test_to_exchange_the_firmwares_changes_the_sign_and_no_more(
    pairs: tuple[tuple[float, float], ...],
) -> None:
    """Of two boards: of one, the pairs' order says which rounds are neighbours."""
    at_once = replace(series(0.0, 0), pairs=pairs, swapped=tuple(i % 2 == 1 for i in range(len(pairs))))
    mirrored = replace(at_once, pairs=tuple((new, old) for old, new in pairs))
    one, other = answer(at_once), answer(mirrored)
    assert other.change == pytest.approx(-one.change, abs=1e-6)
    assert other.threshold == pytest.approx(one.threshold) or one.threshold == other.threshold == math.inf


@seed(1)
@given(PAIRS, st.floats(-3, 3))
def test_a_common_level_changes_nothing(pairs: tuple[tuple[float, float], ...], level: float) -> None:
    here = replace(series(0.0, 0), pairs=pairs)
    there = replace(here, pairs=tuple((old + level, new + level) for old, new in pairs))
    one, other = answer(here), answer(there)
    assert other.change == pytest.approx(one.change, abs=1e-6)
    assert other.threshold == pytest.approx(one.threshold, rel=1e-4, abs=1e-6)


@seed(1)
@given(PAIRS, st.floats(0.0, 0.3))
def test_a_slower_new_firmware_never_looks_faster(
    pairs: tuple[tuple[float, float], ...], more: float
) -> None:
    order = ["faster", "same", "open", "slower"]
    here = answer(replace(series(0.0, 0), pairs=pairs))
    there = answer(replace(series(0.0, 0), pairs=tuple((old, new + more) for old, new in pairs)))
    assert there.change == pytest.approx(here.change + more, abs=1e-6)
    assert order.index(there.word) >= order.index(here.word)


def test_the_error_is_that_of_the_mean() -> None:
    """Against a paired t-test of scipy, where boots are alike and nothing is disturbed."""
    rng = np.random.default_rng(5)
    ratios = []
    for _ in range(200):
        old, new = rng.normal(0.0, 0.02, 4), rng.normal(0.03, 0.02, 4)
        found = answer(PairSeries("p", "rps_ok", tuple(zip(old.tolist(), new.tolist(), strict=True))))
        interval = oracle.ttest_rel(new, old).confidence_interval(1 - 2 * 0.05 / 4)
        ratios.append((found.high - found.low) / (interval.high - interval.low))
        assert found.change == pytest.approx(float(fmean(new - old)))
    assert 0.5 < float(np.median(ratios)) < 1.1  # more degrees of freedom: it knows the noise of the rounds


def normal(rng: random.Random) -> float:
    return rng.gauss(0, 1)


def heavy(rng: random.Random) -> float:
    """Student's t with three degrees of freedom, of variance 1."""
    return rng.gauss(0, 1) / math.sqrt(rng.gammavariate(1.5, 2.0) / 3) / math.sqrt(3)


def stalls(rng: random.Random) -> float:
    return rng.gauss(0, 1) + (rng.uniform(2, 20) if rng.random() < 0.03 else 0)


def contest(
    rng: random.Random,
    draw: Draw,
    *,
    sigma: float = 0.04,
    change: float = 0.0,
    boots: float = 0.0,
    drift: float = 0.0,
    profiles: int = 3,
    plan: PairPlan = PLAN,
) -> tuple[set[str], int]:
    """Words of a whole comparison, in which the first profile is changed, and its pairs."""
    pairs: dict[str, list[tuple[float, float]]] = {f"p{i}": [] for i in range(profiles)}
    effects = [[rng.gauss(0, boots) if boots else 0.0 for _ in range(plan.most_pairs)] for _ in "AB"]
    left, words, count = list(pairs), {}, 0
    while left and count < plan.most_pairs:
        first = 2 * count
        times = (first, first + 1) if count % 2 == 0 else (first + 1, first)
        for name in left:
            old, new = (
                sigma * draw(rng) + drift * time + effect
                for time, effect in zip(
                    times, (effects[0][(count + 1) // 2], effects[1][count // 2]), strict=True
                )
            )
            pairs[name].append((old, new + (change if name == "p0" else 0.0)))
        count += 1
        answers = decide([PairSeries(name, "rps_ok", tuple(found)) for name, found in pairs.items()], plan)
        left = open_profiles(answers)
        words = {one.profile: one.word for one in answers.values()}
    return ({words["p0"]} if change else set(words.values())), count


@pytest.mark.parametrize(
    ("draw", "more"),
    [
        (normal, {}),
        (heavy, {}),
        (stalls, {}),
        (normal, {"boots": 0.01}),
        (normal, {"drift": 0.01}),
        (normal, {"sigma": 0.01}),
    ],
    ids=["normal", "heavy tails", "stalls", "boots", "drift", "low noise"],
)
def test_false_alarms_are_rare(draw: Draw, more: dict[str, Any]) -> None:
    """5 in 1,000: of 150 comparisons four or more have a chance of 1 % then."""
    rng = random.Random(11)
    words: Counter[str] = Counter()
    for _ in range(150):
        words.update(contest(rng, draw, **more)[0])
    assert words["slower"] <= 3
    assert words["faster"] <= 3


def test_slowdowns_are_found_and_equal_firmwares_are_told_to_be() -> None:
    rng = random.Random(12)
    for change, least, most_pairs in ((0.05, 88, 15), (0.1, 98, 9)):
        found = [contest(rng, normal, sigma=0.0217, change=change) for _ in range(100)]
        assert sum(words == {"slower"} for words, _ in found) >= least
        if change > 0.05:
            assert np.median([count for _, count in found]) <= most_pairs
    same = [contest(rng, normal, sigma=0.01) for _ in range(60)]
    assert sum(words == {"same"} for words, _ in same) >= 58
    assert np.median([count for _, count in same]) <= 5


def test_a_slowdown_of_the_tolerance_is_rarely_called_the_same() -> None:
    rng = random.Random(13)
    found = [contest(rng, normal, sigma=0.04, change=math.log(1.05), profiles=1)[0] for _ in range(300)]
    assert sum(words == {"same"} for words in found) <= 300 * 0.05 + 3 * math.sqrt(300 * 0.05 * 0.95)


def test_two_boards_raise_no_more_alarms() -> None:
    rng = random.Random(14)
    alarms = 0
    for _ in range(300):
        boards, pairs, swapped = rng.gauss(0, 0.1), [], []
        for index in range(16):
            common, crossed = rng.gauss(0, 0.1), index // 2 % 2 == 1
            old, new = (common + rng.gauss(0, 0.03) for _ in "AB")
            pairs.append((old + boards, new) if crossed else (old, new + boards))
            swapped.append(crossed)
            one = answer(PairSeries("p", "rps_ok", tuple(pairs), swapped=tuple(swapped)))
            if one.word != "open":
                break
        alarms += one.word in ("slower", "faster")
    assert alarms <= 7  # of 300: twice 5 in 1,000
