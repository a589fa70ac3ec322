"""The gate that stands for a session in lists and brief reports."""

from __future__ import annotations

import pytest

from pytest_espperf.model.artifact import GateRow, Verdict
from pytest_espperf.model.gates import gate_of_profile, worst_gate


def row(metric: str, d_pct: float | None, verdict: str = "unchanged", now: float | None = None) -> GateRow:
    return GateRow(
        name=f"page:{metric}",
        profile="page",
        metric=metric,
        verdict=verdict,
        d_pct=d_pct,
        baseline=None if now is None else 0.0,
        now=now,
    )


ERRORS_AS_BEFORE = row("error_rate", None, now=0.0)


@pytest.mark.parametrize("change", [-10.5, 0.0, 3.0])
def test_errors_that_are_as_many_as_before_stand_for_nothing(change: float) -> None:
    gates = [ERRORS_AS_BEFORE, row("rps_ok", change), row("p95_ms", change - 1)]
    found = worst_gate(Verdict(kind="unchanged", gates=gates))
    assert found is not None
    assert found.metric == "rps_ok"
    assert gate_of_profile(gates, "page") == found


def test_errors_stand_for_a_session_where_they_are_what_changed() -> None:
    more = row("error_rate", None, "regressed", now=4.0)
    found = worst_gate(Verdict(kind="regressed", gates=[row("rps_ok", 1.0), more]))
    assert found == more


def test_errors_stand_for_a_session_that_has_no_other_figure() -> None:
    assert worst_gate(Verdict(kind="unchanged", gates=[ERRORS_AS_BEFORE])) == ERRORS_AS_BEFORE
