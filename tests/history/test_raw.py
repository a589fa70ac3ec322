from __future__ import annotations

import csv
import gzip
import math
from array import array
from pathlib import Path

import pytest

from pytest_espperf.errors import HistoryError
from pytest_espperf.history import HistoryStore, save_samples
from pytest_espperf.model.samples import Outcome, PhaseSamples


def samples(count: int, *, open_loop: bool = False) -> PhaseSamples:
    return PhaseSamples(
        paths=("/a", "/b?x=1,2"),
        clients=1,
        duration_s=1.0,
        outcomes=[Outcome(200, None), Outcome(None, "ReadTimeout")],
        start_s=array("f", [index / 64 for index in range(count)]),
        lag_s=array("f", [0.5] * count if open_loop else []),
        service_s=array("f", [0.25] * count),
        ttfb_s=array("f", [math.nan if index % 2 else 0.125 for index in range(count)]),
        path=array("B", [index % 2 for index in range(count)]),
        outcome=array("B", [index % 2 for index in range(count)]),
    )


def rows(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.reader(file))


def test_every_sample_is_kept(tmp_path: Path) -> None:
    path = save_samples(tmp_path, "run1-x-burst", samples(3))
    assert path.name == "run1-x-burst.csv.gz"
    assert rows(path) == [
        ["start_s", "lag_s", "service_s", "ttfb_s", "path", "status", "error"],
        ["0.000000", "", "0.250000", "0.125000", "/a", "200", ""],
        ["0.015625", "", "0.250000", "", "/b?x=1,2", "", "ReadTimeout"],
        ["0.031250", "", "0.250000", "0.125000", "/a", "200", ""],
    ]


def test_an_open_loops_lag_is_kept(tmp_path: Path) -> None:
    assert rows(save_samples(tmp_path, "x", samples(1, open_loop=True)))[1][1] == "0.500000"


def test_a_long_phase_is_thinned_and_says_so(tmp_path: Path) -> None:
    kept = rows(save_samples(tmp_path, "x", samples(10), most=4))
    assert kept[0] == ["# 1 of 3 of 10 samples"]
    assert len(kept) == 2 + 4


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    path = save_samples(tmp_path / "in", "../../x:y", samples(1))
    assert path.parent == tmp_path / "in"
    assert ":" not in path.name


def test_samples_do_not_disturb_the_history(tmp_path: Path) -> None:
    save_samples(tmp_path / "samples_1", "x", samples(1))
    store = HistoryStore(tmp_path)
    assert list(store.sessions()) == []
    assert store.skipped == []


def test_an_unwritable_folder_is_a_history_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(HistoryError, match="taken"):
        save_samples(tmp_path / "taken", "x", samples(1))
