"""Budgets of profiles against each other in one session."""

from __future__ import annotations

import random

import pytest
from msgspec import structs
from support.gate_sessions import session

from pytest_espperf.gate import judge
from pytest_espperf.model.artifact import Finding, RatioBudget, SessionArtifact
from pytest_espperf.model.findings import RATIO
from pytest_espperf.model.metrics import aggregate


def with_ratio(metric: str, limit: float, to: str = "python_light", **changes: object) -> SessionArtifact:
    made = session(random.Random(1), slower={"python_heavy": 2.0}, profiles=("python_light", "python_heavy"))
    made = structs.replace(made, aggregated=aggregate(made.raw_runs), **changes)
    budget = RatioBudget(profile="python_heavy", to=to, metric=metric, limit=limit)
    return structs.replace(made, ratios=[budget])


def found(artifact: SessionArtifact) -> list[Finding]:
    return [one for one in judge(artifact, []).findings if one.kind == RATIO]


@pytest.mark.parametrize(
    ("metric", "limit", "broken"),
    [
        ("p95_ms", 5.9, True),  # python_heavy: 10 req/s, python_light: 60 req/s
        ("p95_ms", 6.1, False),
        ("p50_ms", 5.0, True),
        ("rps_ok", 0.16, False),
        ("rps_ok", 0.2, True),
    ],
)
def test_a_figure_is_at_most_or_of_rates_at_least_so_many_times_another(
    metric: str, limit: float, broken: bool
) -> None:
    artifact = with_ratio(metric, limit)
    findings = found(artifact)
    assert [one.where for one in findings] == ["python_heavy:burst", "python_heavy:long"] * broken
    assert {one.severity for one in findings} <= {"fail"}
    assert (judge(artifact, []).kind == "failed") is broken
    for one in findings:
        assert ("at least" if metric == "rps_ok" else "at most") in one.message


def test_phases_without_a_namesake_are_compared_as_a_whole() -> None:
    artifact = with_ratio("p95_ms", 5.9)
    cells = {
        name: structs.replace(cell, phase=f"own_{cell.phase}") if cell.profile == "python_heavy" else cell
        for name, cell in artifact.aggregated.items()
    }
    assert [one.where for one in found(structs.replace(artifact, aggregated=cells))] == ["python_heavy"]


def test_of_phases_those_that_both_have_are_compared() -> None:
    artifact = with_ratio("p95_ms", 5.9)
    cells = {name: cell for name, cell in artifact.aggregated.items() if name != "python_light:long"}
    assert [one.where for one in found(structs.replace(artifact, aggregated=cells))] == ["python_heavy:burst"]


@pytest.mark.parametrize(("to", "metric"), [("static", "p95_ms"), ("python_light", "connect_ms")])
def test_what_the_session_lacks_is_said_and_fails_nothing(to: str, metric: str) -> None:
    artifact = with_ratio(metric, 0.001, to=to)
    (finding,) = found(artifact)
    assert finding.severity == "info"
    assert finding.message.startswith(
        f"python_heavy: its budget against {to} ({metric} = 0.001) was not judged"
    )
    assert judge(artifact, []).kind == "no-baseline"


def test_a_profile_that_is_not_measured_has_no_budget() -> None:
    artifact = with_ratio("p95_ms", 0.001)
    cells = {name: cell for name, cell in artifact.aggregated.items() if cell.profile != "python_heavy"}
    assert not found(structs.replace(artifact, aggregated=cells, profiles=["python_light"]))


@pytest.mark.parametrize("to", ["static", "python_light", ""])
def test_a_session_that_measured_nothing_has_trouble_of_its_own(to: str) -> None:
    artifact = with_ratio("p95_ms", 0.001, to=to)
    assert not found(structs.replace(artifact, raw_runs=[], aggregated={}))


def test_a_nameless_profile_is_a_profile() -> None:
    [finding] = found(with_ratio("p95_ms", 1.0, to=""))
    assert "was not judged" in finding.message
