"""What a closed loop loses where its thread has to wait for a processor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.board_server import Boards
from support.load_servers import HELLO, phase

from pytest_espperf.load import guard, processor, run_phase
from pytest_espperf.load.guard import SelfWatch
from pytest_espperf.load.processor import CpuTurns, cpu_turns, lost_share
from pytest_espperf.model.samples import GeneratorHealth
from pytest_espperf.model.workload import Target

BUSY = 3
"""Processes that never rest, on the processor that the generator is kept on."""


@pytest.mark.parametrize(
    ("waited", "turning", "standing", "lost"),
    [
        (0.0, 0.4, 1.0, 0.0),  # it is slow by itself
        (0.3, 0.1, 0.1, 0.1),  # the kernel's stamps tell how long answers lay there
        (0.3, 0.0, 0.5, 0.15),  # without them: half of the clients stood still meanwhile
        (0.3, 0.9, 0.1, 0.3),  # it lost no more than it waited
        (0.3, 0.0, 12.0, 0.3),  # nor did more clients stand still than there are
    ],
)
def test_no_more_is_lost_than_was_waited_and_no_less_than_was_seen(
    waited: float, turning: float, standing: float, lost: float
) -> None:
    assert lost_share(waited, turning, standing) == pytest.approx(lost)


def health(
    monkeypatch: pytest.MonkeyPatch, after: CpuTurns | None, *, open_loop: bool = False, turns: int = 4
) -> GeneratorHealth:
    readings = iter([CpuTurns(5.0, 100), after])
    monkeypatch.setattr(guard, "cpu_turns", lambda: next(readings))
    watch = SelfWatch(clients=2, open_loop=open_loop)
    time.sleep(0.05)
    for _ in range(turns):
        watch.turned(0)
    return watch.health("x")


def test_a_phase_counts_what_was_waited_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = health(monkeypatch, CpuTurns(5.01, 108))
    assert found.waited_share is not None
    assert 0 < found.waited_share <= 0.01 / 0.05
    # Four answers in eight turns: at each of them, one of two clients in two.
    assert found.lost_share == pytest.approx(found.waited_share / 4)
    assert not found.bound


def test_what_cannot_be_known_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (nothing := health(monkeypatch, None)).waited_share is None
    assert nothing.lost_share is None
    assert health(monkeypatch, CpuTurns(5.01, 108), open_loop=True).lost_share is None
    assert health(monkeypatch, CpuTurns(5.01, 108), turns=0).lost_share is None


@pytest.mark.parametrize("told", ["", "0 0 0\n", "1 2\n", "one two three\n"])
def test_a_system_that_does_not_count_tells_nothing(
    told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "SCHEDSTAT", tmp_path / "schedstat")
    assert cpu_turns() is None
    (tmp_path / "schedstat").write_text(told, encoding="ascii")
    assert cpu_turns() is None
    (tmp_path / "schedstat").write_text("7 2500000000 3\n", encoding="ascii")
    assert cpu_turns() == CpuTurns(2.5, 3)


@contextmanager
def crowded() -> Iterator[None]:
    """One processor for this thread and for processes that never rest."""
    ours = os.sched_getaffinity(0)
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY)]
    try:
        core = {min(ours)}
        for process in processes:
            os.sched_setaffinity(process.pid, core)
        os.sched_setaffinity(0, core)
        yield
    finally:
        os.sched_setaffinity(0, ours)
        for process in processes:
            process.kill()
            process.wait()


def measured(boards: Boards) -> GeneratorHealth:
    host, _, port = boards.addresses[0].partition(":")
    target = Target("http", host, int(port), boards.addresses[0])
    samples = run_phase(target, HELLO, phase(1.0, 2), deadline_s=30)
    assert samples.generator is not None
    return samples.generator


@pytest.mark.skipif(cpu_turns() is None, reason="only Linux says how long a thread waited")
def test_a_crowded_processor_costs_a_fast_board_what_it_costs_no_slow_one() -> None:
    with Boards.running(1, 0.003) as at_once, Boards.running(1, 0.5) as at_leisure, crowded():
        fast, slow = measured(at_once), measured(at_leisure)
    assert fast.waited_share is not None
    assert fast.lost_share is not None
    assert slow.lost_share is not None
    assert 0.05 < fast.lost_share <= fast.waited_share
    assert slow.lost_share < fast.lost_share / 2
