"""What a control board takes out of a session, and what it must not."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gate_sessions import PHASES, run, series_of, session

from pytest_espperf.gate import judge
from pytest_espperf.gate.noise import history_noise, series_noise
from pytest_espperf.gate.policy import GatePolicy
from pytest_espperf.gate.reference import LEAST_SESSIONS, environment
from pytest_espperf.model.artifact import SessionArtifact, Verdict

SEED = 20261125
PROFILE = "python_light"


def beside(
    artifact: SessionArtifact, rng: random.Random, factor: float, board: str = "b2"
) -> SessionArtifact:
    """The session with a round on the control board beside each of its own."""
    extra = [
        msgspec.structs.replace(
            run(PROFILE, index, [factor * rng.lognormvariate(0, 0.01) for _ in PHASES], "reference"),
            board=board,
        )
        for index in range(1, artifact.runs_per_profile + 1)
    ]
    return msgspec.structs.replace(artifact, raw_runs=[*artifact.raw_runs, *extra])


def day(rng: random.Random, weather: float, *, slower: float = 1.0, board: str = "b2") -> SessionArtifact:
    """A session of one profile whose surroundings slow both boards by a factor."""
    made = session(rng, profiles=[PROFILE], slower={PROFILE: weather * slower}, shift=0.0)
    return beside(made, rng, weather, board)


def history(rng: random.Random, weathers: Sequence[float]) -> list[SessionArtifact]:
    return [
        msgspec.structs.replace(day(rng, weather), session_id=f"s{n}", gate=Verdict(kind="unchanged"))
        for n, weather in enumerate(weathers)
    ]


@pytest.fixture
def rng() -> random.Random:
    print(f"seed {SEED}")
    return random.Random(SEED)


WEATHERS = [1.0, 1.06, 0.97, 1.09, 1.02, 0.94, 1.05, 0.99, 1.08, 0.96, 1.03, 1.0]


def changes(artifact: SessionArtifact, baseline: Sequence[SessionArtifact]) -> dict[str, float]:
    return {row.metric: row.d_pct for row in judge(artifact, baseline).gates if row.d_pct is not None}


def test_what_moves_on_both_boards_is_taken_out(rng: random.Random) -> None:
    baseline = history(rng, WEATHERS)
    bad = day(rng, 1.09)
    alone = msgspec.structs.replace(bad, raw_runs=[one for one in bad.raw_runs if one.role == "run"])
    assert changes(alone, baseline)["rps_ok"] > 5
    assert abs(changes(bad, baseline)["rps_ok"]) < 2
    assert judge(bad, baseline).kind == "unchanged"


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("measured", [True, False])
def test_a_lost_reference_is_a_warning_however_much_of_it_was_measured(
    rng: random.Random, measured: bool, enabled: bool
) -> None:
    policy = GatePolicy(enabled=enabled)
    now = day(rng, 1.0) if measured else session(rng, profiles=[PROFILE])
    described = {"reference": {"name": "b2", "lost": "the control board b2 was lost at x:burst: silence"}}
    lost = msgspec.structs.replace(now, device=described)
    (told,) = [one for one in judge(lost, [], policy).findings if one.severity == "warn"]
    assert told.kind == "reference"
    assert "the control board b2 was lost at x:burst: silence. It was not measured" in told.message
    for device in ({}, {"reference": {"name": "b2", "lost": ""}}, {"reference": None}):
        there = msgspec.structs.replace(now, device=device)
        assert not [one for one in judge(there, [], policy).findings if one.severity == "warn"]


def test_a_slower_firmware_is_seen_through_the_weather(rng: random.Random) -> None:
    baseline = history(rng, WEATHERS)
    for weather in (0.94, 1.0, 1.09):
        verdict = judge(day(rng, weather, slower=1.08), baseline)
        assert verdict.kind == "regressed"
        (said,) = [one.message for one in verdict.findings if one.kind == "reference"]
        assert "python_light:rps_ok" in said
        assert "taken out" in said


def test_a_reference_that_knows_nothing_is_left_out_of_it(rng: random.Random) -> None:
    """It moves by itself: its slope is small, and it may cost no more than that."""
    quiet = [
        msgspec.structs.replace(
            beside(session(rng, profiles=[PROFILE]), rng, weather),
            session_id=f"s{n}",
            gate=Verdict(kind="unchanged"),
        )
        for n, weather in enumerate(WEATHERS)
    ]
    moved = changes(beside(session(rng, profiles=[PROFILE]), rng, 1.2), quiet)
    assert abs(moved["rps_ok"]) < 2


@pytest.mark.parametrize(("sessions", "used"), [(LEAST_SESSIONS - 1, False), (LEAST_SESSIONS, True)])
def test_it_is_used_from_five_sessions_on(rng: random.Random, sessions: int, used: bool) -> None:
    verdict = judge(day(rng, 1.0), history(rng, WEATHERS[:sessions]))
    (said,) = [one.message for one in verdict.findings if one.kind == "reference"]
    assert ("taken out" in said) == used


def test_another_reference_board_is_another_yardstick(rng: random.Random) -> None:
    verdict = judge(day(rng, 1.0, board="b3"), history(rng, WEATHERS))
    (said,) = [one.message for one in verdict.findings if one.kind == "reference"]
    assert "is used once" in said


def test_a_history_of_which_the_newer_half_has_a_reference_will_do(rng: random.Random) -> None:
    baseline = history(rng, WEATHERS)
    bare = [
        msgspec.structs.replace(one, raw_runs=[run for run in one.raw_runs if run.role == "run"])
        for one in baseline[:6]
    ]
    assert abs(changes(day(rng, 1.09), [*bare, *baseline[6:]])["rps_ok"]) < 4


values = st.floats(-0.3, 0.3)


@given(st.lists(st.tuples(values, st.none() | values), min_size=1, max_size=40), st.none() | values)
def test_a_slope_is_a_share_and_what_is_unknown_is_not_moved(
    sessions: list[tuple[float, float | None]], now: float | None
) -> None:
    own, references = zip(*sessions, strict=True)
    here = environment(own, references, now, 20)
    known = sum(reference is not None for reference in references[-20:])
    assert (here is None) == (now is None or known < LEAST_SESSIONS or 2 * known < len(own[-20:]))
    if here is not None:
        assert 0 <= here.slope <= 1
        assert abs(here.shift) <= abs(here.moved)
        assert here.leverage >= 0
        assert all(shift == 0 for shift, one in zip(here.shifts, references, strict=True) if one is None)


def test_the_slope_is_that_of_a_regression_once_there_is_much_history(rng: random.Random) -> None:
    weather = [rng.gauss(0, 0.1) for _ in range(200)]
    own = [0.6 * one + rng.gauss(0, 0.01) for one in weather]
    here = environment(own, weather, 0.0, 200)
    assert here is not None
    assert here.slope == pytest.approx(float(np.polyfit(weather, own, 1)[0]), abs=0.02)


@pytest.mark.parametrize("sessions", [8, 20])
@pytest.mark.parametrize("weather", [0.02, 0.05])
def test_what_the_slope_took_from_the_spread_is_given_back(sessions: int, weather: float) -> None:
    print(f"seed {SEED}")
    draw = np.random.default_rng(SEED)
    raw, corrected = [], []
    for _ in range(2000):
        reference = draw.normal(0, weather, sessions)
        own = 0.7 * reference + draw.normal(0, 0.02, sessions)
        here = environment(own.tolist(), reference.tolist(), 0.0, sessions)
        assert here is not None
        left = float((own - np.array(here.shifts)).var(ddof=1))
        raw.append(left / 0.02**2)
        corrected.append(raw[-1] * (sessions - 1) / (sessions - 1 - here.fitted))
    assert np.mean(raw) < 0.97
    assert np.mean(corrected) == pytest.approx(1.0, abs=0.04)


def test_a_reference_widens_the_spread_and_takes_degrees_of_freedom(rng: random.Random) -> None:
    built = series_of(day(rng, 1.0), PROFILE, "rps_ok", history(rng, WEATHERS))
    assert built is not None
    assert built.environment is not None
    plain, aware = history_noise(built.past), series_noise(built)
    assert 0.5 < built.environment.fitted < 1
    assert aware.df == pytest.approx(plain.df - built.environment.fitted)
    assert aware.spread > plain.spread
    assert series_noise(built.as_measured()) == history_noise(built.as_measured().past)


def test_a_slide_is_looked_for_in_what_was_measured(rng: random.Random) -> None:
    """A reference that slides along would hide it."""
    baseline = history(rng, WEATHERS)
    for step in range(1, 12):
        slow = day(rng, 1.02**step)
        verdict = judge(slow, baseline)
        if verdict.fails:
            break
        baseline.append(msgspec.structs.replace(slow, session_id=f"d{step}", gate=Verdict(kind="unchanged")))
    assert verdict.kind == "drift"
    built = series_of(slow, PROFILE, "rps_ok", baseline)
    assert built is not None
    assert built.environment is not None
    plain = [[one for one in kept.raw_runs if one.role == "run"] for kept in (*baseline, slow)]
    bare = [
        msgspec.structs.replace(kept, raw_runs=runs)
        for kept, runs in zip((*baseline, slow), plain, strict=True)
    ]
    expected = series_of(bare[-1], PROFILE, "rps_ok", bare[:-1])
    assert expected is not None
    back = built.as_measured()
    assert np.allclose(np.concatenate(back.past), np.concatenate(expected.past))
    assert np.allclose(back.now, expected.now)
