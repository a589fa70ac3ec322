"""What is newest among sessions of one second: by names, lists, references, pruning and shared histories."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.benches import Bench
from support.history_samples import FIELDS, session
from support.prune_history import all_rows, prune

from pytest_espperf.cli import main
from pytest_espperf.errors import HistoryError
from pytest_espperf.history import HistoryStore, encode_session, marks, names
from pytest_espperf.history.checkpoint import Checkpoint
from pytest_espperf.history.rows import Query
from pytest_espperf.history.shared import objects
from pytest_espperf.model.artifact import Comparability, SessionArtifact

pytestmark = pytest.mark.timeout(600)  # on a machine that may be busy

STAMP = "20260101T000000Z"
BEFORE, AFTER = "20251231T235959Z", "20260101T000001Z"
TAGS = st.sampled_from(
    ["", "v", "v-2", "v-10", "a-999", "a-1000", "night-20260131", "n002", "n002-3", "Z", "zz", "ä"]
) | st.text("abzN0129-_. ", max_size=6)
ANY = settings(derandomize=True, max_examples=60, deadline=None, database=None)


@contextmanager
def a_store() -> Iterator[HistoryStore]:
    """A history of its own for each example."""
    with tempfile.TemporaryDirectory() as folder:
        store = HistoryStore(Path(folder) / "history")
        store.prepare()
        yield store


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    store = HistoryStore(tmp_path / "history")
    store.prepare()
    return store


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


def of_board(number: int) -> SessionArtifact:
    """One of several boards' sessions."""
    return session(
        f"id-{number:02}", STAMP, tag=f"t{-number % 3}", fields={**FIELDS, "board": f"b{number % 2}"}
    )


def ids(store: HistoryStore) -> list[str]:
    """Of all sessions, oldest first."""
    return [one.session_id for one in store.sessions()]


def in_old_files(folder: Path, artifacts: Sequence[SessionArtifact], *, tag: str = "") -> list[str]:
    """Sessions of one second in files that have their number at the end; the names."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = names.session_stem(STAMP, tag)
    found = [f"{stem}{f'-{number}' if number > 1 else ''}.json" for number in range(1, len(artifacts) + 1)]
    for name, artifact in zip(found, artifacts, strict=True):
        (folder / name).write_bytes(encode_session(artifact))
        (folder / name).with_suffix(".md").write_text(artifact.session_id)
    return found


@ANY
@given(st.lists(TAGS, min_size=1, max_size=13))
def test_sorted_names_are_the_order_of_saving_whatever_the_tags(tags: list[str]) -> None:
    with a_store() as store:
        later = store.save(session("later", AFTER), latest=False)
        earlier = store.save(session("earlier", BEFORE), latest=False)
        saved = [
            store.save(session(f"id-{number:02}", STAMP, tag=tag), f"{number}", latest=True)
            for number, tag in enumerate(tags)
        ]
        mine = [one.artifact.session_id for one in saved]
        expected = [one.json_path.name for one in (earlier, *saved, later)]
        assert sorted(path.name for path in store.folder.glob("perf_*.json")) == expected
        assert store.file_names() == expected
        assert store.file_names(newest_first=True) == expected[::-1]
        assert ids(store) == ["earlier", *mine, "later"]
        assert [row.name for row in store.select(Query(newest_first=False))] == expected
        assert [one.markdown_path.read_text() for one in saved if one.markdown_path] == [
            str(number) for number in range(len(tags))
        ]
        for back, session_id in enumerate(["earlier", *mine][::-1]):
            assert store.find(f"latest~{back}").artifact.session_id == session_id
        (store.folder / names.LATEST).unlink()
        later.json_path.unlink()
        latest = store.latest()
        assert latest is not None
        assert latest.session_id == mine[-1]


@ANY
@given(st.tuples(st.integers(1, 20_000), TAGS), st.tuples(st.integers(1, 20_000), TAGS))
def test_names_sort_by_their_number_and_say_it(one: tuple[int, str], other: tuple[int, str]) -> None:
    (low, low_tag), (high, high_tag) = sorted([one, other])
    below, above = (
        f"{names.session_stem(STAMP, tag, n)}.json" for n, tag in ((low, low_tag), (high, high_tag))
    )
    if low < high:
        assert below < above
        assert below.encode() < above.encode()
    key = names.order_key(above)
    assert key is not None
    if high > 1:
        assert key[:2] == (STAMP, high)
        assert names.tag_of(above) == names.clean_tag(high_tag)
        assert names.parse_mark(names.mark_name("accept", above.removesuffix(".json"))) == ("accept", above)


@pytest.mark.parametrize(
    ("name", "number", "tag"),
    [
        (f"perf_{STAMP}.json", 1, ""),
        (f"perf_{STAMP}-2.json", 2, ""),
        (f"perf_{STAMP}_v-999.json", 999, "v"),
        (f"perf_{STAMP}_v-1.json", 1, "v-1"),
        (f"perf_{STAMP}_v-02.json", 1, "v-02"),
        (f"perf_{STAMP}_night-20260131.json", 1, "night-20260131"),
        (f"perf_{STAMP}n002.json", 2, ""),
        (f"perf_{STAMP}n010_v-3.json", 10, "v-3"),
        (f"perf_{STAMP}nn1000_n002.json", 1000, "n002"),
    ],
)
def test_numbers_in_front_of_the_tag_and_behind_it_are_read(name: str, number: int, tag: str) -> None:
    assert names.order_key(name) == (STAMP, number, name)
    assert names.tag_of(name) == tag


@pytest.mark.parametrize("rest", ["n2", "n002x", "n002-3", "x", "n", "n_v"])
def test_what_is_no_number_is_no_place(rest: str) -> None:
    assert names.order_key(f"perf_{STAMP}{rest}.json") is None


def test_old_files_keep_their_names_and_come_before_new_ones_of_their_second(store: HistoryStore) -> None:
    old = in_old_files(store.folder, [of_board(number) for number in range(12)])
    new = store.save(session("new", STAMP, tag="A"), latest=True)
    assert new.json_path.name == f"perf_{STAMP}n013_A.json"
    assert store.file_names() == [*old, new.json_path.name]
    assert ids(store) == [*(f"id-{number:02}" for number in range(12)), "new"]
    assert store.find("latest~2").artifact.session_id == "id-10"
    store.accept("id-09", "meant")
    assert (store.folder / f"accept_perf_{STAMP}-10.json").exists()
    assert store.find(f"perf_{STAMP}-10").artifact.accepted is not None
    assert store.before(names.OrderKey(STAMP, 10, old[9])).newest()[0].session_id == "id-08"


def test_a_number_behind_a_removed_session_is_not_given_to_an_earlier_place(store: HistoryStore) -> None:
    for number in range(3):
        store.save(session(f"id-{number}", STAMP), latest=False)
    store.find("id-1").json_path.unlink()
    assert store.save(session("id-3", STAMP), latest=False).json_path.name == f"perf_{STAMP}n004.json"
    assert ids(store) == ["id-0", "id-2", "id-3"]


def test_the_baseline_is_the_newest_of_one_second(store: HistoryStore) -> None:
    for number in range(12):
        store.save(session(f"id-{number:02}", STAMP, tag=f"t{-number}"), latest=True)
    key = Comparability(key="", fields=FIELDS)
    assert [one.session_id for one in store.baseline(key, per_profile=3)] == ["id-09", "id-10", "id-11"]
    place = names.order_key(store.find("id-10").json_path.name)
    assert place is not None
    before = store.before(place).baseline(key, per_profile=2)
    assert [one.session_id for one in before] == ["id-08", "id-09"]


def test_of_two_boards_in_one_second_each_has_its_own_newest(store: HistoryStore) -> None:
    for number in range(12):
        store.save(of_board(number), latest=True)
    assert store.find("latest", board="b0").artifact.session_id == "id-10"
    assert store.find("latest~2", board="b0").artifact.session_id == "id-06"
    assert store.find("latest~1", board="b1").artifact.session_id == "id-09"
    assert store.find("t1").artifact.session_id == "id-11"


@pytest.mark.parametrize("old", [True, False], ids=["old names", "new names"])
def test_pruning_keeps_the_newest_of_one_second(store: HistoryStore, old: bool) -> None:
    artifacts = [
        session(f"id-{number:02}", STAMP, verdict="failed", tag=f"t{-number}") for number in range(12)
    ]
    if old:
        in_old_files(store.folder, artifacts)
    else:
        for artifact in artifacts:
            store.save(artifact, latest=False)
    prune(store, keep=3)
    assert [row.session_id for row in all_rows(store)] == ["id-09", "id-10", "id-11"]
    assert len(list(store.folder.glob("perf_*.md"))) == (3 if old else 0)


@pytest.mark.parametrize("single", [True, False], ids=["files", "folder"])
def test_old_names_are_imported_in_their_order(
    store: HistoryStore, tmp_path: Path, single: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there"
    found = in_old_files(there, [session(f"id-{n:02}", STAMP, tag="v") for n in range(12)], tag="v")
    marks.write_mark(there, "pin", f"perf_{STAMP}_v-10", "id-09")
    (there / f"perf_{STAMP}.txt.json").write_text("{}")
    given_ = sorted(str(there / name) for name in found) if single else [str(there)]
    store.save(session("mine", STAMP), latest=True)
    words = ["import", f"--perf-history={store.folder}", *given_]
    main([*words, "--dry-run"])
    said = [line.partition(" as ")[2] for line in capsys.readouterr().out.splitlines()]
    main(words)
    assert [line.partition(" as ")[2] for line in capsys.readouterr().out.splitlines()] == said
    assert [line.partition(" ")[0] for line in said] == [f"perf_{STAMP}n{n:03}_v.json" for n in range(2, 14)]
    assert ids(store) == ["mine", *(f"id-{number:02}" for number in range(12))]
    assert store.find("id-09").artifact.pinned
    assert sorted(path.name for path in store.folder.glob("perf_*.json")) == store.file_names()


def test_a_crashed_session_stands_before_the_one_that_archived_it(store: HistoryStore) -> None:
    with Checkpoint(store, "crashed") as checkpoint:
        checkpoint.write(session("crashed", STAMP, tag="z"))
    with Checkpoint(store, "next") as checkpoint:
        assert [one.artifact.session_id for one in checkpoint.recovered] == ["crashed"]
        saved = store.save(session("next", STAMP, tag="a"), latest=True)
        checkpoint.discard()
    assert max(path.name for path in store.folder.glob("perf_*.json")) == saved.json_path.name
    assert ids(store) == ["crashed", "next"]


def test_sessions_of_another_bench_come_behind_those_of_the_same_second_in_the_order_of_writing(
    share: Path, tmp_path: Path
) -> None:
    theirs, ours = (Bench(share.as_uri(), tmp_path / name) for name in "ab")
    for number in range(12):
        theirs.store.save(of_board(number), f"# {number}", latest=True)
    theirs.store.pin("id-03", "anchor")
    theirs.sync.push()
    for number in range(12):
        os.utime(share / objects.SESSIONS / f"id-{number:02}.json", (number, number))
    ours.save("mine-1", STAMP, tag="z")
    ours.save("mine-2", STAMP)
    assert ours.sync.pull().new == 12
    expected = ["mine-1", "mine-2", *(f"id-{number:02}" for number in range(12))]
    assert ids(ours.store) == expected
    assert sorted(path.name for path in ours.folder.glob("perf_*.json")) == ours.store.file_names()
    assert ours.decided()["id-03"] == (None, True)
    for back, session_id in enumerate(expected[::-1]):
        assert ours.store.find(f"latest~{back}").artifact.session_id == session_id
    with pytest.raises(HistoryError, match="latest~14 does not exist"):
        ours.store.find("latest~14")
    assert ours.sync.push().sessions == 2
    assert ours.sync.pull().new == 0
    assert ids(ours.store) == expected


def test_old_names_are_shared_with_their_decisions(share: Path, tmp_path: Path) -> None:
    theirs, ours = (Bench(share.as_uri(), tmp_path / name) for name in "ab")
    in_old_files(theirs.folder, [session("first", STAMP), session("second", STAMP)])
    theirs.store.accept("second", "meant")
    theirs.sync.push()
    ours.sync.pull()
    assert ours.decided() == theirs.decided() == {"first": (None, False), "second": ("meant", False)}
    ours.store.pin("first")
    ours.sync.push()
    theirs.sync.pull()
    assert (theirs.folder / f"pin_perf_{STAMP}.json").exists()
    assert theirs.decided() == ours.decided()
