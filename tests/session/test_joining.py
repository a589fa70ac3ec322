"""A search that goes on is one session: its parts are joined, and nothing is lost between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.slot_board import SlotBoard, slot_board

from pytest_espperf.config.lookup import resolve
from pytest_espperf.history import HistoryStore, load_session, names
from pytest_espperf.model.artifact import SessionArtifact, Verdict
from pytest_espperf.session import round_meter
from pytest_espperf.session.bisecting import SearchState
from pytest_espperf.session.firmwares import SlotFirmware
from pytest_espperf.session.joining import join_parts
from pytest_espperf.session.judging import Judgement
from pytest_espperf.session.round_meter import RoundMeter

OPTIONS: dict[str, object] = {
    "perf_burst_duration": "0.1",
    "perf_long_duration": "0.1",
    "perf_burst_clients": "1",
    "perf_long_clients": "1",
    "perf_settle_ms": "0",
    "perf_between_runs_ms": "0",
    "perf_metrics_retries": "0",
    "perf_request_timeout": "2",
    "perf_link_probes": "off",
    "perf_profiles": "page",
    "perf_save_samples": "yes",
}
SWITCH = "/switch?slot={slot}"
GOOD, BAD = SlotFirmware("good", "a", SWITCH), SlotFirmware("bad", "b", SWITCH)


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[SlotBoard], RoundMeter]:
    monkeypatch.setattr(round_meter, "WARM_S", 0.05)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "espperf.toml").write_text(
        '[profiles.page]\npaths = ["/"]\n[telemetry]\nstats = ""\nmemory = ""\n', encoding="utf-8"
    )

    def begin(board: SlotBoard) -> RoundMeter:
        given = {**OPTIONS, "device_ip": [board.address]}
        return RoundMeter(
            resolve(given, {}, {}), tmp_path, kind="bisect", say=lambda _: None, show=lambda _: None
        )

    return begin


def save(meter: RoundMeter, *, partial: bool = False) -> None:
    verdict = Verdict(kind="incomplete" if partial else "inconclusive")
    session: SessionArtifact = meter.artifact()
    assert meter.save(Judgement(session, verdict, fails=False)).saved


def runs_of(session: SessionArtifact) -> list[tuple[str, int]]:
    return [(run.firmware, run.run_index) for run in session.raw_runs]


def seconds_of(session: SessionArtifact) -> float:
    assert session.contest is not None
    return session.contest.seconds


@pytest.mark.parametrize("ended", ["killed", "interrupted", "open"])
def test_the_parts_of_a_search_are_one_entry_with_all_runs(
    ended: str, part: Callable[[SlotBoard], RoundMeter], tmp_path: Path
) -> None:
    state = SearchState(options={}, folder="", good="", line=[])
    kept: list[list[str]] = []
    history = tmp_path / "tools" / "perf_history"
    with slot_board() as board:
        with part(board) as meter:
            join_parts(meter, state, lambda state: kept.append(state.sessions))
            meter.measure(GOOD, index=0, role="ab-baseline")
            meter.measure(BAD, index=0, role="ab-candidate")
            if ended != "killed":
                save(meter, partial=ended == "interrupted")
        samples = sorted(path.name for path in history.glob("samples_*/*"))
        assert len(samples) == 4
        with part(board) as meter:
            (row,) = meter.store.select()
            assert [row.session_id] == state.sessions
            first_s = seconds_of(load_session(history / row.name))
            join_parts(meter, state, lambda state: kept.append(state.sessions))
            assert not meter.store.select()  # all of it is in the checkpoint
            assert runs_of(load_session(history / names.PARTIAL)) == [("good", 0), ("bad", 0)]
            meter.measure(BAD, index=1, role="ab-candidate")
            save(meter)
            contest = meter.artifact().contest
            assert contest is not None
            assert [one.label for one in contest.switches] == ["good", "bad", "bad"]
            assert seconds_of(meter.artifact()) > first_s
    (row,) = HistoryStore(history).select()
    assert runs_of(load_session(history / row.name)) == [("good", 0), ("bad", 0), ("bad", 1)]
    assert not list(history.glob("latest.partial*.json"))
    assert set(samples) < {path.name for path in history.glob("samples_*/*")}
    assert kept == [state.sessions[:1], state.sessions]
    assert len(set(state.sessions)) == 2


def test_what_is_elsewhere_or_was_joined_already_is_passed_over(
    part: Callable[[SlotBoard], RoundMeter], tmp_path: Path
) -> None:
    state = SearchState(options={}, folder="", good="", line=[], sessions=["gone"])
    with slot_board() as board, part(board) as meter:
        meter.measure(GOOD, index=0, role="ab-baseline")
        before = meter.artifact()
        meter.carry(before)
        meter.carry(before)
        after = meter.artifact()
        assert runs_of(after) == runs_of(before)
        assert after.contest == before.contest
        join_parts(meter, state, lambda _: None)
        assert state.sessions == ["gone", meter.context.session_id]
