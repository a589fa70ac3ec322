from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from support.benches import Bench, quick_disk  # noqa: F401 - for every test
from support.history_samples import DATA, session

from pytest_espperf.errors import RemoteError
from pytest_espperf.history import encode_session, load, names
from pytest_espperf.history.adopt import Adoption
from pytest_espperf.history.checkpoint import Checkpoint
from pytest_espperf.history.shared import cache, objects, remote, storage, transfer
from pytest_espperf.history.shared.address import HistoryUrl

LOST = "0123456789abcdef"


@pytest.fixture
def benches(share: Path, tmp_path: Path) -> tuple[Bench, Bench]:
    return Bench(share.as_uri(), tmp_path / "a"), Bench(share.as_uri(), tmp_path / "b")


def test_both_sides_become_the_same(benches: tuple[Bench, Bench]) -> None:
    a, b = benches
    mine = a.save("session-a", tag="night ✓")
    theirs = b.save("session-b", "20260102T000000Z")
    assert a.push() == 1
    done = b.sync.pull()
    assert (done.sessions, done.new, done.skipped, done.unsent) == (1, 1, [], True)
    assert b.push() == 1
    assert a.sync.pull().new == 1
    assert a.ids() == b.ids() == ["session-a", "session-b"]
    assert (b.folder / mine.name).read_bytes() == mine.read_bytes()
    assert (a.folder / theirs.name).read_bytes() == theirs.read_bytes()
    assert (a.folder / theirs.name).with_suffix(".md").read_text(encoding="utf-8") == "# session-b\n"
    assert [bench.push() for bench in benches] == [0, 0]
    again = [bench.sync.pull() for bench in benches]
    assert [(done.new, done.unsent) for done in again] == [(0, False), (0, False)]


def test_two_benches_that_finish_in_the_same_second_with_the_same_tag_lose_nothing(
    benches: tuple[Bench, Bench],
) -> None:
    saved = [bench.save(f"bench-{bench.folder.name}", tag="night") for bench in benches]
    assert saved[0].name == saved[1].name
    for bench in (*benches, *benches):
        bench.sync.push()
        bench.sync.pull()
    for bench in benches:
        assert bench.ids() == ["bench-a", "bench-b"]
        assert sorted(path.name for path in bench.folder.glob("perf_*.md")) == [
            "perf_20260101T000000Z_night.md",
            "perf_20260101T000000Zn002_night.md",
        ]


def test_what_came_from_others_can_be_the_newest_and_then_is_the_latest(benches: tuple[Bench, Bench]) -> None:
    a, b = benches
    a.save("session-old", "20260101T000000Z")
    b.save("session-new", "20260201T000000Z")
    b.save("session-cut", "20260301T000000Z", verdict="incomplete")
    for bench in (b, a, b):
        bench.sync.push()
        bench.sync.pull()
    assert a.store.find("latest").artifact.session_id == "session-new"
    assert json.loads((a.folder / names.LATEST).read_bytes())["session_id"] == "session-new"
    a.save("session-own", "20260202T000000Z")
    a.sync.pull()
    assert a.store.find("latest").artifact.session_id == "session-own"


def test_interrupted_sessions_are_shared_and_checkpoints_are_not(benches: tuple[Bench, Bench]) -> None:
    a, b = benches
    a.save("session-cut", verdict="incomplete")
    with Checkpoint(a.store, "session-running") as checkpoint:
        checkpoint.write(session("session-running"))
        a.sync.push()
        b.sync.pull()
    assert b.ids() == ["session-cut"]
    assert not (b.folder / names.PARTIAL).exists()
    assert a.there(objects.SESSIONS) == ["session-cut.json", "session-cut.md"]


def test_files_of_the_original_tool_keep_the_tag_of_their_name(benches: tuple[Bench, Bench]) -> None:
    a, b = benches
    adoption = Adoption(a.store)
    for path in sorted((DATA / "schema0").glob("perf_*.json")):
        adoption.adopt(path)
    assert a.push() == 2
    assert b.sync.pull().new == 2
    assert list(b.store.sessions()) == list(a.store.sessions())
    assert [one.tag for one in b.store.sessions()] == ["baseline_isolated_v1", "ipc_ring_try"]
    assert a.push() == b.push() == 0


def test_an_id_that_cannot_be_the_name_of_a_file_is_shared_all_the_same(benches: tuple[Bench, Bench]) -> None:
    a, b = benches
    ids = ["../../up", "CON", "con", "Session-A", "session-a", "a" * 300, "h-" + "0" * 40, "ä:*?"]
    for number, session_id in enumerate(ids):
        a.save(session_id, f"2026010{number + 1}T000000Z")
    a.store.accept("../../up", "meant")
    assert a.push() == len(ids) + 1
    assert b.sync.pull().new == len(ids)
    assert b.ids() == sorted(ids)
    assert b.decided()["../../up"] == ("meant", False)
    for folder in (objects.SESSIONS, objects.MARKS):
        there = a.there(folder)
        assert len({name.lower() for name in there}) == len(there)
    assert sorted(path.name for path in Path(a.url.path).iterdir()) == ["marks", "sessions"]


# -- what is not as it should be ---------------------------------------------------------------------


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the objects that are read from now on."""
    read: list[str] = []
    before = remote.Remote.read

    def counted(self: remote.Remote, folder: str, wanted: Sequence[str]) -> storage.Contents:
        read.extend(wanted)
        return before(self, folder, wanted)

    monkeypatch.setattr(remote.Remote, "read", counted)
    return read


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_a_session_that_is_cut_short_is_left_out_and_written_again_by_whoever_has_it(
    benches: tuple[Bench, Bench], left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = benches
    a.save("session-a")
    a.sync.push()
    name = "session-a.json"
    whole = a.get(objects.SESSIONS, name)
    a.put(objects.SESSIONS, {name: whole[:left]})
    done = b.sync.pull()
    if left == -1:  # only the last newline is missing: as good as the whole
        assert (done.new, done.skipped) == (1, [])
        assert a.push() == 0
        return
    assert done.new == 0
    assert len(done.skipped) == 1
    assert done.skipped[0].startswith(f"{b.url}/sessions/session-a.json: ")
    assert b.ids() == []
    read = count_reads(monkeypatch)
    assert b.sync.pull().skipped == done.skipped
    assert read == []  # it is known to be bad
    assert a.sync.pull().unsent
    assert a.push() == 1
    assert a.get(objects.SESSIONS, name) == whole
    assert b.sync.pull().new == 1
    assert b.ids() == ["session-a"]


def test_an_object_that_claims_another_id_than_its_name_is_left_out(benches: tuple[Bench, Bench]) -> None:
    a, b = benches
    real = encode_session(session(LOST))
    a.put(objects.SESSIONS, {"session-other.json": real, f"{LOST}.json": real})
    done = b.sync.pull()
    assert b.ids() == [LOST]
    assert done.sessions == 2
    assert "session-other.json: contains another session than its name has" in done.skipped[0]
    b.save("session-other")
    assert b.push() == 1
    assert a.sync.pull().new == 2


def test_foreign_files_are_left_alone(benches: tuple[Bench, Bench], share: Path) -> None:
    a, b = benches
    a.save("session-a")
    a.sync.push()
    temporary = f"{names.TEMP_PREFIX}1{names.TEMP_SUFFIX}"
    foreign = {"README.txt": b"hello", "Notes.JSON": b"{}", "a b.json": b"{}", temporary: b"{"}
    a.put(objects.SESSIONS, foreign | {"strange-one.json": b'{"a": 1}', "lonely-one.md": b"# alone"})
    a.put(objects.MARKS, foreign | {"accept_session-a_89991399T000000Z_00000000.json": b"{}"})
    (share / "sessions" / "folder.json").mkdir()
    done = b.sync.pull()
    assert b.ids() == ["session-a"]
    assert len(done.skipped) == 1
    assert "strange-one.json: is JSON, but not a session" in done.skipped[0]
    assert a.push() == b.push() == 0
    assert set(foreign) <= set(a.there(objects.SESSIONS))


def test_what_is_too_large_is_not_even_read(
    benches: tuple[Bench, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = benches
    monkeypatch.setattr("pytest_espperf.history.shared.pull.MAX_BYTES", 5000)
    a.put(objects.SESSIONS, {"huge-one.json": b" " * 5001})
    read = count_reads(monkeypatch)
    assert "huge-one.json: is larger than 5,000 bytes (5,001)" in b.sync.pull().skipped[0]
    assert read == []


def test_a_session_of_a_later_version_is_neither_used_nor_written_over(benches: tuple[Bench, Bench]) -> None:
    a, b = benches
    a.save("session-a")
    later = msgspec.json.decode(encode_session(session("session-a"))) | {"schema_version": 99}
    a.put(objects.SESSIONS, {"session-a.json": msgspec.json.encode(later)})
    assert a.push() == 0
    for _ in range(2):  # after the package was renewed it can be read: it is looked at each time
        assert "was written by a later version" in b.sync.pull().skipped[0]


def test_another_good_copy_of_a_session_is_left_as_it_is_and_read_once(
    benches: tuple[Bench, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = benches
    path = a.save("session-a")
    other = msgspec.json.format(path.read_bytes(), indent=4)
    a.put(objects.SESSIONS, {"session-a.json": other})
    read = count_reads(monkeypatch)
    assert a.push() == a.push() == 0
    assert read == ["session-a.json"]
    assert not a.sync.pull().unsent
    assert a.get(objects.SESSIONS, "session-a.json") == other


def test_a_history_that_lost_all_is_not_taken_for_an_empty_one(
    benches: tuple[Bench, Bench], share: Path
) -> None:
    a, b = benches
    a.save("session-a")
    a.sync.push()
    b.sync.pull()
    (share / "sessions").rename(share / "elsewhere")  # as where a share is not mounted
    for bench in benches:
        for what in (bench.sync.pull, bench.sync.push):
            with pytest.raises(RemoteError, match="holds no session, and held 1 when"):
                what()
    assert not (share / "sessions").exists()


def test_a_session_that_went_there_is_sent_again(benches: tuple[Bench, Bench], share: Path) -> None:
    a, _ = benches
    a.save("session-a")
    a.save("session-b")
    a.sync.push()
    (share / "sessions" / "session-b.json").unlink()
    assert a.sync.pull().unsent
    assert a.push() == 1
    assert "session-b.json" in a.there(objects.SESSIONS)


def test_two_processes_that_pull_at_once_bring_each_session_once(
    benches: tuple[Bench, Bench], tmp_path: Path
) -> None:
    a, b = benches
    for number in range(20):
        a.save(f"session-{number:02}", f"202601{number + 1:02}T000000Z")
    a.sync.push()
    again = Bench(str(b.url), b.folder)
    threads = [threading.Thread(target=bench.sync.pull) for bench in (b, again)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert b.ids() == a.ids()


# -- time --------------------------------------------------------------------------------------------


class Hanging:
    """A place that hangs, and lets the time be over at once: at its first listing, or at one of its reads."""

    def __init__(self, patched: pytest.MonkeyPatch, *, at_read: int = 0) -> None:
        self.released = threading.Event()
        self._open = remote.open_storage
        self._patched = patched
        self._at_read = at_read
        self._reads = 0
        patched.setattr(remote, "open_storage", self._reach)

    def _reach(self, url: HistoryUrl) -> Hanging:
        self._place = self._open(url)
        return self

    def _hang(self) -> None:
        self._patched.setattr(remote.Remote, "left_s", lambda _: 0.0)
        self.released.wait(60)

    def listing(self, folder: str) -> Mapping[str, storage.Listed]:
        if not self._at_read:
            self._hang()
        return self._place.listing(folder)

    def read(self, folder: str, wanted: Sequence[str]) -> storage.Contents:
        self._reads += 1
        if self._reads == self._at_read:
            self._hang()
        return self._place.read(folder, wanted)

    def write(self, folder: str, objects: Mapping[str, bytes]) -> None:
        self._place.write(folder, objects)


def test_a_pull_that_takes_too_long_brings_the_newest_and_the_next_one_the_rest(
    benches: tuple[Bench, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = benches
    for number in range(1, 6):
        a.save(f"session-{number}", f"2026010{number}T000000Z")
        a.sync.push()
    monkeypatch.setattr(transfer, "BATCH", 2)
    with pytest.MonkeyPatch.context() as patched:
        slow = Hanging(patched, at_read=2)
        done = b.sync.pull()
        slow.released.set()
    assert (done.new, done.left) == (2, 3)
    assert b.ids() == ["session-4", "session-5"]
    assert b.sync.pulled_at() == ""
    with pytest.MonkeyPatch.context() as patched:
        slow = Hanging(patched, at_read=1)
        with pytest.raises(RemoteError, match=r"took longer than \d\d s"):  # what was left of 30
            b.sync.pull()
        slow.released.set()
    assert b.sync.pull().new == 3
    assert b.sync.pulled_at() != ""


def test_a_server_that_hung_a_moment_ago_is_not_waited_for_so_long_again(
    benches: tuple[Bench, Bench],
) -> None:
    a, b = benches
    a.save("session-a")
    a.sync.push()
    for seconds in (30, 5, 5):
        with pytest.MonkeyPatch.context() as patched:
            silent = Hanging(patched)
            with pytest.raises(RemoteError, match="did not answer within") as caught:
                b.sync.pull()
            silent.released.set()
        left_s = int(str(caught.value).split()[-2])
        assert seconds / 2 < left_s <= seconds
    assert b.sync.pull().new == 1
    assert cache.Cache(b.url, b.folder).load().silent_at == ""


def test_another_process_that_is_at_it_is_waited_for_and_not_for_ever(benches: tuple[Bench, Bench]) -> None:
    _, b = benches
    with (
        cache.Cache(b.url, b.folder).locked(1.0),
        pytest.raises(RemoteError, match="another process of this machine"),
    ):
        Bench(str(b.url), b.folder, bound_s=0.1).sync.pull()
    assert b.sync.pull().sessions == 0


def test_a_copy_says_whose_it_is(benches: tuple[Bench, Bench]) -> None:
    a, _ = benches
    a.sync.pull()
    assert str(a.url) in (a.folder / cache.ABOUT).read_text(encoding="utf-8")


@pytest.mark.parametrize("damage", [b"", b"{", b'{"applied": 3}', b"\xff"])
def test_a_record_that_cannot_be_read_is_made_anew(benches: tuple[Bench, Bench], damage: bytes) -> None:
    a, b = benches
    a.save("session-a")
    a.save("session-b")
    a.store.accept("session-a", "meant")
    a.sync.push()
    b.sync.pull()
    (b.folder / cache.FOLDER / "state.json").write_bytes(damage)
    assert b.push() == 0
    assert b.sync.pull().new == 0
    assert b.decided() == a.decided()
    assert load.read_bounded(b.folder / cache.FOLDER / "state.json") != damage
