from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.history_samples import FIELDS, session
from support.paths import ROOT

from pytest_espperf.history import HistoryStore, load, names, skim, snapshot
from pytest_espperf.history.rows import Query, SessionRow, keys_of
from pytest_espperf.model.artifact import Comparability, Finding, GateRow, OwnFigure, Summary, Verdict
from pytest_espperf.model.findings import HELD_BACK
from pytest_espperf.output.trends import gather_history


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    store = HistoryStore(tmp_path / "history ä#%20?")
    store.prepare()
    for number in range(1, 9):
        store.save(
            session(f"id-{number}", f"2026010{number}T000000Z", tag=f"t{number % 2}", p95=float(number)),
            latest=False,
        )
    return store


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The session files that are opened while the index is brought up to date."""
    opened: list[str] = []

    def counted(path: Path) -> bytes:
        opened.append(path.name)
        return load.read_bounded(path)

    monkeypatch.setattr(skim, "read_bounded", counted)
    return opened


def ids(store: HistoryStore, **query: Any) -> list[str]:
    return [row.session_id.removeprefix("id-") for row in store.select(Query(**query))]


def test_rows_say_what_the_sessions_are(store: HistoryStore) -> None:
    gates = [GateRow(name="python_heavy:p95_ms", metric="p95_ms", d_pct=1.23456789, threshold_pct=7.0)]
    artifact = msgspec.structs.replace(
        session("last", "20260201T000000Z", tag="a tag"), gate=Verdict(kind="regressed", gates=gates)
    )
    store.save(artifact, latest=True)
    row = store.select(Query(limit=1, details=True))[0]
    assert row == SessionRow(
        name="perf_20260201T000000Z_a_tag.json",
        stamp="20260201T000000Z",
        session_id="last",
        timestamp_utc="20260201T000000Z",
        tag="a tag",
        target="192.168.0.135:8080",
        board="bench-1",
        verdict="regressed",
        overall_pass=True,
        runs=1,
        comparability_key="k",
        base_key=keys_of(Comparability(fields=FIELDS)).base,
        profiles=keys_of(Comparability(fields=FIELDS)).profiles,
        worst_pct=1.23457,
        worst_gate="python_heavy:p95_ms",
        worst_change=1.23456789,
        medians={
            "python_heavy:burst": {
                "p50_ms": None,
                "p95_ms": 30.0,
                "p99_ms": None,
                "rps_ok": None,
                "error_rate": None,
            }
        },
        gates={
            "python_heavy:p95_ms": {
                "profile": "",
                "metric": "p95_ms",
                "rule": "noise-floor",
                "verdict": "unchanged",
                "now": None,
                "baseline": None,
                "d_pct": 1.23457,
                "threshold_pct": 7.0,
                "smallest_detectable_pct": None,
                "at_most_pct": None,
            }
        },
        own={},
    )
    assert store.select(Query(limit=1))[0].medians is None


def test_rows_carry_what_some_phases_and_the_firmware_have(store: HistoryStore) -> None:
    artifact = session("last", "20260201T000000Z")
    (name, cell), *_ = artifact.aggregated.items()
    store.save(
        msgspec.structs.replace(
            artifact,
            aggregated={
                name: msgspec.structs.replace(
                    cell,
                    figures={"connect_ms": Summary(median=12.5), "of a later version": Summary(median=1.0)},
                )
            },
            figures={
                "boot_ms": OwnFigure(unit="ms", values=[800.0, 900.0, 1000.0]),
                "none": OwnFigure(),
            },
        ),
        latest=True,
    )
    for _ in range(2):  # as it was read, and from the index
        row = store.select(Query(limit=1, details=True))[0]
        assert row.own == {"boot_ms": ("ms", "lower", 900.0)}
        assert row.medians is not None
        assert row.medians[name]["connect_ms"] == 12.5
        assert "of a later version" not in row.medians[name]
    (trend,) = [one for one in gather_history(store).trends if not one.profile]
    assert (trend.name, trend.unit, [point.value for point in trend.points]) == (
        "figure:boot_ms",
        "ms",
        [900.0],
    )
    (shop,) = [one for one in gather_history(store).trends if one.metric == "connect_ms"]
    assert [point.value for point in shop.points] == pytest.approx([12.5])


def test_the_worst_change_of_a_row_is_that_of_a_gate_that_was_judged_in_percent(store: HistoryStore) -> None:
    gates = [
        GateRow(name="a", metric="p95_ms", d_pct=-3.0),
        GateRow(name="b", metric="rps_ok", d_pct=2.0),
        GateRow(name="c", metric="p99_ms", d_pct=90.0, verdict="not-gateable"),
        GateRow(name="d", metric="error_rate", d_pct=40.0),
        GateRow(name="e", metric="p95_ms"),
    ]
    for number, some in ((1, gates), (2, gates[2:])):
        artifact = session(f"last-{number}", f"2026020{number}T000000Z")
        judged = msgspec.structs.replace(artifact, gate=Verdict(kind="unchanged", gates=some))
        store.save(judged, latest=False)
    assert [row.worst_pct for row in store.select(Query(limit=2))] == [None, 2.0]


def test_queries(store: HistoryStore) -> None:
    store.save(session("id-9", "20260109T000000Z", verdict="regressed"), latest=False)
    store.save(session("id-10", "20260110T000000Z", verdict="incomplete"), latest=False)
    assert ids(store) == [str(number) for number in range(10, 0, -1)]
    assert ids(store, newest_first=False, limit=2) == ["1", "2"]
    assert ids(store, limit=0) == ids(store, limit=-3) == []
    assert ids(store, accepted_only=True, limit=2) == ["8", "7"]
    assert ids(store, completed_only=True, limit=1) == ["9"]
    assert ids(store, tag="t0") == ["8", "6", "4", "2"]
    assert ids(store, verdicts={"regressed", "incomplete"}) == ["10", "9"]
    assert ids(store, board="bench-1", limit=1) == ids(store, board="192.168.0.135:8080", limit=1) == ["10"]
    assert ids(store, board="other") == []
    assert ids(store, comparability_key="k", limit=1) == ["10"]
    assert ids(store, comparability_key="x") == []
    store.accept("id-9", "meant")
    store.pin("id-3")
    assert ids(store, accepted_only=True, limit=2) == ["9", "8"]
    assert ids(store, pinned_only=True) == ["3"]


def test_comparable_sessions_share_the_base_and_a_profile(store: HistoryStore) -> None:
    only_light = {**FIELDS, "profiles": {"python_light": FIELDS["profiles"]["python_light"]}}
    heavier = {**FIELDS, "profiles": {"python_heavy": {"clients": 20}}}
    elsewhere = {**FIELDS, "board": "bench-2"}
    for number, fields in enumerate((only_light, heavier, elsewhere, {}), start=1):
        store.save(session(f"id-1{number}", f"2026020{number}T000000Z", fields=fields), latest=False)
    mine = Comparability(fields=FIELDS)
    assert ids(store, comparable_with=mine, limit=3) == ["11", "8", "7"]
    assert ids(store, comparable_with=Comparability(fields=heavier)) == ["12"]
    assert ids(store, comparable_with=Comparability(key="k")) == []  # unknown compares with nothing
    chosen = [one.session_id for one in store.baseline(mine, per_profile=2)]
    assert chosen == ["id-7", "id-8", "id-11"]  # two of python_heavy, two of python_light
    as_floats = {**FIELDS, "profiles": {"python_heavy": {"clients": 12.0}}}
    assert (
        keys_of(Comparability(fields=as_floats)).profiles["python_heavy"]
        == keys_of(mine).profiles["python_heavy"]
    )


def test_baseline_leaves_out_what_cannot_be_loaded(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.select()
    path = store.folder / "perf_20260108T000000Z_t0.json"
    status, data = path.stat(), path.read_bytes()
    path.write_bytes(b" " * len(data))  # in place, with the same size and time: the index cannot know
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    chosen = store.baseline(Comparability(fields=FIELDS), per_profile=2)
    assert [one.session_id for one in chosen] == ["id-6", "id-7"]
    assert [error.path for error in store.skipped] == [path]


def test_only_new_files_are_opened(store: HistoryStore, reads: list[str]) -> None:
    store.select()
    assert len(reads) == 8
    store.select()
    assert len(reads) == 8
    store.save(session("id-9", "20260109T000000Z"), latest=True)
    HistoryStore(store.folder).select()
    assert reads[8:] == ["perf_20260109T000000Z.json"]


def test_bad_files_are_opened_once_and_named_always(store: HistoryStore, reads: list[str]) -> None:
    bad = store.folder / "perf_20260109T000000Z.json"
    bad.write_bytes(b'{"schema_version": 9}')
    for _ in range(2):
        fresh = HistoryStore(store.folder)
        fresh.select()
        assert [error.path for error in fresh.skipped] == [bad]
        assert type(fresh.skipped[0]).__name__ == "NewerSchemaError"
    assert reads.count(bad.name) == 1
    good = load.encode_session(session("id-9", "20260109T000000Z"))
    bad.write_bytes(good)
    fresh = HistoryStore(store.folder)
    assert ids(fresh, limit=1) == ["9"]
    assert fresh.skipped == []


def test_files_that_change_or_go_are_noticed(store: HistoryStore) -> None:
    assert ids(store, limit=1) == ["8"]
    (store.folder / "perf_20260108T000000Z_t0.json").unlink()
    assert ids(store, limit=1) == ["7"]
    path = store.folder / "perf_20260107T000000Z_t1.json"
    path.write_bytes(load.encode_session(session("id-77", "20260107T000000Z", tag="edited")))
    assert ids(store, limit=1) == ["77"]
    assert ids(store, tag="edited") == ["77"]


def seal(store: HistoryStore, content: bytes) -> None:
    """Write an index whose checksum is right."""
    (store.folder / names.INDEX).write_bytes(snapshot._checksum(content) + content)


BAD_INDEXES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "short": lambda _: b"abc",
    "garbage": lambda data: random.Random(1).randbytes(len(data)),
    "truncated": lambda data: data[: len(data) // 2],
    "one bit": lambda data: bytes([*data[:-1], data[-1] ^ 1]),
    "a database": lambda _: b"SQLite format 3\0" + bytes(4080),
}
SEALED: dict[str, object] = {
    "nothing": None,
    "another layout": ["0/0", []],
    "other entries": [snapshot.FORMAT, [1, 2]],
    "a row that is none": [snapshot.FORMAT, [[["perf_20260101T000000Z_t1.json", 1, 2, 3], "", 1, "", "", 7]]],
    "numbers without bounds": [snapshot.FORMAT, [[["x", 2**64 - 1, -(2**63), 0]]]],
}


@pytest.mark.parametrize("damage", ["missing", "folder", *BAD_INDEXES, *SEALED, "trailing"])
def test_a_bad_index_is_rebuilt(store: HistoryStore, damage: str) -> None:
    good = store.select(Query(details=True))
    path = store.folder / names.INDEX
    before = {entry.file: entry for entry in snapshot.read_snapshot(store.folder)}
    data = path.read_bytes()
    path.unlink()
    if damage in BAD_INDEXES:
        path.write_bytes(BAD_INDEXES[damage](data))
    elif damage in SEALED:
        seal(store, msgspec.msgpack.encode(SEALED[damage]))
    elif damage == "trailing":
        seal(store, data[4:] + b"x")
    elif damage == "folder":
        path.mkdir()
    for _ in range(2):
        assert HistoryStore(store.folder).select(Query(details=True)) == good
    if damage != "folder":
        assert {entry.file: entry for entry in snapshot.read_snapshot(store.folder)} == before


@pytest.mark.parametrize(
    "length", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_an_index_that_claims_to_be_endless_asks_for_no_memory(store: HistoryStore, length: bytes) -> None:
    good = store.select()
    seal(store, b"\x92" + msgspec.msgpack.encode(snapshot.FORMAT) + length)
    assert snapshot.read_snapshot(store.folder) == []
    assert HistoryStore(store.folder).select() == good


NAMED = b"\x82" + msgspec.msgpack.encode("name") + msgspec.msgpack.encode("perf_20260101T000000Z_t1.json")


@pytest.mark.parametrize("field", ["row", "details", "mark"])
@pytest.mark.parametrize(
    "content",
    [
        b"\xc1",
        b"\x80",
        b"\x92\x80\x81\xa1x\x91\x01",
        b"\x91" * 100_000,
        NAMED + msgspec.msgpack.encode("accepted") + b"\x81\xa1x" + b"\x91" * 100_000,
    ],
)
def test_a_forged_index_with_malformed_entries_is_rebuilt(
    store: HistoryStore, field: str, content: bytes
) -> None:
    store.pin("id-3")
    good = store.select(Query(details=True))
    forged = [
        msgspec.structs.replace(entry, **{field: content}) if getattr(entry, field) else entry
        for entry in snapshot.read_snapshot(store.folder)
    ]
    snapshot.write_snapshot(store.folder, forged)
    for _ in range(2):
        assert HistoryStore(store.folder).select(Query(details=True)) == good
    assert snapshot.read_snapshot(store.folder) != forged
    assert HistoryStore(store.folder).find("id-3").artifact.pinned
    assert len(store.baseline(Comparability(fields=FIELDS), per_profile=3)) == 3


def test_no_flipped_bit_changes_an_answer(store: HistoryStore) -> None:
    good = store.select(Query(details=True))
    path = store.folder / names.INDEX
    source = random.Random(7)
    for _ in range(40):
        data = bytearray(path.read_bytes())
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        path.write_bytes(data)
        assert HistoryStore(store.folder).select(Query(details=True)) == good


def test_the_index_of_earlier_versions_is_never_read_and_goes(store: HistoryStore) -> None:
    old = store.folder / names.OLD_INDEX
    old.write_bytes(b"SQLite format 3\0" + bytes(4080))
    assert len(store.select()) == 8
    assert not old.exists()
    old.mkdir()
    assert store.save(session("id-9", "20260109T000000Z"), latest=False)
    assert len(store.select()) == 9
    assert old.is_dir()


def test_a_folder_that_cannot_be_written_has_rows_too(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = store.select()
    newer = store.save(session("id-9", "20260109T000000Z"), latest=False)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "read-only")

    before = (store.folder / names.INDEX).read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refuse)
        for _ in range(2):
            rows = HistoryStore(store.folder).select()
            assert [row.name for row in rows] == [newer.json_path.name, *(row.name for row in good)]
        patched.setattr(Path, "open", refuse)
        assert HistoryStore(store.folder).select() == rows
    assert (store.folder / names.INDEX).read_bytes() == before
    assert not list(store.folder.glob("*.tmp"))


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are any bytes on Linux only")
def test_names_that_are_no_text(store: HistoryStore) -> None:
    odd = os.fsencode(store.folder) + b"/perf_20260109T000000Z_\xff.json"
    Path(os.fsdecode(odd)).write_bytes(b"{}")
    Path(store.folder, "accept_perf_20260109T000000Z_\n.json").write_bytes(b"{}")
    for _ in range(2):
        fresh = HistoryStore(store.folder)
        assert len(fresh.select()) == 8
        assert len(fresh.skipped) == 2


def test_names_say_what_they_are() -> None:
    assert names.parse_mark("accept_perf_x.json") == ("accept", "perf_x.json")
    assert names.parse_mark("accept_x.json") is None
    assert names.order_key("perf_20260101T000000Z_a-b-10.json") == (
        "20260101T000000Z",
        10,
        "perf_20260101T000000Z_a-b-10.json",
    )
    assert names.tag_of("perf_20260101T000000Z_a-b.json") == "a-b"
    assert names.tag_of("perf_20260101T000000Z-3.json") == ""


def test_asking_the_store_for_names_loads_no_lock() -> None:
    code = (
        "import sys; from pytest_espperf.history import HistoryStore, load_session; "
        "print([name in sys.modules for name in ('filelock', 'pytest')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        cwd=ROOT,
    )
    assert done.stdout.split() == ["[False,", "False]"]


def test_a_baseline_comes_with_the_newest_sessions_that_were_kept_out(store: HistoryStore) -> None:
    held = [Finding(severity="warn", kind=HELD_BACK)]
    words = [
        Verdict(kind="regressed"),
        Verdict(kind="inconclusive", findings=held),
        Verdict(kind="failed"),
        Verdict(kind="regressed"),
        Verdict(kind="unchanged", findings=held),
    ]
    for number, gate in enumerate(words, 1):
        made = session(f"out-{number}", f"2026030{number}T000000Z")
        store.save(msgspec.structs.replace(made, gate=gate), latest=False)
    found = store.baseline(Comparability(key="k", fields=FIELDS), per_profile=2)
    assert [one.session_id for one in found] == ["id-7", "id-8", "out-2", "out-4", "out-5"]
