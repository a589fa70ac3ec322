from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.history_samples import session
from support.paths import ROOT, TESTS

from pytest_espperf.errors import HistoryError
from pytest_espperf.history import HistoryStore, load_session
from pytest_espperf.history.checkpoint import Checkpoint
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.text import printable


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    store = HistoryStore(tmp_path / "history")
    store.prepare()
    return store


def ids(store: HistoryStore) -> list[str]:
    return [artifact.session_id for artifact in store.sessions()]


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EIO, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)]
)
@pytest.mark.parametrize("call", ["fsync", "link", "replace"])
def test_a_failing_disk_leaves_the_old_files(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    store.save(session("old", tag="t"), "old", latest=True)
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    if call == "replace":
        monkeypatch.setattr(Path, "replace", fail)
    else:
        monkeypatch.setattr(os, call, fail)
    with pytest.raises(HistoryError) as caught:
        store.save(session("new", tag="t"), "new", latest=True)
    monkeypatch.undo()
    assert str(store.folder) in str(caught.value)
    assert os.strerror(code) in str(caught.value)
    assert "\n" not in str(caught.value)
    after = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    if call == "replace":  # the session's own file was there first; it stays, whole
        assert set(after) - set(before) <= {"perf_20260101T000000Zn002_t.json"}
    else:
        assert after == before
    assert before.items() <= after.items()


def test_a_progress_that_cannot_be_replaced_stays(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(store, "x")
    checkpoint.write(session("x", p95=1.0))

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(HistoryError, match="broken"):
        checkpoint.write(session("x", p95=2.0))
    monkeypatch.undo()
    assert load_session(checkpoint.path).aggregated["python_heavy:burst"].p95_ms.median == 1.0
    checkpoint.release()
    assert listing(store.folder) == [".latest.partial.lock", "latest.partial.json"]


LIMITED = """
import resource, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from support.history_samples import session
from pytest_espperf.errors import HistoryError
from pytest_espperf.history import HistoryStore
from pytest_espperf.history.checkpoint import Checkpoint
store = HistoryStore(sys.argv[1])
checkpoint = Checkpoint(store, "x")
checkpoint.write(session("x"))
sys.dont_write_bytecode = True  # cut short by the limit, it would be loaded by other tests' processes
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
def save():
    store.save(session("new"), "text", latest=True)
def write():
    checkpoint.write(session("x", p95=1.0))
for action in (save, write):
    try:
        action()
    except HistoryError as error:
        print("refused:", error)
print("rows:", len(store.select()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_for_real(store: HistoryStore) -> None:
    store.save(session("old"), "old", latest=True)
    store.select()
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    command = [sys.executable, "-c", LIMITED, str(store.folder), str(ROOT), str(TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.count("refused: the history folder") == 2, done.stderr
    assert "rows: 1" in done.stdout
    after = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    assert before.items() <= after.items()
    assert set(after) - set(before) == {".latest.partial.lock", "latest.partial.json"}
    assert (
        load_session(store.folder / "latest.partial.json").aggregated["python_heavy:burst"].p95_ms.median
        == 30.0
    )


def test_unusable_folders_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    folders = [tmp_path / "file", tmp_path / "file" / "below", tmp_path / "a\0b"]
    if Path("/proc/self").exists():
        folders.append(Path("/proc/espperf"))
    for folder in folders:
        store = HistoryStore(folder)
        for action in (store.prepare, lambda store=store: store.save(session(), latest=True)):
            with pytest.raises(HistoryError) as caught:
                action()
            assert printable(str(folder)) in str(caught.value)
            assert "cannot be written" in str(caught.value)
    with pytest.raises(HistoryError, match="cannot be read"):
        HistoryStore(tmp_path / "file").select()
    with pytest.raises(HistoryError, match="cannot be read"):
        ids(HistoryStore(tmp_path / "file"))


def test_file_systems_without_links_are_exclusive_too(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    saved = [store.save(session(f"s{number}"), "text", latest=True) for number in range(3)]
    monkeypatch.delattr(os, "link")
    saved += [store.save(session("s3"), "text", latest=True)]
    assert len({one.json_path for one in saved}) == 4
    assert ids(store) == ["s0", "s1", "s2", "s3"]
    assert store.skipped == []


def test_files_of_dead_writers_are_swept_when_old(store: HistoryStore) -> None:
    old, new, future = (store.folder / f".espperf-{n}-x.tmp" for n in (1, 2, 3))
    for path, age in ((old, 7200), (new, 10), (future, -7200)):
        path.write_text("half")
        os.utime(path, (time.time() - age,) * 2)
    store.prepare()
    assert (old.exists(), new.exists(), future.exists()) == (False, True, False)


def test_a_file_that_goes_away_is_no_error(store: HistoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        store.save(session(f"s{number}", f"2026010{number + 1}T000000Z"), latest=False)
    entries = store.entries()
    first = next(entries)
    (store.folder / "perf_20260102T000000Z.json").unlink()
    rest: list[SessionArtifact] = [entry.artifact for entry in entries]
    assert [first.artifact.session_id, *(one.session_id for one in rest)] == ["s0", "s2"]
    assert store.skipped == []
