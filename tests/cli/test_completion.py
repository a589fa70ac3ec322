from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_espperf.cli import main

BASH = shutil.which("bash")


def script(capsys: pytest.CaptureFixture[str], shell: str) -> str:
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.skipif(BASH is None or sys.platform == "win32", reason="no bash here")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["espperf", "comp"], {"compare", "completion"}),
        (["espperf", "compare", "--fail"], {"--fail-on"}),
        (["espperf", "judge", "--perf-"], {"--perf-strict", "--perf-baseline", "--perf-history"}),
        (["espperf", "completion", "z"], {"zsh"}),
        (["espperf", "show", "sess"], {"session file.json", "sessions"}),
        (["espperf", "list", "--perf-history", "sess"], {"sessions"}),
    ],
)
def test_bash_completes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], expected: set[str]
) -> None:
    (tmp_path / "completion").write_text(script(capsys, "bash"), encoding="utf-8")
    (tmp_path / "session file.json").touch()
    (tmp_path / "sessions").mkdir()
    listed = " ".join(f"'{word}'" for word in words)
    asked = f"""
        source ./completion
        COMP_WORDS=({listed}) COMP_CWORD={len(words) - 1} COMP_LINE={" ".join(words)!r}
        $(complete -p espperf | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert BASH is not None
    done = subprocess.run(
        [BASH, "--norc", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    replies = {line.rstrip("/") for line in done.stdout.splitlines()}
    assert expected <= replies
    assert all(reply.startswith(words[-1]) for reply in replies), replies


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_a_script_that_knows_the_commands(
    capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    text = script(capsys, shell)
    for command in ("run", "compare", "prune"):
        assert command in text


def test_zsh_reads_its_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("no zsh here")
    (tmp_path / "_espperf").write_text(script(capsys, "zsh"), encoding="utf-8")
    subprocess.run([zsh, "-n", "_espperf"], cwd=tmp_path, check=True)


def test_a_shell_that_this_shtab_does_not_know_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shtab = pytest.importorskip("shtab")
    monkeypatch.setattr(shtab, "SUPPORTED_SHELLS", ["bash"])
    assert main(["completion", "powershell"]) == 4
    assert "knows no powershell" in capsys.readouterr().err


def test_without_shtab_it_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 4
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert 'pip install "pytest-espperf[completion]"' in said.err
    assert said.out == ""


def test_an_unknown_shell_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["completion", "nosuch"])
    assert caught.value.code == 4
