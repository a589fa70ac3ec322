"""Sizes of files, and of the sections of ELF files: those of a real one, by binutils where it is there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_espperf.config.lookup import resolve
from pytest_espperf.errors import UsageError
from pytest_espperf.model.artifact import OwnFigure
from pytest_espperf.session.file_sizes import file_figures


def measured(*words: str) -> dict[str, OwnFigure]:
    return file_figures(resolve({"perf_file": list(words)}, {}, {}))


def test_the_size_of_a_file_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "app with blanks.bin"
    path.write_bytes(b"\0" * 4711)
    assert measured(f"app={path}") == {
        "app": OwnFigure(unit="bytes", better="lower", values=[4711.0], source="file")
    }


def test_without_the_option_nothing_is_measured() -> None:
    assert file_figures(resolve({}, {}, {})) == {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the interpreter is no ELF file")
def test_an_elf_file_is_measured_by_section() -> None:
    program = Path(sys.executable).resolve()
    found = measured(f"py={program}")
    assert {"py.text", "py.data", "py.bss", "py.rodata"} <= found.keys()
    assert "py" not in found
    if shutil.which("size"):
        text = subprocess.run(
            ["size", "-A", "-d", str(program)], check=True, capture_output=True, text=True
        ).stdout
        rows = [line.split() for line in text.splitlines()]
        sizes = {row[0]: float(row[1]) for row in rows if len(row) == 3 and row[0].startswith(".")}
        for name in (".text", ".data", ".bss", ".rodata"):
            assert found[f"py{name}"].values == [sizes[name]]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("app", "not of the form NAME=PATH"),
        ("app=", "not of the form NAME=PATH"),
        ("p95_ms=x.bin", "metric of every session"),
        ("a b=x.bin", "no name of a figure"),
        ("app=absent.bin", "cannot be read"),
        ("app=.", "cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_a_usage_error(
    word: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"--perf-file: .*{reason}"):
        measured(word)


@pytest.mark.parametrize("rest", [b"", b"\x01\x01\x01" + b"\xff" * 60, b"\x02\x01\x01" + b"\0" * 57])
def test_a_broken_elf_file_is_a_usage_error(rest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "app.elf"
    path.write_bytes(b"\x7fELF" + rest)
    with pytest.raises(UsageError, match="ELF file"):
        measured(f"app={path}")


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elftools.elf.elffile", None)
    path = tmp_path / "app.elf"
    path.write_bytes(b"\x7fELF")
    with pytest.raises(UsageError, match=r"pip install 'pytest-espperf\[elf\]'"):
        measured(f"app={path}")


def test_a_name_stands_for_one_file(tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(b"1")
    with pytest.raises(UsageError, match="app is given twice"):
        measured(f"app={tmp_path / 'a.bin'}", f"app={tmp_path / 'b.bin'}")
