"""A board's first session in a folder that other boards share: what is reported of them, and what is not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from support.gate_sessions import session

from pytest_espperf.config.lookup import resolve
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import Comparability, SessionArtifact, Verdict
from pytest_espperf.session.judging import Judge

HINT = "if that is the same hardware, pass --device-id={0} to continue its history."
LEFT, RIGHT = "10.0.0.1:8080", "10.0.0.2:8080"


def of_board(board: str, address: str, **fields: object) -> SessionArtifact:
    """A session of a board at an address."""
    made = session(random.Random(1))
    assert made.comparability is not None
    facts = {**made.comparability.fields, "board": board, **fields}
    return structs.replace(
        made,
        target=address,
        timestamp_utc="20260101T000000Z",
        gate=Verdict(kind="unchanged"),
        comparability=Comparability(key=board, fields=facts),
    )


def told(folder: Path, artifact: SessionArtifact, *, device_id: str = "", alone: bool = True) -> list[str]:
    """What its verdict says of other sessions."""
    judge = Judge.from_settings(resolve({"device_id": device_id or None}, {}, {}))
    now = structs.replace(artifact, boards=1 if alone else 2)
    verdict = judge.judge(now, HistoryStore(folder))[1]
    return [
        f"{one.severity}: {one.message}"
        for one in verdict.findings
        if one.kind in {"first-of-board", "incomparable"}
    ]


@pytest.mark.parametrize(
    ("then", "now", "how", "said"),
    [
        # Named by the user, or one of several: other boards are nobody's business.
        (
            ("left", LEFT),
            ("right", RIGHT),
            {"device_id": "right", "alone": True},
            "info: no earlier session of this board, right.",
        ),
        (
            (LEFT, LEFT),
            (RIGHT, RIGHT),
            {"device_id": "", "alone": False},
            f"info: no earlier session of this board, {RIGHT}.",
        ),
        # The name was forgotten, was given for the first time, or the board has moved.
        (
            ("left", LEFT),
            (LEFT, LEFT),
            {"device_id": "", "alone": True},
            f"the newest at this address is of left: {HINT.format('left')}",
        ),
        (
            (LEFT, LEFT),
            ("left", LEFT),
            {"device_id": "left", "alone": True},
            f"at this address is of {LEFT}: {HINT.format(LEFT)}",
        ),
        (
            ("left", LEFT),
            (LEFT, LEFT),
            {"device_id": "", "alone": False},
            f"the newest at this address is of left: {HINT.format('left')}",
        ),
        (
            (LEFT, LEFT),
            (RIGHT, RIGHT),
            {"device_id": "", "alone": True},
            f"the newest here is of {LEFT}: {HINT.format(LEFT)}",
        ),
    ],
)
def test_other_boards_are_named_only_where_one_may_be_the_same_hardware(
    tmp_path: Path, then: tuple[str, str], now: tuple[str, str], how: dict[str, Any], said: str
) -> None:
    HistoryStore(tmp_path).save(of_board(*then), latest=False)
    (finding,) = told(tmp_path, of_board(*now), **how)
    assert finding.endswith(said)
    assert finding.startswith("warn" if "hardware" in said else "info")


def test_an_empty_folder_says_nothing_of_boards(tmp_path: Path) -> None:
    assert told(tmp_path, of_board(LEFT, LEFT)) == []


def test_what_differs_is_told_of_the_boards_own_sessions_and_no_others(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    store.save(of_board(LEFT, LEFT, runs=3), latest=False)
    store.save(of_board(RIGHT, RIGHT), latest=False)
    (finding,) = told(tmp_path, of_board(LEFT, LEFT))
    assert finding == "warn: the number of runs was 3 in the earlier session, 6 now: not compared."
