"""The table of verdict words: complete, with one ranking."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from pytest_espperf.model.verdicts import (
    NOT_GATEABLE,
    VERDICTS,
    WORST_FIRST,
    VerdictWord,
    mood_of,
    rank,
    session_word,
    short_of,
    worst_of,
)


def test_every_word_has_one_row() -> None:
    assert sorted(WORST_FIRST) == sorted(get_args(VerdictWord))
    assert all(word == kind.word for word, kind in VERDICTS.items())


def test_the_ranking_has_what_fails_first_and_what_is_good_last() -> None:
    order = ["fail", "pass-warn", "strict", "pass-good"]
    kinds = [VERDICTS[word] for word in WORST_FIRST]
    assert [kind.fails for kind in kinds] == sorted((kind.fails for kind in kinds), reverse=True)
    moods = [mood for mood, _ in itertools.groupby(kind.mood for kind in kinds)]
    assert moods == ["bad", "warn", "good"], order


def test_the_row_of_a_word_does_not_contradict_itself() -> None:
    for kind in VERDICTS.values():
        assert not kind.fails or (kind.joins == "no" and kind.mood == "bad")
        assert not kind.slower or kind.fails
        assert not kind.opens_epoch or kind.joins == "yes"
        assert kind.complete or not kind.valid
        assert kind.joins == "no" or kind.valid
        assert not kind.headline.text.endswith(".")


@pytest.mark.parametrize(
    ("words", "session"),
    [
        ((), "no-baseline"),
        (("no-baseline",), "no-baseline"),
        (("not-gateable",), "no-baseline"),
        (("unchanged", "no-baseline"), "unchanged"),
        (("unchanged", "improved", "unchanged"), "improved"),
        (("improved", "environment-shift"), "environment-shift"),
        (("environment-shift", "inconclusive"), "inconclusive"),
        (("drift", "inconclusive", "regressed"), "regressed"),
    ],
)
def test_a_session_has_the_worst_word_that_is_not_neutral(words: tuple[str, ...], session: str) -> None:
    assert session_word(words) == session
    assert session_word(reversed(words)) == session


def test_of_several_boards_the_worst_counts() -> None:
    assert worst_of(["improved", "unchanged"]) == "unchanged"
    assert worst_of(["unchanged", "incomplete", "inconclusive"]) == "incomplete"


def test_a_word_without_a_row_is_last_and_plain() -> None:
    assert rank(NOT_GATEABLE) == len(WORST_FIRST)
    assert mood_of("unheard-of") == "plain"
    assert short_of(NOT_GATEABLE) == "-"
    assert short_of("inconclusive") == "unclear"
    assert short_of("regressed") == "regressed"
