from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.history_samples import DATA, session
from support.paths import ROOT, TESTS

from pytest_espperf.errors import HistoryError
from pytest_espperf.history import HistoryStore, load_session
from pytest_espperf.history.checkpoint import Checkpoint

pytestmark = pytest.mark.timeout(600)  # on a machine that may be busy


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    store = HistoryStore(tmp_path / "history")
    store.prepare()
    return store


def partials(store: HistoryStore) -> list[str]:
    return sorted(path.name for path in store.folder.glob("latest.partial*.json"))


def test_progress_is_kept_until_the_session_is_saved(store: HistoryStore) -> None:
    with Checkpoint(store, "run-1") as checkpoint:
        assert checkpoint.path == store.folder / "latest.partial.json"
        assert not checkpoint.path.exists()
        checkpoint.write(session("run-1", p95=1.0))
        checkpoint.write(session("run-1", p95=2.0))
        kept = load_session(checkpoint.path)
        assert kept.partial
        assert kept.aggregated["python_heavy:burst"].p95_ms.median == 2.0
        store.save(session("run-1"), latest=True)
        checkpoint.discard()
        assert partials(store) == []
    with pytest.raises(HistoryError, match="released"):
        checkpoint.write(session("run-1"))
    checkpoint.release()  # twice is no error
    checkpoint.discard()


def test_two_sessions_share_a_folder(store: HistoryStore) -> None:
    first = Checkpoint(store, "one")
    second = Checkpoint(HistoryStore(store.folder), "two/../x")
    assert second.path.name == "latest.partial-two_.._x.json"
    first.write(session("one"))
    second.write(session("two/../x"))
    third = Checkpoint(store, "three")
    assert third.recovered == []  # neither is an orphan
    with pytest.raises(HistoryError, match="already running"):
        Checkpoint(store, "three")
    third.discard()
    second.discard()
    first.discard()
    left = sorted(path.name for path in store.folder.iterdir())
    assert left == [".latest.partial.lock"]


def test_orphans_are_archived_as_incomplete(store: HistoryStore) -> None:
    first = Checkpoint(store, "one")
    second = Checkpoint(store, "two")
    first.write(session("one", "20260101T000000Z", tag="a"))
    second.write(session("two", "20260102T000000Z", tag="b", verdict=None))
    second.release()
    first.release()
    with Checkpoint(store, "next") as checkpoint:
        names = sorted(saved.json_path.name for saved in checkpoint.recovered)
        assert names == ["perf_20260101T000000Z_a.json", "perf_20260102T000000Z_b.json"]
        assert checkpoint.path.name == "latest.partial.json"
    for artifact in store.sessions():
        assert artifact.partial
        assert not artifact.overall_pass
        assert artifact.gate is not None
        assert artifact.gate.kind == "incomplete"
        assert artifact.gate.findings[-1].kind == "recovered"
        assert not artifact.gate.fails
    assert partials(store) == []
    assert not (store.folder / "latest.json").exists()
    assert [row.completed for row in store.select()] == [False, False]
    assert sorted(path.name for path in store.folder.glob(".latest*")) == [".latest.partial.lock"]
    assert Checkpoint(store, "again").recovered == []


def test_an_orphan_that_was_saved_is_not_saved_twice(store: HistoryStore) -> None:
    checkpoint = Checkpoint(store, "one")
    checkpoint.write(session("one"))
    store.save(session("other"), latest=False)
    store.save(session("one"), latest=True)
    checkpoint.release()  # killed before it could discard
    following = Checkpoint(store, "next")
    assert following.recovered == []
    assert partials(store) == []
    assert len(list(store.sessions())) == 2
    following.release()


def test_an_unreadable_orphan_is_kept_aside(store: HistoryStore) -> None:
    for _ in range(2):
        (store.folder / "latest.partial.json").write_bytes(b'{"schema_version": 1, "raw_')
        with Checkpoint(store, "next") as checkpoint:
            (error,) = checkpoint.unreadable
        assert "latest.partial.json" in str(error)
        assert error in store.skipped
        assert error.path is not None
        assert error.path.read_bytes() == b'{"schema_version": 1, "raw_'
        assert partials(store) == []
        assert error.path == max(store.folder.glob("unreadable_partial_*.json"))
    assert len(list(store.folder.glob("unreadable_partial_*.json"))) == 2


def test_the_original_s_partial_file_is_archived(store: HistoryStore) -> None:
    (store.folder / "latest.partial.json").write_bytes(
        (DATA / "schema0" / "latest.partial.json").read_bytes()
    )
    with Checkpoint(store, "next") as checkpoint:
        (saved,) = checkpoint.recovered
    assert saved.json_path.name == "perf_20260213T081922Z.json"
    assert len(saved.artifact.raw_runs) == 3


def test_a_folder_that_cannot_be_locked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(HistoryError, match="cannot be"):
        Checkpoint(HistoryStore(tmp_path / "file"), "x")


def test_a_full_disk_while_archiving_keeps_the_orphan(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(store, "one")
    checkpoint.write(session("one"))
    checkpoint.release()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(HistoryError, match="No space left"):
        Checkpoint(store, "next")
    monkeypatch.undo()
    assert partials(store) == ["latest.partial.json"]
    with Checkpoint(store, "next") as following:
        assert len(following.recovered) == 1


WRITER = """
import sys
sys.path[:0] = sys.argv[3:]
from support.history_samples import session
from pytest_espperf.history import HistoryStore
from pytest_espperf.history.checkpoint import Checkpoint
store, prefix = HistoryStore(sys.argv[1]), sys.argv[2]
tag = prefix.split("-")[0]
store.prepare()
def say(*words):
    sys.stdout.write(" ".join(words) + "\\n")
    sys.stdout.flush()
say("ready")
for number in range(100000):
    me = f"{prefix}-{number}"
    with Checkpoint(store, me) as checkpoint:
        for phase in range(2):
            checkpoint.write(session(me, "20260301T120000Z", tag=tag, p95=float(phase)))
        say("measured", me)
        store.save(session(me, "20260301T120000Z", tag=tag), "# summary", latest=True)
        say("saved", me)
        checkpoint.discard()
        store.select()
"""


@pytest.fixture
def writers() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start_writer(store: HistoryStore, prefix: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(store.folder), prefix, str(ROOT), str(TESTS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_killed_at_any_moment_nothing_is_lost(
    store: HistoryStore, writers: list[subprocess.Popen[str]]
) -> None:
    source = random.Random(1009)
    measured: set[str] = set()
    saved: set[str] = set()
    for round_ in range(22):
        process = start_writer(store, f"r{round_}")
        writers.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(source.uniform(0, 0.08 if round_ % 2 else 0.3))
        process.kill()
        told, _ = process.communicate(timeout=90)
        for line in told.splitlines():
            word, _, me = line.partition(" ")
            {"measured": measured, "saved": saved}[word].add(me)
        fresh = HistoryStore(store.folder)
        before = {row.session_id for row in fresh.select() if row.completed}
        assert saved <= before
        checkpoint = Checkpoint(fresh, f"check-{round_}")  # usable at once
        assert checkpoint.path.name == "latest.partial.json"
        checkpoint.discard()
        assert fresh.skipped == []
        assert not saved or fresh.latest() is not None
    rows = HistoryStore(store.folder).select()
    everything = [row.session_id for row in rows]
    assert measured <= set(everything)  # archived, if not saved
    assert len(everything) == len(set(everything))
    (store.folder / "index.msgpack").unlink()
    assert HistoryStore(store.folder).select() == rows
    assert measured, "the children were killed before they wrote anything"


def test_two_processes_save_at_the_same_second(
    store: HistoryStore, writers: list[subprocess.Popen[str]]
) -> None:
    writers += [start_writer(store, prefix) for prefix in ("same-a", "same-b", "other-a")]
    wanted = 15
    for process in writers:
        assert process.stdout is not None
        done = 0
        for line in process.stdout:
            done += line.startswith("saved")
            if done == wanted:
                break
        assert done == wanted, "a writer died"
    for process in writers:
        process.kill()
        process.wait(timeout=90)
    fresh = HistoryStore(store.folder)
    loaded = list(fresh.sessions())
    assert fresh.skipped == []
    assert len(loaded) >= 3 * wanted
    rows = HistoryStore(store.folder).select()
    assert [row.session_id for row in rows] == [one.session_id for one in loaded[::-1]]
