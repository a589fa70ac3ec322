"""Options of the gate: parsers, policy, plain deltas."""

from __future__ import annotations

from typing import Any

import pytest
from support.gate_sessions import cell

from pytest_espperf.gate import GatePolicy, compare_to_previous, fails, parse_fail_on, parse_min_effect
from pytest_espperf.gate.policy import METRICS, worse_by
from pytest_espperf.model.artifact import SessionArtifact, Verdict


def test_fail_on() -> None:
    assert parse_fail_on("p95_ms:10%,rps_ok:5%") == (("p95_ms", 10.0), ("rps_ok", 5.0))
    assert parse_fail_on(" error_rate : 0.5% ") == (("error_rate", 0.5),)


def test_min_effect() -> None:
    assert parse_min_effect("p95_ms:2,rps_ok:0.5") == {"p95_ms": 2.0, "rps_ok": 0.5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p95:10%", "did you mean 'p95_ms'?"),
        ("rps:10%", "did you mean 'rps_ok'?"),
        ("zzz:10%", "(known: "),
        ("p95_ms:10", "write p95_ms:10%"),
        ("p95_ms", "METRIC:VALUE"),
        ("p95_ms:%", "not a number"),
        ("p95_ms:x%", "not a number"),
        ("p95_ms:-1%", "above zero"),
        ("p95_ms:0%", "above zero"),
        ("p95_ms:nan%", "above zero"),
        ("p95_ms:inf%", "above zero"),
        ("", "METRIC:VALUE"),
        ("p95_ms:10%,", "METRIC:VALUE"),
    ],
)
def test_a_bad_rule_is_one_clear_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        parse_fail_on(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [("p95_ms:2,p95_ms:3", "twice"), ("p95_ms:2%", "not a number"), ("p:2", "unknown metric")],
)
def test_a_bad_floor_is_one_clear_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_min_effect(text)


@pytest.mark.parametrize(
    "bad",
    [
        {"baseline": "yesterday"},
        {"max_history": 0},
        {"confirm_rounds": -1},
        {"fail_on": (("p95", 1.0),)},
        {"min_effect": {"p95": 1.0}},
    ],
)
def test_a_policy_checks_itself(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|none of|unknown"):
        GatePolicy(**bad)


def test_which_verdicts_fail() -> None:
    failing = {"regressed", "drift", "failed"}
    for word in ("unchanged", "improved", "no-baseline", "environment-shift", "inconclusive", *failing):
        verdict = Verdict(kind=word)  # type: ignore[arg-type]
        assert fails(verdict) == (word in failing)
        assert fails(verdict, GatePolicy(strict=True)) == (word in failing or word == "inconclusive")
        required = GatePolicy(require_baseline=True)
        assert fails(verdict, required) == (word in failing or word == "no-baseline")
        assert fails(verdict, GatePolicy(require_baseline=True, enabled=False)) == (word in failing)


def test_direction() -> None:
    assert worse_by("rps_ok", 10, 8) == 2
    assert worse_by("p95_ms", 10, 8) == -2


def test_comparison_to_previous() -> None:
    now = SessionArtifact(
        aggregated={"a:burst": cell(p95_ms=110.0, rps_ok=45.0, error_rate=1.0), "b:burst": cell(p95_ms=1.0)}
    )
    then = SessionArtifact(
        aggregated={"a:burst": cell(p95_ms=100.0, rps_ok=50.0, error_rate=0.0), "c:burst": cell(p95_ms=1.0)}
    )
    table = compare_to_previous(now, then)
    assert set(table) == {"a:burst"}
    row = table["a:burst"]
    assert set(row) == {f"{metric}_median_{kind}" for metric in METRICS for kind in ("delta", "pct")}
    assert row["p95_ms_median_delta"] == pytest.approx(10)
    assert row["p95_ms_median_pct"] == pytest.approx(10)
    assert row["rps_ok_median_pct"] == pytest.approx(-10)
    assert row["error_rate_median_delta"] == 1
    assert row["error_rate_median_pct"] is None
    assert row["p99_ms_median_delta"] is None
    assert row["p99_ms_median_pct"] is None


def test_the_metrics_are_the_contracts() -> None:
    assert set(METRICS) == {"error_rate", "p50_ms", "p95_ms", "p99_ms", "p95_tail_ms", "rps_ok"}
