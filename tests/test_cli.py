from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_espperf.artifact import SessionArtifact, Verdict
from pytest_espperf.cli import main
from pytest_espperf.history import HistoryStore


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "tools" / "perf_history"
    store = HistoryStore(folder)
    store.prepare()
    for hour, verdict in ((10, "no-baseline"), (11, "regressed")):
        store.save(
            SessionArtifact(
                session_id=f"id{hour}",
                timestamp_utc=f"20261123T{hour}0000Z",
                tag=f"t{hour}",
                target="board:8080",
                gate=Verdict(kind=verdict),  # type: ignore[arg-type]
            ),
            "",
            latest=True,
        )
    (folder / "perf_20261123T120000Z_bad.json").write_text("{")
    return folder


def test_list(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()] == ["20261123T100000Z", "20261123T110000Z"]
    assert "perf_20261123T120000Z_bad.json" in shown.err
    assert main(["list", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["verdict"] for row in rows] == ["no-baseline", "regressed"]


def test_show_by_tag_file_and_as_json(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = history.glob("*t10.json")
    for ref in ("t10", "id10", str(path)):
        assert main(["show", ref]) == 0
        assert capsys.readouterr().out.startswith("NO-BASELINE")
    assert main(["show", "latest", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["session_id"] == "id11"


def test_accept_needs_a_reason_and_is_recorded(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["accept", "latest"])
    assert caught.value.code == 4
    before = {path.name: path.read_bytes() for path in history.glob("perf_*")}
    assert main(["accept", "latest", "--reason", "TLS by default"]) == 0
    accepted = HistoryStore(history).find("id11").artifact.accepted
    assert accepted is not None
    assert accepted["reason"] == "TLS by default"
    assert {path.name: path.read_bytes() for path in history.glob("perf_*")} == before


@pytest.mark.parametrize(
    "words",
    [["show", "nosuch"], ["list", "--perf-history", "nowhere"], ["accept", "nosuch", "--reason", "x"]],
)
def test_bad_references_are_one_sentence(
    history: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 4
    error = capsys.readouterr().err
    assert error.startswith("espperf: ")
    assert "Traceback" not in error


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["nosuch"], ["list", "--nosuch"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 4
    assert "usage: espperf" in capsys.readouterr().err
