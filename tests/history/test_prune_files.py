from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.cli_history import contents
from support.history_samples import session
from support.prune_history import all_rows, prune, put

from pytest_espperf.history import HistoryStore, files, marks
from pytest_espperf.history.prune import choose, plan, remove


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    store = HistoryStore(tmp_path / "history")
    store.prepare()
    return store


def one_of_two(store: HistoryStore, session_id: str = "old", **beside: str) -> Path:
    """A session that may go, and one that stays; returns the former's file."""
    put(store, session(session_id, "20260101T000000Z", tag="v1.2", verdict="regressed"))
    put(store, session("new", "20260102T000000Z"))
    for name, text in beside.items():
        path = store.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return store.folder / "perf_20260101T000000Z_v1.2.json"


def test_all_that_is_the_session_s_goes_with_it_and_nothing_else(store: HistoryStore) -> None:
    stem = one_of_two(store).stem
    theirs = [
        f"{stem}.md",
        f"{stem}.html",
        "serial_old.log",
        "samples_old/run1-python_heavy-burst.csv.gz",
    ]
    others = [
        "latest.json",
        "latest.partial.json",
        "perf_20260101T000000Z_v1.2.txt",
        "perf_20260101T000000Z_v1.md",
        "serial_older.log",
        "samples_new/run1-python_heavy-burst.csv.gz",
        "samples_older/run1-python_heavy-burst.csv.gz",
        "unreadable_partial_20260101T000000Z.json",
        "notes.md",
        "perf_20260101T000000Z_bad.json",
    ]
    one_of_two(store, **dict.fromkeys([*theirs, *others], "text"))
    misplaced = marks.encode_mark(marks.Mark(session_id="another"))
    (store.folder / f"accept_{stem}.json").write_bytes(misplaced)
    (leaving,) = plan(store.folder, choose(all_rows(store), keep=1, baseline=200))
    gone = {*theirs, f"accept_{stem}.json", f"{stem}.json"}
    assert {str(path.relative_to(store.folder).as_posix()) for path in leaving.files} == gone
    before = contents(store.folder)
    assert leaving.size_bytes == sum(len(before[str(Path(name))]) for name in gone)
    assert remove(store.folder, leaving)
    assert set(before) - set(contents(store.folder)) == {str(Path(name)) for name in gone}
    assert not (store.folder / "samples_old").exists()
    assert [row.session_id for row in HistoryStore(store.folder).select()] == ["new"]


def test_what_else_lies_among_the_samples_stays_with_their_folder(store: HistoryStore) -> None:
    one_of_two(store, **{"samples_old/a.csv.gz": "x", "samples_old/my notes.txt": "mine"})
    prune(store)
    assert set(contents(store.folder)) == {
        "perf_20260102T000000Z.json",
        str(Path("samples_old/my notes.txt")),
    }


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_are_not_followed(store: HistoryStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("a.csv.gz", "log", "summary.md"):
        (outside / name).write_text("precious")
    own = one_of_two(store)
    (store.folder / "samples_old").symlink_to(outside)
    (store.folder / "serial_old.log").symlink_to(outside / "log")
    own.with_suffix(".md").symlink_to(outside / "summary.md")
    prune(store)
    assert not own.exists()
    assert (store.folder / "samples_old").is_symlink()
    assert {path.name: path.read_text() for path in outside.iterdir()} == dict.fromkeys(
        ["a.csv.gz", "log", "summary.md"], "precious"
    )
    (store.folder / "samples_older").mkdir()
    (store.folder / "samples_older" / "b.csv.gz").symlink_to(outside / "a.csv.gz")
    put(store, session("older", "20250101T000000Z", verdict="failed"))
    prune(store)
    assert (store.folder / "samples_older" / "b.csv.gz").is_symlink()
    assert (outside / "a.csv.gz").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_session_whose_file_is_a_link_stays(store: HistoryStore, tmp_path: Path) -> None:
    own = one_of_two(store)
    elsewhere = tmp_path / "elsewhere.json"
    own.rename(elsewhere)
    own.symlink_to(elsewhere)
    prune(store)
    assert own.is_symlink()
    assert elsewhere.exists()


@pytest.mark.parametrize("session_id", ["a/../../outside", "..", ".", "", "/outside", "a\\..\\..\\outside"])
def test_an_id_that_is_a_path_leads_nowhere(store: HistoryStore, tmp_path: Path, session_id: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.csv.gz").write_text("precious")
    (store.folder / "samples_a").mkdir()
    own = one_of_two(store, session_id)
    (leaving,) = plan(store.folder, choose(all_rows(store), keep=1, baseline=200))
    assert leaving.files == (own,)
    assert remove(store.folder, leaving)
    assert (outside / "b.csv.gz").exists()


def test_copies_go_with_their_session_and_stay_with_it(store: HistoryStore) -> None:
    own = one_of_two(store, **{"samples_old/a.csv.gz": "x"})
    copy = own.with_name(f"{own.stem} - Copy.json")
    copy.write_bytes(own.read_bytes())
    store.accept("old", "meant")
    prune(store)
    assert {own.name, copy.name} <= set(contents(store.folder))
    store.unaccept("old")
    prune(store)
    assert set(contents(store.folder)) == {"perf_20260102T000000Z.json"}


def test_a_decision_beside_a_copy_keeps_the_session(store: HistoryStore) -> None:
    own = one_of_two(store)
    copy = own.with_name(f"{own.stem} (1).json")
    copy.write_bytes(own.read_bytes())
    (store.folder / f"pin_{copy.name}").write_text("{")
    prune(store)
    assert {own.name, copy.name} <= set(contents(store.folder))


def test_a_decision_that_cannot_be_read_was_meant_as_one(store: HistoryStore) -> None:
    own = one_of_two(store)
    (store.folder / f"accept_{own.name}").write_text("{")
    prune(store)
    assert own.exists()


def test_a_decision_taken_meanwhile_counts(store: HistoryStore) -> None:
    own = one_of_two(store, serial_old="x")
    rows = all_rows(store)
    (leaving,) = plan(store.folder, choose(rows, keep=1, baseline=200))
    store.accept("old", "meant")
    before = contents(store.folder)
    assert not remove(store.folder, leaving)
    assert own.exists()
    assert contents(store.folder) == before


def test_a_session_cut_short_in_going_is_still_one(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = {"serial_old.log": "x", "samples_old/a.csv.gz": "x"}
    own = one_of_two(store, **beside)
    really = files.remove
    for most in range(3):
        one_of_two(store, **beside)
        rows = all_rows(store)
        (leaving,) = plan(store.folder, choose(rows, keep=1, baseline=200))
        removed: list[Path] = []

        def cut_short(path: Path, most: int = most, removed: list[Path] = removed) -> None:
            if len(removed) == most:
                raise KeyboardInterrupt
            removed.append(path)
            really(path)

        monkeypatch.setattr(files, "remove", cut_short)
        with pytest.raises(KeyboardInterrupt):
            remove(store.folder, leaving)
        assert len(removed) == most
        assert own.exists()
    monkeypatch.setattr(files, "remove", really)
    prune(store)
    assert set(contents(store.folder)) == {"perf_20260102T000000Z.json"}
