"""The values of a knob: how they are measured, ranked and told."""

from __future__ import annotations

from typing import Any

import pytest
from support.fake_meter import FakeMeter, broken, unbuilt

from pytest_espperf.errors import UsageError
from pytest_espperf.model.contest import FirmwareFacts
from pytest_espperf.session.saving import SessionOutcome
from pytest_espperf.session.sweeping import Sweep, check_commands, order_of, parse_knob

KNOB = parse_knob("WORKERS=4,6,8")
FACTORS = {"4": 1.08, "6": 1.0, "8": 1.1}


class Labelled:
    """A firmware that is only a label; its build may fail."""

    def __init__(self, label: str, error: Exception | None = None, commit: str = "") -> None:
        self.facts = FirmwareFacts(label=label, commit=commit)
        self._error = error

    def prepare(self) -> None:
        if self._error is not None:
            raise self._error


def by_value(label: str, _: str) -> float:
    return FACTORS[label]


def swept(meter: FakeMeter, unbuilt_values: tuple[str, ...] = (), **more: Any) -> SessionOutcome:
    firmwares: Any = {
        value: Labelled(value, unbuilt() if value in unbuilt_values else None) for value in KNOB.values
    }
    given: Any = meter
    return Sweep(given, KNOB, firmwares, **more).run()


def answer(outcome: SessionOutcome) -> str:
    assert outcome.artifact.contest is not None
    return outcome.artifact.contest.answer.removeprefix("WORKERS: ")


def test_the_best_is_named_and_what_cannot_be_told_apart() -> None:
    meter = FakeMeter(by_value, kind="sweep", noise=0.01)
    outcome = swept(meter)
    assert answer(outcome).startswith("6 is best; ")
    assert not outcome.fails
    assert outcome.artifact.contest is not None
    words = {one.label: (one.word, one.rounds) for one in outcome.artifact.contest.candidates}
    figures = {one.label: one.figure for one in outcome.artifact.contest.candidates}
    assert figures["6"] is not None
    assert figures["4"] is not None
    assert figures["6"] / figures["4"] == pytest.approx(1.08, rel=0.03)
    assert words == {"4": ("worse", 6), "6": ("best", 6), "8": ("worse", 6)}
    # Each value once a round, and every round is kept apart.
    labels = [label for label, *_ in meter.measured]
    assert all(sorted(labels[i : i + 3]) == ["4", "6", "8"] for i in range(0, 18, 3))
    assert len({index for _, _, index, _ in meter.measured}) == 18


@pytest.mark.parametrize("built", [True, False])
def test_the_session_is_that_of_the_commit_that_was_built(built: bool) -> None:
    meter = FakeMeter(by_value, kind="sweep")
    meter.environment = {"git_commit": "f" * 40, "git_dirty": True}
    firmwares: Any = {value: Labelled(value, commit="a" * 40 if built else "") for value in KNOB.values}
    given: Any = meter
    environment = Sweep(given, KNOB, firmwares).run().artifact.environment
    # Without a build nothing is known of what the work tree has to do with the firmware.
    assert (environment["git_commit"], environment["git_dirty"]) == (
        ("a" * 40, False) if built else ("f" * 40, True)
    )


def test_values_that_do_the_same_are_alike() -> None:
    outcome = swept(FakeMeter(lambda *_: 1.0, kind="sweep", noise=0.02))
    assert outcome.artifact.contest is not None
    words = [one.word for one in outcome.artifact.contest.candidates]
    assert sorted(words) == ["best", "cannot be distinguished", "cannot be distinguished"]
    assert " is best" not in answer(outcome)
    assert not outcome.fails


def test_profiles_are_ranked_each_by_itself() -> None:
    meter = FakeMeter(
        lambda label, profile: FACTORS[label] if profile == "python_heavy" else 1 / FACTORS[label],
        kind="sweep",
        profiles=("python_light", "python_heavy"),
    )
    light, heavy = answer(swept(meter)).split("; python_heavy: ")
    assert light.startswith("python_light: 8 is best")
    assert heavy.startswith("6 is best")


def test_a_value_that_does_not_build_is_left_out() -> None:
    meter = FakeMeter(by_value, kind="sweep")
    outcome = swept(meter, ("4",))
    assert answer(outcome).startswith("6 is best; 8 is ")
    assert {label for label, *_ in meter.measured} == {"6", "8"}
    assert [one.message for one in outcome.verdict.findings] == ["WORKERS=4 is left out: cannot be built."]
    meter = FakeMeter(by_value, kind="sweep")
    outcome = swept(meter, ("4", "8"))
    assert answer(outcome) == "nothing to compare, only 6 can be measured"
    assert outcome.fails
    assert outcome.verdict.kind == "inconclusive"
    assert meter.measured == []
    assert outcome.artifact.contest is not None
    assert [one.trouble for one in outcome.artifact.contest.candidates] == [
        "cannot be built",
        "",
        "cannot be built",
    ]


def test_a_value_that_dies_is_left_out_the_second_time() -> None:
    calls: list[str] = []

    def trouble(label: str) -> Exception | None:
        calls.append(label)
        dead = label == "8" or (label == "4" and calls.count("4") == 2)
        return broken("it died") if dead else None

    outcome = swept(FakeMeter(by_value, kind="sweep", trouble=trouble))
    assert answer(outcome).startswith("6 is best; 4 is ")
    assert calls.count("8") == 2


def test_the_others_are_tried_where_one_cannot_be_flashed() -> None:
    tried: list[str] = []

    def trouble(label: str) -> Exception | None:
        tried.append(label)
        return broken("flashing failed") if label != "8" else None

    meter = FakeMeter(by_value, kind="sweep", trouble=trouble)
    outcome = swept(meter)
    assert answer(outcome) == "nothing to compare, only 8 can be measured"
    assert outcome.fails
    assert tried == ["4", "4", "6", "6", "8"]
    assert [line for line in meter.lines if "flashing failed" in line] == [
        "leaving out WORKERS=4: flashing failed",
        "leaving out WORKERS=6: flashing failed",
    ]
    nothing = swept(FakeMeter(by_value, kind="sweep", trouble=lambda _: broken("no answer")))
    assert answer(nothing) == "nothing to compare, none can be measured"


def test_a_value_that_is_given_twice_is_named() -> None:
    with pytest.raises(ValueError, match="'W=1,12,1,2': 1 is given twice"):
        parse_knob("W=1,12,1,2")


def test_each_value_is_first_as_often_as_the_others() -> None:
    firsts = [order_of(KNOB.values, index)[0] for index in range(6)]
    assert sorted(firsts) == ["4", "4", "6", "6", "8", "8"]


def test_the_knob_and_its_values_stand_in_the_commands() -> None:
    assert (
        KNOB.fill("make {knob}={value} {KNOB} {dir} ${HOME}", "6") == "make WORKERS=6 WORKERS {dir} ${HOME}"
    )
    check_commands(KNOB, "make {knob}={value}", "flash")
    check_commands(KNOB, "", "configure {value}")
    with pytest.raises(UsageError, match=r"\{value\} is missing"):
        check_commands(KNOB, "make {knob}", "flash")
    with pytest.raises(UsageError, match="--flash-cmd is missing"):
        check_commands(KNOB, "make {knob}={value}", "")


@pytest.mark.parametrize("text", ["WORKERS", "=4,5", "W=4", "W=4,,5", "W=4,4", "W=", "W=4;rm,5", "a b=1,2"])
def test_other_knobs_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no knob|different values|letters|twice"):
        parse_knob(text)
