"""Files that a user names: what cannot be written is refused before anything is measured."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pytest_espperf.errors import UsageError
from pytest_espperf.output.files import parse_folder, parse_path, write_file

posix = pytest.mark.skipif(sys.platform == "win32", reason="rights and devices of POSIX")


@pytest.mark.parametrize("given", ["x.html", "a/b/c/x.html", "there/x.html", "there/old.html", "there/../x"])
def test_what_can_be_written_is_taken_and_nothing_is_made(given: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "old.html").touch()
    before = sorted(tmp_path.rglob("*"))
    path = parse_path(given, tmp_path, "--perf-report")
    assert parse_folder(f"{given}.d", tmp_path, "--perf-site")
    assert sorted(tmp_path.rglob("*")) == before
    write_file(path, b"x")
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("below", ["x.html", "a/b/x.html"])
def test_a_file_in_the_place_of_a_folder_is_said(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for parse in (parse_path, parse_folder):
        with pytest.raises(UsageError, match=rf"--o: file/{below} cannot be written: .*file is no folder"):
            parse(f"file/{below}", tmp_path, "--o")


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_must_not_be_written_is_said(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    for parse in (parse_path, parse_folder):
        with pytest.raises(UsageError, match=r"closed must not be written"):
            parse("closed/a/x.html", tmp_path, "--o")


@posix
def test_what_the_system_says_of_rights_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def access(path: Path, mode: int) -> bool:
        asked.append(Path(path))
        return not mode & os.W_OK

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(UsageError, match=r"--o: a/x\.html cannot be written: .* must not be written"):
        parse_path("a/x.html", tmp_path, "--o")
    assert asked == [tmp_path.resolve()]


@posix
def test_devices_pipes_and_links_are_written_as_they_are(tmp_path: Path) -> None:
    assert parse_path("/dev/null", tmp_path, "--o") == Path("/dev/null")
    os.mkfifo(tmp_path / "pipe")
    assert parse_path("pipe", tmp_path, "--o")
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "x")
    write_file(parse_path("link", tmp_path, "--o"), b"y")
    assert (tmp_path / "far" / "x").read_bytes() == b"y"
