"""Gates of the firmware's own figures: how they move from session to session, and files exactly."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from msgspec import structs
from support.gate_sessions import history, kinds, session, with_own

from pytest_espperf.gate import GatePolicy, judge, measure_again, suspects
from pytest_espperf.gate.policy import (
    FIGURE_SESSIONS,
    parse_fail_on,
    parse_figure_limit,
    parse_min_effect,
)
from pytest_espperf.model.artifact import GateRow, OwnFigure, SessionArtifact, Verdict
from pytest_espperf.model.findings import BUDGET, FIGURES
from pytest_espperf.model.registry import Better
from pytest_espperf.report.view import failures


def own(*values: float, unit: str = "ms", better: Better = "lower", source: str = "test") -> OwnFigure:
    return OwnFigure(unit=unit, better=better, values=list(values), source=source)


def past(figures: Sequence[OwnFigure | None], seed: int = 1) -> list[SessionArtifact]:
    earlier = history(random.Random(seed), len(figures))
    return [
        one if figure is None else with_own(one, boot_ms=figure)
        for one, figure in zip(earlier, figures, strict=True)
    ]


def candidate(figure: OwnFigure | None) -> SessionArtifact:
    now = session(random.Random(2))
    return now if figure is None else with_own(now, boot_ms=figure)


def row(verdict: Verdict, name: str = "figure:boot_ms") -> GateRow:
    return next(one for one in verdict.gates if one.name == name)


@pytest.mark.parametrize("count", range(1, FIGURE_SESSIONS))
def test_too_few_sessions_say_nothing_and_hold_nothing_back(count: int) -> None:
    verdict = judge(candidate(own(900.0)), past([own(800.0)] * count))
    found = row(verdict)
    assert found.verdict == "not-gateable"
    assert str(FIGURE_SESSIONS) in found.detail
    assert verdict.kind == "unchanged" or count < 3  # what throughput and p95 say
    without = judge(candidate(None), past([None] * count))
    assert verdict.kind == without.kind


@pytest.mark.parametrize(
    ("value", "better", "word"),
    [
        (800.0, "lower", "unchanged"),
        (1200.0, "lower", "regressed"),
        (500.0, "lower", "improved"),
        (1200.0, "higher", "improved"),
        (500.0, "higher", "regressed"),
    ],
)
def test_it_is_judged_by_how_it_moves_from_session_to_session(
    value: float, better: Better, word: str
) -> None:
    earlier = past([own(800.0 + 4 * number, better=better) for number in range(-5, 5)])
    verdict = judge(candidate(own(value, better=better)), earlier)
    found = row(verdict)
    assert found.verdict == word
    assert found.sessions == 10
    assert verdict.kind == ("regressed" if word == "regressed" else "unchanged")
    if word == "regressed":
        assert measure_again(verdict) == {}, "no profile of it can be measured again"
        assert suspects(verdict) == []
        (name, message) = failures(verdict)[0]
        assert name == "figure:boot_ms"
        assert "worse" in message


def test_the_value_of_a_session_is_the_median_of_its_values() -> None:
    verdict = judge(candidate(own(1.0, 800.0, 9000.0)), past([own(790.0, 800.0, 810.0)] * 6))
    assert row(verdict).now == row(verdict).baseline == 800.0


def test_what_moves_much_says_nothing_until_it_is_beyond_all_of_that() -> None:
    rng = random.Random(3)
    earlier = past([own(800.0 * math.exp(rng.gauss(0, 0.3))) for _ in range(12)])
    same = judge(candidate(own(900.0)), earlier)
    assert row(same).verdict == "not-gateable"
    assert "moves too much" in row(same).detail
    assert same.kind == "unchanged"
    assert row(judge(candidate(own(9000.0)), earlier)).verdict == "regressed"


@pytest.mark.parametrize("value", [0.0, -5.0])
@pytest.mark.parametrize("now", [False, True])
def test_values_without_a_ratio_are_not_gateable(value: float, now: bool) -> None:
    earlier = past([own(800.0)] * 5 + [own(800.0 if now else value)])
    verdict = judge(candidate(own(value if now else 800.0)), earlier)
    assert row(verdict).verdict == "not-gateable"
    assert "ratio" in row(verdict).detail
    assert verdict.kind == "unchanged"


@pytest.mark.parametrize(
    ("size", "word"),
    [(500_000, "unchanged"), (505_000, "unchanged"), (515_000, "regressed"), (400_000, "improved")],
)
@pytest.mark.parametrize("count", [1, 8])
def test_files_are_compared_exactly_from_the_first_session_on(size: float, word: str, count: int) -> None:
    file = own(500_000.0, unit="bytes", source="file")
    earlier = past([file] * count)
    verdict = judge(candidate(structs.replace(file, values=[float(size)])), earlier)
    assert row(verdict).verdict == word
    assert (verdict.kind == "regressed") is (word == "regressed")


def test_a_floor_takes_the_place_of_the_usual_one_for_files() -> None:
    file = own(500_000.0, unit="bytes", source="file")
    earlier = past([file] * 3)
    one_more = candidate(structs.replace(file, values=[500_001.0]))
    exact = GatePolicy(min_effect=parse_min_effect("figure:boot_ms:0.5"))
    assert row(judge(one_more, earlier, exact)).verdict == "regressed"
    lax = GatePolicy(min_effect=parse_min_effect("figure:boot_ms:100000"))
    more = candidate(structs.replace(file, values=[590_000.0]))
    assert row(judge(more, earlier, lax)).verdict == "unchanged"


def test_a_floor_holds_for_what_moves_by_chance() -> None:
    earlier = past([own(8.0)] * 8)
    floor = GatePolicy(min_effect=parse_min_effect("figure:boot_ms:10"))
    verdict = judge(candidate(own(16.0)), earlier, floor)
    assert row(verdict).verdict == "unchanged"
    assert "floor" in row(verdict).detail
    assert row(judge(candidate(own(19.0)), earlier, floor)).verdict == "regressed"


@pytest.mark.parametrize(("limit", "word"), [(1, "regressed"), (50, "unchanged")])
def test_plain_rules_name_them(limit: float, word: str) -> None:
    policy = GatePolicy(fail_on=parse_fail_on(f"figure:boot_ms:{limit}%"))
    verdict = judge(candidate(own(840.0)), past([own(800.0)]), policy)
    found = row(verdict, "figure:boot_ms:fail-on")
    assert found.verdict == word
    assert found.d_pct == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("better", "limit", "broken"),
    [("lower", 850, False), ("lower", 750, True), ("higher", 750, False), ("higher", 850, True)],
)
def test_budgets_need_no_baseline(better: Better, limit: float, broken: bool) -> None:
    now = structs.replace(candidate(own(800.0, better=better)), thresholds={"figure:boot_ms": limit})
    for policy in (GatePolicy(), GatePolicy(enabled=False)):
        verdict = judge(now, [], policy)
        assert (verdict.kind == "failed") is broken
        assert [one.where for one in verdict.findings if one.kind == BUDGET] == ["figure:boot_ms"] * broken


def test_a_budget_without_a_value_is_named() -> None:
    verdict = judge(structs.replace(candidate(None), thresholds={"figure:boot_ms": 5.0}), [])
    assert FIGURES in kinds(verdict)
    assert verdict.kind == "no-baseline"


def test_a_figure_that_only_one_side_has_is_named() -> None:
    gone = judge(candidate(None), past([own(800.0)] * 3))
    assert [one.severity for one in gone.findings if one.kind == FIGURES] == ["warn"]
    new = judge(candidate(own(800.0)), past([None] * 3))
    assert [one.severity for one in new.findings if one.kind == FIGURES] == ["info"]
    assert row(new).detail == "no earlier session has it"


@pytest.mark.parametrize("other", [own(800.0, unit="s"), own(800.0, better="higher")])
def test_another_unit_or_direction_is_not_compared(other: OwnFigure) -> None:
    verdict = judge(candidate(own(8000.0)), past([other] * 8))
    assert row(verdict).verdict == "not-gateable"
    (finding,) = [one for one in verdict.findings if one.kind == FIGURES]
    assert finding.where == "figure:boot_ms"
    assert verdict.kind == "unchanged"


def test_a_first_session_shows_them_and_stays_a_first_session() -> None:
    verdict = judge(candidate(own(800.0)), [])
    assert verdict.kind == "no-baseline"
    assert row(verdict).now == 800.0


def test_an_improved_file_makes_no_session_faster() -> None:
    file = own(500_000.0, unit="bytes", source="file")
    verdict = judge(candidate(structs.replace(file, values=[400_000.0])), past([file] * 3))
    assert row(verdict).verdict == "improved"
    assert verdict.kind != "improved"


def test_chance_fails_no_more_sessions_than_without_them() -> None:
    """Ten figures that move by 2 to 30 %: of 80 sessions of the same firmware 3 fail at most."""
    rng = random.Random(7)
    spreads = [0.02, 0.05, 0.1, 0.2, 0.3] * 2
    failed = 0
    for trial in range(80):
        count = 5 + trial % 16

        def figures() -> dict[str, OwnFigure]:
            return {f"f{n}": own(800.0 * math.exp(rng.gauss(0, spread))) for n, spread in enumerate(spreads)}

        earlier = [with_own(one, **figures()) for one in history(rng, count)]
        failed += judge(with_own(session(rng), **figures()), earlier).kind == "regressed"
    assert failed <= 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("figure:bad name:5%", "no name of a figure"),
        ("figure:p95_ms:5%", "metric of every session"),
        ("boot_ms:5%", "figure:NAME"),
        ("figure:boot_ms", "unknown metric"),
    ],
)
def test_rules_that_name_nothing_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_fail_on(text)


def test_budgets_are_parsed() -> None:
    assert parse_figure_limit("boot_ms:1500, figure:app.text:2e6") == {"boot_ms": 1500.0, "app.text": 2e6}
    for bad in ("boot_ms", "boot_ms:", "boot_ms:-1", "boot_ms:1,boot_ms:2", "p95_ms:5", "a b:1"):
        with pytest.raises(ValueError, match=r"\S"):
            parse_figure_limit(bad)


RULES = GatePolicy(fail_on=(("figure:nix", 3.0),), min_effect={"figure:nil": 1.0})


def test_rules_and_floors_without_a_value_are_named() -> None:
    rng = random.Random(9)
    now = session(rng)
    found = [one for one in judge(now, [], RULES).findings if one.kind == FIGURES]
    assert [(one.where, one.severity) for one in found] == [("figure:nix", "warn"), ("figure:nil", "warn")]
    both = with_own(now, nix=OwnFigure(values=[1.0]), nil=OwnFigure(values=[1.0]))
    for quiet in (both, structs.replace(now, partial=True), structs.replace(now, raw_runs=[])):
        assert not [one for one in judge(quiet, [], RULES).findings if "no value" in one.message]
