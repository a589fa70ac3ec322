from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.benches import Bench, quick_disk  # noqa: F401 - for every test

from pytest_espperf.errors import ArtifactError
from pytest_espperf.history import files, marks, names
from pytest_espperf.history.marks import Mark
from pytest_espperf.history.shared import objects

pytestmark = pytest.mark.timeout(600)  # on a machine that may be busy

WHOLE = "whole-session"
DECIDE = ("accept", "pin")


@pytest.fixture
def benches(tmp_path: Path) -> tuple[Bench, Bench]:
    """Two that know one session."""
    (tmp_path / "share").mkdir()
    url = (tmp_path / "share").as_uri()
    a, b = Bench(url, tmp_path / "a"), Bench(url, tmp_path / "b")
    a.save(WHOLE)
    a.sync.push()
    b.sync.pull()
    return a, b


def meet(*benches: Bench) -> None:
    for bench in (*benches, *benches):
        bench.sync.pull()
        bench.sync.push()


def mark_at(bench: Bench, stamp: str, reason: str, kind: str = "accept") -> None:
    """A decision by a clock of its own."""
    path = next(bench.folder.glob("perf_*.json"))
    mark = Mark(session_id=WHOLE, reason=reason, by="me", at=stamp)
    (bench.folder / names.mark_name(kind, path.stem)).write_bytes(marks.encode_mark(mark))


def test_a_decision_reaches_the_others_as_it_was_taken(benches: tuple[Bench, Bench]) -> None:
    a, b = benches
    a.store.accept(WHOLE, "meant ✓", "me")
    a.store.pin(WHOLE, "anchor", "me")
    assert a.push() == 2
    assert b.sync.pull().unsent is False
    assert b.decided() == {WHOLE: ("meant ✓", True)}
    assert b.store.find(WHOLE).artifact.accepted == a.store.find(WHOLE).artifact.accepted
    assert [name.split("_")[0] for name in a.there(objects.MARKS)] == ["accept", "pin"]
    assert a.push() == b.push() == 0


def test_an_undone_decision_is_undone_everywhere_and_can_be_taken_again(
    benches: tuple[Bench, Bench],
) -> None:
    a, b = benches
    a.store.accept(WHOLE, "meant")
    meet(a, b)
    b.store.unaccept(WHOLE)
    assert b.push() == 1
    a.sync.pull()
    assert a.decided() == b.decided() == {WHOLE: (None, False)}
    a.store.accept(WHOLE, "meant")  # in the same second, and in the same words
    assert a.push() == 1
    b.sync.pull()
    assert b.decided() == {WHOLE: ("meant", False)}
    meet(a, b)
    assert a.decided() == b.decided() == {WHOLE: ("meant", False)}
    assert len(a.there(objects.MARKS)) == 3


def test_decisions_that_are_taken_apart_meet_and_the_newest_holds(benches: tuple[Bench, Bench]) -> None:
    a, b = benches
    mark_at(a, "20260102T000000Z", "first")
    mark_at(b, "20260103T000000Z", "second")
    mark_at(b, "20260103T000000Z", "anchor", "pin")
    meet(a, b)
    assert a.decided() == b.decided() == {WHOLE: ("second", True)}


def test_of_decisions_in_the_same_second_one_holds_and_everywhere_the_same(
    benches: tuple[Bench, Bench],
) -> None:
    a, b = benches
    mark_at(a, "20260102T000000Z", "one")
    mark_at(b, "20260102T000000Z", "two")
    meet(a, b)
    assert a.decided() == b.decided()
    assert a.decided()[WHOLE][0] in {"one", "two"}


def test_a_decision_that_answers_one_from_a_clock_ahead_holds_all_the_same(
    benches: tuple[Bench, Bench],
) -> None:
    a, b = benches
    mark_at(a, "20990101T000000Z", "a clock that is ahead")
    meet(a, b)
    assert b.decided() == {WHOLE: ("a clock that is ahead", False)}
    b.store.unaccept(WHOLE)
    meet(b, a)
    assert a.decided() == b.decided() == {WHOLE: (None, False)}
    mark_at(a, "20260101T000000Z", "a clock that is behind")
    meet(a, b)
    assert a.decided() == b.decided() == {WHOLE: ("a clock that is behind", False)}


def test_a_decision_about_a_session_that_comes_later_waits_for_it(benches: tuple[Bench, Bench]) -> None:
    a, b = benches
    late = a.save("late-session", "20260105T000000Z")
    a.store.accept("late-session", "meant")
    a.sync.push()
    data = a.get(objects.SESSIONS, "late-session.json")
    a.put(objects.SESSIONS, {"late-session.json": data[:100]})
    b.sync.pull()
    assert b.ids() == [WHOLE]
    a.sync.push()
    b.sync.pull()
    assert b.decided()["late-session"] == ("meant", False)
    assert b.push() == 0
    for path in b.folder.glob("*late*"):
        path.unlink()
    (b.folder / late.name).unlink()  # by hand: that takes back no decision
    b.sync.pull()
    assert b.decided()["late-session"] == ("meant", False)
    assert b.push() == a.push() == 0


def test_a_decision_beside_an_imported_session_does_not_undo_what_was_decided_since(
    benches: tuple[Bench, Bench], tmp_path: Path
) -> None:
    a, b = benches
    mark_at(a, "20260102T000000Z", "long ago")
    a.sync.push()
    a.store.unaccept(WHOLE)
    a.sync.push()
    b.sync.pull()
    old = Bench(str(a.url), tmp_path / "old")
    old.save(WHOLE)
    mark_at(old, "20260102T000000Z", "long ago")
    meet(old, b)
    assert old.decided() == b.decided() == {WHOLE: (None, False)}


def test_what_is_no_decision_counts_for_nothing(benches: tuple[Bench, Bench]) -> None:
    a, b = benches
    good = objects.make_event("accept", Mark(session_id=WHOLE, at="20260102T000000Z"), undo=False)
    data = objects.encode_event(good)
    a.put(
        objects.MARKS,
        {
            good.name: data[:-5],
            good.name.replace("accept", "pin"): data,
            good.name.replace(WHOLE, "other-session"): data,
            good.name.replace("2026", "9026"): data,
        },
    )
    done = b.sync.pull()
    assert b.decided() == {WHOLE: (None, False)}
    assert len(done.skipped) == 3
    assert "is not a recorded decision" in "".join(done.skipped)
    assert b.sync.pull().skipped == done.skipped


@given(
    kind=st.sampled_from(marks.KINDS),
    undo=st.booleans(),
    mark=st.builds(
        Mark, session_id=st.text(min_size=1), reason=st.text(), by=st.text(), at=st.sampled_from(["", "2026"])
    ),
    after=st.sampled_from(["", "20260102T000000Z", "20991231T235959Z", "nonsense"]),
)
def test_any_decision_is_what_it_was_after_a_journey(kind: str, undo: bool, mark: Mark, after: str) -> None:
    event = objects.make_event(kind, mark, undo=undo, after=after)
    assert objects.is_decision(event.name)
    assert objects.decode_event(event.name, objects.encode_event(event)) == event
    assert event.stamp > after or after == "nonsense"


@given(data=st.binary(), name=st.text())
def test_any_bytes_are_a_decision_or_refused(data: bytes, name: str) -> None:
    for one in (name, "accept_whole-session_20260102T000000Z_00000000.json"):
        with pytest.raises(ArtifactError):
            objects.decode_event(one, data)


# -- being killed ------------------------------------------------------------------------------------


class KilledError(BaseException):
    pass


def dying(monkeypatch: pytest.MonkeyPatch, writes: int) -> Callable[[], bool]:
    """From so many writes on, none is done any more, as after a SIGKILL. Whether that came."""
    left = [writes]

    def guarded(do: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError
            return do(*arguments)

        return call

    for name in ("_write_synced", "_replace", "_publish_exclusively", "remove"):
        monkeypatch.setattr(files, name, guarded(getattr(files, name)))
    return lambda: left[0] < 0


def both(folder: Path) -> tuple[Bench, Bench]:
    url = (folder / "share").as_uri()
    return Bench(url, folder / "a"), Bench(url, folder / "b")


def prepare(folder: Path) -> None:
    """Bench B is to learn of a session, a decision and an undone one, and has two of its own to tell.

    An accepted session it has lost, as one does who tidies up by hand.
    """
    (folder / "share").mkdir(parents=True)
    a, b = both(folder)
    known = ("undone-there", "undone-here", "decided-here", "decided-there", "lost-here")
    for number, session_id in enumerate(known):
        a.save(session_id, f"2026010{number + 1}T000000Z")
    for session_id in ("undone-there", "undone-here", "lost-here"):
        a.store.accept(session_id, "at first")
    a.sync.push()
    b.sync.pull()
    lost = b.store.find("lost-here").json_path
    lost.unlink()
    (b.folder / names.mark_name("accept", lost.stem)).unlink()
    b.store.unaccept("undone-here")
    b.store.accept("decided-here", "by b")
    a.save("new-session", "20260109T000000Z")
    a.store.accept("new-session", "by a")
    a.store.unaccept("undone-there")
    a.store.accept("decided-there", "by a")
    a.sync.push()


def test_a_sync_that_is_killed_at_any_write_is_made_up_for_by_the_next(tmp_path: Path) -> None:
    wanted = {
        "undone-there": (None, False),
        "undone-here": (None, False),
        "decided-here": ("by b", False),
        "decided-there": ("by a", False),
        "new-session": ("by a", False),
        "lost-here": ("at first", False),
    }
    prepare(tmp_path / "before")
    writes = 0
    died = True
    while died:
        shutil.copytree(tmp_path / "before", tmp_path / str(writes), ignore=shutil.ignore_patterns("a"))
        b = Bench((tmp_path / str(writes) / "share").as_uri(), tmp_path / str(writes) / "b")
        with pytest.MonkeyPatch.context() as patched:
            dead = dying(patched, writes)
            try:
                b.sync.pull()
                b.sync.push()
            except KilledError:
                pass
            died = dead()
        b.sync.pull()
        b.sync.push()
        assert b.decided() == wanted, f"killed at write {writes}"
        there = [name.rpartition("_")[0].rpartition("_")[0] for name in b.there(objects.MARKS)]
        assert len(there) == len(set(there)) == 8, f"killed at write {writes}: {there}"
        writes += 1
    a = Bench(str(b.url), tmp_path / "a")
    a.sync.pull()
    assert a.decided() == wanted
    print(f"{writes} moments")
    assert writes > 20
