"""The bench of searches runs, and is reproducible."""

from __future__ import annotations

import math

import pytest
from support.paths import TOOLS


@pytest.fixture(autouse=True)
def _tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))


def test_a_search_is_reproducible_and_beats_the_plain_one() -> None:
    import bench_bisect as bench

    search = bench.Search(12, math.log(1.12), 0.04)
    ends = [bench.searched(search, seed) for seed in range(12)]
    assert ends == [bench.searched(search, seed) for seed in range(12)]
    assert sum(end.right for end in ends) > sum(end.plain for end in ends)
    assert {end.kind for end in ends} <= {"found", "open", "several", "none"}


def test_each_kind_of_search_is_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import bench_bisect as bench

    monkeypatch.setattr(bench, "SEARCHES", (bench.Search(5, math.log(1.2), 0.01), bench.Search(3, 0.0, 0.01)))
    bench.main(["--trials", "2", "--workers", "1", "--seed", "3"])
    printed = capsys.readouterr().out.splitlines()
    assert "seed 3" in printed[0]
    assert len(printed) == 4
