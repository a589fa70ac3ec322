"""Where time is lost, as the verdict tells it."""

from __future__ import annotations

import random

import msgspec
import pytest
from support.gate_sessions import history, session

from pytest_espperf.gate import judge
from pytest_espperf.model.artifact import PathAggregate, SessionArtifact, Summary
from pytest_espperf.model.metrics import aggregate


def with_paths(artifact: SessionArtifact, **p95: float | None) -> SessionArtifact:
    """The session with the same paths, of these p95 in ms, in every cell."""
    paths = {
        f"/{name}": PathAggregate(p95_ms=Summary(median=value), p50_ms=Summary(median=10.0))
        for name, value in p95.items()
    }
    cells = {
        name: msgspec.structs.replace(cell, path_metrics=paths)
        for name, cell in aggregate(artifact.raw_runs).items()
    }
    return msgspec.structs.replace(artifact, aggregated=cells)


def test_the_worst_path_comes_first_against_the_median_of_the_baseline() -> None:
    rng = random.Random(20261125)
    baseline = [with_paths(one, a=100.0 + index, b=50.0) for index, one in enumerate(history(rng, 3))]
    places = judge(with_paths(session(rng), a=102.0, b=75.0, new=9.0), baseline).places
    assert {place.path for place in places} == {"/a", "/b"}
    worst = places[0]
    assert (worst.path, worst.metric, worst.baseline, worst.now) == ("/b", "p95_ms", 50.0, 75.0)
    assert worst.d_pct == pytest.approx(50)
    assert [place.d_pct for place in places] == sorted((place.d_pct for place in places), reverse=True)
    same = next(place for place in places if place.path == "/a" and place.metric == "p95_ms")
    assert same.baseline == 101.0


def test_a_path_without_figures_is_no_place() -> None:
    rng = random.Random(20261125)
    baseline = [with_paths(one, a=None, b=5.0) for one in history(rng, 2)]
    places = judge(with_paths(session(rng), a=3.0, b=None), baseline).places
    assert {(place.path, place.metric) for place in places} == {("/a", "p50_ms"), ("/b", "p50_ms")}


def test_without_a_bar_there_is_no_place() -> None:
    assert judge(session(random.Random(1)), []).places == []
