"""Copies that synchronised folders and file managers leave behind: one session, several files."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.gate_sessions import session as measured
from support.history_samples import FIELDS, session

from pytest_espperf.cli import main
from pytest_espperf.config.lookup import resolve
from pytest_espperf.errors import HistoryError
from pytest_espperf.history import HistoryStore
from pytest_espperf.history.adopt import Adoption
from pytest_espperf.history.rows import Query
from pytest_espperf.model.artifact import Comparability, SessionArtifact, Verdict
from pytest_espperf.session.judging import Judge, judge_again

NAME = "perf_20260101T000000Z_v1.0"
COPIES = (
    f"{NAME} - Copy",
    f"{NAME} (1)",
    f"{NAME} (Ana's conflicted copy 2026-11-28)",
    f"{NAME}.sync-conflict-20261128-120000-ABCDEFG",
    f"{NAME}-2",
    "perf_20260101T000000Z_kept",
    "perf_20250101T000000Z_v1.0",
    "perf_20270101T000000Z",
)


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    """A history with two sessions."""
    store = HistoryStore(tmp_path / "history")
    store.prepare()
    store.save(session("first", "20260101T000000Z", tag="v1.0"), latest=False)
    store.save(session("second", "20260102T000000Z", tag="v1.1"), latest=True)
    return store


def copy(store: HistoryStore, *stems: str, kinds: tuple[str, ...] = ("",)) -> None:
    for stem in stems:
        for kind in kinds:
            shutil.copy(store.folder / f"{kind}{NAME}.json", store.folder / f"{kind}{stem}.json")


def names(store: HistoryStore, **query: Any) -> list[str]:
    return [row.name for row in store.select(Query(newest_first=False, **query))]


@pytest.mark.parametrize("stems", [*((stem,) for stem in COPIES), COPIES])
def test_a_session_counts_once(store: HistoryStore, stems: tuple[str, ...]) -> None:
    copy(store, *stems)
    expected = [f"{NAME}.json", "perf_20260102T000000Z_v1.1.json"]
    assert names(store) == expected
    assert store.select(Query(newest_first=False))[0].copies == tuple(
        sorted(f"{stem}.json" for stem in stems)
    )
    assert [entry.json_path.name for entry in store.entries()] == expected
    assert [one.session_id for one in store.newest(limit=9)] == ["first", "second"]
    baseline = store.baseline(Comparability(key="k", fields=FIELDS))
    assert [one.session_id for one in baseline] == ["first", "second"]
    for ref in ("first", "firs", "v1.0", NAME, *stems, f"{stems[0]}.json", "latest~1"):
        assert store.find(ref).json_path.name == f"{NAME}.json", ref
    assert store.find("latest").artifact.session_id == "second"
    with pytest.raises(HistoryError, match="latest~2 does not exist"):
        store.find("latest~2")
    assert store.skipped == []


def test_the_original_gone_a_copy_takes_its_place(store: HistoryStore) -> None:
    copy(store, *COPIES[:2])
    (store.folder / f"{NAME}.json").unlink()
    assert names(store) == [f"{COPIES[1]}.json", "perf_20260102T000000Z_v1.1.json"]
    assert store.find("first").artifact.tag == "v1.0"


def test_decisions_are_the_sessions(store: HistoryStore) -> None:
    """The original came back after its copy was accepted; and the folder was copied with its decisions."""
    store.accept("first", "meant", "me")
    copy(store, COPIES[1], kinds=("", "accept_"))
    (store.folder / f"accept_{NAME}.json").unlink()
    assert store.find("first").artifact.accepted is not None
    assert store.select(Query(accepted_only=True, newest_first=False))[0].accepted is not None
    assert next(store.sessions()).accepted is not None
    store.pin(COPIES[1])
    assert (store.folder / f"pin_{NAME}.json").exists(), "beside the original, whatever file was named"
    copy(store, COPIES[1], kinds=("pin_",))
    store.unaccept("first")
    store.unpin("first")
    row = store.select(Query(newest_first=False))[0]
    assert (row.accepted, row.pinned) == (None, False)
    assert store.find("first").artifact.accepted is None


def test_a_decision_about_the_latest_may_lie_beside_its_copy(store: HistoryStore) -> None:
    name = "perf_20260102T000000Z_v1.1"
    store.accept("second", "meant")
    for kind in ("", "accept_"):
        shutil.copy(store.folder / f"{kind}{name}.json", store.folder / f"{kind}{name} (1).json")
    (store.folder / f"accept_{name}.json").unlink()
    latest = store.latest()
    assert latest is not None
    assert latest.accepted is not None


def test_an_unfinished_copy_is_none(store: HistoryStore) -> None:
    """A checkpoint that was brought to safety under the id of a session that was saved after all."""
    partial = msgspec.structs.replace(session("first", "20260101T000000Z"), partial=True)
    (store.folder / "perf_20260101T000000Z.json").write_bytes(msgspec.json.encode(partial))
    assert names(store) == [f"{NAME}.json", "perf_20260102T000000Z_v1.1.json"]


def test_sessions_without_an_id_are_no_copies(store: HistoryStore) -> None:
    for number in (3, 4):
        data = msgspec.json.encode(session("", f"2026010{number}T000000Z"))
        (store.folder / f"perf_2026010{number}T000000Z.json").write_bytes(data)
    assert len(names(store)) == 4


def test_import_brings_it_once(store: HistoryStore, tmp_path: Path) -> None:
    copy(store, *COPIES)
    other = HistoryStore(tmp_path / "other")
    other.prepare()
    adoption = Adoption(other)
    brought = [adoption.adopt(path) for path in sorted(store.folder.glob("perf_*.json"))]
    assert sum(one.is_new for one in brought) == 2
    assert names(other) == [f"{NAME}.json", "perf_20260102T000000Z_v1.1.json"]


def saved(store: HistoryStore, rng: random.Random, number: int) -> SessionArtifact:
    made = msgspec.structs.replace(
        measured(rng, rounds=3, profiles=("python_light",)),
        session_id=f"s{number}",
        timestamp_utc=f"2026010{number}T000000Z",
        tag="v1.0",
        gate=Verdict(kind="unchanged"),
    )
    return store.save(made, latest=True).artifact


def test_copies_are_no_evidence(tmp_path: Path) -> None:
    """Neither of the baseline nor, judged again, of the session itself."""
    rng = random.Random(1)
    store = HistoryStore(tmp_path / "history")
    store.prepare()
    for number in (1, 2):
        saved(store, rng, number)
    now = saved(store, rng, 3)
    settings = resolve({}, {}, {})
    before = judge_again(now, store, settings, tmp_path).artifact.gate
    for number, stem in enumerate(COPIES):
        shutil.copy(store.folder / f"{NAME}.json", store.folder / f"{stem}.json")
        shutil.copy(
            store.folder / "perf_20260103T000000Z_v1.0.json",
            store.folder / f"perf_20260102T0000{number:02}Z_copy.json",
        )
    assert judge_again(now, store, settings, tmp_path).artifact.gate == before
    named = store.find("perf_20260102T000005Z_copy").artifact
    assert judge_again(named, store, settings, tmp_path).artifact.gate == before
    fresh = Judge.from_settings(settings)
    _, verdict = fresh.judge(measured(rng, rounds=3, profiles=("python_light",)), store)
    assert verdict.baseline["sessions"] == ["s1", "s2", "s3"]


def test_the_list_says_that_there_are_copies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = HistoryStore(tmp_path / "tools" / "perf_history")
    store.prepare()
    store.save(session("first", "20260101T000000Z", tag="v1.0"), latest=True)
    copy(store, *COPIES[:2])
    assert main(["list"]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    assert "unchanged+2 copies" in line
