from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.history_samples import DATA, session

from pytest_espperf.errors import ArtifactError, HistoryError, NewerSchemaError
from pytest_espperf.history import HistoryStore, load_session, names


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    store = HistoryStore(tmp_path / "history")
    store.prepare()
    return store


def ids(store: HistoryStore, *, newest_first: bool = False) -> list[str]:
    return [artifact.session_id for artifact in store.sessions(newest_first=newest_first)]


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_session_is_saved_with_its_summary_and_as_latest(store: HistoryStore) -> None:
    saved = store.save(session(tag="base v1"), "# summary ✓\n", latest=True)
    assert saved.json_path == store.folder / "perf_20260101T000000Z_base_v1.json"
    assert saved.markdown_path == store.folder / "perf_20260101T000000Z_base_v1.md"
    assert saved.markdown_path.read_text(encoding="utf-8") == "# summary ✓\n"
    assert load_session(saved.json_path) == saved.artifact == load_session(store.folder / "latest.json")
    assert saved.artifact.tag == "base v1"
    assert saved.clock_behind is None
    assert listing(store.folder) == [
        "latest.json",
        "perf_20260101T000000Z_base_v1.json",
        "perf_20260101T000000Z_base_v1.md",
    ]
    assert store.latest() == saved.artifact


def test_nothing_is_overwritten_and_ten_comes_after_two(store: HistoryStore) -> None:
    saved = [store.save(session(f"session-{number}"), f"{number}", latest=True) for number in range(1, 13)]
    assert [one.json_path.name for one in saved][:3] == [
        "perf_20260101T000000Z.json",
        "perf_20260101T000000Zn002.json",
        "perf_20260101T000000Zn003.json",
    ]
    assert ids(store) == [f"session-{number}" for number in range(1, 13)]
    assert ids(store, newest_first=True) == [f"session-{number}" for number in range(12, 0, -1)]
    texts = [one.markdown_path.read_text() for one in saved if one.markdown_path]
    assert texts == [str(number) for number in range(1, 13)]


def test_a_stray_summary_is_not_overwritten(store: HistoryStore) -> None:
    (store.folder / "perf_20260101T000000Z.md").write_text("mine")
    saved = store.save(session(), "new", latest=False)
    assert saved.json_path.name == "perf_20260101T000000Zn002.json"
    assert (store.folder / "perf_20260101T000000Z.md").read_text() == "mine"


def test_tags_that_look_like_numbers_do_not_collide(store: HistoryStore) -> None:
    first = store.save(session("one", tag="v-2"), latest=False)
    second = store.save(session("two", tag="v"), latest=False)
    third = store.save(session("three", tag="v"), latest=False)
    assert [first.json_path.name, second.json_path.name, third.json_path.name] == [
        "perf_20260101T000000Z_v-2.json",
        "perf_20260101T000000Zn003_v.json",
        "perf_20260101T000000Zn004_v.json",
    ]
    assert store.find("v-2").artifact.session_id == "one"


@settings(derandomize=True, max_examples=200, deadline=None, database=None)
@given(
    st.text(max_size=300)
    | st.sampled_from(["../../x", "..", "CON", "nul.txt", "a:b", "C:\\x", "a\0b", ".", "-", " "])
)
def test_no_tag_leaves_the_folder(tag: str) -> None:
    stem = names.session_stem("20260101T000000Z", tag, 7)
    assert Path(f"{stem}.json").name == f"{stem}.json"
    assert len(f"accept_{stem}.json") < 160
    assert set(stem) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert ".." not in stem or not stem.startswith(".")
    key = names.order_key(f"{stem}.json")
    assert key is not None
    assert key[:2] == ("20260101T000000Z", 7)
    partial = names.partial_name(tag)
    assert Path(partial).name == partial
    assert names.is_partial_name(partial)


@pytest.mark.parametrize(
    "moment",
    [
        "20260101T000000Z",
        "2026-01-01T00:00:00Z",
        "2026-01-01T02:00:00+02:00",
        "2025-12-31 19:30-0430",
        "2026-01-01T00:00:00.123456789+00:00",
        "2026-01-01T00:00:00.5",
    ],
)
def test_times_are_read_in_both_forms(store: HistoryStore, moment: str) -> None:
    saved = store.save(session(timestamp=moment), latest=False)
    assert saved.json_path.name == "perf_20260101T000000Z.json"
    assert saved.artifact.timestamp_utc == moment


@pytest.mark.parametrize(
    "moment",
    [
        "",
        "now",
        "2026-01-01",
        "2026-01-01T25:00:00",
        "0001-01-01T00:00+05:00",
        "2026-W01-1T00:00:00",
        "../x",
        "20261301T000000Z",
        # digits of another script
        "\u0662\u0660\u0662\u0666\u0660\u0661\u0660\u0661T000000Z",
        "2026",
    ],
)
def test_a_session_without_a_time_is_refused(store: HistoryStore, moment: str) -> None:
    with pytest.raises(ArtifactError, match="timestamp_utc"):
        store.save(session(timestamp=moment), latest=True)
    assert listing(store.folder) == []


def test_a_clock_set_back_loses_nothing_and_is_said(store: HistoryStore) -> None:
    store.save(session("first", "20260101T120000Z"), latest=True)
    back = store.save(session("second", "20260101T110500Z"), latest=True)
    assert back.clock_behind == "perf_20260101T120000Z.json"
    assert ids(store) == ["second", "first"]  # the order is that of the file names
    latest = store.latest()
    assert latest is not None
    assert latest.session_id == "second"  # latest.json is the last one saved
    assert store.save(session("third", "20260101T130000Z"), latest=True).clock_behind is None


def test_a_session_that_ran_meanwhile_is_no_clock_that_was_set_back(store: HistoryStore) -> None:
    store.save(session("before", "20260101T100000Z"), latest=True)
    known = store.file_names()
    store.save(session("another-board", "20260101T110100Z"), latest=True)
    first = store.save(session("began-first", "20260101T110000Z"), latest=True, known=known)
    assert first.clock_behind is None
    # One that was there when it began does count, whatever else was saved since.
    known = store.file_names()
    store.save(session("another-board", "20260101T120000Z"), latest=True)
    back = store.save(session("set-back", "20260101T090000Z"), latest=True, known=known)
    assert back.clock_behind == "perf_20260101T110100Z.json"


def test_an_id_is_given_where_there_is_none(store: HistoryStore) -> None:
    saved = store.save(session(""), latest=False)
    assert len(saved.artifact.session_id) == 16
    assert load_session(saved.json_path).session_id == saved.artifact.session_id


def test_unreadable_files_are_named_once_and_kept(store: HistoryStore) -> None:
    store.save(session("good"), latest=True)
    bad = {
        "perf_20260102T000000Z_cut.json": b'{"schema_version": 1, "time',
        "perf_20260103T000000Z_new.json": b'{"schema_version": 99}',
        "perf_20260104T000000Z_foreign.json": b'{"benchmarks": []}',
        "perf_20260105T000000Z_empty.json": b"",
        "perf_old copy.json": b"{}",
    }
    for name, data in bad.items():
        (store.folder / name).write_bytes(data)
    (store.folder / "perf_20260106T000000Z_dir.json").mkdir()
    for _ in range(3):
        assert ids(store) == ["good"]
        assert [row.session_id for row in store.select()] == ["good"]
    assert sorted(error.path.name for error in store.skipped if error.path) == sorted(
        [*bad, "perf_20260106T000000Z_dir.json"]
    )
    assert {type(error) for error in store.skipped} == {ArtifactError, NewerSchemaError}
    for name, data in bad.items():
        assert (store.folder / name).read_bytes() == data


def test_other_files_are_none_of_the_history(store: HistoryStore) -> None:
    for name in ("index.msgpack", "notes.txt", ".espperf-1-x.tmp", "README.md", "perf_20260101T000000Z.md"):
        (store.folder / name).write_text("x")
    assert ids(store) == []
    assert store.skipped == []


def test_reading_makes_nothing(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "none")
    assert ids(store) == []
    assert store.select() == []
    assert store.latest() is None
    assert store.newest() == []
    with pytest.raises(HistoryError, match="holds no session"):
        store.find("latest-ish")
    assert not store.folder.exists()


def test_a_bad_latest_is_named_and_the_newest_completed_one_answers(store: HistoryStore) -> None:
    store.save(session("one", "20260101T000000Z"), latest=True)
    store.save(session("two", "20260102T000000Z"), latest=True)
    store.save(session("cut", "20260103T000000Z", verdict="incomplete"), latest=False)
    (store.folder / "latest.json").write_text("{")
    latest = store.latest()
    assert latest is not None
    assert latest.session_id == "two"
    assert [error.path for error in store.skipped] == [store.folder / "latest.json"]


def test_newest_takes_those_that_fit_oldest_first(store: HistoryStore) -> None:
    for number in range(6):
        store.save(session(f"s{number}", f"2026010{number + 1}T000000Z", p95=float(number)), latest=False)
    assert [one.session_id for one in store.newest(limit=2)] == ["s4", "s5"]
    assert [one.session_id for one in store.newest(lambda one: one.session_id in "s1 s3", limit=9)] == [
        "s1",
        "s3",
    ]
    assert store.newest(limit=0) == []


def test_the_original_s_folder_is_a_history(tmp_path: Path) -> None:
    for path in (DATA / "schema0").glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "latest.json").write_bytes(
        (tmp_path / "perf_20260212T101503Z_baseline_isolated_v1.json").read_bytes()
    )
    store = HistoryStore(tmp_path)
    assert [one.tag for one in store.sessions()] == ["baseline_isolated_v1", "ipc_ring_try"]
    latest = store.latest()
    assert latest is not None
    assert latest.tag == "baseline_isolated_v1"
    assert not any(row.in_history or row.base_key for row in store.select())


# -- decisions --------------------------------------------------------------------------------------


def test_decisions_are_kept_beside_the_artifact(store: HistoryStore) -> None:
    saved = store.save(session("abcdef", tag="slow", verdict="regressed"), latest=True)
    before = saved.json_path.read_bytes()
    accepted = store.accept(saved, "new TLS stack", "ana").artifact.accepted
    assert accepted is not None
    assert (accepted["reason"], accepted["by"]) == ("new TLS stack", "ana")
    assert store.pin("slow").artifact.pinned
    assert saved.json_path.read_bytes() == before
    assert [(one.accepted, one.pinned) for one in store.sessions()] == [(accepted, True)]
    latest = store.latest()
    assert latest is not None
    assert latest.pinned
    (row,) = store.select()
    assert (row.accepted, row.pinned, row.in_history) == (accepted, True, True)
    assert not store.unpin("abcdef").artifact.pinned
    assert store.unaccept("abcdef").artifact.accepted is None
    (row,) = store.select()
    assert (row.accepted, row.pinned, row.in_history) == (None, False, False)
    store.unpin("abcdef")  # twice is no error


def test_an_incomplete_session_cannot_be_accepted(store: HistoryStore) -> None:
    saved = store.save(session(verdict="incomplete"), latest=False)
    with pytest.raises(HistoryError, match="incomplete"):
        store.accept(saved, "please")


def test_a_session_without_an_answer_is_neither_baseline_nor_anchor(store: HistoryStore) -> None:
    nothing = msgspec.structs.replace(session(verdict="failed"), raw_runs=[])
    saved = store.save(nothing, latest=True)
    with pytest.raises(HistoryError, match="no right answer of the board: it can never be a baseline"):
        store.accept(saved, "please")
    with pytest.raises(HistoryError, match="no right answer of the board: it can never be an anchor"):
        store.pin(saved)
    assert not any(row.in_history or row.pinned for row in store.select())


def test_a_decision_about_another_session_counts_for_nothing(store: HistoryStore) -> None:
    store.save(session("one", "20260101T000000Z", verdict="regressed"), latest=False)
    two = store.save(session("two", "20260102T000000Z", verdict="regressed"), latest=False)
    store.accept(two, "fine")
    accept = store.folder / "accept_perf_20260102T000000Z.json"
    accept.rename(store.folder / "accept_perf_20260101T000000Z.json")
    (store.folder / "pin_perf_20260102T000000Z.json").write_text("[]")
    assert [(one.accepted, one.pinned) for one in store.sessions()] == [(None, False)] * 2
    assert sorted(error.path.name for error in store.skipped if error.path) == [
        "accept_perf_20260101T000000Z.json",
        "pin_perf_20260102T000000Z.json",
    ]
    again = HistoryStore(store.folder)
    assert not any(row.in_history or row.pinned for row in again.select())
    assert len(again.skipped) == 2


def test_an_artifact_cannot_accept_itself(store: HistoryStore) -> None:
    saved = store.save(session(verdict="regressed"), latest=False)
    claim = msgspec.structs.replace(saved.artifact, accepted={"reason": "I say so"}, pinned=True)
    saved.json_path.write_bytes(msgspec.json.encode(claim))
    assert [(one.accepted, one.pinned) for one in store.sessions()] == [(None, False)]
    assert not store.select()[0].in_history
    again = store.save(claim, latest=True)
    raw = load_session(again.json_path)
    assert (raw.accepted, raw.pinned) == (None, False)


# -- references -------------------------------------------------------------------------------------


def test_references(store: HistoryStore) -> None:
    store.save(session("aaaa1111", "20260101T000000Z", tag="base"), latest=True)
    store.save(session("aaaa2222", "20260102T000000Z", tag="base"), latest=True)
    store.save(session("bbbb3333", "20260103T000000Z", tag="base", verdict="incomplete"), latest=False)
    store.save(session("cccc4444", "20260104T000000Z", tag="other one"), latest=True)

    def found(ref: str) -> str:
        return store.find(ref).artifact.session_id

    assert found("aaaa1111") == "aaaa1111"
    assert found("bbbb") == "bbbb3333"
    assert found("perf_20260101T000000Z_base.json") == "aaaa1111"
    assert found("perf_20260101T000000Z_base") == "aaaa1111"
    assert found("base") == "aaaa2222"  # the newest completed one
    assert found("other one") == found("other_one") == "cccc4444"
    assert [found(f"latest~{n}") for n in range(3)] == ["cccc4444", "aaaa2222", "aaaa1111"]
    assert found("latest") == "cccc4444"
    for ref, message in {
        "aaaa": "matches 2 sessions",
        "bas": "base",
        "nothing": "newest:",
        "latest~3": "does not exist",
        "../history/perf_20260101T000000Z_base.json": "no session",
        "": "no session",
    }.items():
        with pytest.raises(HistoryError, match=message):
            store.find(ref)


def test_a_reference_to_a_bad_file_says_what_is_wrong(store: HistoryStore) -> None:
    (store.folder / "perf_20260101T000000Z.json").write_text("{}")
    with pytest.raises(ArtifactError, match="not a session"):
        store.find("perf_20260101T000000Z")
