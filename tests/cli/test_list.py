from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from pytest_espperf.cli import main
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import Comparability, GateRow, SessionArtifact, Verdict
from pytest_espperf.model.contest import Contest
from pytest_espperf.report.listing import ListedSession, render_listing

HISTORY = (
    ("no-baseline", "bench-1", "base", None),
    ("regressed", "bench-1", "slow", 80.5),
    ("unchanged", "bench-2", "base", -0.4),
    ("environment-shift", "bench-1", "odd ä\x1b[2J", 12.0),
    (None, "", "original", None),
)


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HistoryStore:
    monkeypatch.chdir(tmp_path)
    store = HistoryStore(tmp_path / "tools" / "perf_history")
    store.prepare()
    for hour, (verdict, board, tag, pct) in enumerate(HISTORY, start=10):
        gates = [GateRow(name="p:p95_ms", profile="p", metric="p95_ms", d_pct=pct)]
        store.save(
            SessionArtifact(
                session_id=f"{hour}0123456789",
                timestamp_utc=f"20261123T{hour}0000Z",
                tag=tag,
                target="10.0.0.9:8080",
                profiles=["p"],
                gate=Verdict(kind=verdict, gates=gates) if verdict else None,  # type: ignore[arg-type]
                comparability=Comparability(key="k", fields={"board": board}) if board else None,
            ),
            "",
            latest=True,
        )
    return store


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["list", "--utc", *words]) == 0
    return capsys.readouterr().out.splitlines()


def hours(lines: list[str]) -> list[str]:
    return [line[11:13] for line in lines if re.match(r"\d{4}-", line)]


def test_the_newest_session_is_last_under_a_head(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    head, *rows = shown(capsys)
    assert head.split() == ["time", "(UTC)", "id", "verdict", "board", "tag", "firmware", "worst", "gate"]
    assert [row[:16] for row in rows] == [f"2026-11-23 {hour}:00" for hour in range(10, 15)]
    slow = ["2026-11-23", "11:00", "11012345", "regressed", "bench-1", "slow", "-", "p:p95_ms", "+80.5", "%"]
    assert rows[1].split() == slow
    assert rows[4].split()[3:] == ["unjudged", "10.0.0.9:8080", "original", "-", "-"]
    assert all(row.isprintable() for row in rows)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--tag", "base"], ["10", "12"]),
        (["--board", "bench-2"], ["12"]),
        (["--board", "10.0.0.9:8080"], ["10", "11", "12", "13", "14"]),
        (["--verdict", "regressed,unchanged"], ["11", "12"]),
        (["--verdict", "regressed", "--verdict=unjudged"], ["11", "14"]),
        (["--last", "2"], ["13", "14"]),
        (["--last", "1", "--board", "bench-1"], ["13"]),
    ],
)
def test_conditions_add_up(
    history: HistoryStore, capsys: pytest.CaptureFixture[str], words: list[str], expected: list[str]
) -> None:
    assert hours(shown(capsys, *words)) == expected
    rows = [json.loads(line) for line in shown(capsys, "--json", *words)]
    assert [row["timestamp_utc"][9:11] for row in rows] == expected


def test_decisions_stand_beside_the_verdict(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    history.accept("11012345", "meant", "me")
    history.pin("11012345")
    history.pin("10012345")
    words = [line.split()[3] for line in shown(capsys)[1:3]]
    assert words == ["no-baseline+pinned", "regressed+accepted+pinned"]
    row = json.loads(shown(capsys, "--json", "--tag", "slow")[0])
    assert row == {
        "session_id": "110123456789",
        "timestamp_utc": "20261123T110000Z",
        "name": "perf_20261123T110000Z_slow.json",
        "target": "10.0.0.9:8080",
        "board": "bench-1",
        "verdict": "regressed",
        "accepted": True,
        "joins_baseline": True,
        "pinned": True,
        "completed": True,
        "tag": "slow",
        "profiles": ["p"],
        "worst_pct": 80.5,
        "worst_gate": "p:p95_ms",
        "worst_change": 80.5,
        "commit": "",
        "dirty": False,
        "firmware": "",
        "copies": [],
    }


def test_json_is_utf_8_and_whole_whatever_the_code_page(history: HistoryStore) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_espperf.cli", "list", "--json", "--verdict", "environment-shift"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout.decode("utf-8"))["tag"] == "odd ä\x1b[2J"


def test_nothing_that_matches_is_said_on_stderr_and_no_failure(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([], ["--json"]):
        assert main(["list", "--tag", "nosuch", *words]) == 0
        said = capsys.readouterr()
        assert said.out == ""
        assert "no session" in said.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--verdict", "regresed"], "did you mean 'regressed'?"),
        (["--verdict", "regressed,"], "is not one of unchanged, improved, "),
        (["--last", "0"], "must be at least 1"),
        (["--last", "many"], "not a whole number"),
    ],
)
def test_a_bad_condition_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["list", *words])
    assert caught.value.code == 4
    assert told in capsys.readouterr().err


def test_a_bad_file_is_named(history: HistoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    (history.folder / "perf_20261124T000000Z_bad.json").write_text("{")
    assert main(["list"]) == 0
    assert "perf_20261124T000000Z_bad.json" in capsys.readouterr().err


def test_no_artifact_is_opened_once_the_index_knows_it(
    history: HistoryStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shown(capsys)

    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr("pytest_espperf.history.skim.read_bounded", refuse)
    monkeypatch.setattr("pytest_espperf.history.folder.load_listed", refuse)
    assert shown(capsys) == before


def test_the_history_may_be_named_in_the_environment(
    history: HistoryStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = HistoryStore(tmp_path / "other")
    other.prepare()
    monkeypatch.setenv("ESPPERF_PERF_HISTORY", str(other.folder))
    assert shown(capsys) == []
    assert len(shown(capsys, "--perf-history", str(history.folder))) == 6
    monkeypatch.setenv("ESPPERF_PERF_HISTORY", "nowhere")
    assert main(["list"]) == 4
    assert "environment variable ESPPERF_PERF_HISTORY" in capsys.readouterr().err


def test_verdicts_have_their_colours_where_colour_is_wanted(
    history: HistoryStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = shown(capsys)
    codes = [line[: line.index("m") + 1] if line.startswith("\x1b") else "" for line in coloured]
    assert codes == ["\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[32m", "\x1b[33m", ""]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in "".join(shown(capsys))


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal of POSIX")
def test_on_a_terminal_there_is_colour_and_lines_fit(history: HistoryStore) -> None:
    import fcntl
    import pty
    import struct
    import termios

    long = msgspec.structs.replace(history.find("slow").artifact, session_id="long", tag="t" * 60)
    history.save(long, latest=False)
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    unset = ("NO_COLOR", "FORCE_COLOR", "COLUMNS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    command = [sys.executable, "-m", "pytest_espperf.cli", "list", "--verdict=regressed"]
    subprocess.run(command, stdout=follower, env={**environment, "TERM": "xterm"}, check=True)
    os.close(follower)
    said = b""
    try:
        while chunk := os.read(leader, 4096):
            said += chunk
    except OSError:  # Linux: the other side is closed
        pass
    os.close(leader)
    caption, head, *rows = said.decode().splitlines()
    assert caption == "sessions of bench-1"
    assert head.startswith("\x1b[1mtime ")
    assert len(rows) == 2
    for row in rows:
        assert re.match(r"\x1b\[31m2026-11-2[234] \d\d:00 ", row)
        assert len(row.removeprefix("\x1b[31m").removesuffix("\x1b[0m")) <= 80


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
@pytest.mark.parametrize("reader", ["true", "head -n 1"])
def test_a_reader_that_has_seen_enough_is_no_error(history: HistoryStore, reader: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m pytest_espperf.cli list --json | {reader}'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def listed(rng: random.Random) -> ListedSession:
    return ListedSession(
        time="2026-11-23 11:00",
        session_id="0123456789",
        verdict=rng.choice(["unchanged", "environment-shift", "no-baseline"]),
        board="b" * rng.randrange(40),
        tag="t" * rng.randrange(80),
        worst_gate=rng.choice(["", "python_heavy:p95_ms", f"{'x' * 60}:error_rate"]),
        worst_change=rng.choice([None, -0.04, 7.0, 1234.5]),
        commit=rng.choice(["", "5eed" * 10]),
        dirty=rng.random() < 0.5,
        firmware=rng.choice(["", "v1.2.3-45-gabcdef0"]),
        accepted=rng.random() < 0.2,
        pinned=rng.random() < 0.2,
    )


def test_a_table_keeps_to_eighty_columns_where_texts_can_be_cut() -> None:
    rng = random.Random(20261125)
    for _ in range(200):
        sessions = [listed(rng) for _ in range(rng.randrange(1, 5))]
        whole, cut = render_listing(sessions), render_listing(sessions, width=80)
        assert len(whole) == len(cut)
        assert all(len(line.text) <= 80 for line in cut)
        rows = whole[-len(sessions) :]
        assert all(session.tag in line.text for session, line in zip(sessions, rows, strict=True))


def test_a_cut_gate_keeps_its_metric_and_change() -> None:
    gates = [("python_heavy_with_a_long_name:rps_ok", 60.7), ("p:error_rate", 2.5)]
    sessions = [
        ListedSession("today 14:05", "01234567", "regressed", "b", "t" * 50, gate, change)
        for gate, change in gates
    ]
    one, other = (line.text for line in render_listing(sessions, width=80)[-2:])
    assert one.endswith("…:rps_ok +60.7 %")
    assert other.endswith("p:error_rate +2.5 pt")


def test_the_firmware_is_its_version_or_else_its_commit() -> None:
    usual = ListedSession("today 14:05", "01234567", "unchanged", "b", "", commit="5eed" * 10)
    sessions = [usual, replace(usual, dirty=True), replace(usual, firmware="v1.2"), replace(usual, commit="")]
    board, head, *rows = (line.text for line in render_listing(sessions))
    assert board == "sessions of b"
    assert head.split() == ["time", "id", "verdict", "tag", "firmware", "worst", "gate"]
    assert [row.split()[5] for row in rows] == ["5eed5ee", "5eed5ee+", "v1.2", "-"]


def test_the_row_has_commit_firmware_and_worst_gate(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = [
        GateRow(name=f"{profile}:{metric}", profile=profile, metric=metric, verdict=verdict, d_pct=change)
        for profile, metric, verdict, change in (
            ("light", "p95_ms", "unchanged", 90.0),
            ("heavy", "p95_ms", "regressed", 70.0),
            ("heavy", "rps_ok", "regressed", 60.0),
            ("heavy", "p99_ms", "not-gateable", 99.0),
        )
    ]
    session = msgspec.structs.replace(
        history.find("slow").artifact,
        session_id="new",
        tag="new",
        gate=Verdict(kind="regressed", gates=gates),
        environment={"git_commit": "5eed" * 10, "git_dirty": True},
        device={"firmware": "v1.2"},
    )
    history.save(session, latest=False)
    row = json.loads(shown(capsys, "--json", "--tag", "new")[0])
    assert (row["worst_gate"], row["worst_change"], row["worst_pct"]) == ("heavy:rps_ok", 60.0, 90.0)
    assert (row["commit"], row["dirty"], row["firmware"]) == ("5eed" * 10, True, "v1.2")
    assert shown(capsys, "--tag", "new")[-1].split()[-4:] == ["v1.2", "heavy:rps_ok", "+60.0", "%"]


def test_a_comparison_of_firmwares_has_its_answer_behind_the_verdict(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = msgspec.structs.replace(
        history.find("base").artifact,
        session_id="swept",
        tag="swept",
        gate=Verdict(kind="no-baseline"),
        contest=Contest(kind="sweep", word="sweep"),
    )
    history.save(swept, latest=False)
    assert "no-baseline (sweep)" in shown(capsys, "--tag", "swept")[-1]
    assert "(sweep)" not in "".join(shown(capsys, "--tag", "base"))


def test_a_session_that_was_cut_short_is_listed_as_such(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = msgspec.structs.replace(
        history.find("base").artifact, session_id="cut", partial=True, gate=Verdict(kind="incomplete")
    )
    history.save(partial, latest=False)
    row = json.loads(shown(capsys, "--json", "--verdict", "incomplete")[0])
    assert row["completed"] is False
