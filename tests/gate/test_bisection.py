"""Which commit made it slower: beliefs, answers, and the next commit to measure."""

from __future__ import annotations

import math
import random
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_espperf.gate.bisection import (
    CERTAIN,
    LIKELY,
    UNLIKELY,
    Beliefs,
    BisectionAnswer,
    BisectionReading,
    answer_of,
    believe,
    next_commit,
    reading_of,
    weight_of,
)

STEP = math.log(1.12)
EVEN = [LIKELY] * 12


def readings_at(levels: dict[int, float], *, times: int = 3, noise: float = 0.01) -> list[BisectionReading]:
    """Readings of commits with these levels, scattered evenly about them."""
    offsets = [noise * (2 * i / (times - 1) - 1) for i in range(times)] if times > 1 else [0.0]
    return [BisectionReading(c, level + off) for c, level in levels.items() for off in offsets]


def search(
    levels: list[float], *, noise: float, seed: int, most: int = 100, weights: list[float] | None = None
) -> tuple[BisectionAnswer, list[BisectionReading]]:
    """Search a line whose commit i has ``levels[i - 1]``, with disturbed rounds among the readings."""
    rng = random.Random(seed)
    readings: list[BisectionReading] = []
    while True:
        beliefs = believe(weights or [LIKELY] * len(levels), readings)
        answer = answer_of(beliefs)
        if answer.kind != "open" or len(readings) == most:
            return answer, readings
        commit = next_commit(beliefs, readings)
        wild = rng.uniform(0.05, 0.6) if rng.random() < 0.02 else 0.0
        readings.append(BisectionReading(commit, levels[commit - 1] + rng.gauss(0, noise) + wild))


# --- searches


def test_where_a_plain_bisect_is_wrong_in_half_the_culprit_is_found() -> None:
    noise, trials, right, plain_right = 0.06, 30, 0, 0
    rng = random.Random(7)
    for seed in range(trials):
        culprit = rng.randint(1, 12)
        levels = [STEP * (c >= culprit) for c in range(1, 13)]
        answer, _ = search(levels, noise=noise, seed=seed)
        right += answer.kind == "found" and answer.steps[0].commits == (culprit,)
        good, bad = 0, 12
        while bad - good > 1:
            middle = (good + bad) // 2
            slow = levels[middle - 1] + rng.gauss(0, noise) > STEP / 2
            good, bad = (good, middle) if slow else (middle, bad)
        plain_right += bad == culprit
    assert plain_right <= trials * 0.65
    assert right >= trials * 0.93


def test_a_hundred_commits_take_little_more_than_twelve() -> None:
    taken = {}
    for count in (12, 100):
        counts = []
        for seed in range(10):
            culprit = 1 + (seed * 37) % count
            answer, readings = search(
                [STEP * (c >= culprit) for c in range(1, count + 1)], noise=0.01, seed=seed
            )
            assert (answer.kind, answer.steps[0].commits) == ("found", (culprit,))
            counts.append(len(readings))
        taken[count] = sorted(counts)[5]
    assert taken[12] <= 10
    assert taken[100] <= taken[12] + 6


def test_no_step_is_an_answer() -> None:
    for seed in range(10):
        answer, readings = search([0.0] * 12, noise=0.01, seed=seed)
        assert answer.kind == "none"
        assert answer.steps == ()
        assert {reading.commit for reading in readings} == {12}


def test_a_bad_end_that_is_faster_has_no_step() -> None:
    assert search([-0.1] * 12, noise=0.01, seed=1)[0].kind == "none"


def test_two_steps_are_told_from_one() -> None:
    levels = [0.0] * 3 + [0.08] * 5 + [0.2] * 4
    answers = [search(levels, noise=0.01, seed=seed)[0] for seed in range(5)]
    assert [answer.kind for answer in answers] == ["several"] * 5
    assert {tuple(step.commits for step in answer.steps) for answer in answers} == {((4,), (9,))}
    # A wild reading among the few of a level leaves its size uncertain.
    first, second = (median(answer.steps[i].change for answer in answers) for i in (0, 1))
    assert first == pytest.approx(0.08, abs=0.025)
    assert second == pytest.approx(0.12, abs=0.025)


def test_a_single_wild_reading_decides_nothing() -> None:
    calm = readings_at({3: 0.0, 12: STEP})
    assert answer_of(believe(EVEN, [*calm, BisectionReading(6, STEP)])).kind == "open"
    wild = [*readings_at({5: 0.0, 6: 0.0, 7: STEP, 12: STEP}), BisectionReading(6, 0.5)]
    assert answer_of(believe(EVEN, wild)).steps[0].commits == (7,)


# --- beliefs


def test_the_change_and_the_noise_are_those_of_the_readings() -> None:
    beliefs = believe(EVEN, readings_at({5: 0.0, 6: 0.0, 7: STEP, 12: STEP}, times=5, noise=0.02))
    assert beliefs.change == pytest.approx(STEP, abs=0.015)
    assert beliefs.noise == pytest.approx(0.02, rel=0.6)
    assert 0 < beliefs.change_sd < 0.02


def test_commits_between_measured_ones_share_by_their_weight() -> None:
    weights = [LIKELY] * 5 + [UNLIKELY, LIKELY] + [LIKELY] * 5
    beliefs = believe(weights, readings_at({5: 0.0, 7: STEP, 12: STEP}, times=5))
    assert beliefs.began[6] == pytest.approx(beliefs.began[5] * LIKELY / UNLIKELY)
    assert beliefs.began[5] + beliefs.began[6] > CERTAIN


def test_without_readings_the_weights_are_all_that_is_known() -> None:
    beliefs = believe([1.0, 3.0], [])
    assert beliefs.began[1] == pytest.approx(3 * beliefs.began[0])
    assert beliefs.none == pytest.approx(0.2)


lines = st.integers(1, 15).flatmap(
    lambda count: st.tuples(
        st.lists(st.sampled_from([UNLIKELY, LIKELY]), min_size=count, max_size=count),
        st.lists(
            st.builds(
                BisectionReading,
                st.integers(0, count),
                st.floats(-3, 3, allow_nan=False),
                st.sampled_from([1.0, 1.15]),
            ),
            max_size=16,
        ),
    )
)


@settings(max_examples=60, deadline=None)
@given(lines)
def test_beliefs_are_probabilities_whatever_was_read(
    line: tuple[list[float], list[BisectionReading]],
) -> None:
    weights, readings = line
    beliefs = believe(weights, readings)
    assert math.fsum([beliefs.none, *beliefs.began]) == pytest.approx(1)
    assert math.fsum(beliefs.first) == pytest.approx(math.fsum(beliefs.second))
    assert all(0 <= p <= 1 + 1e-9 for p in (*beliefs.began, *beliefs.first, *beliefs.second))
    for shares in beliefs.level:
        assert math.fsum(shares) == pytest.approx(1)
    assert 1 <= next_commit(beliefs, readings) <= len(weights)
    assert believe(weights, readings[::-1]).began == pytest.approx(beliefs.began, abs=1e-9)


def test_a_reading_of_no_commit_is_refused() -> None:
    with pytest.raises(ValueError, match="commits 0 to 12"):
        believe(EVEN, [BisectionReading(13, 0.0)])


# --- commits that cannot be built


def test_unbuilt_commits_share_an_answer_with_the_next_that_is_built() -> None:
    beliefs = believe(EVEN, readings_at({4: 0.0, 7: STEP, 12: STEP}, times=5))
    assert answer_of(beliefs).kind == "open"
    answer = answer_of(beliefs, unbuilt={5, 6})
    assert answer.kind == "found"
    assert sorted(answer.steps[0].commits) == [5, 6, 7]
    assert next_commit(beliefs, readings_at({12: 0.0}), unbuilt={5, 6}) not in {5, 6}


# --- what is measured next


def test_the_bad_end_is_measured_first_and_until_there_is_a_step() -> None:
    assert next_commit(believe(EVEN, []), []) == 12
    unclear = [BisectionReading(12, 0.01), BisectionReading(12, 0.06)]
    assert next_commit(believe(EVEN, unclear), unclear) == 12


def _clear_step() -> tuple[Beliefs, list[BisectionReading]]:
    readings = readings_at({12: STEP})
    return believe(EVEN, readings), readings


def test_then_the_commit_that_halves_what_is_likely() -> None:
    assert next_commit(*_clear_step()) in {5, 6, 7}
    readings = readings_at({12: STEP})
    docs_first = [UNLIKELY] * 8 + [LIKELY] * 4
    assert next_commit(believe(docs_first, readings), readings) in {9, 10}


def test_a_commit_that_is_built_is_preferred_where_it_says_as_much() -> None:
    for ready in (5, 7):
        assert next_commit(*_clear_step(), ready={ready}) == ready
    assert next_commit(*_clear_step(), ready={1}) != 1


# --- what is known beforehand


@pytest.mark.parametrize(
    ("paths", "weight"),
    [
        (["README.md"], UNLIKELY),
        (["docs/page.html", "LICENSE"], UNLIKELY),
        ([".github/workflows/ci.yml", "tests/test_http.c"], UNLIKELY),
        (["components/http/test/main.c"], UNLIKELY),
        (["changelog.rst", "main/server.c"], LIKELY),
        (["main/CMakeLists.txt"], LIKELY),
        (["requirements.txt"], LIKELY),
        (["latest/main.c"], LIKELY),
        (["main/readme_handler.c"], LIKELY),
        (["sdkconfig.defaults"], LIKELY),
        ([], LIKELY),
    ],
)
def test_documents_tests_and_ci_are_less_likely(paths: list[str], weight: float) -> None:
    assert weight_of(paths) == weight


# --- readings


def test_an_even_drift_cancels() -> None:
    reading = reading_of(4, 1.10, 1.0, 1.2)
    assert reading.change == pytest.approx(0.0)
    assert reading.spread == 1.0
    half = reading_of(4, 1.1, 1.0)
    assert half.change == pytest.approx(0.1)
    assert half.spread**2 == pytest.approx(4 / 3)
