"""All boards of a run share its false alarms."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from msgspec import structs
from support.gate_sessions import session

from pytest_espperf.gate import judge
from pytest_espperf.gate import policy as p
from pytest_espperf.gate.stats import NINE_IN_TEN, t_upper_tail
from pytest_espperf.model.artifact import MAIN_RULE, SessionArtifact, Verdict

SEED = 20261126


def past_sessions(rng: random.Random, sessions: int = 20) -> list[SessionArtifact]:
    return [structs.replace(session(rng), gate=Verdict(kind="unchanged")) for _ in range(sessions)]


def spent(verdict: Verdict, df: int) -> float:
    """The chance of a false alarm that the gates' thresholds leave, added up."""
    total = 0.0
    for row in verdict.gates:
        if row.metric in ("rps_ok", "p95_ms") and row.rule == MAIN_RULE:
            assert row.threshold_pct is not None
            assert row.reliable_pct is not None
            assert row.smallest_detectable_pct is not None
            told = math.log1p(row.reliable_pct / 100) - math.log1p(row.smallest_detectable_pct / 100)
            sigma = told / NINE_IN_TEN
            total += t_upper_tail(math.log1p(row.threshold_pct / 100) / sigma, df)
    return total


@pytest.mark.parametrize("boards", [1, 2, 30])
def test_a_run_of_many_boards_spends_no_more_than_one_of_one(boards: int) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    history = [structs.replace(one, boards=3) for one in past_sessions(rng)]
    verdict = judge(structs.replace(session(rng), boards=boards), history)
    run = boards * spent(verdict, df=20 + p.PRIOR_WEIGHT - 1)
    print(f"spent {run:.5f}")
    # No threshold is below 5 %: a quiet bench by itself leaves most of it unspent.
    assert (p.ALPHA / 2 if boards == 30 else 0) < run < p.ALPHA * 1.01
    assert verdict.kind == "unchanged"


def test_what_every_board_lost_is_still_called_among_thirty() -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    history = past_sessions(rng)
    slow = session(rng, slower={"python_heavy": 1.25})
    assert judge(structs.replace(slow, boards=30), history).kind == "regressed"


def test_an_artifact_of_before_is_of_one_board() -> None:
    assert SessionArtifact().boards == 1


@pytest.mark.parametrize("boards", [1, 8, 30])
def test_the_drift_guard_waits_so_much_longer(boards: int) -> None:
    """Siegmund's rate, at a level at which alarms are frequent enough to be counted."""
    print(f"seed {SEED}")
    level, chains, steps = 1.0, 4000, 1500
    higher = level + p.drift_alarm(boards) - p.DRIFT_ALARM
    draw = np.random.default_rng(SEED)
    score = {at: np.zeros(chains) for at in {level, higher}}
    alarms = dict.fromkeys(score, 0)
    for _ in range(steps):
        z = np.clip(draw.standard_normal(chains), -p.DRIFT_CLIP, p.DRIFT_CLIP)
        for at, before in score.items():
            moved = np.maximum(0, before + z - p.DRIFT_ALLOWANCE)
            alarms[at] += int((moved >= at).sum())
            score[at] = np.where(moved >= at, 0, moved)
    assert alarms[higher] > 100
    assert boards * alarms[higher] / alarms[level] < 1.1
