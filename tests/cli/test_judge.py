from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import msgspec
import pytest
from support.cli_history import complete, contents, fill
from support.gate_sessions import more_rounds

from pytest_espperf.cli import main
from pytest_espperf.config.lookup import resolve
from pytest_espperf.errors import UsageError
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import Finding, SessionArtifact, Verdict
from pytest_espperf.model.findings import OWN_TEST
from pytest_espperf.session.judging import judge_again, with_failed_tests

SLOW = (1.0, 1.0, 1.5, 1.0, 0.7, 1.0, 1.04, 1.5, 1.0)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("filled"), SLOW).folder


@pytest.fixture
def history(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HistoryStore:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(filled, tmp_path / "tools" / "perf_history")
    return HistoryStore(tmp_path / "tools" / "perf_history")


def verdict_of(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    code = main(["judge", *words, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told.keys() == {"session_id", "fails", "gate", "comparison_to_previous"}
    assert told["fails"] == bool(code)
    return code, told["gate"]


def test_under_its_own_policy_every_session_has_its_own_verdict(
    history: HistoryStore, tmp_path: Path
) -> None:
    kinds = []
    for session in list(history.sessions()):
        again = judge_again(session, history, resolve({}, {}, {}), tmp_path)
        assert again.artifact == session
        assert session.gate is not None
        assert again.fails == session.gate.fails
        kinds.append(session.gate.kind)
    assert {"no-baseline", "regressed", "unchanged", "improved"} <= set(kinds)


def test_another_policy_makes_another_verdict_and_exit_code(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(history.folder)
    assert main(["judge", "day6"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("UNCHANGED")
    assert str(history.folder) in said.err
    assert main(["judge", "day6", "--perf-fail-on", "p95_ms:2%"]) == 1
    assert capsys.readouterr().out.startswith("REGRESSED: python_heavy ")
    assert verdict_of(capsys, "day7")[0] == 1
    assert verdict_of(capsys, "day7", "--perf-min-effect=p95_ms:1e5,rps_ok:1e5")[1]["verdict"] == "unchanged"
    assert contents(history.folder) == before


def test_later_sessions_and_the_session_itself_are_never_the_bar(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [session.session_id for session in history.sessions()]
    for day in range(len(ids)):
        _, gate = verdict_of(capsys, f"day{day}")
        baseline = gate["baseline"]
        assert isinstance(baseline, dict)
        assert set(baseline["sessions"]) <= set(ids[:day])
    _, gate = verdict_of(capsys, "day3", "--perf-baseline", "latest")
    assert gate["baseline"]["sessions"] == [ids[2]]  # type: ignore[index] # a dict, as above
    assert main(["judge", "day3", "--perf-baseline", "day4"]) == 4
    assert "--perf-baseline: no session 'day4'" in capsys.readouterr().err


def test_a_session_is_no_baseline_of_itself(
    history: HistoryStore, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.json"
    shutil.copy(history.find("day3").json_path, copy)
    assert main(["judge", "day3", "--perf-baseline", str(copy)]) == 4
    assert "the very session" in capsys.readouterr().err
    # Nor is a copy of it that lies in the history under another name.
    shutil.copy(copy, history.folder / "perf_20260104T000000Z_copy.json")
    _, gate = verdict_of(capsys, "day3")
    baseline = gate["baseline"]
    assert isinstance(baseline, dict)
    assert history.find("day3").artifact.session_id not in baseline["sessions"]


def test_a_file_is_judged_in_its_own_folder_unless_another_is_named(
    history: HistoryStore, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    alone = tmp_path / "alone" / "session.json"
    alone.parent.mkdir()
    shutil.copy(history.find("day7").json_path, alone)
    assert verdict_of(capsys, str(alone))[1]["verdict"] == "no-baseline"
    named = ["--perf-history", str(history.folder)]
    assert verdict_of(capsys, str(alone), *named)[1]["verdict"] == "regressed"
    latest = history.folder / "latest.json"
    assert verdict_of(capsys, str(latest))[1]["verdict"] == "unchanged"
    # One that came after all the others, and is in no folder of theirs.
    fresh = msgspec.structs.replace(complete(random.Random(3), 40, slower={"python_heavy": 1.6}), gate=None)
    other = HistoryStore(tmp_path / "other")
    other.prepare()
    saved = other.save(fresh, latest=True)
    assert verdict_of(capsys, str(saved.json_path), *named)[0] == 1


def confirmed(history: HistoryStore, factors: list[float]) -> SessionArtifact:
    """The slow session of day 7 with so many confirmation runs."""
    return more_rounds(history.find("day7").artifact, "python_heavy", factors)


def test_confirmation_rounds_count_as_far_as_they_are_asked_for(
    history: HistoryStore, tmp_path: Path
) -> None:
    session = confirmed(history, [1.0, 1.0, 1.5, 1.5, 1.5, 1.5, 1.5])
    words = [
        judge_again(session, history, resolve(options, {}, {}), tmp_path).artifact.gate
        for options in ({"perf_confirm": "2"}, {"perf_confirm": "0"}, {"perf_confirm": "7"}, {})
    ]
    assert [verdict.kind for verdict in words if verdict] == [
        "inconclusive",
        "regressed",
        "regressed",
        "regressed",
    ]
    rows = [next(row for row in verdict.gates if row.verdict == verdict.kind) for verdict in words if verdict]
    assert [row.confirmation for row in rows] == ["rounds", "", "rounds", "rounds"]


def test_strict_fails_what_is_inconclusive(
    history: HistoryStore, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = HistoryStore(tmp_path / "other")
    other.prepare()
    path = other.save(confirmed(history, [1.0, 1.0, 1.0]), latest=True).json_path
    words = [str(path), "--perf-history", str(history.folder)]
    assert verdict_of(capsys, *words)[1]["verdict"] == "inconclusive"
    assert main(["judge", *words]) == 0
    assert main(["judge", *words, "--perf-strict"]) == 1


def test_the_environment_says_how_to_judge_as_it_does_for_a_session(
    history: HistoryStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESPPERF_PERF_FAIL_ON", "p95_ms:2%")
    assert main(["judge", "day6"]) == 1
    monkeypatch.setenv("ESPPERF_PERF_FAIL_ON", "p95_ms:2")
    assert main(["judge", "day6"]) == 4
    assert "environment variable ESPPERF_PERF_FAIL_ON" in capsys.readouterr().err


def test_what_the_figures_do_not_tell_still_fails_the_session(history: HistoryStore, tmp_path: Path) -> None:
    session = history.find("day8").artifact
    assert session.gate is not None
    died = Finding(severity="fail", kind="console", message="after run1, panic")
    for before, kind in (
        (with_failed_tests(session.gate, ["test_mine"]), OWN_TEST),
        (msgspec.structs.replace(session.gate, kind="failed", findings=[died]), "console"),
    ):
        failed = msgspec.structs.replace(session, gate=before)
        again = judge_again(failed, history, resolve({}, {}, {}), tmp_path)
        assert again.fails
        assert again.artifact.gate is not None
        assert [finding.kind for finding in again.artifact.gate.findings].count(kind) == 1


def test_an_interrupted_session_stays_incomplete_and_says_why(history: HistoryStore, tmp_path: Path) -> None:
    why = Finding(kind="incomplete", message="the run was interrupted")
    session = msgspec.structs.replace(
        history.find("day8").artifact, partial=True, gate=Verdict(kind="incomplete", findings=[why])
    )
    again = judge_again(session, history, resolve({}, {}, {}), tmp_path)
    assert again.artifact.gate is not None
    assert again.artifact.gate.kind == "incomplete"
    assert why in again.artifact.gate.findings
    assert not again.fails
    assert not again.artifact.overall_pass


def test_decisions_of_today_count(history: HistoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict_of(capsys, "day7")[0] == 1
    history.accept("day2", "meant")
    _, gate = verdict_of(capsys, "day7")
    baseline = gate["baseline"]
    assert isinstance(baseline, dict)
    assert baseline["epoch"] == history.find("day2").artifact.session_id


def test_a_bad_rule_names_its_option(history: HistoryStore, tmp_path: Path) -> None:
    session = history.find("day8").artifact
    with pytest.raises(UsageError, match="unknown metric 'p95'"):
        judge_again(session, history, resolve({"perf_fail_on": ["p95:10%"]}, {}, {}), tmp_path)
