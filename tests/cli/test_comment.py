from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli_history import fill

from pytest_espperf.cli import main


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("filled"), [1.0, 1.0, 1.5]).folder


@pytest.fixture
def history(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(filled, tmp_path / "tools" / "perf_history")
    return tmp_path


def test_the_latest_session_is_commented_unless_another_is_named(
    history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["comment"]) == 0
    latest = capsys.readouterr().out
    assert latest.startswith("<!-- espperf:10.0.0.9:8080 -->\n")
    assert "**REGRESSED**: " in latest
    assert main(["comment", "day2"]) == 0
    assert capsys.readouterr().out == latest
    assert main(["comment", "day1"]) == 0
    assert "**UNCHANGED**: " in capsys.readouterr().out


def test_as_json(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["comment", "--json", "--link", "HTML report=https://example.org/a=b"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["verdict"] == "regressed"
    assert data["links"] == [{"text": "HTML report", "url": "https://example.org/a=b"}]
    assert data["body"].startswith(data["marker"])
    assert data["gates"][0]["verdict"] == "regressed"


@pytest.mark.parametrize(
    "link",
    ["https://example.org", "a=", "=https://a", "a=javascript:alert(1)", "a=https://b c", "a=http://<b>"],
)
def test_a_bad_link_is_a_usage_error(history: Path, capsys: pytest.CaptureFixture[str], link: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["comment", "--link", link])
    assert caught.value.code == 4
    assert "is not of the form TEXT=URL" in capsys.readouterr().err


def test_a_file_has_it_in_utf_8_whatever_the_code_page(history: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_espperf.cli", "comment"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert " · session " in done.stdout.decode("utf-8")
