"""The course of a search for a commit: what is measured, what is skipped, and how it goes on later."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.fake_meter import FakeMeter, broken, unbuilt

from pytest_espperf.errors import DeviceError, UsageError
from pytest_espperf.model.contest import FirmwareFacts
from pytest_espperf.session.bisecting import Bisection
from pytest_espperf.session.revisions import Revision
from pytest_espperf.session.saving import SessionOutcome
from pytest_espperf.session.searches import MeasuredCommit, SearchFile, SearchState

CULPRIT = 7
LINE = [Revision(f"{n:07x}" + "0" * 33, f"change {n}", (f"src/{n}.c",)) for n in range(13)]


class FakeRevisions:
    """Commits that are built in no time."""

    def firmware(self, revision: Revision) -> Any:
        class Firmware:
            facts = FirmwareFacts(label=revision.short, how="revision", commit=revision.commit)

            def prepare(self) -> None:
                pass

        return Firmware()

    def is_built(self, _: Revision) -> bool:
        return False


def slower_from(culprit: int, factor: float = 1.12) -> Any:
    return lambda label, _profile: factor if int(label, 16) >= culprit else 1.0


def fresh() -> SearchState:
    return SearchState(options={}, folder="/here", good=LINE[0].commit, line=[one.commit for one in LINE[1:]])


def search(meter: FakeMeter, state: SearchState | None = None, **more: Any) -> tuple[Bisection, list[int]]:
    saves: list[int] = []
    revisions: Any = FakeRevisions()
    given: Any = meter
    state = state or fresh()
    return Bisection(given, revisions, LINE, state, lambda s: saves.append(len(s.measured)), **more), saves


def answer(outcome: SessionOutcome) -> tuple[str, str]:
    contest = outcome.artifact.contest
    assert contest is not None
    return contest.word, contest.answer


def test_the_commit_is_found_and_every_reading_is_saved() -> None:
    meter = FakeMeter(slower_from(CULPRIT))
    bisection, saves = search(meter)
    outcome = bisection.run()
    word, text = answer(outcome)
    assert word == "found"
    assert text.startswith("0000007 (change 7): 9")
    assert "python_heavy is 12 % slower" in text or "python_heavy is 11 % slower" in text
    assert (outcome.fails, outcome.verdict.kind) == (False, "regressed")
    assert saves == list(range(1, len(saves) + 1))
    assert len(saves) <= 10
    # Each commit stands between two rounds of the good end.
    labels = [label for label, *_ in meter.measured]
    assert labels[::2] == ["0000000"] * (len(labels) // 2 + 1)
    assert "0000000" not in labels[1::2]
    assert len({(role, index) for _, role, index, _ in meter.measured}) == len(meter.measured)
    contest = outcome.artifact.contest
    assert contest is not None
    assert sum(one.rounds for one in contest.candidates) == len(saves)
    assert contest.candidates[7].probability == pytest.approx(1, abs=0.04)
    # Figures stand beside percents.
    first, last = contest.candidates[0].figure, contest.candidates[-1].figure
    assert first is not None
    assert last is not None
    assert first / last == pytest.approx(1.12, rel=0.03)
    assert (contest.candidates[0].metric, contest.candidates[1].figure) == ("rps_ok", None)
    (row,) = outcome.verdict.gates
    assert row.now is not None
    assert row.d_pct is not None
    assert row.baseline == first
    assert row.now == pytest.approx(last, rel=0.03)
    assert first / row.now == pytest.approx(1 + row.d_pct / 100, rel=1e-3)


def test_the_session_is_that_of_the_bad_end_without_uncommitted_changes() -> None:
    meter = FakeMeter(slower_from(CULPRIT))
    meter.environment = {"git_commit": "f" * 40, "git_dirty": True, "host": "desk"}
    environment = search(meter)[0].run().artifact.environment
    assert (environment["git_commit"], environment["git_dirty"]) == (LINE[-1].commit, False)
    assert environment["host"] == "desk"


def test_it_goes_on_where_it_was() -> None:
    whole = FakeMeter(slower_from(CULPRIT))
    search(whole)[0].run()
    state = fresh()
    first = FakeMeter(slower_from(CULPRIT))
    outcome = search(first, state, most=3)[0].run()
    assert answer(outcome)[0] == "not found"
    assert answer(outcome)[1].startswith("not certain after 3 measurements; the likeliest is")
    assert outcome.fails
    assert len(state.measured) == 3
    second = FakeMeter(slower_from(CULPRIT), seed=2)
    outcome = search(second, state)[0].run()
    assert answer(outcome)[0] == "found"
    assert len(second.measured) < len(whole.measured)
    # Its rounds have numbers of their own, and it begins with the good end.
    assert second.measured[0][:3] == ("0000000", "ab-baseline", 3)


def test_a_search_that_is_over_measures_nothing_more() -> None:
    state = fresh()
    search(FakeMeter(slower_from(CULPRIT)), state)[0].run()
    again = FakeMeter(slower_from(CULPRIT))
    assert answer(search(again, state)[0].run())[0] == "found"
    assert again.measured == []


def test_commits_that_do_not_build_are_skipped_and_share_the_answer() -> None:
    def trouble(label: str) -> Exception | None:
        return unbuilt() if label in {"0000006", "0000007"} else None

    bisection, _ = search(FakeMeter(slower_from(CULPRIT), trouble=trouble))
    outcome = bisection.run()
    word, text = answer(outcome)
    assert word == "found"
    assert all(f"000000{n} (change {n})" in text for n in (6, 7, 8))
    assert bisection.state.skipped == {6: "cannot be built", 7: "cannot be built"}
    assert [finding.message for finding in outcome.verdict.findings] == [
        "0000006 is skipped, it cannot be built.",
        "0000007 is skipped, it cannot be built.",
    ]


def test_a_commit_that_does_not_boot_is_tried_again_and_then_skipped() -> None:
    tried: list[str] = []

    def trouble(label: str) -> Exception | None:
        tried.append(label)
        return broken("it does not boot") if label == "0000007" else None

    bisection, _ = search(FakeMeter(slower_from(CULPRIT), trouble=trouble))
    assert answer(bisection.run())[0] == "found"
    assert bisection.state.skipped == {7: "cannot be measured, in 3 tries: it does not boot"}
    assert tried.count("0000007") == 3


def test_a_board_that_is_gone_ends_it_and_keeps_what_was_measured() -> None:
    calls: list[str] = []

    def trouble(label: str) -> Exception | None:
        calls.append(label)
        return broken("no answer") if len(calls) > 5 else None

    meter = FakeMeter(slower_from(CULPRIT), trouble=trouble)
    bisection, saves = search(meter)
    outcome = bisection.run()
    assert answer(outcome) == ("not found", "GOOD, 0000000, cannot be measured, in 3 tries: no answer")
    assert (outcome.fails, outcome.verdict.kind, meter.dropped) == (True, "inconclusive", False)
    assert saves == [1, 2]
    assert bisection.state.skipped == {}
    assert not bisection.is_certain
    said = [line for line in meter.lines if " of 3 failed: no answer" in line]
    assert [line.partition(": try ")[2][0] for line in said] == ["1", "1", "2"]


@pytest.mark.parametrize(("end", "name"), [("0000000", "GOOD"), ("000000c", "BAD")])
@pytest.mark.parametrize(
    ("error", "why"),
    [(unbuilt(), "cannot be built"), (broken("no boot"), "cannot be measured, in 3 tries: no boot")],
)
def test_an_end_that_cannot_be_measured_ends_it(end: str, name: str, error: DeviceError, why: str) -> None:
    meter = FakeMeter(slower_from(CULPRIT), trouble=lambda label: error if label == end else None)
    outcome = search(meter)[0].run()
    assert answer(outcome)[1].startswith(f"{name}, {end}, {why}")
    assert outcome.fails
    # Nothing is kept where nothing was measured.
    assert meter.dropped == (name == "GOOD")


def test_a_killed_search_is_called_one_that_can_go_on() -> None:
    meter = FakeMeter(slower_from(CULPRIT))
    bisection, _ = search(meter, most=2)
    notes: list[str] = []
    measure = meter.measure

    def noting(*given: Any, **more: Any) -> Any:
        notes.append(meter.contest.answer)
        return measure(*given, **more)

    meter.measure = noting  # type: ignore[method-assign]
    bisection.run()
    assert notes[0] == "the search was interrupted after 0 measurements; espperf bisect --resume continues"
    assert "after 1 measurement;" in notes[-1]


def test_ctrl_c_saves_what_was_measured() -> None:
    calls: list[str] = []

    def trouble(label: str) -> Exception | None:
        calls.append(label)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return None

    kept: list[SessionOutcome] = []
    meter = FakeMeter(slower_from(CULPRIT), trouble=trouble)
    save = meter.save
    meter.save = lambda judgement: kept.append(save(judgement)) or kept[-1]  # type: ignore[method-assign,func-returns-value]
    bisection, _ = search(meter)
    with pytest.raises(KeyboardInterrupt):
        bisection.run()
    assert kept[0].verdict.kind == "incomplete"
    assert len(bisection.state.measured) == 3


def test_no_step_is_told() -> None:
    bisection, _ = search(FakeMeter(lambda *_: 1.0))
    outcome = bisection.run()
    word, text = answer(outcome)
    assert (word, outcome.fails, outcome.verdict.kind) == ("no step", True, "unchanged")
    assert text.startswith("000000c is not slower than 0000000 (python_heavy)")


def test_two_steps_are_told() -> None:
    def factor(label: str, _: str) -> float:
        number = int(label, 16)
        return 1.0 if number < 4 else 1.1 if number < 9 else 1.3

    bisection, _ = search(FakeMeter(factor))
    outcome = bisection.run()
    word, text = answer(outcome)
    assert (word, outcome.fails) == ("found", False)
    assert text.startswith("more than one step: 0000004 (change 4): ")
    assert " and 0000009 (change 9): " in text


def test_probabilities_of_one_step_are_never_more_than_all_of_it() -> None:
    def factor(label: str, _: str) -> float:
        number = int(label, 16)
        return 1.0 if number < 4 else 1.1 if number < 9 else 1.3

    texts: list[str] = []
    for most in range(3, 16):
        meter = FakeMeter(factor, noise=0.02)
        texts += [answer(search(meter, most=most)[0].run())[1], *meter.lines]
    guesses = [text.partition("; ")[2] for text in texts if "; " in text and "slower from there" not in text]
    two = [guess for guess in guesses if "two steps" in guess]
    for guess in guesses:
        shares = [float(share) for share in re.findall(r"[(:] ?([\d.]+) %", guess)]
        assert sum(shares) <= 101 or guess in two
    assert any(guess.startswith("likely two steps, at ") for guess in two)
    assert any(guess.startswith("two steps are likely, at ") for guess in two)


def test_of_several_profiles_the_one_that_shows_the_step_is_measured_on() -> None:
    def factor(label: str, profile: str) -> float:
        return 1.2 if int(label, 16) >= CULPRIT and profile == "python_light" else 1.0

    meter = FakeMeter(factor, profiles=("c_static_only", "python_light", "python_heavy"))
    bisection, _ = search(meter)
    assert answer(bisection.run())[0] == "found"
    assert bisection.gate() == "python_light:rps_ok"
    assert [profiles for *_, profiles in meter.measured][:3] == [tuple(meter.profiles)] * 3
    assert {profiles for *_, profiles in meter.measured[5:]} == {("python_light",)}


def test_a_paced_profile_is_searched_by_its_p95() -> None:
    meter = FakeMeter(slower_from(CULPRIT))
    meter.changes = {"rate_rps": 20.0}
    state = fresh()
    bisection, _ = search(meter, state)
    bisection.run()
    assert bisection.gate() == "python_heavy:p95_ms"
    assert search(meter, state)[0].gate() == "python_heavy:p95_ms"  # when it goes on
    other, _ = search(FakeMeter(slower_from(CULPRIT)), metric="p95_ms")
    assert answer(other.run())[0] == "found"


def test_rounds_in_which_this_computer_set_the_pace_count_for_nothing() -> None:
    from pytest_espperf.model.artifact import GeneratorReport

    meter = FakeMeter(slower_from(CULPRIT))
    meter.changes = {"generator": GeneratorReport(bound=True)}
    assert "this computer, not the board" in answer(search(meter)[0].run())[1]


def test_minutes_end_it() -> None:
    bisection, _ = search(FakeMeter(slower_from(CULPRIT), noise=0.2), minutes=10)
    outcome = bisection.run()
    assert answer(outcome)[0] == "not found"
    assert len(bisection.state.measured) == 5  # two minutes each, and one for the first


# --- the file


def test_a_search_is_kept_on_the_disk(tmp_path: Path) -> None:
    file = SearchFile("firmware-1", tmp_path / "bisect")
    with pytest.raises(UsageError, match="no search was begun in this repository"):
        file.load()
    state = fresh()
    state.measured = [MeasuredCommit(commit=3, levels={"a:rps_ok": 1.0}, before={"a:rps_ok": 0.9})]
    state.skipped = {5: "why"}
    file.save(state)
    assert file.load() == state
    file.path.write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="begin again with --new"):
        file.load()
