from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import msgspec
import pytest
from support.cli_history import contents
from support.history_samples import DATA, session

from pytest_espperf.cli import main
from pytest_espperf.history import HistoryStore, load_session, names

ORIGINALS = DATA / "schema0"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HistoryStore:
    """An empty project, before its first session."""
    monkeypatch.chdir(tmp_path)
    return HistoryStore(tmp_path / "tools" / "perf_history")


@pytest.fixture
def there(tmp_path: Path) -> HistoryStore:
    """Another history: one session accepted, one pinned, one neither, and what else lies in such a folder."""
    store = HistoryStore(tmp_path / "there")
    store.prepare()
    for number in (1, 2, 3):
        artifact = session(f"id-{number}", f"2026010{number}T000000Z", tag="night")
        store.save(artifact, f"# summary {number}\n", latest=True)
    store.accept("id-1", "meant ✓", "me")
    store.pin("id-2", "anchor", "me")
    store.select()
    (store.folder / names.PARTIAL).write_bytes((store.folder / names.LATEST).read_bytes())
    return store


def test_a_history_comes_in_as_it_is(
    here: HistoryStore, there: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(there.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["imported"] * 3
    assert lines[0].endswith("perf_20260101T000000Z_night.json (accept along)")
    theirs = contents(there.folder)
    del theirs[names.LATEST], theirs[names.PARTIAL]
    ours = contents(here.folder)
    del ours[".gitignore"]
    assert ours == theirs
    assert list(here.sessions()) == list(there.sessions())
    assert here.find("id-1").artifact.accepted == there.find("id-1").artifact.accepted


def test_none_becomes_the_latest(here: HistoryStore, there: HistoryStore) -> None:
    here.prepare()
    here.save(session("mine", "20250101T000000Z"), latest=True)
    before = (here.folder / names.LATEST).read_bytes()
    assert main(["import", str(there.folder)]) == 0
    assert (here.folder / names.LATEST).read_bytes() == before
    latest = here.latest()
    assert latest is not None
    assert latest.session_id == "mine"


def test_what_is_here_already_is_skipped_and_said(
    here: HistoryStore, there: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    first = there.find("id-1").json_path
    assert main(["import", str(first), str(first)]) == 0
    assert (
        capsys.readouterr()
        .out.splitlines()[1]
        .endswith("id-1 is here already, as perf_20260101T000000Z_night.json")
    )
    before = contents(here.folder)
    assert main(["import", str(first), str(here.folder)]) == 0
    assert contents(here.folder) == before
    assert main(["import", str(there.folder)]) == 0
    assert {path: data for path, data in contents(here.folder).items() if path in before} == before


def test_files_of_the_original_tool_come_in_with_the_tag_of_their_name(
    here: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(ORIGINALS), "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["outcome"] for one in told] == ["imported", "imported"]
    originals = sorted(ORIGINALS.glob("perf_*.json"))
    assert [Path(one["file"]) for one in told] == originals
    assert list(here.sessions()) == [load_session(path) for path in originals]
    assert [one.tag for one in here.sessions()] == ["baseline_isolated_v1", "ipc_ring_try"]


def test_sessions_of_one_second_get_a_number_and_nothing_is_overwritten(
    here: HistoryStore, there: HistoryStore
) -> None:
    here.prepare()
    mine = here.save(session("mine", "20260101T000000Z", tag="night"), "# mine\n", latest=True)
    stray = here.folder / "pin_perf_20260102T000000Z_night.json"
    stray.write_text("somebody's")
    before = contents(here.folder)
    assert main(["import", str(there.folder)]) == 0
    assert {path: data for path, data in contents(here.folder).items() if path in before} == before
    assert mine.json_path.exists()
    assert here.find("id-1").json_path.name == "perf_20260101T000000Zn002_night.json"
    assert here.find("id-1").artifact.accepted is not None
    assert here.find("id-2").json_path.name == "perf_20260102T000000Zn002_night.json"
    assert here.find("id-2").artifact.pinned


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(
    here: HistoryStore, there: HistoryStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (there.folder / "perf_20260101T000000Z_bad.json").write_text("{")
    nameless = msgspec.structs.replace(session("", "20260109T000000Z"), session_id="")
    (tmp_path / "nameless.json").write_bytes(msgspec.json.encode(nameless))
    (tmp_path / "empty").mkdir()
    given = [str(tmp_path / name) for name in ("nowhere", "empty", "nameless.json", "there")]
    assert main(["import", *given]) == 1
    said = capsys.readouterr()
    assert said.out.count("imported ") == 3
    for name in ("nowhere", "empty", "nameless.json", "perf_20260101T000000Z_bad.json"):
        assert name in said.err
    assert main(["import", "--json", *given]) == 1
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["outcome"] for one in told] == ["failed"] * 4 + ["present"] * 3
    assert all(one["error"] for one in told if one["outcome"] == "failed")


def test_a_decision_that_does_not_count_there_does_not_come_along(
    here: HistoryStore, there: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(
        there.folder / "accept_perf_20260101T000000Z_night.json",
        there.folder / "accept_perf_20260103T000000Z_night.json",
    )
    (there.folder / "pin_perf_20260102T000000Z_night.json").write_text("{")
    assert main(["import", str(there.folder)]) == 0
    error = capsys.readouterr().err
    assert error.count("decision not imported: ") == 2
    assert [(one.accepted is not None, one.pinned) for one in here.sessions()] == [
        (True, False),
        (False, False),
        (False, False),
    ]
    assert here.skipped == []


def test_a_dry_run_writes_nothing(
    here: HistoryStore, there: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(there.folder)
    first = str(there.find("id-1").json_path)
    assert main(["import", "--dry-run", str(there.folder), first]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" /")[0] for line in lines[:3]] == ["would import"] * 3
    assert "is here already" in lines[3]
    assert not here.folder.exists()
    assert contents(there.folder) == before


def test_a_summary_is_no_condition(here: HistoryStore, there: HistoryStore) -> None:
    entry = there.find("id-3")
    assert entry.markdown_path is not None
    entry.markdown_path.unlink()
    assert main(["import", str(entry.json_path)]) == 0
    assert here.find("id-3").markdown_path is None


@pytest.mark.skipif(sys.platform != "linux", reason="where a file's name may be any bytes")
def test_a_name_of_any_bytes_is_told_as_json_all_the_same(
    here: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", "--json", "\udcff.json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["outcome"] == "failed"
    assert told["file"] == "?.json"
