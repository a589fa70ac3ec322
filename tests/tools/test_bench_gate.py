"""The bench runs, is reproducible, and its queue behaves as queues do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from support.paths import TOOLS

pytestmark = pytest.mark.timeout(600)  # a minute of a processor that others want too


@pytest.fixture(autouse=True)
def _tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))


@contextmanager
def in_process(_workers: int) -> Iterator[SimpleNamespace]:
    """An executor that is none."""
    yield SimpleNamespace(map=map)


def test_a_small_run_prints_its_seed_and_every_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import bench_gate

    monkeypatch.setattr(bench_gate, "JUDGED", 2)
    monkeypatch.setattr(bench_gate, "ProcessPoolExecutor", in_process)
    words = ["--levels", "low", "--pool", "30", "--workers", "1", "--seed", "3", "--parts", "table"]
    bench_gate.main(["--sessions", "2", *words])
    printed = capsys.readouterr().out
    assert "seed 3" in printed
    for rule in ("H=20", "H=1", "H=20 + B", "H=20 + C, early stop", "asv", "conbench z", "slide of 2 %"):
        assert rule in printed


def test_labs_are_reproducible() -> None:
    import bench_gate_model as model

    pool = model.make_pool(1, model.LEVELS["medium"], (1.0,), 20)
    first, again, other = (model.Lab(pool, seed).session() for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_the_queue_is_saturated_and_slows_as_told() -> None:
    import bench_gate_model as model

    pool = model.make_pool(1, model.LEVELS["low"], (1.0, 1.2), 40)
    for profile in model.PROFILES:
        base, slow = pool.figures[profile, 1.0], pool.figures[profile, 1.2]
        rps, p50 = base[:, 0, 0].mean(), base[:, 0, 1].mean()
        assert rps <= 1.02 / model.SERVICE_S[profile]
        # Little's law: clients = throughput * mean latency; the ends of a phase take their share.
        assert rps * base[:, 0, 5].mean() / 1000 == pytest.approx(model.CLIENTS["burst"], rel=0.06)
        assert slow[:, 0, 1].mean() / p50 == pytest.approx(1.2, rel=0.03)


@pytest.mark.parametrize("source", ["medium", "recording"])
def test_the_other_parts_run_on_levels_and_on_recordings(
    source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import bench_gate
    import bench_gate_cells as cells

    monkeypatch.setattr(cells, "ProcessPoolExecutor", in_process)
    monkeypatch.setattr(cells, "CHAIN", 2)
    monkeypatch.setattr(cells, "LEAST_BENCHES", 1)
    monkeypatch.setattr(cells, "WARM_UP", 6)
    real = str(TOOLS / "data" / "rounds_microdot_quiet.json")
    words = ["--levels", "medium"] if source == "medium" else ["--levels", "", "--real", real]
    parts = "cells,chain,hang,times"
    bench_gate.main(
        [*words, "--sessions", "2", "--pool", "20", "--workers", "1", "--histories", "1", "--parts", parts]
    )
    printed = capsys.readouterr().out
    for said in ("alarms", "unchanged though 30 % slower", "joined", "a hang of 3 s", "early end, x1.2"):
        assert said in printed


def test_old_against_new_runs_on_levels_and_on_recordings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import bench_gate
    import bench_gate_ab as contest

    monkeypatch.setattr(contest, "ProcessPoolExecutor", in_process)
    monkeypatch.setattr(contest, "PARTS", 1)
    real = str(TOOLS / "data" / "rounds_two_writes_quiet.json")
    bench_gate.main(
        ["--ab", "--levels", "low", "--real", real, "--sessions", "2", "--pool", "20", "--boots", "0.002"]
    )
    printed = capsys.readouterr().out
    assert "boots differ by 0.002" in printed
    for source in ("low ", "rounds_two_writes_quiet "):
        rows = [line for line in printed.splitlines() if line.startswith(f"  {source}")]
        assert len(rows) == len(contest.ROWS)
        assert "alarms   0.0" in rows[0]
        assert "slower 100.0 %" in rows[-1]  # 10 %, far beyond the noise


def test_pairs_of_a_recording_are_neighbours_in_the_order_ab_ba() -> None:
    import bench_gate_ab as contest
    import bench_gate_flow as flow

    recording = flow.Recording.load(TOOLS / "data" / "rounds_microdot_quiet.json")
    bench = flow.RecordedBench(recording, seed=1)
    measure = contest.recorded(bench, {"python_heavy": 2.0}, 6)
    drawn = flow.RecordedBench(recording, seed=1).draw({}, 6).rounds("python_heavy", 1, 6, "run")
    rounds = [contest._values(run) for run in drawn]
    for pair, (old, new) in enumerate(((0, 1), (3, 2), (4, 5))):
        before, after = measure("python_heavy", pair)
        assert before == rounds[old]
        assert after == pytest.approx([value + math.log(2.0) for value in rounds[new]])


def test_recordings_are_drawn_in_blocks() -> None:
    import bench_gate_flow as flow

    recording = flow.Recording.load(TOOLS / "data" / "rounds_microdot_quiet.json")
    bench = flow.RecordedBench(recording, seed=1, pause_s=2 * recording.round_s)
    drawn = bench.draw({"python_heavy": 2.0}, 3)
    planned = [run.results[0].report.rps_ok for run in drawn.rounds("python_heavy", 1, 3, "run")]
    again = [run.results[0].report.rps_ok for run in drawn.rounds("python_heavy", 1, 2, "confirm")]
    all_of_them = [value / 2.0 for value in recording.profiles["python_heavy"]["burst"]["rps_ok"]]
    start = next(
        i for i in range(60) if all_of_them[i] == planned[0] and all_of_them[(i + 1) % 60] == planned[1]
    )
    assert planned == [all_of_them[(start + i) % 60] for i in range(3)]
    assert again == [all_of_them[(start + 3 + 2 + i) % 60] for i in range(2)]
