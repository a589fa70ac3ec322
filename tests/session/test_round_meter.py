"""Rounds of several firmwares on one board: switched, warmed up, measured, kept as one session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.short_sessions import BRIEF_ROUNDS
from support.slot_board import SlotBoard, slot_board

from pytest_espperf.config.lookup import resolve
from pytest_espperf.errors import BuildError, DeviceError
from pytest_espperf.history import HistoryStore, load_session, names
from pytest_espperf.model.artifact import SessionArtifact, Verdict
from pytest_espperf.session import placer
from pytest_espperf.session.firmwares import SlotFirmware
from pytest_espperf.session.judging import Judgement
from pytest_espperf.session.round_meter import RoundMeter

OPTIONS: dict[str, object] = {
    **BRIEF_ROUNDS,
    "perf_burst_duration": "0.15",
    "perf_long_duration": "0.15",
    "perf_burst_clients": "2",
    "perf_probe_retries": "2",
    "perf_profiles": "page,other",
}

SWITCH = "/switch?slot={slot}"
OLD, NEW = SlotFirmware("old", "a", SWITCH), SlotFirmware("new", "b", SWITCH)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(placer, "WARM_S", 0.05)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def board() -> Iterator[SlotBoard]:
    with slot_board() as board:
        yield board


def meter_of(board: SlotBoard, root: Path, lines: list[str] | None = None, **options: object) -> RoundMeter:
    (root / "espperf.toml").write_text(
        '[profiles.page]\npaths = ["/", "/more"]\n[profiles.other]\npaths = ["/other"]\n'
        '[telemetry]\nstats = ""\nmemory = ""\n',
        encoding="utf-8",
    )
    given: dict[str, Any] = {**OPTIONS, "device_ip": [board.address], **options}
    said = lines if lines is not None else []
    return RoundMeter(resolve(given, {}, {}), root, kind="ab", say=said.append, show=lambda _: None)


def latest(root: Path) -> SessionArtifact:
    return load_session(root / "tools" / "perf_history" / names.PARTIAL)


def test_a_round_switches_where_another_firmware_is_there(board: SlotBoard, tmp_path: Path) -> None:
    lines: list[str] = []
    with meter_of(board, tmp_path, lines) as meter:
        first = meter.measure(OLD, index=1, role="ab-baseline")
        meter.measure(NEW, index=1, role="ab-candidate")
        meter.measure(NEW, index=2, role="ab-candidate", profiles=["other"])
        artifact = meter.artifact()
    assert board.booted == ["a", "b"]
    assert [line for line in lines if "switching" in line] == [
        "switching to the old firmware",
        "switching to the new firmware",
    ]
    assert [(run.profile, run.firmware, len(run.results)) for run in first] == [
        ("page", "old", 2),
        ("other", "old", 2),
    ]
    assert [(run.role, run.profile, run.run_index, run.firmware) for run in artifact.raw_runs] == [
        ("ab-baseline", "page", 1, "old"),
        ("ab-baseline", "other", 1, "old"),
        ("ab-candidate", "page", 1, "new"),
        ("ab-candidate", "other", 1, "new"),
        ("ab-candidate", "other", 2, "new"),
    ]
    assert all(result.report.ok and not result.report.err for _, result in artifact.results())


def test_the_session_says_what_it_rests_on(board: SlotBoard, tmp_path: Path) -> None:
    with meter_of(board, tmp_path) as meter:
        meter.measure(OLD, index=1, role="ab-baseline")
        contest = meter.artifact().contest
    assert contest is not None
    assert [(one.label, one.how, one.slot) for one in contest.firmwares] == [("old", "slot", "a")]
    (switch,) = contest.switches
    assert switch.label == "old"
    assert switch.boot_s is not None
    assert switch.boot_s >= board.boot_s * 0.5
    assert contest.seconds > switch.seconds


def test_the_first_answers_after_a_switch_are_left_out(board: SlotBoard, tmp_path: Path) -> None:
    with meter_of(board, tmp_path) as meter:
        runs = meter.measure(OLD, index=1, role="ab-baseline", profiles=["page"])
        measured = sum(result.report.requests_total for run in runs for result in run.results)
        answered = meter.answers["old"]["page"]
    pages = [path for slot, path in board.asked if path in {"/", "/more"}]
    assert len(pages) >= measured + 2 + 1  # one of each path, and some load
    assert pages[:2] == ["/", "/more"]
    assert {path: answer.status for path, answer in answered.items()} == {"/": 200, "/more": 200}


def test_every_phase_is_on_disk_at_once(board: SlotBoard, tmp_path: Path) -> None:
    with meter_of(board, tmp_path, device_boot_timeout_s="1") as meter:
        meter.measure(OLD, index=1, role="ab-baseline", profiles=["page"])
        kept = latest(tmp_path)
        board.slots["b"].boots = False
        with pytest.raises(DeviceError):
            meter.measure(NEW, index=1, role="ab-candidate")
    assert kept.partial
    assert [(run.firmware, len(run.results)) for run in kept.raw_runs] == [("old", 2)]
    assert kept.contest is not None


def test_a_session_of_rounds_is_no_baseline_and_not_the_latest(board: SlotBoard, tmp_path: Path) -> None:
    with meter_of(board, tmp_path) as meter:
        meter.measure(OLD, index=1, role="ab-baseline", profiles=["page"])
        meter.measure(NEW, index=1, role="ab-candidate", profiles=["page"])
        verdict = Verdict(kind="unchanged")
        outcome = meter.save(Judgement(meter.artifact(), verdict, fails=False))
    assert outcome.saved is not None
    folder = tmp_path / "tools" / "perf_history"
    assert not (folder / names.LATEST).exists()
    assert not (folder / names.PARTIAL).exists()
    (row,) = HistoryStore(folder).select()
    assert not row.in_history
    assert row.session_id == outcome.artifact.session_id


def test_a_firmware_that_does_not_boot_is_named(board: SlotBoard, tmp_path: Path) -> None:
    board.slots["b"].boots = False
    with meter_of(board, tmp_path, device_boot_timeout_s="1") as meter:
        with pytest.raises(DeviceError, match="after the new firmware was put on it"):
            meter.measure(NEW, index=1, role="ab-candidate")
        board.slots["a"].boots = True
        board.start()  # somebody resets it
        assert meter.measure(OLD, index=1, role="ab-baseline", profiles=["other"])
        assert meter.stop_reason == ""


def test_a_firmware_whose_answers_are_wrong_is_named(board: SlotBoard, tmp_path: Path) -> None:
    board.slots["b"].status = 404
    with (
        meter_of(board, tmp_path) as meter,
        pytest.raises(DeviceError, match=r"the new firmware: / answers 404"),
    ):
        meter.measure(NEW, index=1, role="ab-candidate")


def test_a_firmware_that_dies_in_a_round_stops_it_and_the_next_one_goes_on(
    board: SlotBoard, tmp_path: Path
) -> None:
    with meter_of(board, tmp_path, perf_request_timeout="0.5") as meter:
        meter.measure(OLD, index=1, role="ab-baseline", profiles=["other"])
        board.slots["b"].dies_after = len(board.asked) + 30
        with pytest.raises(DeviceError):
            meter.measure(NEW, index=1, role="ab-candidate")
        board.slots["a"].dies_after = 10**9
        meter.measure(OLD, index=2, role="ab-baseline", profiles=["other"])
        artifact = meter.artifact()
    assert artifact.hard_stop_reason == ""
    assert [run.run_index for run in artifact.raw_runs if run.role == "ab-baseline"] == [1, 2]


def test_a_firmware_is_prepared_before_it_is_put_there(board: SlotBoard, tmp_path: Path) -> None:
    class Broken(SlotFirmware):
        def prepare(self) -> None:
            raise BuildError("abc1234 does not build: ld: region `iram' overflowed")

    with meter_of(board, tmp_path) as meter, pytest.raises(BuildError, match="iram"):
        meter.measure(Broken("abc1234", "b", SWITCH), index=1, role="ab-candidate")
    assert board.booted == []
