"""Sessions without figures: they are no baseline, a finding says so, and the next one becomes it."""

from __future__ import annotations

import random
from collections.abc import Collection

import pytest
from msgspec import structs
from support.gate_sessions import PHASES, PROFILES, change, history, key, kinds, more_rounds, session

from pytest_espperf.gate import GatePolicy, choose, judge
from pytest_espperf.gate.policy import DEFAULT_POLICY
from pytest_espperf.model.artifact import GeneratorReport, PhaseReport, SessionArtifact, Verdict
from pytest_espperf.report import render_terminal
from pytest_espperf.report.exports.junit import render_junit

FIXED = GatePolicy(baseline="fixed")
BOUND = GeneratorReport(bound=True)


@pytest.fixture
def rng() -> random.Random:
    print("seed 11")
    return random.Random(11)


def paced(
    artifact: SessionArtifact,
    profiles: Collection[str] = PROFILES,
    *,
    rounds: Collection[int] = range(100),
    phases: Collection[str] = PHASES,
) -> SessionArtifact:
    """The session with those phases of those rounds paced by the computer that drove it."""
    runs = []
    for run in artifact.raw_runs:
        results = [
            structs.replace(one, report=structs.replace(one.report, generator=BOUND))
            if run.profile in profiles and run.run_index in rounds and one.phase in phases
            else one
            for one in run.results
        ]
        runs.append(structs.replace(run, results=results))
    return structs.replace(artifact, raw_runs=runs)


def judged(artifact: SessionArtifact, past: list[SessionArtifact]) -> SessionArtifact:
    return structs.replace(artifact, gate=judge(artifact, past))


def messages(verdict: Verdict, kind: str) -> list[str]:
    return [f"{one.severity} {one.where}: {one.message}" for one in verdict.findings if one.kind == kind]


def test_after_a_first_session_without_figures_the_next_is_the_first_and_guards(rng: random.Random) -> None:
    first = paced(session(rng, "first", verdict="no-baseline"))
    second = judged(session(rng, "second"), [first])
    assert second.gate is not None
    assert second.gate.kind == "no-baseline"
    assert second.gate.baseline["sessions"] == []
    assert [text.split(":")[0] for text in messages(second.gate, "baseline")] == [
        f"warn {profile}" for profile in PROFILES
    ]
    assert "as first (a computer, not the board, set its pace): not the baseline" in str(second.gate.findings)
    slow = session(rng, slower=dict.fromkeys(PROFILES, 3.0))
    verdict = judge(slow, [first, second])
    assert verdict.kind == "regressed"
    assert verdict.baseline["sessions"] == ["second"]


def test_a_session_is_the_bar_of_those_profiles_alone_that_have_figures(rng: random.Random) -> None:
    first = paced(session(rng, "first", verdict="no-baseline"), ["python_light"])
    epochs = choose(session(rng), [first], DEFAULT_POLICY).epochs
    assert {name: len(epoch) for name, epoch in epochs.items()} == {
        "c_static_only": 1,
        "python_light": 0,
        "python_heavy": 1,
    }
    second = judged(session(rng, "second"), [first])
    assert second.gate is not None
    assert second.gate.kind == "unchanged"
    assert [one.where for one in second.gate.findings if one.kind == "no-baseline"] == ["python_light"]
    slow = judge(session(rng, slower={"python_light": 3.0}), [first, second])
    assert {row.profile for row in slow.gates if row.verdict == "regressed"} == {"python_light"}


@pytest.mark.parametrize(("count", "is_baseline"), [(0, True), (2, True), (3, True), (4, False), (6, False)])
def test_figures_in_half_of_the_rounds_are_enough(rng: random.Random, count: int, is_baseline: bool) -> None:
    first = paced(session(rng, "first", verdict="no-baseline"), rounds=range(1, count + 1), phases=["burst"])
    epochs = choose(session(rng), [first], DEFAULT_POLICY).epochs
    assert {bool(epoch) for epoch in epochs.values()} == {is_baseline}


def test_what_the_session_itself_lacks_is_not_asked_of_the_baseline(rng: random.Random) -> None:
    first = paced(session(rng, "first", verdict="no-baseline"), phases=["burst"])
    now = paced(session(rng), phases=["burst"])
    assert judge(now, [first]).baseline["sessions"] == ["first"]
    assert judge(session(rng), [first]).baseline["sessions"] == []
    assert judge(now, history(rng, 3)).kind == "unchanged"


def test_a_bar_stays_one_beside_sessions_without_figures(rng: random.Random) -> None:
    past = [*history(rng, 20), *(paced(one) for one in history(rng, 20, verdict="unchanged"))]
    verdict = judge(session(rng), past)
    assert verdict.kind == "unchanged"
    assert verdict.baseline["sessions"] == [f"s{number}" for number in range(20)]
    assert "baseline" not in kinds(verdict)
    assert judge(session(rng, slower={"python_heavy": 1.5}), past).kind == "regressed"


def test_an_accepted_session_without_figures_still_opens_its_epoch(rng: random.Random) -> None:
    accepted = paced(session(rng, "ok'd", verdict="regressed", accepted={"reason": "meant"}))
    verdict = judge(session(rng), [*history(rng, 5), accepted])
    assert verdict.kind == "no-baseline"
    after = session(rng, "after", verdict="no-baseline")
    assert judge(session(rng), [*history(rng, 5), accepted, after]).baseline["sessions"] == ["after"]


def test_errors_are_compared_where_nothing_else_can_be(rng: random.Random) -> None:
    def failing(_: int, old: PhaseReport) -> PhaseReport:
        err = old.requests_total // 5
        return structs.replace(old, err=err, ok=old.requests_total - err, error_rate=20.0)

    now = change(paced(session(rng)), "python_light", failing)
    verdict = judge(now, history(rng, 5))
    assert verdict.baseline["sessions"]
    assert "regressed" in {row.verdict for row in verdict.gates if row.metric == "error_rate"}


def test_a_session_without_any_figures_is_no_first_one_and_no_green_one(rng: random.Random) -> None:
    first = judged(paced(session(rng, "first")), [])
    assert first.gate is not None
    assert first.gate.kind == "inconclusive"
    assert messages(first.gate, "not-judged") == [
        f"warn {profile}: {profile}: nothing comparable was measured before, and this session has no "
        "figures to compare later ones with; absolute budgets apply."
        for profile in PROFILES
    ]
    assert judge(session(rng), [first]).kind == "no-baseline"


def test_one_profile_without_figures_is_said_and_the_others_are_the_first(rng: random.Random) -> None:
    verdict = judge(paced(session(rng), ["python_heavy"]), [])
    assert verdict.kind == "no-baseline"
    assert [text.split(":")[0] for text in messages(verdict, "not-judged")] == ["warn python_heavy"]
    assert messages(verdict, "no-baseline") == [
        "info : c_static_only, python_light: no baseline yet; absolute budgets apply."
    ]


def test_where_nothing_could_be_compared_nothing_is_said_to_look_slower(rng: random.Random) -> None:
    for now in (judged(paced(session(rng)), history(rng, 5)), judged(paced(session(rng)), [])):
        assert now.gate is not None
        assert now.gate.kind == "inconclusive"
        lines = [line.text for line in render_terminal(now)]
        assert lines[0] == "INCONCLUSIVE: nothing of it could be compared with earlier sessions"
        assert not any("sharper" in line for line in lines)
        assert "nothing of it could be compared" in render_junit(structs.replace(now, overall_pass=False))
    again = more_rounds(session(rng, slower={"python_heavy": 1.5}), "python_heavy", [1.0, 1.0, 1.0])
    noisy = judged(again, history(rng, 8))
    assert noisy.gate is not None
    assert noisy.gate.kind == "inconclusive"
    assert render_terminal(noisy)[0].text == "INCONCLUSIVE: a slowdown is neither shown nor excluded"


@pytest.mark.parametrize("how", ["board", "failed", "figures", "nothing recorded"])
def test_a_named_baseline_that_nothing_can_be_compared_with_fails(rng: random.Random, how: str) -> None:
    named = session(rng, "v1", verdict="unchanged")
    if how == "board":
        named = structs.replace(named, comparability=key(board="another"))
    elif how == "failed":
        named = structs.replace(named, gate=Verdict(kind="failed"))
    elif how == "figures":
        named = paced(named)
    else:
        named = structs.replace(named, comparability=None)
    now = session(rng)
    assert judge(now, [named]).kind == "no-baseline"
    verdict = judge(now, [named], FIXED)
    assert verdict.kind == "failed"
    assert [one.message for one in verdict.findings if one.severity == "fail"] == [
        "nothing of this session can be compared with v1, which was named as its baseline."
    ]
    (headline, *_) = render_terminal(structs.replace(now, gate=verdict))
    assert headline.text == "FAILED: nothing of it could be compared with the baseline that was named"
    off = GatePolicy(baseline="fixed", enabled=False)
    assert judge(now, [named], off).kind == "no-baseline"


def test_a_named_baseline_of_some_of_the_profiles_is_one(rng: random.Random) -> None:
    named = session(rng, "v1", verdict="unchanged", profiles=["python_light"])
    verdict = judge(session(rng), [named], FIXED)
    assert verdict.kind == "unchanged"
    assert messages(verdict, "no-baseline") == [
        "info : c_static_only, python_heavy: no baseline yet; absolute budgets apply."
    ]
