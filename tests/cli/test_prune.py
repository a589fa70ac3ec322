from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from support.cli_history import contents
from support.history_samples import session

from pytest_espperf.cli import main
from pytest_espperf.errors import HistoryError
from pytest_espperf.history import HistoryStore, files, names
from pytest_espperf.history import index as index_of_history


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HistoryStore:
    """Four failed sessions, one a day until today, and one that passed, long ago."""
    monkeypatch.chdir(tmp_path)
    store = HistoryStore(tmp_path / "tools" / "perf_history")
    store.prepare()
    for age in (400, 3, 2, 1, 0):
        stamp = names.format_stamp(datetime.now(timezone.utc) - timedelta(days=age))
        verdict = "unchanged" if age == 400 else "failed"
        store.save(
            session(f"aged-{age}", stamp, verdict=verdict),  # type: ignore[arg-type] # one of the words
            "# summary\n",
            latest=True,
        )
    return store


def left(history: HistoryStore) -> list[str]:
    return [row.session_id for row in HistoryStore(history.folder).select()]


def test_without_yes_it_only_says_what_would_go_and_how_much(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(history.folder)
    assert main(["prune", "--keep", "1"]) == 0
    said = capsys.readouterr().out
    names_of_gone = [history.find(f"aged-{age}").json_path.name for age in (3, 2, 1)]
    assert [line.split()[-1] for line in said.splitlines()[:3]] == names_of_gone
    assert "would remove 3 of 5 sessions" in said
    assert "stay: 1 among the newest, 1 baseline of later sessions" in said
    assert "--yes" in said
    assert contents(history.folder) == before


def test_with_yes_it_does_so_and_the_index_is_right(
    history: HistoryStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["prune", "--keep=1", "--yes"]) == 0
    assert "removed 3 of 5 sessions" in capsys.readouterr().out

    def refuse(*_: object) -> None:
        raise AssertionError("the index was not up to date")

    monkeypatch.setattr(index_of_history, "_refreshed", refuse)
    assert left(history) == ["aged-0", "aged-400"]
    assert {path.name for path in history.folder.glob("*.md")} == {
        history.find(ref).json_path.with_suffix(".md").name for ref in ("aged-0", "aged-400")
    }
    assert main(["prune", "--keep=1", "--yes"]) == 0
    assert "removed 0 of 2 sessions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        ([], []),
        (["--keep=3"], ["aged-3"]),
        (["--keep=1", "--older-than=1.5"], ["aged-3", "aged-2"]),
        (["--keep=0", "--older-than=0.5"], ["aged-3", "aged-2", "aged-1"]),
    ],
)
def test_what_is_new_or_young_stays(
    history: HistoryStore, capsys: pytest.CaptureFixture[str], words: list[str], gone: list[str]
) -> None:
    assert main(["prune", "--json", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["session_id"] for one in told["sessions"]] == gone


def test_as_json(history: HistoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    history.pin("aged-2")
    history.accept("aged-1", "meant")
    assert main(["prune", "--keep=1", "--json", "--yes"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["removed"] is True
    assert told["stay"] == {"newest": 1, "pinned": 1, "accepted": 1}
    first, one = told["sessions"]
    assert first["session_id"] == "aged-400"  # before the epoch that begins with what was accepted
    assert one["session_id"] == "aged-3"
    assert first["size_bytes"] + one["size_bytes"] == told["size_bytes"] > one["size_bytes"] > 0
    assert [Path(name).suffix for name in one["files"]] == [".md", ".json"]
    assert told["failed"] == []
    assert left(history) == ["aged-0", "aged-1", "aged-2"]


def test_what_cannot_be_removed_is_said_and_the_rest_goes(
    history: HistoryStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = history.find("aged-2").json_path
    really = files.remove

    def remove(path: Path) -> None:
        if path.name == stuck.name:
            raise HistoryError(f"{path.parent} cannot be written: in use")
        really(path)

    monkeypatch.setattr(files, "remove", remove)
    assert main(["prune", "--keep=1", "--yes", "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["failed"] == [stuck.name]
    assert f"not removed: {stuck.name}" in said.err
    assert left(history) == ["aged-0", "aged-2", "aged-400"]


@pytest.mark.parametrize("words", [["--keep=-1"], ["--keep=x"], ["--older-than=-1"], ["--older-than=nan"]])
def test_a_bad_number_is_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["prune", *words])
    assert caught.value.code == 4
    assert words[0].partition("=")[0] in capsys.readouterr().err
