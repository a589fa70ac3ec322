"""The badge, checked against what shields documents of its endpoint badge."""

from __future__ import annotations

import random
from typing import Any, get_args

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st
from msgspec import structs
from support.export_readers import badge
from support.export_sessions import session

from pytest_espperf.model.artifact import GateRow, SessionArtifact, Verdict
from pytest_espperf.model.verdicts import VerdictWord
from pytest_espperf.report.exports import EXPORTS

COLORS = {
    **dict.fromkeys(("regressed", "drift", "failed"), "red"),
    **dict.fromkeys(("inconclusive", "environment-shift", "incomplete"), "orange"),
    **dict.fromkeys(("unchanged", "improved"), "brightgreen"),
    "no-baseline": "blue",
}


def rendered(artifact: SessionArtifact) -> dict[str, Any]:
    return badge(EXPORTS["badge"].renderers[""](artifact))


def with_gates(verdict: str, *gates: GateRow) -> SessionArtifact:
    return SessionArtifact(gate=Verdict(kind=verdict, gates=list(gates)))  # type: ignore[arg-type]


def gate(
    profile: str, metric: str, verdict: str, d_pct: float, values: tuple[float, float] = (0, 0)
) -> GateRow:
    return GateRow(
        name=f"{profile}:{metric}",
        profile=profile,
        metric=metric,
        verdict=verdict,
        d_pct=d_pct,
        baseline=values[0],
        now=values[1],
    )


def test_the_badge_has_the_verdict_and_the_size_of_the_slowdown() -> None:
    assert rendered(session(random.Random(1))) == {
        "schemaVersion": 1,
        "label": "performance",
        "message": "regressed: heavy 80 % slower",
        "color": "red",
    }


def test_throughput_gives_the_size_and_further_profiles_are_counted() -> None:
    slower = with_gates(
        "regressed",
        gate("heavy", "p95_ms", "regressed", 81.0),
        gate("heavy", "rps_ok", "regressed", 60.4),
        gate("light", "p95_ms", "regressed", 20.0),
    )
    assert rendered(slower)["message"] == "regressed: heavy 60 % slower and 1 more"
    errors = with_gates("regressed", gate("heavy", "error_rate", "regressed", 0.0, (0.5, 3.0)))
    assert rendered(errors)["message"] == "regressed: heavy 2.5 points more errors"


def test_what_got_faster_is_given_as_a_reader_would_compute_it() -> None:
    faster = with_gates("improved", gate("heavy", "rps_ok", "improved", -20.0, (100.0, 125.0)))
    assert rendered(faster)["message"] == "improved: heavy 25 % faster"
    faster = with_gates("improved", gate("heavy", "p95_ms", "improved", -20.0, (100.0, 80.0)))
    assert rendered(faster)["message"] == "improved: heavy 20 % faster"


@pytest.mark.parametrize("verdict", get_args(VerdictWord))
def test_each_verdict_has_its_color(verdict: str) -> None:
    found = rendered(with_gates(verdict))
    assert (found["message"], found["color"]) == (verdict, COLORS[verdict])


def test_a_session_that_nobody_judged_is_grey() -> None:
    assert rendered(SessionArtifact())["color"] == "lightgrey"
    assert rendered(SessionArtifact())["message"] == "unjudged"


@seed(20261129)
@given(st.text(), st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_whatever_a_board_is_called_shields_takes_the_badge(board: str, profile: str, change: float) -> None:
    artifact = with_gates("regressed", gate(profile, "rps_ok", "regressed", change))
    found = rendered(structs.replace(artifact, target=board, boards=2))
    assert found["label"].isprintable()
    assert found["message"].isprintable()
