"""The guard against single catastrophic runs."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest
from support.gate_sessions import history, more_rounds, session, with_runs

from pytest_espperf.gate import GatePolicy, judge, measure_again, unresolved_worst
from pytest_espperf.gate.early import decide_early
from pytest_espperf.model.artifact import Finding, RunRole, SessionArtifact, Verdict
from pytest_espperf.model.findings import WORST_RUN

ONE = "python_light"
REASON = "p95 4,100.00 ms is above 4,000 ms, the budget of any single run"


@pytest.fixture
def rng() -> random.Random:
    return random.Random(11)


def broken(
    artifact: SessionArtifact,
    *rounds: int,
    profile: str = ONE,
    phase: str = "burst",
    roles: Sequence[RunRole] = ("run",),
) -> SessionArtifact:
    """The session with runs of a profile that broke a budget of any single run."""
    runs = []
    for raw in artifact.raw_runs:
        if raw.profile == profile and raw.role in roles and raw.run_index in rounds:
            results = [
                msgspec.structs.replace(one, worst_reasons=[REASON]) if one.phase == phase else one
                for one in raw.results
            ]
            raw = msgspec.structs.replace(raw, results=results)  # noqa: PLW2901 - the same run, edited
        runs.append(raw)
    return with_runs(artifact, runs)


def told(verdict: Verdict) -> Finding | None:
    return next((one for one in verdict.findings if one.kind == WORST_RUN), None)


def test_without_such_a_run_nothing_is_said(rng: random.Random) -> None:
    verdict = judge(session(rng), [])
    assert told(verdict) is None
    assert measure_again(verdict) == {}


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("sessions", [0, 3])
def test_it_is_measured_again_as_often_as_it_broke(rng: random.Random, enabled: bool, sessions: int) -> None:
    policy = GatePolicy(enabled=enabled)
    past = history(rng, sessions)
    for rounds in ((2,), (2, 5)):
        now = broken(session(rng), *rounds)
        assert unresolved_worst(now) == {ONE: len(rounds)}
        assert measure_again(judge(now, past, policy), policy) == {ONE: len(rounds)}
    assert measure_again(judge(broken(session(rng), 1, 2, 3, 4, 5), past, policy), policy) == {ONE: 3}


@pytest.mark.parametrize(("again", "fails"), [((), False), ((100,), True)])
@pytest.mark.parametrize("role", ["confirm", "ab-candidate"])
def test_a_replacement_decides(
    rng: random.Random, role: RunRole, again: tuple[int, ...], fails: bool
) -> None:
    now = more_rounds(broken(session(rng), 2), ONE, [1.0], role)
    now = broken(now, *again, phase="long", roles=(role,))
    verdict = judge(now, history(rng, 3))
    finding = told(verdict)
    assert finding is not None
    assert finding.where == f"{ONE}:burst"
    assert finding.message.startswith(f"{ONE}:burst: {REASON} (1 of 6 runs); ")
    assert (finding.severity == "fail") == fails == (verdict.kind == "failed")
    assert ("1 of 1 run broke one: long, p95" in finding.message) == fails
    assert ("1 run measured in its place kept it" in finding.message) != fails
    assert measure_again(verdict) == {}, "once"


def test_without_a_replacement_it_fails(rng: random.Random) -> None:
    policy = GatePolicy(confirm_rounds=0)
    verdict = judge(broken(session(rng), 2), history(rng, 3), policy)
    assert measure_again(verdict, policy) == {}
    assert verdict.kind == "failed"
    finding = told(verdict)
    assert finding is not None
    assert "(1 of 6 runs), and nothing was measured in its place." in finding.message


@pytest.mark.parametrize(("again", "fails"), [((100,), False), ((100, 101), True)])
def test_one_among_those_measured_again_is_a_warning(
    rng: random.Random, again: tuple[int, ...], fails: bool
) -> None:
    """They were measured for another reason; two of them are two."""
    now = broken(more_rounds(session(rng), ONE, [1.0, 1.0, 1.0]), *again, roles=("confirm",))
    finding = told(judge(now, []))
    assert finding is not None
    assert (finding.severity == "fail") == fails
    assert f"in {len(again)} of 3 runs measured again" in finding.message


def test_the_reference_and_the_old_firmware_are_not_judged(rng: random.Random) -> None:
    roles: tuple[RunRole, ...] = ("ab-baseline", "reference")
    now = session(rng)
    for role in roles:
        now = more_rounds(now, ONE, [1.0], role)
    assert told(judge(broken(now, 100, roles=roles), [])) is None


@pytest.mark.parametrize("rounds", [2, 3])
@pytest.mark.parametrize("slower", [1.0, 1.6])
def test_no_profile_ends_early_with_such_a_run(rng: random.Random, rounds: int, slower: float) -> None:
    past = history(rng, 8)
    whole = session(rng, slower={ONE: slower})
    now = with_runs(whole, [run for run in whole.raw_runs if run.run_index <= rounds])
    ended = decide_early(now, past)
    assert "python_heavy" in ended
    assert set(decide_early(broken(now, 1), past)) == set(ended) - {ONE}
