"""The packaged benchmark: ``pytest --pyargs pytest_espperf.suite -m perf --device-ip 192.168.0.135``.

One test, parametrized into one item for each phase of each run of each profile.
"""

from __future__ import annotations

from pytest_espperf.model.artifact import PhaseResult


def test_perf(perf_phase: PhaseResult) -> None:
    """Measure one phase; the session's verdict comes at the end.

    A budget that a single phase broke is recorded, and judged on the median of the runs.
    """
    assert perf_phase.report.ok, perf_phase.fail_reasons
