"""The report over all boards of a run: what it is drawn from, and where it leads."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from urllib.request import url2pathname

import pytest
from msgspec import structs
from support.report_runs import BUSY, DIED, bench

from pytest_espperf.errors import UsageError
from pytest_espperf.gate import host_finding
from pytest_espperf.model.artifact import Finding, GateRow, SessionArtifact, Verdict
from pytest_espperf.model.findings import LEAK, NOT_WRITTEN, SHARED_HISTORY, UNREADABLE_ARTIFACT
from pytest_espperf.model.verdicts import VerdictWord
from pytest_espperf.output.reports import link, write_overview
from pytest_espperf.report.boards import Ended, board_row, in_common, make_overview, render_boards, without

SEED = 20261126


def ended(verdict: VerdictWord, change: float = 0.0, *, fails: bool = False) -> Ended:
    row = GateRow(name="one:rps_ok", metric="rps_ok", d_pct=change)
    return Ended(SessionArtifact(gate=Verdict(kind=verdict, gates=[row])), fails)


def test_the_worst_board_comes_first_and_the_run_has_its_verdict() -> None:
    overview = make_overview(
        {
            "faster": ended("improved", -9),
            "a": ended("unchanged", 1),
            "b": ended("unchanged", 3),
            "bad": ended("regressed", 20, fails=True),
            "worse": ended("regressed", 30, fails=True),
            "unclear": ended("inconclusive", 40),
        }
    )
    assert [row.board for row, _ in overview.boards] == ["worse", "bad", "unclear", "b", "a", "faster"]
    assert (overview.verdict, overview.mood, overview.failing) == ("regressed", "bad", 2)
    assert overview.counts == (("regressed", 2), ("inconclusive", 1), ("unchanged", 2), ("improved", 1))


def test_a_board_that_fails_the_run_by_more_than_its_verdict_comes_first_and_makes_it_bad() -> None:
    lost = Finding(severity="fail", kind=NOT_WRITTEN, where="artifacts", message="the disk is full")
    overview = make_overview(
        {
            "unclear": ended("inconclusive"),
            "lost": Ended(SessionArtifact(gate=Verdict(kind="unchanged")), fails=True, lost=(lost,)),
        }
    )
    assert [row.board for row, _ in overview.boards] == ["lost", "unclear"]
    assert (overview.verdict, overview.mood, overview.failing) == ("inconclusive", "bad", 1)
    assert overview.boards[0][0].findings == (lost,)
    assert "with -k lost-run" in overview.boards[0][0].steps[-1]


def test_what_is_to_be_done_and_why_stands_at_each_board_that_did_not_do_well() -> None:
    boards = bench(random.Random(SEED), fine=2)
    host = host_finding({board: one.session for board, one in boards.items()})
    overview = make_overview(boards, host)
    rows = {row.board: row for row, _ in overview.boards}
    assert [*rows][:4] == ["busy", "slower", "slow", "died"]
    assert any(BUSY in finding.message for finding in rows["busy"].findings)
    assert [finding.message for finding in rows["died"].findings] == [DIED]
    assert all("answers were 429" in finding.message for finding in rows["limited"].findings)
    session_id = boards["slow"].session.session_id
    assert any(f"espperf accept {session_id[:8]} " in step for step in rows["slow"].steps)
    for board, row in rows.items():
        alone = any(f"-k {board}-run" in step for step in row.steps)
        assert alone == (board in {"busy", "slower", "slow", "died"}), board
    assert rows["busy"].worst is None
    assert rows["busy"].requests == 0
    worst = rows["slow"].worst
    assert worst is not None
    assert (worst.profile, worst.verdict) == ("python_heavy", "regressed")


def test_what_is_said_of_the_computer_is_said_once() -> None:
    boards = bench(random.Random(SEED))
    host = host_finding({board: one.session for board, one in boards.items()})
    assert host is not None
    overview = make_overview(boards, host)
    assert overview.host == host
    assert not [one for row, _ in overview.boards for one in row.findings if one.kind == host.kind]
    told = {row.board: row for row, _ in make_overview(boards).boards}["waited"].findings
    assert [one.kind for one in told] == [host.kind], "without it each board says so itself"


def test_findings_about_the_run_are_shown_once_whoever_made_them() -> None:
    stale = Finding(severity="warn", kind=SHARED_HISTORY, message="the shared history is a day old")
    unread = Finding(severity="warn", kind=UNREADABLE_ARTIFACT, where="a.json", message="skipped: a.json")
    own = Finding(severity="fail", kind=LEAK, message="free memory falls")
    carried = {"a": [own, stale], "b": [stale, unread], "c": []}
    sessions = [SessionArtifact(gate=Verdict(kind="failed", findings=found)) for found in carried.values()]
    sessions.append(SessionArtifact())
    assert in_common(sessions, "run") == [stale, unread]
    assert in_common([without(one, "run") for one in sessions], "run") == []
    assert in_common(sessions, "board") == [own]


def test_facts_that_differ_are_left_to_the_boards_own_reports() -> None:
    def one(second: int, target: str) -> Ended:
        time = f"20260101T00000{second}Z"
        session = SessionArtifact(timestamp_utc=time, target=target, tag="t", runs_per_profile=3)
        return Ended(session, folder="/history")

    facts = dict(make_overview({"b": one(7, "b:1"), "a": one(3, "a:1")}).facts)
    common = {"tag": "t", "runs": "3", "requests": "0", "artifacts": "/history"}
    assert facts == {"time": "20260101T000003Z"} | common


def test_the_worst_gate_is_one_that_was_compared() -> None:
    rows = [
        GateRow(name="one:p99_ms", metric="p99_ms", verdict="not-gateable", d_pct=90.0),
        GateRow(name="one:p95_ms", metric="p95_ms", d_pct=2.0),
    ]
    session = SessionArtifact(gate=Verdict(kind="unchanged", gates=rows))
    assert board_row("a", session).worst == rows[1]
    assert [line.text for line in render_boards({"a": session}, {"a"})] == ["a  unchanged  one:p95_ms +2.0 %"]
    broken = GateRow(name="one:error_rate", metric="error_rate", verdict="regressed", detail="12 errors")
    verdict = Verdict(kind="regressed", gates=[*rows, broken])
    assert board_row("a", structs.replace(session, gate=verdict)).worst == broken


@pytest.mark.parametrize("name", ["report-a.html", "a#b?c%20.html", "x y:z.html", "ä/ö.md"])
def test_a_link_is_relative_and_leads_to_the_file(tmp_path: Path, name: str) -> None:
    if sys.platform == "win32":
        name = name.replace(":", "").replace("?", "")
    found = link(tmp_path / "report.html", tmp_path / name)
    assert ":" not in found
    assert tmp_path / url2pathname(found) == tmp_path / name


def test_what_does_not_move_with_the_page_is_not_linked(tmp_path: Path) -> None:
    assert link(tmp_path / "out" / "report.html", tmp_path / "history" / "perf.md") == ""


def test_it_is_small_and_a_page_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    boards = bench(random.Random(SEED), fine=24)
    assert len(boards) == 30
    write_overview(boards, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 60_000
    with pytest.raises(UsageError, match="cannot be written"):
        write_overview(boards, tmp_path)
