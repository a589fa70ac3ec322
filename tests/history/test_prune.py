from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from support.cli_history import START, judged
from support.gate_sessions import key
from support.gate_sessions import session as gate_session
from support.history_samples import FIELDS, session
from support.prune_history import all_rows, days, prune, put

from pytest_espperf.gate import GatePolicy
from pytest_espperf.gate import choose as choose_baseline
from pytest_espperf.history import HistoryStore, marks, names
from pytest_espperf.history.prune import PruneChoice, choose
from pytest_espperf.model.artifact import Comparability, SessionArtifact
from pytest_espperf.session import earlier

pytestmark = pytest.mark.timeout(600)  # on a machine that may be busy

SEED = 20261125
VERDICTS = (
    "unchanged",
    "unchanged",
    "improved",
    "no-baseline",
    "regressed",
    "failed",
    "environment-shift",
    None,
)


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    store = HistoryStore(tmp_path / "history")
    store.prepare()
    return store


def test_what_stays_and_why(store: HistoryStore) -> None:
    for number, stamp in days(12):
        decisions = {2: ["accept"], 3: ["pin"]}.get(number, [])
        put(store, session(f"id-{number}", stamp, verdict="regressed"), *decisions)
    choice = choose(all_rows(store), keep=2, baseline=200, latest="id-5", young_from="20260110T000000Z")
    why = {name[5:13]: reason for name, reason in choice.stay.items()}
    assert why == {
        "20260103": "accepted",
        "20260104": "pinned",
        "20260106": "latest",
        "20260110": "young",
        "20260111": "newest",
        "20260112": "newest",
    }
    assert [row.session_id for row in choice.go] == ["id-0", "id-1", "id-4", "id-6", "id-7", "id-8"]


def test_of_every_group_each_profile_keeps_as_many_as_the_gate_is_given(store: HistoryStore) -> None:
    for number, stamp in days(20):
        board = "one" if number < 10 else "two"
        put(store, session(f"id-{number}", stamp, fields={**FIELDS, "board": board}))
    choice = choose(all_rows(store), keep=1, baseline=3)
    assert [int(row.session_id[3:]) for row in choice.go] == [*range(7), *range(10, 17)]


def test_sessions_that_can_be_compared_with_nothing_go_when_they_are_old(store: HistoryStore) -> None:
    for number, stamp in days(4):
        artifact = session(f"id-{number}", stamp, verdict=None)
        put(store, msgspec.structs.replace(artifact, comparability=None))
    assert [row.session_id for row in choose(all_rows(store), keep=2, baseline=200).go] == ["id-0", "id-1"]


def test_what_lies_before_the_current_epoch_goes(store: HistoryStore) -> None:
    for number, stamp in days(10):
        put(store, session(f"id-{number}", stamp), *(["accept"] if number == 6 else []))
    assert [row.session_id for row in choose(all_rows(store), keep=1, baseline=200).go] == [
        f"id-{number}" for number in range(6)
    ]


def test_nothing_goes_of_an_empty_history_or_without_need(store: HistoryStore) -> None:
    assert choose([], keep=0, baseline=200) == PruneChoice()
    for number, stamp in days(5):
        put(store, session(f"id-{number}", stamp))
    assert choose(all_rows(store), keep=0, baseline=200).go == []


def test_what_lies_before_an_environment_shift_goes(store: HistoryStore) -> None:
    verdicts = ("environment-shift", "unchanged", "environment-shift", "unchanged", "unchanged")
    for (number, stamp), verdict in zip(days(5), verdicts, strict=True):
        put(store, session(f"id-{number}", stamp, verdict=verdict))  # type: ignore[arg-type]
    for baseline in (3, 200):
        assert [row.session_id for row in choose(all_rows(store), keep=0, baseline=baseline).go] == [
            "id-0",
            "id-1",
        ]


def test_more_may_be_kept_than_there_are(store: HistoryStore) -> None:
    for number, stamp in days(3):
        put(store, session(f"id-{number}", stamp, verdict="failed"))
    assert choose(all_rows(store), keep=100, baseline=200).go == []


def test_the_newest_whole_session_of_each_board_stays_whatever_its_verdict(store: HistoryStore) -> None:
    for number, stamp in days(6):
        fields = {**FIELDS, "board": "one" if number < 3 else "two"}
        artifact = session(f"id-{number}", stamp, verdict="failed", fields=fields)
        put(store, msgspec.structs.replace(artifact, partial=number in {2, 5}))
    choice = choose(all_rows(store), keep=0, baseline=200)
    assert [row.session_id for row in choice.go] == ["id-0", "id-2", "id-3", "id-5"]
    for number, stamp in days(6):  # of no board that is known
        artifact = session(f"id-{number}", stamp, verdict="failed")
        put(store, msgspec.structs.replace(artifact, comparability=None))
    assert list(choose(all_rows(store), keep=0, baseline=200).stay) == ["perf_20260106T000000Z.json"]


def test_a_session_that_goes_makes_no_room_for_one_that_the_gate_was_not_given(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier, "MAX_SESSIONS", 2)
    story = ["ab+pin", "b", "b+accept", "a", "a"]  # the epoch of b begins with the third; a has none
    for (number, stamp), told in zip(days(5), story, strict=True):
        some, _, decision = told.partition("+")
        fields = {"board": "one", "profiles": {name: {} for name in some}}
        put(store, session(f"id-{number}", stamp, fields=fields), *filter(None, [decision]))
    kinds = [Comparability(fields={"board": "one", "profiles": {"a": {}, "b": {}}})]
    before = baselines(store, kinds)
    assert before == [{"a": ["id-3", "id-4"], "b": ["id-2"]}]
    prune(store, keep=0, baseline=2)
    assert baselines(store, kinds) == before


def random_history(store: HistoryStore, rng: random.Random) -> None:
    """Two boards, profiles that come and go and change, every verdict, decisions, interruptions."""
    facts = {
        name: [{"clients": 12}, {"clients": 8}] if rng.random() < 0.3 else [{"clients": 12}] for name in "abc"
    }
    for number, stamp in days(rng.randrange(1, 40)):
        some = rng.sample("abc", rng.choice([1, 2, 3, 3, 3]))
        fields = {
            "board": rng.choice(["one", "one", "two"]),
            "profiles": {name: rng.choice(facts[name]) for name in some},
        }
        artifact = msgspec.structs.replace(
            session(f"id-{number}", stamp, verdict=rng.choice(VERDICTS), fields=fields),  # type: ignore[arg-type]
            profiles=some,
            raw_runs=[],
            partial=rng.random() < 0.1,
            comparability=Comparability(fields=fields) if rng.random() < 0.95 else None,
        )
        put(store, artifact, *(kind for kind in marks.KINDS if rng.random() < 0.06))


def baselines(store: HistoryStore, comparabilities: list[Comparability]) -> list[dict[str, list[str]]]:
    """What the gate would be judging the next session of each kind against, by profile."""
    found = []
    for comparability in comparabilities:
        candidate = session("next", "20270101T000000Z", fields=comparability.fields)
        candidate = msgspec.structs.replace(
            candidate, profiles=list(comparability.fields["profiles"]), raw_runs=[]
        )
        history = earlier.comparable_sessions(candidate, HistoryStore(store.folder))
        epochs = choose_baseline(candidate, history, GatePolicy()).epochs
        found.append({name: [one.session_id for one in epoch] for name, epoch in epochs.items()})
    return found


@pytest.mark.parametrize("baseline", [2, 5, 200])
def test_the_baseline_of_any_next_session_is_the_same_before_and_after(
    baseline: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier, "MAX_SESSIONS", baseline)
    rng = random.Random(SEED + baseline)
    print("seed", SEED + baseline)
    gone = 0
    for number in range(8):
        store = HistoryStore(tmp_path / str(number))
        store.folder.mkdir()
        random_history(store, rng)
        known = {
            artifact.comparability.fields["board"]: artifact.comparability.fields["profiles"]
            for artifact in store.sessions()
            if artifact.comparability is not None
        }
        kinds = [
            artifact.comparability for artifact in store.sessions() if artifact.comparability is not None
        ]
        kinds += [
            Comparability(fields={"board": board, "profiles": {name: facts}})
            for board, profiles in known.items()
            for name, facts in profiles.items()
        ]
        before = baselines(store, kinds)
        choice = prune(store, keep=rng.randrange(3), baseline=baseline)
        gone += len(choice.go)
        assert baselines(store, kinds) == before
    assert gone > 15


@pytest.mark.parametrize(
    ("slide", "decided", "expected"),
    [
        (0.0, {}, ["unchanged", "unchanged", "regressed"]),
        (0.001, {}, ["unchanged", "drift", "regressed"]),
        (0.0, {3: "pin", 14: "accept", 20: "pin"}, ["unchanged", "unchanged", "regressed"]),
    ],
)
def test_the_verdict_on_the_next_session_is_the_same_before_and_after(
    store: HistoryStore,
    monkeypatch: pytest.MonkeyPatch,
    slide: float,
    decided: dict[int, str],
    expected: list[str],
) -> None:
    monkeypatch.setattr(earlier, "MAX_SESSIONS", 30)
    rng = random.Random(SEED)

    def measured(number: int, factor: float, board: str = "mine") -> SessionArtifact:
        slower = {"python_heavy": (1 + slide) ** number * factor}
        artifact = gate_session(rng, f"id-{number}", rounds=3, profiles=["python_heavy"], slower=slower)
        stamp = names.format_stamp(START + timedelta(days=number))
        return msgspec.structs.replace(
            artifact, timestamp_utc=stamp, comparability=key(["python_heavy"], board=board)
        )

    for number in range(45):
        artifact = measured(
            number, 1.6 if number % 6 == 5 else 1.0, board="other" if number % 9 == 8 else "mine"
        )
        put(store, judged(artifact, store), *([decided[number]] if number in decided else []))
    candidates = [measured(46, factor) for factor in (1.0, 1.02, 1.5)]
    before = [judged(candidate, HistoryStore(store.folder)).gate for candidate in candidates]
    choice = prune(store, keep=1, baseline=30)
    after = [judged(candidate, HistoryStore(store.folder)).gate for candidate in candidates]
    assert after == before
    assert [verdict.kind for verdict in before] == expected
    assert len(choice.go) > 5
