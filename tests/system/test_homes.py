"""Users without a home folder, and paths that begin with ~."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import platformdirs
import pytest

from pytest_espperf.cli import main
from pytest_espperf.config.lookup import resolve
from pytest_espperf.device.lock import lock_folder
from pytest_espperf.errors import UsageError
from pytest_espperf.history.shared.sharing import sharing_at
from pytest_espperf.output.files import parse_path
from pytest_espperf.sim.__main__ import main as device
from pytest_espperf.system.homes import cache_folder, expand_reference, expand_user, state_folder

NOBODY = "~no-such-user-here/x"

posix = pytest.mark.skipif(
    sys.platform == "win32", reason="there is always a home folder, and no ~user is unknown"
)


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No home folder, as of an unknown user id in a container; the folder of temporary files."""
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    return tmp_path


def test_locks_go_to_a_folder_of_the_users_own(homeless: Path) -> None:
    folder = state_folder()
    assert folder.parent == homeless
    assert folder == state_folder()
    assert lock_folder() == folder / "locks"
    if sys.platform != "win32":
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("error", [RuntimeError("no home"), None])
def test_whatever_platformdirs_makes_of_no_home(
    homeless: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """From 4.4 on it raises; before, it gives a relative folder that begins with ~."""

    def locate(*_: object, **__: object) -> Path:
        if error is not None:
            raise error
        return Path("~/.local/state/pytest-espperf")

    monkeypatch.setattr(platformdirs, "user_state_path", locate)
    monkeypatch.setattr(platformdirs, "user_cache_path", locate)
    assert state_folder().parent == homeless
    with pytest.raises(UsageError, match="XDG_CACHE_HOME"):
        cache_folder()


def test_a_home_that_is_no_folder_is_none(homeless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (homeless / "file").write_text("x")
    monkeypatch.setattr(platformdirs, "user_state_path", lambda *_, **__: homeless / "file" / "state")
    assert state_folder().parent == homeless
    monkeypatch.setenv("XDG_STATE_HOME", str(homeless / "file"))
    assert state_folder() == homeless / "file" / "state", "what is named is not left aside in silence"


@posix
def test_somebody_elses_folder_is_not_used(homeless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = homeless / f"pytest-espperf-{os.getuid()}"
    folder.symlink_to(homeless, target_is_directory=True)
    with pytest.raises(UsageError, match="XDG_STATE_HOME"):
        state_folder()
    folder.unlink()
    folder.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    folder.rename(homeless / "pytest-espperf-4711")
    with pytest.raises(UsageError, match="not a folder of this user's own"):
        state_folder()


def test_without_a_place_for_temporary_files_it_is_said_what_to_set(
    homeless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(homeless / "gone" / "deep"))
    with pytest.raises(UsageError, match="XDG_STATE_HOME"):
        state_folder()


@posix
def test_an_unknown_user_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--x: '~no-such-user-here/x': there is no user 'no-such-user-here'"):
        expand_user(NOBODY, "--x")
    with pytest.raises(UsageError, match="there is no user"):
        sharing_at(NOBODY, tmp_path, "--perf-history")
    with pytest.raises(UsageError, match="there is no user"):
        parse_path(NOBODY, tmp_path, "--perf-report")
    assert expand_user("~/x", "--x") == str(Path.home() / "x")
    assert expand_user("a~b", "--x") == "a~b"
    assert resolve({"perf_lock_file": NOBODY}, {}, {}).perf_lock_file == NOBODY


@posix
@pytest.mark.parametrize(
    "words",
    [
        ["show", NOBODY],
        ["judge", NOBODY],
        ["compare", NOBODY, NOBODY],
        ["report", NOBODY],
        ["export", NOBODY, "csv"],
        ["export", "latest", f"csv={NOBODY}"],
        ["import", NOBODY],
        ["list", "--perf-history", NOBODY],
    ],
)
def test_commands_refuse_a_file_of_an_unknown_user(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 4
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{NOBODY!r}: there is no user 'no-such-user-here'; write the whole path" in said


@posix
def test_the_reference_device_refuses_it_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        device(["--port", "0", "--ca-out", NOBODY])
    assert ended.value.code == 2
    assert "--ca-out: FILE: '~no-such-user-here/x': there is no user" in capsys.readouterr().err


@posix
def test_a_name_that_begins_with_a_tilde_is_no_path() -> None:
    assert expand_reference("~2", "--x") == "~2"
    assert expand_reference("~/x.json", "--x") == str(Path.home() / "x.json")
    with pytest.raises(UsageError, match="--x: '~no-such-user-here/x': there is no user"):
        expand_reference(NOBODY, "--x")


def test_a_home_that_is_not_known_is_a_usage_error(homeless: Path) -> None:
    with pytest.raises(UsageError, match="HOME is not set"):
        expand_user("~/x", "--x")
