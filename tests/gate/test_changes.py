"""What of two sessions' changes is noise, and the sentence about the rest."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from msgspec import structs
from support.cli_history import as_measured, complete

from pytest_espperf.gate import judge
from pytest_espperf.gate.changes import gate_limits, spread_limit
from pytest_espperf.gate.comparison import compare
from pytest_espperf.model.artifact import GateRow, PathReport, PhaseReport, SessionArtifact, Verdict
from pytest_espperf.model.comparison import Comparison
from pytest_espperf.report.comparison import comparison_sentence, render_comparison

SEED = 20261129
PROFILES = ("c_static_only", "python_light", "python_heavy")


def session(number: int = 0, **changes: Any) -> SessionArtifact:
    return complete(random.Random(SEED + number), number, **changes)


def with_threshold(artifact: SessionArtifact, percent: float) -> SessionArtifact:
    gates = [
        GateRow(
            name=f"{profile}:{metric}",
            profile=profile,
            metric=metric,
            smallest_detectable_pct=percent,
            rounds=3,
        )
        for profile in PROFILES
        for metric in ("rps_ok", "p95_ms")
    ]
    return structs.replace(artifact, gate=Verdict(kind="unchanged", gates=gates))


def changed(artifact: SessionArtifact, profile: str, change: Any) -> SessionArtifact:
    """The session with other reports of one profile."""
    runs = []
    for run in artifact.raw_runs:
        results = run.results
        if run.profile == profile:
            results = [structs.replace(one, report=change(one.report)) for one in run.results]
        runs.append(structs.replace(run, results=results))
    return as_measured(structs.replace(artifact, raw_runs=runs))


def words(comparison: Comparison) -> dict[str, str]:
    return {one.profile: one.verdict for one in comparison.profiles}


def text_of(comparison: Comparison, **options: Any) -> str:
    return "\n".join(line.text for line in render_comparison(comparison, **options))


def test_the_sentence_has_size_and_values_of_what_is_slower_and_counts_the_rest() -> None:
    a, b = session(0), session(1, slower={"python_heavy": 1.6})
    comparison = compare(a, b)
    assert words(comparison) == {
        "c_static_only": "within-noise",
        "python_light": "within-noise",
        "python_heavy": "worse",
    }
    heavy = next(one for one in comparison.profiles if one.verdict == "worse")
    assert heavy.metric == "rps_ok"
    assert heavy.a
    assert heavy.b
    assert heavy.slower_pct == pytest.approx(100 * (heavy.a / heavy.b - 1))
    assert comparison_sentence(comparison) == (
        f"B is slower: python_heavy {heavy.slower_pct:.0f} % slower ({heavy.a:.1f} -> {heavy.b:.1f} req/s); "
        "2 of 3 profiles are within the noise"
    )
    text = text_of(comparison)
    assert "within the noise: c_static_only, python_light; --all shows them" in " ".join(text.split())
    assert "python_light:burst" not in text
    assert "python_light:burst" in text_of(comparison, everything=True)
    assert "--all" not in text_of(comparison, everything=True)


def test_the_other_way_round_it_is_faster() -> None:
    a, b = session(0), session(1, slower={"python_heavy": 1.6})
    sentence = comparison_sentence(compare(b, a))
    assert sentence.startswith("B is faster: python_heavy ")
    both = comparison_sentence(compare(b, session(2, slower={"c_static_only": 1.6})))
    assert both.startswith("B is slower: c_static_only ")
    assert "; is faster: python_heavy " in both
    assert both.endswith("; 1 of 3 profiles is within the noise")


def test_nothing_changed() -> None:
    comparison = compare(session(0), session(0))
    assert comparison_sentence(comparison) == "no difference: all 3 profiles are within the noise"
    assert "medians" not in text_of(comparison)


def test_the_threshold_of_b_counts_before_that_of_a_and_both_before_the_spread() -> None:
    a, b = session(0), session(1)
    spread = gate_limits(a, b)["python_heavy:rps_ok"]
    assert spread != pytest.approx(math.log1p(0.08))
    only_a = gate_limits(with_threshold(a, 8.0), b)
    assert set(only_a.values()) == {math.log1p(0.08)}
    both = gate_limits(with_threshold(a, 8.0), with_threshold(b, 6.0))
    assert set(both.values()) == {math.log1p(0.06)}


def test_without_gates_the_noise_is_that_of_a_session_judged_against_the_other() -> None:
    a, b = session(0), session(1)
    rows = {row.name: row for row in judge(b, [a]).gates}
    for name, limit in gate_limits(a, b).items():
        assert rows[name].smallest_detectable_pct == pytest.approx(100 * math.expm1(limit))


@pytest.mark.parametrize("percent", [5.0, 300.0])
def test_what_a_session_failed_for_is_no_noise(percent: float) -> None:
    a, b = session(0), with_threshold(session(1, slower={"python_heavy": 1.2}), percent)
    assert (words(compare(a, b))["python_heavy"] == "worse") == (percent == 5.0)


def test_more_errors_are_said_in_points() -> None:
    def failing(report: PhaseReport) -> PhaseReport:
        return structs.replace(report, err=report.requests_total // 20, error_rate=5.0)

    a = session(0)
    b = changed(a, "python_light", failing)
    comparison = compare(a, b)
    assert words(comparison)["python_light"] == "worse"
    within = "; 2 of 3 profiles are within the noise"
    assert comparison_sentence(comparison) == f"B has more errors: python_light 4.9 points{within}"
    assert comparison_sentence(compare(b, a)) == f"B has fewer errors: python_light 4.9 points{within}"
    assert "python_light:burst" in text_of(comparison)


def test_a_slower_path_of_a_steady_profile_is_shown_and_said() -> None:
    def slow_path(report: PhaseReport) -> PhaseReport:
        shares = dict(report.path_metrics)
        share: PathReport = shares["/b"]
        assert share.p95_ms is not None
        shares["/b"] = structs.replace(share, p95_ms=share.p95_ms * 3)
        return structs.replace(report, path_metrics=shares)

    a = session(0)
    runs = []
    for run in a.raw_runs:
        results = run.results
        if run.profile == "python_light":
            results = [structs.replace(one, report=slow_path(one.report)) for one in results]
        runs.append(structs.replace(run, results=results))
    cells = dict(a.aggregated)
    for name in ("python_light:burst", "python_light:long"):
        share = cells[name].path_metrics["/b"]
        assert share.p95_ms.median is not None
        median = structs.replace(share.p95_ms, median=share.p95_ms.median * 3)
        paths = cells[name].path_metrics | {"/b": structs.replace(share, p95_ms=median)}
        cells[name] = structs.replace(cells[name], path_metrics=paths)
    b = structs.replace(a, raw_runs=runs, aggregated=cells)
    comparison = compare(a, b)
    assert set(words(comparison).values()) == {"within-noise"}
    sentence = comparison_sentence(comparison)
    assert sentence.startswith("all 3 profiles are within the noise, but python_light:")
    assert "/b is 200 % slower (p95 " in sentence
    assert sentence.endswith(", and 1 more row changed")
    shown = text_of(comparison)
    assert shown.count("  /b ") == 2
    assert "  /a " not in shown


def test_a_dead_profile_has_no_figures() -> None:
    a = session(0)
    dead = {"ok": 0, "rps_ok": 0.0, "p50_ms": None, "p95_ms": None, "p99_ms": None, "error_rate": 100.0}

    def die(report: PhaseReport) -> PhaseReport:
        return structs.replace(report, err=report.requests_total, **dead)

    comparison = compare(a, changed(a, "python_heavy", die))
    assert words(comparison)["python_heavy"] == "worse"
    assert "B has more errors: python_heavy 100.0 points" in comparison_sentence(comparison)

    def silent(report: PhaseReport) -> PhaseReport:
        return structs.replace(report, requests_total=0, **dead)

    comparison = compare(a, changed(a, "python_heavy", silent))
    assert words(comparison)["python_heavy"] == "unknown"
    assert comparison_sentence(comparison).endswith("; no figures to compare of python_heavy")


def test_sessions_of_one_firmware_are_rarely_said_to_differ() -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    differing, rows, beyond = 0, 0, 0
    for number in range(100):
        comparison = compare(complete(rng, 0), complete(rng, number + 1))
        differing += any(word != "within-noise" for word in words(comparison).values())
        rows += len(comparison.cells)
        beyond += sum(cell.beyond_noise for cell in comparison.cells)
    assert differing <= 4
    assert beyond <= 0.03 * rows


def test_the_limit_of_a_row_grows_with_how_its_runs_differ() -> None:
    calm, wild = [0.0, 0.01, -0.01], [0.0, 0.2, -0.2]
    assert math.log(1.05) <= spread_limit(calm, calm) < spread_limit(calm, wild) < spread_limit(wild, wild)
