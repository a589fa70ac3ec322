from __future__ import annotations

from pathlib import Path

import pytest

from pytest_espperf.config.lookup import resolve
from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.load import Progress
from pytest_espperf.session.plan import make_plan
from pytest_espperf.session.progress import OVERHEAD_S, Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_is_left_is_foreseen_by_what_the_phases_before_took(tmp_path: Path) -> None:
    words = {
        "perf_profiles": "python_light",
        "perf_runs": "2",
        "perf_burst_duration": "10",
        "perf_long_duration": "20",
        "perf_warmup_s": "0",
    }
    plan = make_plan(resolve(words, {}, {}), load_profiles(tmp_path))
    clock = Clock()
    pace = Pace(plan, clock)
    first, second, *_ = plan.phases()
    pace.begin(first)
    assert pace.left_s(first, 4.0) == pytest.approx(6 + 50 + 3 * OVERHEAD_S)
    clock.now += 12  # two more than its load
    pace.end(first)
    pace.begin(second)
    clock.now += 5
    assert pace.left_s(second, 5.0) == pytest.approx(15 + 30 + 2 * 2)
    clock.now += 5
    progress = Progress(
        elapsed_s=10.0, duration_s=20.0, completed=900, errors=3, rps=90.0, p95_ms=None, clients=8
    )
    assert pace.line(second, progress) == "run 1/2 python_light:long 10.0/20 s, 0:44 left: 3 errors, 90 req/s"
