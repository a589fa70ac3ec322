"""Values of a knob: the best, and what cannot be distinguished from it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from pytest_espperf.gate.ranking import rank_values


def measured(
    rng: random.Random, levels: dict[str, float], rounds: int, sigma: float = 0.02, stalls: float = 0.0
) -> dict[str, list[float]]:
    """Composites of interleaved rounds, each of which has an effect of its own."""
    common = [rng.gauss(0, 0.05) for _ in range(rounds)]
    return {
        name: [
            at + level + rng.gauss(0, sigma) + (rng.uniform(0.05, 0.5) if rng.random() < stalls else 0.0)
            for at in common
        ]
        for name, level in levels.items()
    }


def test_one_is_best_and_the_others_are_worse() -> None:
    found = rank_values(measured(random.Random(1), {"4": 0.1, "6": 0.0, "8": 0.2}, 6, sigma=0.005))
    assert [(rank.value, rank.word) for rank in found.ranks] == [
        ("6", "best"),
        ("4", "worse"),
        ("8", "worse"),
    ]
    assert found.best == "6"
    assert found.candidates == ("6",)
    assert found.sentence.startswith("6 is best; 4 is 1")
    assert "apart" not in found.sentence
    for rank in found.ranks[1:]:
        assert rank.low < rank.change < rank.high


def test_those_that_are_worse_may_be_alike_among_themselves() -> None:
    found = rank_values(measured(random.Random(2), {"4": 0.10, "6": 0.0, "8": 0.101}, 6, sigma=0.005))
    assert found.best == "6"
    assert found.sentence.startswith("6 is best; ")
    assert found.sentence.endswith("4 and 8 cannot be distinguished")


def test_the_best_may_not_be_alone() -> None:
    found = rank_values(measured(random.Random(3), {"a": 0.0, "b": 0.001, "c": 0.2}, 5, sigma=0.01))
    assert set(found.candidates) == {"a", "b"}
    assert "cannot be distinguished from" in found.sentence
    assert "c is 2" in found.sentence


def test_every_worse_value_has_a_clause_of_its_own() -> None:
    rounds = {"2": [0.0, 0.001, 0.002], "4": [0.04, 0.041, 0.042], "1": [0.67, 0.671, 0.672]}
    assert rank_values(rounds).sentence == "2 is best; 4 is 4.1 % slower, 1 is 95 % slower"


def test_all_may_be_alike() -> None:
    found = rank_values(measured(random.Random(4), dict.fromkeys("abc", 0.0), 5))
    assert len(found.candidates) == 3
    assert "cannot be distinguished: a difference of" in found.sentence


def test_equal_figures_are_alike_and_a_constant_difference_is_not_certain_by_itself() -> None:
    same = rank_values({"a": [1.0] * 4, "b": [1.0] * 4})
    assert same.ranks[1].word == "alike"
    tiny = rank_values({"a": [1.0] * 4, "b": [1.001] * 4})
    assert tiny.ranks[1].word == "alike"


@pytest.mark.parametrize("values", [2, 3, 6])
@pytest.mark.parametrize("rounds", [3, 6])
def test_a_true_best_is_rarely_called_worse(values: int, rounds: int) -> None:
    """5 %: the first value is as good as any, so that it counts where it is called worse."""
    rng = random.Random(31)
    tries = 400
    wrong = 0
    for _ in range(tries):
        found = rank_values(measured(rng, {str(i): 0.0 for i in range(values)}, rounds, stalls=0.02))
        wrong += any(rank.value == "0" and rank.word == "worse" for rank in found.ranks)
    assert wrong <= tries * 0.05 + 3 * math.sqrt(tries * 0.05 * 0.95)


def test_10_percent_is_found_in_six_rounds_though_some_stall() -> None:
    rng = random.Random(32)
    found = 0
    for _ in range(200):
        ranking = rank_values(measured(rng, {"4": 0.0, "6": 0.0, "8": math.log(1.1)}, 6, stalls=0.03))
        found += "8" not in ranking.candidates
    assert found >= 185


@pytest.mark.parametrize(
    ("rounds", "said"),
    [
        ({"a": [1.0, 1.0, 1.0]}, "two values"),
        ({"a": [1.0] * 3, "b": [1.0] * 4}, "same rounds, not a: 3, b: 4"),
        ({"a": [1.0] * 2, "b": [1.0] * 2}, "3 rounds or more"),
        ({"a": [1.0] * 3, "b": [1.0, math.nan, 1.0]}, "not a number"),
    ],
)
def test_what_makes_no_sense_is_refused(rounds: dict[str, list[float]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rank_values(rounds)


TABLE = st.integers(3, 8).flatmap(
    lambda rounds: st.lists(
        st.lists(st.floats(-1, 1, allow_nan=False), min_size=rounds, max_size=rounds), min_size=2, max_size=5
    )
)


@seed(1)
@given(TABLE, st.floats(-3, 3))
def test_effects_of_rounds_leave_and_the_order_is_that_of_the_changes(
    table: list[list[float]], effect: float
) -> None:
    rounds = {str(i): row for i, row in enumerate(table)}
    moved = {name: [row[0] + effect, *row[1:]] for name, row in rounds.items()}
    one, other = rank_values(rounds), rank_values(moved)
    assert other.reach == pytest.approx(one.reach, rel=1e-3)
    assert [rank.word for rank in one.ranks].count("best") == 1
    assert {rank.value for rank in one.ranks} == set(rounds)
    changes = [rank.change for rank in one.ranks[1:]]
    assert changes == sorted(changes)
    assert one.sentence


def test_less_than_two_percent_is_never_called_worse() -> None:
    steady = {"a": [1.0, 1.0001, 1.0], "b": [1.013, 1.013, 1.0131]}
    assert [rank.word for rank in rank_values(steady).ranks] == ["best", "alike"]
    clear = {"a": steady["a"], "b": [value + 0.03 for value in steady["b"]]}
    assert [rank.word for rank in rank_values(clear).ranks] == ["best", "worse"]
