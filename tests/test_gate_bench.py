"""The bench runs, is reproducible, and its queue behaves as queues do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

TOOLS = Path(__file__).parent.parent / "tools"


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
    bench_gate.main(["--sessions", "2", "--levels", "low", "--pool", "30", "--workers", "1", "--seed", "3"])
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
