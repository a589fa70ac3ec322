"""A history is data of strangers: whatever lies in its folder, every command ends, and nothing leaves it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from support.history_samples import session, sessions

from pytest_espperf.cli import main
from pytest_espperf.errors import ArtifactError, EspperfError, HistoryError
from pytest_espperf.history import (
    HistoryStore,
    encode_session,
    load_session,
    marks,
    names,
    snapshot,
)
from pytest_espperf.history.checkpoint import Checkpoint
from pytest_espperf.history.progress import IndexProgress
from pytest_espperf.history.prune import choose, plan, remove
from pytest_espperf.history.rows import Query, row_of
from pytest_espperf.history.shared import objects
from pytest_espperf.history.shared.storage import MountedFolder
from pytest_espperf.history.skim import Skimmer
from pytest_espperf.model.artifact import Comparability, SessionArtifact
from pytest_espperf.system.regular import LINK, NO_FILE

OWN = "perf_20260101T000000Z_own.json"
ODD = "perf_20260102T000000Z_odd.json"
EXPORTS = (
    *("csv", "junit", "openmetrics", "github-action-benchmark", "bencher", "pytest-benchmark", "hdrlog"),
    "badge",
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders, links only for some users")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of any bytes")
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A history with one session, below a working directory."""
    here = tmp_path / "outside" / "here"
    (here / "h").mkdir(parents=True)
    monkeypatch.chdir(here)
    (here / "h" / OWN).write_bytes(encode_session(session("own-session", tag="own")))
    return here / "h"


def commands(*references: str) -> list[list[str]]:
    """Every command that reads a history, about each reference."""
    found = [["list"], ["list", "--json"], ["prune"], ["prune", "--keep", "0", "--json"]]
    for reference in references:
        found += [
            ["show", reference, "-v"],
            ["show", reference, "--json"],
            ["judge", reference],
            ["compare", reference, "own"],
            ["accept", reference, "--reason", "why"],
            ["judge", reference, "--json"],
            ["accept", reference, "--undo"],
            ["pin", reference],
            ["pin", reference, "--undo"],
        ]
    return found


def run_all(place: Path, *references: str, more: Sequence[list[str]] = ()) -> dict[str, int]:
    """The exit codes; an exception that is not the user's error goes through."""
    found = {}
    for words in [*commands(*references), *more]:
        try:
            found[" ".join(words[:2])] = main([*words, f"--perf-history={place}"])
        except SystemExit as end:  # argparse takes a reference that begins with a dash for an option
            found[" ".join(words[:2])] = int(str(end.code))
    assert set(found.values()) <= {0, 1, 4}
    return found


# --- what is no regular file --------------------------------------------------------------------


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_a_session(path: Path) -> None:
    target = path.parent.parent / "elsewhere.json"
    target.write_bytes(encode_session(session("elsewhere", tag="elsewhere")))
    path.symlink_to(target)


def dangling(path: Path) -> None:
    path.symlink_to("nothing-there")


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    path.mkdir()
    (path / "kept").write_text("kept")


KINDS = (pipe, endless, link_to_a_session, dangling, circle, folder)
NAMES = (
    names.INDEX,
    ODD,
    f"accept_{OWN}",
    f"pin_{OWN}",
    names.LATEST,
    OWN.replace(".json", ".md"),
    "serial_own-session.log",
    "samples_own-session",
)


@posix
@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_is_never_opened(
    place: Path, name: str, make: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    make(place / name)
    codes = run_all(place, "own", more=[["report", "own"]] if name.startswith("serial") else [])
    assert codes["list"] == codes["show own"] == 0
    said = capsys.readouterr()
    assert "elsewhere" not in said.out.replace(str(place), "")
    if name == ODD or name.startswith(("accept", "pin")):
        assert name in said.err
    if name == ODD and make is not folder and make is not pipe:
        assert LINK in said.err
    if name == ODD and make in {folder, pipe}:
        assert NO_FILE in said.err


@posix
@pytest.mark.parametrize("make", KINDS)
def test_a_checkpoint_that_is_no_file_stops_no_session(place: Path, make: Callable[[Path], None]) -> None:
    for name in (names.PARTIAL, names.partial_name("other")):
        make(place / name)
    store = HistoryStore(place)
    with Checkpoint(store, "mine") as checkpoint:
        checkpoint.write(session("mine"))
        assert load_session(checkpoint.path).session_id == "mine"
        checkpoint.discard()
    assert store.save(session("mine", "20260103T000000Z"), latest=True).artifact.session_id == "mine"


def test_a_folder_in_the_place_of_the_latest_session_is_refused_before_measuring(place: Path) -> None:
    (place / names.LATEST).mkdir()
    with pytest.raises(HistoryError, match="is a folder"):
        HistoryStore(place).prepare()


@posix
@pytest.mark.parametrize("name", [names.PARTIAL, names.partial_name("other")])
def test_a_lock_empties_nothing_that_a_link_leads_to(place: Path, name: str) -> None:
    precious = place.parent / "precious"
    precious.write_text("content")
    (place / names.lock_name(name)).symlink_to(precious)
    (place / name).write_bytes(encode_session(session("orphan", "20260104T000000Z")))
    with Checkpoint(HistoryStore(place), "mine") as checkpoint:
        assert [found.artifact.session_id for found in checkpoint.recovered] == ["orphan"]
    assert precious.read_text() == "content"


@posix
def test_what_the_user_names_may_be_a_link(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = place.parent / "release.json"
    link.symlink_to(place / OWN)
    assert main(["show", str(link)]) == 0
    assert main(["import", str(link), f"--perf-history={place.parent / 'other'}"]) == 0
    assert "own-session" in capsys.readouterr().out or (place.parent / "other" / OWN).exists()
    inside = place / ODD
    inside.symlink_to(place.parent / "release.json")
    assert main(["import", str(place), f"--perf-history={place.parent / 'third'}"]) == 1
    assert [path.name for path in (place.parent / "third").glob("perf_*.json")] == [OWN]


@posix
@pytest.mark.parametrize("make", KINDS)
def test_a_shared_folder_shows_files_only(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions" / "good1.json").write_bytes(b"{}")
    make(tmp_path / "sessions" / "odd12.json")
    shared = MountedFolder(tmp_path)
    assert list(shared.listing("sessions")) == ["good1.json"]
    read = shared.read("sessions", ["good1.json", "odd12.json"])
    assert read["good1.json"] == b"{}"
    assert isinstance(read["odd12.json"], ArtifactError)


# --- names --------------------------------------------------------------------------------------


def named(stem: bytes) -> bytes:
    return b"perf_20260102T000000Z" + stem + b".json"


file_names = st.binary(max_size=229).map(named) | st.text(max_size=60).map(
    lambda text: named(text.encode("utf-8", "surrogatepass"))
)


@linux
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=file_names.filter(lambda name: b"/" not in name and b"\0" not in name and len(name) <= 255))
def test_a_file_may_have_any_name(name: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("h")
    (place / OWN).write_bytes(encode_session(session("own-session", tag="own")))
    path = place / os.fsdecode(name)
    path.write_bytes(encode_session(session("with-a-name", "20260102T000000Z", tag="named")))
    run_all(place, path.name, "with-a-name")
    assert path.exists()


@posix
def test_a_name_without_room_for_a_decision_is_used_as_any(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = f"perf_20260102T000000Z_{'t' * 228}.json"
    (place / long).write_bytes(encode_session(session("long", "20260102T000000Z")))
    codes = run_all(place, "long", more=[["report", "long"]])
    assert codes["show long"] == codes["judge long"] == codes["report long"] == 0
    assert codes["accept long"] == 4 or "too long" in capsys.readouterr().err
    assert HistoryStore(place).select()[0].session_id == "long"


IDS = (
    "/../../p",
    "../../x",
    "\0abc",
    "/etc/passwd",
    "a/b",
    "C:\\x",
    "..",
    ".",
    "-",
    " ",
    "con",
    "\x1b]0;x\x07",
    "é" * 8,
)


@pytest.mark.parametrize("identity", IDS)
def test_an_id_is_no_path(place: Path, identity: str) -> None:
    root = place.parents[2]
    before = {path for path in root.rglob("*") if path.is_file()}
    (place / ODD).write_bytes(encode_session(session(identity, "20260102T000000Z", tag="odd")))
    (place / "foreign.json").write_bytes(encode_session(session(identity, "20260102T000000Z")))
    for reference in ("odd", str(place / "foreign.json")):
        assert main(["report", reference, f"--perf-history={place}"]) == 0
    assert main(["prune", "--keep", "0", "--yes", f"--perf-history={place}"]) == 0
    with Checkpoint(HistoryStore(place), identity):
        pass
    new = {path for path in root.rglob("*") if path.is_file()} - before
    assert {path.parent for path in new} <= {place, place.parent}
    pages = [path.name for path in place.parent.glob("*.html")]
    assert pages
    assert all(name.startswith("espperf-") for name in pages)


def test_the_log_of_an_odd_id_is_not_read(place: Path) -> None:
    from pytest_espperf.output.reports import _log_of

    store = HistoryStore(place)
    assert _log_of(session("../x"), store) is None
    assert _log_of(session(""), store) is None
    assert _log_of(session("abc"), store) == place / "serial_abc.log"


# --- an index of somebody else's ----------------------------------------------------------------


@pytest.mark.parametrize(
    "lie",
    [{"name": "../precious.json"}, {"copies": ("../precious.json",)}, {"session_id": "../../outside"}],
    ids=str,
)
def test_a_row_names_its_own_file_only(place: Path, lie: dict[str, Any]) -> None:
    outside = place.parent / "precious.json"
    outside.write_bytes(encode_session(session("precious")))
    (row,) = HistoryStore(place).select()
    (entry,) = snapshot.read_snapshot(place)
    forged = msgspec.msgpack.encode(structs.replace(row, **lie))
    snapshot.write_snapshot(place, [structs.replace(entry, row=forged)])
    assert [(row.name, row.copies) for row in HistoryStore(place).select()] == [(OWN, ())]
    assert main(["prune", "--keep", "0", "--yes", f"--perf-history={place}"]) == 0
    assert outside.exists()


# --- dates --------------------------------------------------------------------------------------


def at(days: float) -> str:
    return names.format_stamp(datetime.now(timezone.utc) + timedelta(days=days))


@pytest.mark.parametrize("stamp", ["99991231T235959Z", "99999999T999999Z", "30000101T000000Z"])
def test_a_session_dated_in_the_future_is_not_the_newest(place: Path, stamp: str) -> None:
    (place / f"perf_{stamp}_far.json").write_bytes(encode_session(session("far", tag="far")))
    (place / f"perf_{at(0.5)}_ahead.json").write_bytes(encode_session(session("ahead", tag="ahead")))
    store = HistoryStore(place)
    saved = store.save(session("new", at(0)), latest=True)
    assert saved.clock_behind is not None
    assert "ahead" in saved.clock_behind
    order = ["far", "own-session", "new", "ahead"]
    assert [row.session_id for row in store.select()] == order[::-1]
    assert [row.session_id for row in store.select(Query(newest_first=False))] == order
    assert [found.session_id for found in store.sessions()] == order
    assert store.find("latest").artifact.session_id == "new"
    assert [found.session_id for found in store.baseline(session().comparability or Comparability())] == order
    key = names.order_key(saved.json_path.name)
    assert key is not None
    earlier = store.before(key)
    assert [row.session_id for row in earlier.select()] == ["own-session", "far"]
    assert [found.session_id for found in earlier.sessions()] == ["far", "own-session"]
    far = names.order_key(f"perf_{stamp}_far.json")
    assert far is not None
    assert store.before(far).select() == []
    assert list(store.before(far).sessions()) == []


def test_a_session_dated_in_the_future_is_old_enough_to_go() -> None:
    keys = [names.order_key(f"perf_{stamp}_x.json") for stamp in (at(3000), at(-50), at(-40), at(0))]
    rows = [row_of(session(str(number), verdict="failed"), key) for number, key in enumerate(keys) if key]
    gone = choose(rows, keep=1, baseline=20, young_from=at(-45), young_to=names.horizon()).go
    assert [row.session_id for row in gone] == ["0", "1"]


def test_the_horizon_is_a_day_ahead_and_never_before_this_package() -> None:
    now = datetime(2030, 5, 6, tzinfo=timezone.utc)
    assert names.horizon(now) == "20300507T000000Z"
    assert names.horizon(datetime(1970, 1, 1, tzinfo=timezone.utc)) == "20260102T000000Z"


@pytest.mark.parametrize("stamp", ["89991231T235959Z", "30000101T000000Z", "19700101T000000Z"])
@pytest.mark.parametrize("undo", [True, False])
def test_every_decision_can_be_answered(stamp: str, *, undo: bool) -> None:
    mark = marks.Mark(session_id="abcdef", at=stamp)
    first = objects.make_event("accept", mark, undo=not undo)
    assert first.stamp == stamp
    answer = objects.make_event("accept", marks.Mark(session_id="abcdef", at=at(0)), undo=undo, after=stamp)
    assert objects.is_decision(answer.name)
    assert answer.order > first.order
    assert objects.decode_event(answer.name, objects.encode_event(answer)) == answer


def test_a_decision_dated_in_the_future_does_not_hold_against_others() -> None:
    far = objects.make_event("pin", marks.Mark(session_id="abcdef", at="30000101T000000Z"), undo=False)
    now = objects.make_event("pin", marks.Mark(session_id="abcdef", at=at(0)), undo=True)
    old = objects.make_event("pin", marks.Mark(session_id="abcdef", at="19700101T000000Z"), undo=False)
    assert sorted([now, far, old], key=lambda event: event.order) == [far, old, now]


# --- any content --------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=sessions, second=sessions)
def test_every_command_takes_any_session(
    first: SessionArtifact, second: SessionArtifact, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("h")
    (place / OWN).write_bytes(encode_session(session("own-session", tag="own")))
    written = []
    for number, artifact in enumerate((first, second), 2):
        try:
            data = encode_session(artifact)
        except EspperfError:
            continue
        path = place / f"perf_2026010{number}T000000Z_any.json"
        path.write_bytes(data)
        written.append(str(path))
    run_all(place, *written, more=[["export", one, name] for one in written for name in EXPORTS])
    run_all(place, "any")


@given(sessions)
def test_skimming_a_session_finds_what_reading_it_finds(
    tmp_path_factory: pytest.TempPathFactory, artifact: SessionArtifact
) -> None:
    path = tmp_path_factory.mktemp("h") / OWN
    try:
        path.write_bytes(encode_session(artifact))
    except ArtifactError:
        return
    key = names.order_key(OWN)
    assert key is not None
    read = row_of(load_session(path), key)
    assert msgspec.json.encode(Skimmer().row(path, key)) == msgspec.json.encode(read)


@pytest.mark.parametrize(
    "change",
    [
        {"raw_runs": [{"profile": 1}]},
        {"raw_runs": [{"profile": "x", "run_index": 2**70}]},
        {"schema_version": 99},
        {"schema_version": 0},
        {"timestamp_utc": "yesterday"},
        {"timestamp_utc": None},
        {"aggregated": {"x": {}}},
        {"comparability": {"fields": 3}},
        {"device": []},
        {"gate": {"verdict": "great"}},
    ],
    ids=str,
)
def test_what_cannot_be_read_cannot_be_skimmed(tmp_path: Path, change: dict[str, Any]) -> None:
    whole = json.loads(encode_session(session()))
    path = tmp_path / OWN
    path.write_text(json.dumps(whole | change))
    key = names.order_key(OWN)
    assert key is not None
    with pytest.raises(ArtifactError) as read:
        load_session(path)
    with pytest.raises(ArtifactError) as skimmed:
        Skimmer().row(path, key)
    assert str(skimmed.value) == str(read.value)


def test_what_only_reading_finds_is_never_pruned(place: Path) -> None:
    """The free parts are passed over where the index is made; a file that cannot be read is not ours."""
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    whole = json.loads(encode_session(session("deep", "20250101T000000Z", verdict="failed")))
    path = place / "perf_20250101T000000Z_deep.json"
    path.write_text(json.dumps(whole | {"settings": {"deep": deep}}))
    store = HistoryStore(place)
    rows = store.select(Query(newest_first=False))
    assert [row.session_id for row in rows] == ["deep", "own-session"]
    (leaving,) = plan(place, choose(rows, keep=1, baseline=20))
    assert not remove(place, leaving)
    assert path.exists()
    assert store.load_rows(rows[:1]) == []
    assert any("levels deep" in str(error) for error in store.skipped)


# --- progress -----------------------------------------------------------------------------------


def test_reading_many_files_is_told_once_it_takes_long() -> None:
    said: list[str] = []
    now = iter([0.0, 1.0, 2.5, 3.0, 8.0, 9.0, 20.0])
    telling = IndexProgress(
        said.append, after_s=2.0, every_s=5.0, finish=lambda: said.append("."), clock=lambda: next(now)
    )
    for done in (0, 64, 128, 192, 256, 1000):
        telling(done, 1000)
    assert said == [
        "reading the history for its index: 128 of 1,000 files",
        "reading the history for its index: 256 of 1,000 files",
        ".",
    ]
    telling(1000, 1000)
    assert said[-1] == "."
    assert len(said) == 3


def test_the_index_tells_how_far_it_is(tmp_path: Path) -> None:
    for number in range(130):
        moment = names.format_stamp(datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=number))
        (tmp_path / f"perf_{moment}_x.json").write_bytes(encode_session(session(f"id{number}", moment)))
    store = HistoryStore(tmp_path)
    told: list[tuple[int, int]] = []
    store.progress = lambda done, total: told.append((done, total))
    assert len(store.select()) == 130
    assert told == [(0, 130), (64, 130), (128, 130), (130, 130)]
    told.clear()
    store.select()
    assert told == []


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "\udcff\udcfe"])
def test_a_history_and_a_reference_may_have_any_name(
    place: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (*commands(name), ["import", name], ["report", name]):
        assert main([*words, f"--perf-history={place}"]) in {0, 1, 4}, words
    for words in (
        ["list"],
        ["show", "own"],
        ["judge", str(place / OWN)],
        ["prune"],
        ["accept", "own", "--reason", "x"],
    ):
        assert main([*words, f"--perf-history={name}"]) in {0, 4}, words
    for words in (["export", "own", f"csv={name}"], ["report", "own", "-o", name], ["compare", "own", name]):
        assert main([*words, f"--perf-history={place}"]) in {0, 4}, words
    capsys.readouterr()
