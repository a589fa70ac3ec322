"""One size of one slowdown, with from -> to, wherever a session is described."""

from __future__ import annotations

import pytest
from msgspec import structs

from pytest_espperf.model.artifact import GateRow, SessionArtifact, Verdict
from pytest_espperf.model.registry import METRICS
from pytest_espperf.report import make_view, render_terminal
from pytest_espperf.report.exports.junit import render_junit
from pytest_espperf.report.github import annotation_lines
from pytest_espperf.report.slowdown import gate_message, headline
from pytest_espperf.report.view import failures


def gate(metric: str, before: float, now: float, pct: float | None, **more: object) -> GateRow:
    fields = {
        "name": f"python_heavy:{metric}",
        "profile": "python_heavy",
        "metric": metric,
        "verdict": "regressed",
        "d_pct": pct,
        "baseline": before,
        "now": now,
        "smallest_detectable_pct": 10.0,
        **more,
    }
    return GateRow(**fields)  # type: ignore[arg-type] # fields by name


RPS = gate("rps_ok", 72.3, 41.2, 75.5, detail="confirmed by 3 more runs")
P95 = gate("p95_ms", 145.0, 252.0, 73.8)


def test_the_headline_has_the_size_from_what_to_what() -> None:
    assert headline([P95, RPS]) == "python_heavy is 76 % slower (72 -> 41 req/s, p95 145 -> 252 ms)"
    assert headline([gate("p95_ms", 44.4, 70.1, 57.9)]) == (
        "python_heavy is 58 % slower at p95 (44.4 -> 70.1 ms)"
    )
    unclear = structs.replace(P95, verdict="inconclusive")
    assert headline([unclear, RPS]) == headline([P95, RPS])


def test_the_gate_of_the_headline_stands_first_of_its_profile() -> None:
    steeper = structs.replace(P95, d_pct=80.0)
    other = gate("rps_ok", 10.0, 9.0, 11.0, profile="other", name="other:rps_ok")
    view = make_view(SessionArtifact(gate=Verdict(kind="regressed", gates=[other, steeper, RPS])))
    assert [row.name for row in view.gates] == ["python_heavy:rps_ok", "python_heavy:p95_ms", "other:rps_ok"]


def test_one_slowdown_has_one_number_everywhere() -> None:
    verdict = Verdict(kind="regressed", gates=[P95, RPS])
    session = SessionArtifact(gate=verdict)
    assert failures(verdict) == [
        ("python_heavy:p95_ms", "python_heavy:p95_ms is slower, too: 145 -> 252 ms (fails from 10 %)"),
        (
            "python_heavy:rps_ok",
            "python_heavy:rps_ok is 76 % slower: 72 -> 41 req/s (fails from 10 %; confirmed by 3 more runs)",
        ),
    ]
    texts = [
        " ".join(line.text for line in render_terminal(session, verbosity=-1)),
        " ".join(annotation_lines(session)).replace("%25", "%"),
        render_junit(session).replace("&gt;", ">"),
    ]
    for text in texts:
        assert "76 % slower" in text
        assert "74 %" not in text
        assert "72 -> 41 req/s" in text


def test_a_gate_alone_says_from_which_change_on_it_fails() -> None:
    row = gate("p95_ms", 44.4, 70.1, 57.4)
    assert gate_message(row, [row]) == (
        "python_heavy:p95_ms is 57 % slower: 44.4 -> 70.1 ms (fails from 10 %)"
    )
    rule = gate(
        "p95_ms", 44.4, 70.1, 57.4, rule="fail-on", threshold_pct=25.0, detail="rule p95_ms:25%: +57.4 %"
    )
    assert gate_message(rule, [rule]).endswith("44.4 -> 70.1 ms (fails from 25 %)")
    pairs = gate("p95_ms", 44.4, 46.0, 3.6, detail="confirmed by 6 A/B pairs")
    assert gate_message(pairs, [pairs]).endswith("44.4 -> 46.0 ms (confirmed by 6 A/B pairs)")


def test_what_is_not_a_share_is_not_called_slower() -> None:
    errors = gate("error_rate", 0.0, 3.1, None, rule="error-rate", detail="12 errors")
    assert headline([errors]) == "python_heavy fails more requests (0.00 -> 3.10 %)"
    assert gate_message(errors, [errors]) == "python_heavy:error_rate rose: 0.00 -> 3.10 % (12 errors)"
    waits = gate("delayed_ack", 0.0, 40.0, None, rule="delayed-ack", detail="each answer waits 40 ms")
    assert headline([waits]) == "python_heavy: each answer waits 40 ms"
    assert headline([waits, RPS]) == headline([RPS])
    slid = gate("rps_ok", 72.3, 64.0, 13.0, verdict="drift")
    assert headline([slid]) == (
        "python_heavy is 13 % slower since the beginning of this epoch (72 -> 64 req/s)"
    )


def test_many_profiles_are_counted_the_worst_first() -> None:
    rows = [gate("rps_ok", 100.0, 50.0, 10.0 * n, profile=f"p{n}", name=f"p{n}:rps_ok") for n in range(1, 6)]
    assert headline(rows) == (
        "p5 is 50 % slower (100 -> 50 req/s); p4 is 40 % slower (100 -> 50 req/s); "
        "p3 is 30 % slower (100 -> 50 req/s); 2 more profiles are slower"
    )
    assert headline([structs.replace(row, verdict="unchanged") for row in rows]) == ""


@pytest.mark.parametrize(
    ("metric", "before", "now", "text"),
    [
        ("rps_ok", 72.3, 41.2, "72 -> 41 req/s"),
        ("rps_ok", 6.31, 5.02, "6.3 -> 5.0 req/s"),
        ("p95_ms", 44.41, 70.09, "44.4 -> 70.1 ms"),
        ("p95_ms", 1230.4, 998.0, "1,230 -> 998 ms"),
        ("p95_ms", 0.51, 2.0, "0.51 -> 2.00 ms"),
    ],
)
def test_a_change_has_the_digits_that_tell(metric: str, before: float, now: float, text: str) -> None:
    assert METRICS[metric].change(before, now) == text
