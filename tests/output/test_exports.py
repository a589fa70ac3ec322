"""Where exports go: what is refused, what is written, what is reported when it cannot be."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from support.export_sessions import session

from pytest_espperf.cli import main
from pytest_espperf.config.lookup import resolve
from pytest_espperf.errors import UsageError
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.output import exports
from pytest_espperf.output.exports import (
    ExportTarget,
    export_session,
    parse_target,
    plan_exports,
    write_target,
)
from pytest_espperf.report.exports import EXPORTS

posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes and links of POSIX")


@pytest.fixture(scope="module")
def sample() -> SessionArtifact:
    return session(random.Random(20261126))


def planned(here: Path, *texts: str, **taken: Path) -> list[ExportTarget]:
    return plan_exports(resolve({"perf_export": list(texts)}, {}, {}), here, taken)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["csv"], "csv has no path: write csv=PATH"),
        (["csv= "], "csv has no path"),
        (["cvs=out"], "'cvs' is no format; did you mean 'csv'? (known: badge, bencher, csv, "),
        (["=out"], "'' is no format"),
        (["junit=."], ". is a folder"),
        (["csv=a.txt", "junit=./a.txt"], "csv and junit would both write"),
        (["csv=a.txt", "csv=b/../a.txt"], "csv and csv would both write"),
        (["csv=a-bigger.json", "github-action-benchmark=a.json"], "would both write"),
        (["csv=a\0b"], "cannot be "),
        (["csv=" + "x" * 5000], "cannot be "),
    ],
)
def test_what_cannot_be_written_by_any_session_is_refused(
    tmp_path: Path, texts: list[str], says: str
) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(UsageError) as caught:
        export_or_raise(session(random.Random(1)), planned(tmp_path, *texts))
    if "cannot be" not in says:
        assert str(caught.value).startswith("--perf-export: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def export_or_raise(artifact: SessionArtifact, targets: list[ExportTarget]) -> None:
    for target in targets:
        write_target(artifact, target)


def test_a_file_of_pytests_own_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--junitxml and junit would both write"):
        plan_exports(
            resolve({"perf_export": ["junit=out.xml"]}, {}, {}),
            tmp_path,
            {"--junitxml": tmp_path / "out.xml"},
        )


def test_a_path_is_what_stands_behind_the_first_equals_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "elsewhere")
    (first, second, third, fourth) = planned(
        tmp_path, "csv=a=b.csv", "junit=sub/x.xml", f"hdrlog={tmp_path / 'abs.hlog'}", "bencher=$WHERE/b.json"
    )
    assert (first.format, first.path) == ("csv", tmp_path / "a=b.csv")
    assert second.path == tmp_path / "sub" / "x.xml"
    assert third.path == tmp_path / "abs.hlog"
    assert fourth.path == tmp_path / "elsewhere" / "b.json"


def test_commas_are_part_of_a_path_and_lines_part_values(tmp_path: Path) -> None:
    settings = resolve({}, {"ESPPERF_PERF_EXPORT": "csv=a,b.csv\njunit=c.xml"}, {})
    assert [target.path.name for target in plan_exports(settings, tmp_path)] == ["a,b.csv", "c.xml"]


def test_every_format_is_written_in_folders_that_are_made(tmp_path: Path, sample: SessionArtifact) -> None:
    targets = planned(tmp_path, *(f"{name}=deep/er/{name}.out" for name in EXPORTS))
    done = export_session(sample, targets)
    assert done.errors == []
    folder = tmp_path / "deep" / "er"
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for _, path in done.written)
    assert (folder / "github-action-benchmark-bigger.out").exists()
    for target in targets:
        for path, render in target.files():
            assert path.read_bytes().decode("utf-8") == render(sample)


def test_a_path_that_cannot_be_written_is_said_and_stops_no_other(
    tmp_path: Path, sample: SessionArtifact
) -> None:
    targets = planned(tmp_path, "csv=taken/out.csv", "bencher=b.json")
    (tmp_path / "taken").write_text("a file, no folder")  # since then
    done = export_session(sample, targets)
    ((name, message),) = done.errors
    assert name == "csv"
    assert str(tmp_path / "taken" / "out.csv") in message
    assert "history" not in message
    assert done.written == [("bencher", tmp_path / "b.json")]


def test_an_earlier_file_is_replaced_whole(
    tmp_path: Path, sample: SessionArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "out.csv"
    file.write_text("earlier")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        done = export_session(sample, planned(tmp_path, "csv=out.csv"))
    assert done.errors == [("csv", f"{file} cannot be written: No space left on device")]
    assert file.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [file]
    assert export_session(sample, planned(tmp_path, "csv=out.csv")).errors == []
    assert file.read_text().startswith("session_id,")


@posix
def test_a_pipe_is_written_to_and_a_link_followed(tmp_path: Path, sample: SessionArtifact) -> None:
    pipe, real, link = tmp_path / "pipe", tmp_path / "real.csv", tmp_path / "link.csv"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    real.write_text("old")
    link.symlink_to(real)
    try:
        done = export_session(sample, planned(tmp_path, f"openmetrics={pipe}", f"csv={link}"))
        assert done.errors == []
        assert os.read(reader, 2**20).endswith(b"# EOF\n")
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert real.read_text().startswith("session_id,")


def test_what_has_no_utf8_form_is_replaced_and_written(tmp_path: Path) -> None:
    artifact = session(random.Random(1), tag="lone \ud800 surrogate")
    assert export_session(artifact, planned(tmp_path, *(f"{name}={name}" for name in EXPORTS))).errors == []


# --- espperf export ------------------------------------------------------------------------------


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: SessionArtifact) -> Path:
    monkeypatch.chdir(tmp_path)
    store = HistoryStore(tmp_path / "tools" / "perf_history")
    store.prepare()
    store.save(sample, "", latest=True)
    return tmp_path


def test_the_command_prints_or_writes(
    history: Path, sample: SessionArtifact, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = EXPORTS["csv"].renderers[""](sample)
    assert main(["export", "latest", "csv"]) == 0
    assert capsys.readouterr().out == csv
    assert main(["export", "t1", "csv=sub/out.csv"]) == 0
    assert "exported csv: " in capsys.readouterr().out
    assert (history / "sub" / "out.csv").read_text(encoding="utf-8") == csv
    assert main(["export", "latest", "github-action-benchmark=out.json"]) == 0
    assert json.loads((history / "out-smaller.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["latest", "github-action-benchmark"], "makes 2 files: write github-action-benchmark=PATH"),
        (["latest", "junitxml"], "did you mean 'junit'"),
        (["latest", "csv="], "csv has no path"),
        (["latest", "csv=tools"], "is a folder"),
        (["latest", "csv=taken/x"], "cannot be written"),
        (["nosuch", "csv"], "no session 'nosuch'"),
    ],
)
def test_the_command_refuses_in_one_sentence(
    history: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (history / "taken").write_text("")
    assert main(["export", *words]) == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("espperf: ")
    assert says in shown.err
    assert shown.err.count("\n") == 1


def test_the_command_lists_the_formats(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["export", "--list"])
    assert caught.value.code == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(EXPORTS)


def test_a_step_summary_that_cannot_be_written_is_said(tmp_path: Path, sample: SessionArtifact) -> None:
    where: dict[str, Any] = {"GITHUB_STEP_SUMMARY": str(tmp_path)}
    assert "cannot be written" in exports.append_step_summary(sample, where)
    assert exports.append_step_summary(sample, {}) == ""


def test_a_formats_name_may_have_blanks_around(tmp_path: Path) -> None:
    target = parse_target(" csv = out.csv ", tmp_path, "x")
    assert target == ExportTarget("csv", tmp_path / "out.csv")
