"""What people use today, run on the same simulated sessions as the shipped gate.

Each rival says whether it would call the candidate a regression. The rules and their defaults:

``fixed 10 %, all``      any of p50, p95, p99, tail p95, rps, error rate of any cell 10 % worse than before
``fixed 10 %, p95+rps``  the same with two metrics
``pytest-benchmark``     ``--benchmark-compare-fail=median:10%``: any cell's median latency
``asv``                  Mann-Whitney U on the requests, p < 0.002, and a median worse by its factor 1.1
``asv, rounds``          the same on the medians of the rounds (six against six can never be below 0.002)
``Welch``                t test on the rounds' log p95 and log rps, one-sided 5 % shared by all cells
``conbench z``           a cell's mean beyond 5 standard deviations of the history's (its default)
``conbench 5 %``         its pairwise default: any cell's mean 5 % worse than before
``otava``                a change point for the worse at the last session, p < 0.001 (its default)
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bench_gate_model import PHASES, PROFILES, Floats
from scipy import stats

from pytest_espperf.model.artifact import SessionArtifact

METRICS = ("rps_ok", "p95_ms", "p50_ms", "p99_ms", "p95_tail_ms", "error_rate")
CELLS = tuple((profile, phase) for profile in PROFILES for phase in PHASES)


def otava_function() -> Any:
    """``compute_change_points`` of apache-otava, None where it is not installed."""
    try:
        return importlib.import_module("otava.analysis").compute_change_points
    except ImportError:
        return None


@dataclass(frozen=True)
class View:
    """A session as arrays: ``values`` is metrics x cells x rounds, ``requests`` is cells x kept latencies."""

    values: Floats
    requests: Floats


def view(session: SessionArtifact, requests: Floats) -> View:
    """Return the planned rounds of a session."""
    table: dict[tuple[str, str], list[list[float]]] = {}
    for run in session.raw_runs:
        for result in run.results:
            row = [float(getattr(result.report, metric) or 0.0) for metric in METRICS]
            table.setdefault((run.profile, result.phase), []).append(row)
    values = np.array([table[cell] for cell in CELLS])
    return View(np.moveaxis(values, 2, 0), requests)


def _worse(now: Floats, before: Floats) -> Floats:
    """Change for the worse as a ratio, metrics x cells; 0 where there was nothing before."""
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(before > 0, now / before - 1, 0.0)
    change[0] *= -1
    return np.asarray(change)


def _asv(now: Floats, before: Floats) -> bool:
    p_value = stats.mannwhitneyu(now, before, axis=1, alternative="two-sided").pvalue
    return bool(np.any((p_value < 0.002) & (np.median(now, axis=1) > 1.1 * np.median(before, axis=1))))


def rivals(candidate: View, history: Sequence[View]) -> dict[str, bool]:
    """Which rivals call the candidate a regression; history oldest first."""
    before = history[-1]
    median = _worse(np.median(candidate.values, axis=2), np.median(before.values, axis=2))
    mean = _worse(candidate.values.mean(axis=2), before.values.mean(axis=2))
    new, old = np.log(candidate.values[:2]), np.log(before.values[:2])
    new[0], old[0] = -new[0], -old[0]
    welch = stats.ttest_ind(new, old, axis=2, equal_var=False, alternative="greater").pvalue
    past = np.stack([one.values[:2].mean(axis=2) for one in history])
    z = (candidate.values[:2].mean(axis=2) - past.mean(axis=0)) / past.std(axis=0, ddof=1)
    z[0] *= -1
    return {
        "fixed 10 %, all": bool((median > 0.10).any()),
        "fixed 10 %, p95+rps": bool((median[:2] > 0.10).any()),
        "pytest-benchmark": bool((median[2] > 0.10).any()),
        "asv": _asv(candidate.requests, before.requests),
        "asv, rounds": _asv(candidate.values[2], before.values[2]),
        "Welch": bool((welch < 0.05 / welch.size).any()),
        "conbench z": bool((z > 5).any()),
        "conbench 5 %": bool((mean[:2] > 0.05).any()),
    }


def otava_calls(compute: Any, candidate: View, history: Sequence[View]) -> bool:
    """Whether otava sees a change for the worse at the last session."""
    series = np.stack([one.values[:2].mean(axis=2) for one in (*history, candidate)])
    for metric, sign in ((0, -1), (1, 1)):
        for cell in range(series.shape[2]):
            line = series[:, metric, cell]
            points, _ = compute(line.tolist())
            if any(p.index == len(line) - 1 and sign * (line[-1] - line[:-1].mean()) > 0 for p in points):
                return True
    return False
