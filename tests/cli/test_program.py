from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_espperf.cli import main
from pytest_espperf.cli.program import make_parser
from pytest_espperf.cli.run import misspelt
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import SessionArtifact, Verdict


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
                target="bøard:8080",
                gate=Verdict(kind=verdict),  # type: ignore[arg-type]
            ),
            "",
            latest=True,
        )
    (folder / "perf_20261123T120000Z_bad.json").write_text("{")
    return folder


def test_show_by_tag_file_and_as_json(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = history.glob("*t10.json")
    for ref in ("t10", "id10", str(path)):
        assert main(["show", ref]) == 0
        assert capsys.readouterr().out.startswith("NO-BASELINE")
    assert main(["show", "latest", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["session_id"] == "id11"


def test_show_says_what_the_session_was_where_that_is_asked_for(
    history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "t10"]) == 0
    assert "id10" not in capsys.readouterr().out
    assert main(["show", "t10", "-v"]) == 0
    assert "session   id10" in capsys.readouterr().out


def test_show_has_colour_where_colour_is_wanted(
    history: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["show", "t11"]) == 0
    assert capsys.readouterr().out.startswith("\x1b[1;31mREGRESSED: ")
    monkeypatch.delenv("FORCE_COLOR")
    assert main(["show", "t11"]) == 0
    assert capsys.readouterr().out.startswith("REGRESSED: ")


def test_json_is_utf_8_whatever_the_code_page(history: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_espperf.cli", "show", "t10", "--json"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout.decode("utf-8"))["target"] == "bøard:8080"


def test_accept_needs_a_reason_and_is_recorded(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--reason", " "]):
        assert main(["accept", "latest", *words]) == 4
        assert "--reason" in capsys.readouterr().err
    before = {path.name: path.read_bytes() for path in history.glob("perf_*")}
    assert main(["accept", "latest", "--reason", "TLS by default"]) == 0
    accepted = HistoryStore(history).find("id11").artifact.accepted
    assert accepted is not None
    assert accepted["reason"] == "TLS by default"
    assert {path.name: path.read_bytes() for path in history.glob("perf_*")} == before


@pytest.mark.parametrize(("command", "word"), [("accept", "accepted"), ("pin", "pinned")])
def test_a_decision_can_be_taken_back(
    history: Path, capsys: pytest.CaptureFixture[str], command: str, word: str
) -> None:
    before = sorted(path.name for path in history.glob("*.json"))
    assert main([command, "t11", "--reason", "so"]) == 0
    assert capsys.readouterr().out.startswith(f"{word} perf_")
    assert main([command, "t11", "--undo", "--reason", "so"]) == 4
    capsys.readouterr()
    assert main([command, "t11", "--undo"]) == 0
    assert capsys.readouterr().out == f"perf_20261123T110000Z_t11.json of bøard:8080: no longer {word}\n"
    assert sorted(path.name for path in history.glob("*.json")) == before
    assert main([command, "t11", "--undo"]) == 0
    assert capsys.readouterr().out == f"perf_20261123T110000Z_t11.json of bøard:8080: was not {word}\n"


def test_a_decision_that_cannot_be_read_can_be_taken_back(
    history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = history / "pin_perf_20261123T110000Z_t11.json"
    mark.write_text("{")
    assert main(["pin", "t11", "--undo"]) == 0
    assert "no longer pinned" in capsys.readouterr().out
    assert not mark.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["show", "nosuch"],
        ["list", "--perf-history", "nowhere"],
        ["accept", "nosuch", "--reason", "x"],
        ["pin", "nosuch", "--undo"],
        ["compare", "t10", "nosuch"],
        ["judge", "nosuch"],
        ["prune", "--perf-history", "nowhere"],
    ],
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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sim", "--port", "abc"], "espperf sim: error: argument --port: 'abc' is no port"),
        (["init"], "espperf init: error: the following arguments are required: HOST\n"),
    ],
)
def test_a_bad_option_has_the_exit_code_and_the_name_of_the_command(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 4
    assert says in capsys.readouterr().err


def test_a_misspelt_option_of_a_session_is_named_with_the_right_one() -> None:
    words = ["--perf-tolerence=3", "--device-prot", "80", "--collect-only", "--perf-qqqqqqqqqqq"]
    assert list(misspelt(words)) == [
        "--perf-tolerence is no option; did you mean --perf-tolerance?",
        "--device-prot is no option; did you mean --device-port?",
    ]


def test_every_command_has_its_line_and_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    overview = make_parser().format_help()
    for command in ("list", "show", "compare", "judge", "accept", "pin", "prune", "import", "completion"):
        assert f"\n    {command}" in overview
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0
        assert f"usage: espperf {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["list", "show", "compare", "judge", "prune", "import"])
def test_what_prints_data_says_its_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "one JSON object" in told or "the whole artifact as one JSON object" in told
