"""A search that goes on is one session: its parts are joined, and nothing is lost between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from support.short_sessions import BRIEF_ROUNDS
from support.slot_board import SlotBoard, slot_board

from pytest_espperf.config.lookup import resolve
from pytest_espperf.errors import HistoryError
from pytest_espperf.history import HistoryStore, files, load_session, names
from pytest_espperf.history.load import decode_session
from pytest_espperf.model.artifact import SessionArtifact, Verdict
from pytest_espperf.session import joining, placer
from pytest_espperf.session.firmwares import SlotFirmware
from pytest_espperf.session.joining import join_parts
from pytest_espperf.session.judging import Judgement
from pytest_espperf.session.round_meter import RoundMeter
from pytest_espperf.session.searches import SearchState

OPTIONS: dict[str, object] = {
    **BRIEF_ROUNDS,
    "perf_burst_duration": "0.1",
    "perf_long_duration": "0.1",
    "perf_burst_clients": "1",
    "perf_profiles": "page",
    "perf_save_samples": "yes",
}
SWITCH = "/switch?slot={slot}"
Part = Callable[..., RoundMeter]
GOOD, BAD = SlotFirmware("good", "a", SWITCH), SlotFirmware("bad", "b", SWITCH)


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Part:
    monkeypatch.setattr(placer, "WARM_S", 0.05)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "espperf.toml").write_text(
        '[profiles.page]\npaths = ["/"]\n[telemetry]\nstats = ""\nmemory = ""\n', encoding="utf-8"
    )

    def begin(board: SlotBoard, more: Mapping[str, object] | None = None) -> RoundMeter:
        given = {**OPTIONS, "device_ip": [board.address], **(more or {})}
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
def test_the_parts_of_a_search_are_one_entry_with_all_runs(ended: str, part: Part, tmp_path: Path) -> None:
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


def test_what_is_elsewhere_or_was_joined_already_is_passed_over(part: Part, tmp_path: Path) -> None:
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


def begun(part: Part, board: SlotBoard, state: SearchState) -> None:
    """The first part of a search: one round of each firmware, and killed."""
    with part(board) as meter:
        join_parts(meter, state, lambda _: None)
        meter.measure(GOOD, index=0, role="ab-baseline")
        meter.measure(BAD, index=0, role="ab-candidate")


def entries(history: Path) -> dict[str, list[tuple[str, int]]]:
    return {path.name: runs_of(load_session(path)) for path in sorted(history.glob("perf_*.json"))}


class KilledError(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    "place",
    ["state", "checkpoint", "written", "first removal", "last removal"],
)
def test_a_part_that_is_killed_while_it_joins_loses_nothing_and_counts_nothing_twice(
    place: str, part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SearchState(options={}, folder="", good="", line=[])
    history = tmp_path / "tools" / "perf_history"

    def killed(*_: object) -> None:
        raise KilledError

    with slot_board() as board:
        begun(part, board, state)
        with monkeypatch.context() as patch:
            if place == "checkpoint":
                patch.setattr(RoundMeter, "checkpoint", killed)
            elif place == "written":
                patch.setattr(joining, "_remove_entry", killed)
            elif place == "first removal":
                patch.setattr(files, "remove", killed)
            elif place == "last removal":
                remove = files.remove
                patch.setattr(
                    files, "remove", lambda path: killed() if path.suffix == ".json" else remove(path)
                )
            with pytest.raises(KilledError), part(board) as meter:
                join_parts(meter, state, killed if place == "state" else lambda _: None)
        if place == "state":  # it was not written
            state.sessions.pop()
        with part(board) as meter:
            join_parts(meter, state, lambda _: None)
            meter.measure(GOOD, index=1, role="ab-baseline")
            save(meter)
            contest = meter.artifact().contest
    assert contest is not None
    assert [one.label for one in contest.switches] == ["good", "bad", "good"]
    runs = [one for one in entries(history).values() if one]
    assert runs == [[("good", 0), ("bad", 0), ("good", 1)]]


def test_three_parts_count_each_switch_and_second_once(part: Part, tmp_path: Path) -> None:
    """The second part is killed before the entry of the first goes: the third meets both."""
    state = SearchState(options={}, folder="", good="", line=[])
    history = tmp_path / "tools" / "perf_history"
    with slot_board() as board:
        begun(part, board, state)
        with part(board) as meter:
            first = next(iter(history.glob("perf_*.json"))).read_bytes()
            first_s = seconds_of(decode_session(first))
            join_parts(meter, state, lambda _: None)
            meter.measure(BAD, index=1, role="ab-candidate")
            took_s = seconds_of(meter.artifact())
        (history / "perf_20200101T000000Z.json").write_bytes(first)
        with part(board) as meter:
            assert len(meter.store.select()) == 2
            join_parts(meter, state, lambda _: None)
            joined = meter.artifact()
            save(meter)
    assert joined.contest is not None
    assert [one.label for one in joined.contest.switches] == ["good", "bad", "bad"]
    assert first_s < seconds_of(joined) <= took_s  # the last checkpoint was a moment before the end
    assert list(entries(history).values()) == [[("good", 0), ("bad", 0), ("bad", 1)]]


def test_a_full_disk_removes_no_entry(part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = SearchState(options={}, folder="", good="", line=[])
    history = tmp_path / "tools" / "perf_history"
    with slot_board() as board:
        begun(part, board, state)
        with part(board) as meter:
            with monkeypatch.context() as patch:

                def full(*_: object) -> None:
                    raise HistoryError("no space left on the disk")

                patch.setattr(files, "write_atomic", full)
                join_parts(meter, state, lambda _: None)
            assert list(entries(history).values()) == [[("good", 0), ("bad", 0)]]
        with part(board) as meter:
            join_parts(meter, state, lambda _: None)
            assert runs_of(load_session(history / names.PARTIAL)) == [("good", 0), ("bad", 0)]
            save(meter)
    assert list(entries(history).values()) == [[("good", 0), ("bad", 0)]]


def test_a_state_that_cannot_be_written_leaves_the_history_as_it_was(part: Part, tmp_path: Path) -> None:
    state = SearchState(options={}, folder="", good="", line=[])
    history = tmp_path / "tools" / "perf_history"

    def full(_: SearchState) -> None:
        raise HistoryError("no space left on the disk")

    with slot_board() as board:
        begun(part, board, state)
        with pytest.raises(HistoryError, match="no space"), part(board) as meter:
            join_parts(meter, state, full)
    assert list(entries(history).values()) == [[("good", 0), ("bad", 0)]]
    assert not list(history.glob("latest.partial*.json"))


def test_an_entry_with_something_that_is_not_joined_stays(part: Part, tmp_path: Path) -> None:
    state = SearchState(options={}, folder="", good="", line=[])
    history = tmp_path / "tools" / "perf_history"
    with slot_board() as board:
        begun(part, board, state)
        with part(board) as meter:
            (row,) = meter.store.select()
            meter.measure(BAD, index=0, role="ab-candidate")  # the same round, measured once more
            join_parts(meter, state, lambda _: None)
            assert (history / row.name).exists()


def test_nothing_is_removed_from_a_shared_history(
    part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    state = SearchState(options={}, folder="", good="", line=[])
    shared = {"perf_history": (tmp_path / "bucket").as_uri()}
    with slot_board() as board:
        with part(board, shared) as meter:
            join_parts(meter, state, lambda _: None)
            meter.measure(GOOD, index=0, role="ab-baseline")
            meter.measure(BAD, index=0, role="ab-candidate")
            save(meter, partial=True)
        with part(board, shared) as meter:
            assert meter.is_shared
            folder = meter.store.folder
            join_parts(meter, state, lambda _: None)
            save(meter)
        there = entries(folder)
        with part(board, shared) as meter:
            assert entries(folder) == there  # nothing came back, nor a second time
            meter.drop()
    assert list(there.values()) == [[("good", 0), ("bad", 0)]] * 2
