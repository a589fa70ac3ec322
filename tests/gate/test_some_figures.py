"""Figures that only some phases have are gated as throughput and p95 are."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

import pytest
from msgspec import structs
from support.gate_sessions import change, history, kinds, more_rounds, session, with_figure

from pytest_espperf.gate import GatePolicy, decide_early, judge, may_stop_early, measure_again
from pytest_espperf.gate.policy import parse_fail_on
from pytest_espperf.model.artifact import GateRow, PathReport, PhaseReport, SessionArtifact, Verdict
from pytest_espperf.model.findings import FIGURES, NOT_JUDGED
from pytest_espperf.model.registry import GATED_FIGURES, METRICS

PROFILE = "python_light"


def past(rng: random.Random, metric: str, value: float, count: int = 12) -> list[SessionArtifact]:
    return [with_figure(rng, one, PROFILE, metric, value) for one in history(rng, count)]


def row(verdict: Verdict, name: str) -> GateRow:
    return next(one for one in verdict.gates if one.name == name)


@pytest.mark.parametrize("metric", GATED_FIGURES)
@pytest.mark.parametrize(("factor", "word"), [(1.0, "unchanged"), (1.5, "regressed"), (0.6, "improved")])
def test_each_gated_figure_is_judged_by_its_noise(metric: str, factor: float, word: str) -> None:
    rng = random.Random(1)
    slower = factor if METRICS[metric].better == "lower" else 1 / factor
    now = with_figure(rng, session(rng), PROFILE, metric, 20.0 * slower)
    verdict = judge(now, past(rng, metric, 20.0))
    found = row(verdict, f"{PROFILE}:{metric}")
    assert found.verdict == word
    assert verdict.kind == ("unchanged" if word == "unchanged" else word)
    assert found.now == pytest.approx(20.0 * slower, rel=0.05)
    assert found.baseline == pytest.approx(20.0, rel=0.05)
    assert METRICS[metric].unit in found.moved
    assert {one.metric for one in verdict.gates if one.profile == "python_heavy"} >= {"rps_ok", "p95_ms"}
    assert NOT_JUDGED not in kinds(verdict)


@pytest.mark.parametrize("metric", [name for name, one in METRICS.items() if one.only_some and not one.gated])
def test_other_figures_are_shown_and_not_gated(metric: str) -> None:
    rng = random.Random(2)
    now = with_figure(rng, session(rng), PROFILE, metric, 90.0)
    verdict = judge(now, past(rng, metric, 20.0))
    assert verdict.kind == "unchanged"
    assert f"{PROFILE}:{metric}" not in {one.name for one in verdict.gates}


def test_a_slower_figure_is_measured_again_and_not_waved_through() -> None:
    rng = random.Random(3)
    earlier = past(rng, "connect_ms", 20.0)
    now = with_figure(rng, session(rng), PROFILE, "connect_ms", 30.0)
    first = judge(now, earlier)
    assert measure_again(first) == {PROFILE: 3}
    again = more_rounds(now, PROFILE, [1.0] * 3)
    clean = judge(with_figure(rng, again, PROFILE, "connect_ms", 20.0, roles=("confirm",)), earlier)
    assert row(clean, f"{PROFILE}:connect_ms").verdict == "inconclusive", "one half of the runs says so"
    slow = judge(with_figure(rng, again, PROFILE, "connect_ms", 30.0, roles=("confirm",)), earlier)
    assert row(slow, f"{PROFILE}:connect_ms").verdict == "regressed"
    assert row(slow, f"{PROFILE}:connect_ms").confirmation == "rounds"


def rounds(artifact: SessionArtifact, count: int) -> SessionArtifact:
    runs = [one for one in artifact.raw_runs if one.run_index <= count]
    return structs.replace(artifact, raw_runs=runs, runs_per_profile=6)


@pytest.mark.parametrize("slower", [False, True])
def test_a_profile_does_not_end_early_where_a_figure_is_slower(slower: bool) -> None:
    rng = random.Random(4)
    earlier = past(rng, "handshake_ms", 900.0, count=20)
    now = with_figure(rng, session(rng), PROFILE, "handshake_ms", 1300.0 if slower else 900.0)
    decided = decide_early(rounds(now, 3), earlier)
    assert decided["python_heavy"].why == "calm"
    assert (PROFILE in decided) is not slower
    assert may_stop_early(rounds(now, 3), earlier) is not slower


def test_a_figure_without_a_long_history_keeps_its_profile_going() -> None:
    rng = random.Random(5)
    earlier = history(rng, 17) + past(rng, "connect_ms", 20.0, count=3)
    now = with_figure(rng, session(rng), PROFILE, "connect_ms", 20.0)
    assert PROFILE not in decide_early(rounds(now, 3), earlier)


@pytest.mark.parametrize("now_has_it", [False, True])
def test_a_figure_that_only_one_side_has_is_named(now_has_it: bool) -> None:
    rng = random.Random(6)
    with_it = with_figure(rng, session(rng), PROFILE, "upload_mb_s", 0.5, phases=("long",))
    without = session(rng)
    earlier = [
        structs.replace(one, raw_runs=(without if now_has_it else with_it).raw_runs)
        for one in history(rng, 6)
    ]
    verdict = judge(with_it if now_has_it else without, earlier)
    (finding,) = [one for one in verdict.findings if one.kind == FIGURES]
    assert finding.where == PROFILE
    assert "upload_mb_s" in finding.message
    assert "long" in finding.message
    assert finding.severity == ("info" if now_has_it else "warn")
    assert f"{PROFILE}:upload_mb_s" not in {one.name for one in verdict.gates}
    assert verdict.kind == "unchanged"


def asking(artifact: SessionArtifact, skip: Collection[int] = ()) -> SessionArtifact:
    """The session with two paths, of which one is not requested in some runs."""

    def edited(index: int, one: PhaseReport) -> PhaseReport:
        asked = PathReport(requests_total=1)
        rest = {} if index in skip else {"/big": asked}
        return structs.replace(one, path_metrics={"/small": asked, **rest})

    return change(artifact, PROFILE, edited)


@pytest.mark.parametrize("metric", ["upload_mb_s", "download_mb_s", "connect_ms"])
@pytest.mark.parametrize("now_has_it", [False, True])
def test_a_phase_that_is_too_short_for_its_paths_is_the_reason(metric: str, now_has_it: bool) -> None:
    rng = random.Random(11)
    with_it = asking(with_figure(rng, session(rng), PROFILE, metric, 0.5, phases=("long",)))
    lacking = asking(session(rng), skip=range(1, 5))
    earlier = [
        structs.replace(one, raw_runs=(lacking if now_has_it else with_it).raw_runs)
        for one in history(rng, 6)
    ]
    (finding,) = [
        one for one in judge(with_it if now_has_it else lacking, earlier).findings if one.kind == FIGURES
    ]
    assert finding.severity == ("info" if now_has_it else "warn")
    assert ("too short for its paths" in finding.message) is (metric != "connect_ms")
    assert "long" in finding.message


def test_a_figure_that_is_lost_though_each_path_was_asked_is_lost() -> None:
    rng = random.Random(12)
    with_it = asking(with_figure(rng, session(rng), PROFILE, "upload_mb_s", 0.5, phases=("long",)))
    earlier = [structs.replace(one, raw_runs=with_it.raw_runs) for one in history(rng, 6)]
    (finding,) = [one for one in judge(asking(session(rng)), earlier).findings if one.kind == FIGURES]
    assert "the last session of the baseline has it" in finding.message


def test_only_phases_that_both_have_are_compared() -> None:
    rng = random.Random(7)
    earlier = [
        with_figure(rng, one, PROFILE, "connect_ms", 20.0, phases=("long",)) for one in history(rng, 8)
    ]
    now = with_figure(rng, session(rng), PROFILE, "connect_ms", 20.0, phases=("long",))
    now = with_figure(rng, now, PROFILE, "connect_ms", 900.0, phases=("burst",))
    verdict = judge(now, earlier)
    found = row(verdict, f"{PROFILE}:connect_ms")
    assert found.verdict == "unchanged"
    assert found.now == pytest.approx(20.0, rel=0.1)
    assert any("burst" in one.message for one in verdict.findings if one.kind == FIGURES)


def test_rounds_without_the_figure_are_left_out() -> None:
    rng = random.Random(8)
    now = with_figure(rng, session(rng), PROFILE, "connect_ms", 20.0)
    lost = [
        structs.replace(
            raw,
            results=[structs.replace(x, report=structs.replace(x.report, figures={})) for x in raw.results],
        )
        if raw.profile == PROFILE and raw.run_index == 2
        else raw
        for raw in now.raw_runs
    ]
    verdict = judge(structs.replace(now, raw_runs=lost), past(rng, "connect_ms", 20.0))
    assert row(verdict, f"{PROFILE}:connect_ms").rounds == 5


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_values_that_have_no_ratio_are_no_figures(value: float) -> None:
    rng = random.Random(9)
    now = with_figure(rng, session(rng), PROFILE, "connect_ms", value, noise=0.0)
    verdict = judge(now, past(rng, "connect_ms", 20.0))
    assert verdict.kind == "unchanged"
    assert FIGURES in kinds(verdict)


def test_plain_rules_and_floors_take_them() -> None:
    rng = random.Random(10)
    now = with_figure(rng, session(rng), PROFILE, "connect_ms", 23.0)
    earlier = past(rng, "connect_ms", 20.0)
    rules = parse_fail_on("connect_ms:5%,download_mb_s:5%")
    broken = judge(now, earlier, GatePolicy(fail_on=rules))
    assert [one.name for one in broken.gates if one.rule == "fail-on" and one.verdict == "regressed"] == [
        f"{PROFILE}:burst:connect_ms",
        f"{PROFILE}:long:connect_ms",
    ]
    floored = judge(now, earlier, GatePolicy(min_effect={"connect_ms": 5.0}))
    assert floored.kind == "unchanged"


def failing(rng: random.Random, count: int, metrics: Sequence[str]) -> int:
    failed = 0
    for _ in range(count):
        earlier = history(rng, 10)
        now = session(rng)
        for metric in metrics:
            level = [2.718281828 ** rng.gauss(0, 0.03) for _ in range(11)]
            earlier = [
                with_figure(rng, one, name, metric, 20.0 * level[index], noise=0.05)
                for index, one in enumerate(earlier)
                for name in ("python_light",)
            ]
            now = with_figure(rng, now, PROFILE, metric, 20.0 * level[-1], noise=0.05)
        failed += judge(now, earlier).kind in ("regressed", "drift")
    return failed


def test_more_figures_do_not_mean_more_false_alarms() -> None:
    """Of 60 sessions of the same firmware no more than 3 fail: 0.9 % are alarms at most."""
    assert failing(random.Random(11), 60, GATED_FIGURES) <= 3
