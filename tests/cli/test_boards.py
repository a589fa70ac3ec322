"""Decisions in a history of several boards: which one's session is meant is reported, or asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs
from support.history_samples import FIELDS, session

from pytest_espperf.cli import main
from pytest_espperf.history import HistoryStore


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HistoryStore:
    """Two boards with v1 in one run, another alone with v2; ids are the board's name and the hour."""
    monkeypatch.chdir(tmp_path)
    store = HistoryStore(tmp_path / "tools" / "perf_history")
    store.prepare()
    for hour, board, tag, boards in (
        (1, "left", "v1", 1),
        (2, "left", "v1", 2),
        (3, "right", "v1", 2),
        (4, "back\x1b[31m", "v2", 1),
    ):
        name = f"{board.partition(chr(27))[0]}-{hour}"
        made = session(name, f"20260101T{hour:02d}0000Z", tag=tag, fields={**FIELDS, "board": board})
        store.save(structs.replace(made, boards=boards, target=f"10.0.0.{hour}:8080"), latest=hour < 4)
    return store


def marks(history: HistoryStore) -> set[str]:
    return {path.name for kind in ("accept", "pin") for path in history.folder.glob(f"{kind}_*")}


@pytest.mark.parametrize(
    "words", [["accept", "--reason", "x"], ["accept", "--undo"], ["pin"], ["pin", "--undo"]]
)
def test_a_tag_of_several_boards_is_refused_with_their_names(
    history: HistoryStore, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    history.accept("left-2", "before")
    history.pin("right-3")
    before = marks(history)
    assert main([*words, "v1"]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "espperf: 2 boards have sessions tagged 'v1': choose a board (--board), or name one "
        "session; the newest of each: 'right' (right-3), 'left' (left-2)\n"
    )
    assert marks(history) == before


def test_board_says_whose_session_is_meant_and_the_answer_says_it_too(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["accept", "v1", "--board", "left", "--reason", "meant"]) == 0
    assert capsys.readouterr().out == "accepted perf_20260101T020000Z_v1.json of left: meant\n"
    assert main(["pin", "v1", "--board", "10.0.0.3:8080"]) == 0
    assert capsys.readouterr().out == "pinned perf_20260101T030000Z_v1.json of right\n"
    assert marks(history) == {
        "accept_perf_20260101T020000Z_v1.json",
        "pin_perf_20260101T030000Z_v1.json",
    }
    assert main(["accept", "v1", "--board", "left", "--undo"]) == 0
    assert main(["pin", "v1", "--board", "right", "--undo"]) == 0
    assert marks(history) == set()


def test_a_tag_of_one_board_needs_no_board_and_cannot_write_to_the_terminal(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pin", "v2"]) == 0
    assert capsys.readouterr().out == "pinned perf_20260101T040000Z_v2.json of back?[31m\n"
    assert main(["pin", "v2", "--board", "middle"]) == 4
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["v1", "--board", "middle"], "no session of board 'middle' in "),
        (["v2", "--board", "left"], "no session 'v2' of board 'left' in "),
        (["right-3", "--board", "left"], "Other boards have it: 'right'"),
        (["perf_20260101T030000Z_v1.json", "--board", "left"], "Other boards have it: 'right'"),
        (["righ", "--board", "left"], "no session 'righ' of board 'left'"),
        (["latest~2", "--board", "left"], "latest~2 does not exist"),
    ],
)
def test_what_a_board_has_not_is_one_sentence(
    history: HistoryStore, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["pin", *words]) == 4
    assert said in capsys.readouterr().err
    assert marks(history) == set()


def test_of_latest_is_said_which_board_of_the_run_it_is(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pin", "latest"]) == 0
    said = capsys.readouterr()
    assert said.out == "pinned perf_20260101T030000Z_v1.json of right\n"
    assert said.err == (
        "latest is one session of a run of 2 boards: that of right; --board means another one\n"
    )
    for words, name in (
        (["latest", "--board", "left"], "perf_20260101T020000Z_v1.json of left"),
        (["latest~1", "--board", "left"], "perf_20260101T010000Z_v1.json of left"),
        (["left-2"], "perf_20260101T020000Z_v1.json of left"),
    ):
        assert main(["pin", *words]) == 0
        said = capsys.readouterr()
        assert said.out == f"pinned {name}\n"
        assert said.err == ""


def test_looking_at_a_tag_asks_for_no_board(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "v1", "-v"]) == 0
    assert "right-3" in capsys.readouterr().out
    assert history.find("v1").artifact.session_id == "right-3"
    assert history.find("v1", board="left").artifact.session_id == "left-2"
