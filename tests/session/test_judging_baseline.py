"""``--perf-baseline``: what its name means for one board of several, and what a board without it is
reported."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from msgspec import structs
from support.gate_sessions import key, session

from pytest_espperf.config.lookup import resolve
from pytest_espperf.errors import UsageError
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import GeneratorReport, SessionArtifact, Verdict
from pytest_espperf.model.verdicts import VerdictWord
from pytest_espperf.session.judging import Judge, judge_again

A, B, C = "10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"
LIGHT = ("python_light",)


@pytest.fixture
def rng() -> random.Random:
    print("seed 7")
    return random.Random(7)


@pytest.fixture
def store(tmp_path: Path, rng: random.Random) -> HistoryStore:
    """Boards A and B have sessions tagged v1, B's the newest; C has one of another tag."""
    store = HistoryStore(tmp_path / "history")
    store.prepare()
    for hour, board, tag in ((1, A, "v1"), (2, A, "v2"), (3, B, "v1"), (4, C, "other")):
        save(store, hour, of(rng, board), tag=tag)
    return store


def of(rng: random.Random, board: str, *, slower: float = 1.0, rounds: int = 3) -> SessionArtifact:
    made = session(rng, profiles=LIGHT, rounds=rounds, slower={"python_light": slower})
    return structs.replace(made, target=board, comparability=key(LIGHT, board=board))


def save(
    store: HistoryStore,
    number: int,
    artifact: SessionArtifact,
    *,
    tag: str = "",
    verdict: VerdictWord = "no-baseline",
) -> SessionArtifact:
    stamp = f"20260101T{number // 60:02d}{number % 60:02d}00Z"
    kept = structs.replace(
        artifact, session_id=f"id-{number:04d}", timestamp_utc=stamp, tag=tag, gate=Verdict(kind=verdict)
    )
    return store.save(kept, latest=True).artifact


def judge_of(name: str, **options: str) -> Judge:
    return Judge.from_settings(resolve({"perf_baseline": name, **options}, {}, {}))


def fails_with(verdict: Verdict) -> str:
    assert verdict.kind == "failed"
    (told,) = [one.message for one in verdict.findings if one.severity == "fail"]
    return told


@pytest.mark.parametrize(
    ("name", "board", "bar"),
    [
        ("v1", A, "id-0001"),
        ("v1", B, "id-0003"),
        ("latest", A, "id-0002"),
        ("latest~1", A, "id-0001"),
        ("latest", C, "id-0004"),
    ],
)
def test_a_tag_means_the_newest_session_of_the_board_that_is_judged(
    store: HistoryStore, rng: random.Random, name: str, board: str, bar: str
) -> None:
    for options in ({"device_ip": board}, {}):
        for alone in (True, False):
            judge = judge_of(name, **options)
            judge.baselines.find_named(store, store.folder, alone=alone)
            verdict = judge.judge(of(rng, board), store)[1]
            assert verdict.kind == "unchanged"
            assert verdict.baseline["sessions"] == [bar]
            assert judge.judge(of(rng, board, slower=3.0), store)[1].kind == "regressed"


def test_a_board_that_has_an_id_goes_by_it(store: HistoryStore, rng: random.Random) -> None:
    save(store, 5, structs.replace(of(rng, "left"), target=A), tag="v1")
    save(store, 6, structs.replace(of(rng, "right"), target=A), tag="v1")
    for board, bar in (("left", "id-0005"), ("right", "id-0006")):
        judge = judge_of("v1", device_id=board, device_ip=A)
        judge.baselines.find_named(store, store.folder, alone=True)
        assert judge.judge(of(rng, board), store)[1].baseline["sessions"] == [bar]
    # Without the id it is the board at that address, which is known by it.
    judge = judge_of("v1", device_ip=A)
    judge.baselines.find_named(store, store.folder, alone=True)
    assert judge.judge(of(rng, A), store)[1].baseline["sessions"] == ["id-0001"]


def test_a_tag_that_the_only_board_has_not_is_a_usage_error_before_anything_is_measured(
    store: HistoryStore,
) -> None:
    with pytest.raises(UsageError) as caught:
        judge_of("v1", device_ip=C).baselines.find_named(store, store.folder, alone=True)
    said = str(caught.value)
    assert said.startswith(f"--perf-baseline: no session 'v1' of board '{C}' in ")
    assert said.endswith(f"Other boards have it: '{B}', '{A}'")
    with pytest.raises(UsageError, match="no session of board 'new' in "):
        judge_of("v1", device_id="new").baselines.find_named(store, store.folder, alone=True)


def test_one_of_several_boards_that_has_not_the_tag_fails_its_own_session_alone(
    store: HistoryStore, rng: random.Random
) -> None:
    with pytest.raises(UsageError, match="no session 'v9' in"):
        judge_of("v9", device_ip=C).baselines.find_named(store, store.folder)
    for options in ({"device_ip": C}, {}):
        judge = judge_of("v1", **options)
        judge.baselines.find_named(store, store.folder)
        verdict = judge.judge(of(rng, C), store)[1]
        assert f"no session 'v1' of board '{C}' in " in fails_with(verdict)
        assert "first-of-board" not in {one.kind for one in verdict.findings}
        assert judge.judge(of(rng, C, slower=3.0), store)[1].gates == []


def test_a_named_session_of_another_board_is_never_green(
    store: HistoryStore, rng: random.Random, tmp_path: Path
) -> None:
    path = store.find("id-0003").json_path
    for name in (str(path), "id-0003", path.name, "id-0003"[:6]):
        judge = judge_of(name, device_ip=A)
        with pytest.raises(UsageError, match="--perf-baseline: "):
            judge.baselines.find_named(store, tmp_path, alone=True)
    judge = judge_of(str(path), device_ip=A)
    judge.baselines.find_named(store, tmp_path)
    said = fails_with(judge.judge(of(rng, A), store)[1])
    assert said == "nothing of this session can be compared with id-0003, which was named as its baseline."
    judge = judge_of("id-0003", device_ip=A)
    judge.baselines.find_named(store, tmp_path)
    assert f"no session 'id-0003' of board '{A}'" in fails_with(judge.judge(of(rng, A), store)[1])


def test_a_named_session_that_failed_or_differs_otherwise_is_never_green(
    store: HistoryStore, rng: random.Random
) -> None:
    save(store, 5, of(rng, A), tag="dead", verdict="failed")
    with pytest.raises(UsageError, match="id-0005 failed or was not completed: it can be no baseline"):
        judge_of("dead", device_ip=A).baselines.find_named(store, store.folder, alone=True)
    fewer = structs.replace(of(rng, A), comparability=key(LIGHT, board=A, runs=2))
    save(store, 6, fewer, tag="fewer")
    judge = judge_of("fewer", device_ip=A)
    judge.baselines.find_named(store, store.folder, alone=True)
    verdict = judge.judge(of(rng, A), store)[1]
    assert "can be compared with id-0006" in fails_with(verdict)
    assert any("runs was 2 in the earlier session, 6 now" in one.message for one in verdict.findings)


def test_where_nothing_is_compared_a_missing_baseline_fails_nothing(
    store: HistoryStore, rng: random.Random
) -> None:
    judge = judge_of("v1", device_ip=C, perf_no_gate="yes")
    judge.baselines.find_named(store, store.folder)
    assert judge.judge(of(rng, C), store)[1].kind == "no-baseline"


def test_a_board_that_was_not_reached_is_told_so_and_no_more(store: HistoryStore) -> None:
    judge = judge_of("v1")
    judge.baselines.find_named(store, store.folder)
    away = SessionArtifact(session_id="x", profiles=list(LIGHT), hard_stop_reason="no answer")
    verdict = judge.judge(away, store)[1]
    assert {one.kind for one in verdict.findings if one.severity == "fail"} == {"stopped", "not-measured"}


def test_judging_again_means_the_same_session(
    store: HistoryStore, rng: random.Random, tmp_path: Path
) -> None:
    settings = resolve({"perf_baseline": "v1"}, {}, {})
    now = structs.replace(of(rng, A), session_id="now", timestamp_utc="20260102T000000Z")
    gate = judge_again(now, store, settings, tmp_path).artifact.gate
    assert gate is not None
    assert gate.baseline["sessions"] == ["id-0001"]
    other = structs.replace(of(rng, C), session_id="now", timestamp_utc="20260102T000000Z")
    with pytest.raises(UsageError, match=f"no session 'v1' of board '{C}'"):
        judge_again(other, store, settings, tmp_path)


def test_many_sessions_without_figures_hide_no_good_ones(store: HistoryStore, rng: random.Random) -> None:
    board = "10.0.0.9:8080"
    for number in range(20):
        save(store, 10 + number, of(rng, board, rounds=1), verdict="unchanged")
    bound = GeneratorReport(bound=True)
    for number in range(25):
        made = of(rng, board, rounds=1)
        runs = [
            structs.replace(
                run,
                results=[
                    structs.replace(one, report=structs.replace(one.report, generator=bound))
                    for one in run.results
                ],
            )
            for run in made.raw_runs
        ]
        save(store, 30 + number, structs.replace(made, raw_runs=runs), verdict="no-baseline")
    verdict = Judge.from_settings(resolve({}, {}, {})).judge(of(rng, board, rounds=1), store)[1]
    assert verdict.kind == "unchanged"
    assert verdict.baseline["sessions"] == [f"id-{number:04d}" for number in range(10, 30)]
