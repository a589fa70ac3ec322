"""From the folder to the verdict: which sessions of a history a session is judged against."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from support.gate_sessions import session

from pytest_espperf.config.lookup import resolve
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import SessionArtifact, Verdict
from pytest_espperf.model.verdicts import VerdictWord
from pytest_espperf.session.judging import Judge

SEED = 20261125
SLOW = dict.fromkeys(("c_static_only", "python_light", "python_heavy"), 1.4)


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    return HistoryStore(tmp_path)


def keep(store: HistoryStore, number: int, artifact: SessionArtifact, verdict: VerdictWord) -> None:
    store.save(
        msgspec.structs.replace(
            artifact,
            session_id=f"s{number:04d}",
            timestamp_utc=f"20260101T00{number // 60:02d}{number % 60:02d}Z",
            gate=Verdict(kind=verdict),
        ),
        latest=False,
    )


def judged(store: HistoryStore, artifact: SessionArtifact) -> Verdict:
    return Judge.from_settings(resolve({}, {}, {})).judge(artifact, store)[1]


def test_after_an_environment_shift_the_new_level_is_the_bar(store: HistoryStore) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    for number in range(8):
        keep(store, number, session(rng), "unchanged")
    assert judged(store, session(rng, slower=SLOW)).kind == "regressed"
    keep(store, 8, session(rng, slower=SLOW), "environment-shift")
    verdict = judged(store, session(rng, slower=SLOW))
    assert verdict.kind == "unchanged"
    assert verdict.baseline["sessions"] == ["s0008"]
    assert verdict.baseline["epoch"] == "s0008"
    keep(store, 9, session(rng, slower=SLOW), "unchanged")
    assert judged(store, session(rng, slower=SLOW)).baseline["sessions"] == ["s0008", "s0009"]


def test_a_failing_session_is_no_bar_and_is_said_where_there_is_no_other(store: HistoryStore) -> None:
    rng = random.Random(SEED)
    keep(store, 0, session(rng), "failed")
    verdict = judged(store, session(rng))
    assert verdict.kind == "no-baseline"
    assert "none of the 1 comparable sessions passed" in " ".join(one.message for one in verdict.findings)
    keep(store, 1, session(rng), "no-baseline")
    keep(store, 2, session(rng, slower=SLOW), "regressed")
    assert judged(store, session(rng)).baseline["sessions"] == ["s0001"]


def test_one_judge_has_one_bar_whatever_others_save_meanwhile(store: HistoryStore) -> None:
    rng = random.Random(SEED)
    judge = Judge.from_settings(resolve({}, {}, {}))
    keep(store, 0, session(rng), "no-baseline")
    now = session(rng)
    first = judge.judge(now, store)[1]
    keep(store, 1, session(rng), "unchanged")
    assert judge.judge(now, store)[1].baseline == first.baseline
    assert judged(store, now).baseline["sessions"] == ["s0000", "s0001"]


def empty(rng: random.Random, *, raw_runs: bool, **fields: object) -> SessionArtifact:
    """A session in which no request succeeded: the board was off, or its tests were not run."""
    whole = session(rng)
    assert whole.comparability is not None
    known = msgspec.structs.replace(
        whole.comparability, fields={**whole.comparability.fields, "engine": "", **fields}
    )
    failed = [
        msgspec.structs.replace(
            run,
            results=[
                msgspec.structs.replace(
                    one, report=msgspec.structs.replace(one.report, ok=0, rps_ok=0.0, p95_ms=None)
                )
                for one in run.results
            ],
        )
        for run in whole.raw_runs
    ]
    return msgspec.structs.replace(whole, comparability=known, raw_runs=failed if raw_runs else [])


@pytest.mark.parametrize("raw_runs", [False, True])
def test_a_session_that_measured_nothing_explains_nothing(store: HistoryStore, raw_runs: bool) -> None:
    rng = random.Random(SEED)
    keep(store, 0, empty(rng, raw_runs=raw_runs), "failed")
    artifact, verdict = Judge.from_settings(resolve({}, {}, {})).judge(session(rng), store)
    assert verdict.kind == "no-baseline"
    assert "differ" not in " ".join(one.message for one in verdict.findings)
    assert artifact.comparison_to_previous == {}
    keep(store, 1, empty(rng, raw_runs=raw_runs, board="10.0.0.10:8080"), "failed")
    assert "same hardware" not in " ".join(one.message for one in judged(store, session(rng)).findings)


@pytest.mark.parametrize("raw_runs", [False, True])
def test_a_session_that_measured_nothing_differs_from_none(store: HistoryStore, raw_runs: bool) -> None:
    rng = random.Random(SEED)
    keep(store, 0, session(rng), "no-baseline")
    found = judged(store, empty(rng, raw_runs=raw_runs)).findings
    assert [one for one in found if one.kind == "incomparable"] == []


def test_what_explains_is_what_could_have_been_the_baseline(store: HistoryStore) -> None:
    """A session that failed half-way is newer, and differs in more."""
    rng = random.Random(SEED)
    for number, verdict, runs in ((0, "unchanged", 3), (1, "failed", 4)):
        other = session(rng)
        assert other.comparability is not None
        fields = {**other.comparability.fields, "runs": runs}
        known = msgspec.structs.replace(other.comparability, fields=fields)
        keep(store, number, msgspec.structs.replace(other, comparability=known), verdict)  # type: ignore[arg-type]
    (finding,) = [one for one in judged(store, session(rng)).findings if one.kind == "incomparable"]
    assert finding.message == "the number of runs was 3 in the earlier session, 6 now: not compared."
