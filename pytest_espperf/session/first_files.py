"""The files of a first performance test: a profile, a test, and keys of pytest's configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from pytest_espperf.config.additions import (
    AdditionError,
    TomlValue,
    pytest_table,
    with_ini_keys,
    with_keys,
    with_table,
)
from pytest_espperf.errors import UsageError
from pytest_espperf.output.files import write_file

TEST = '''\
"""Performance of the board: one test for each phase of each run of the profile {name}."""

import pytest


@pytest.mark.perf(profiles=["{name}"])
def test_{function}(perf_phase):
    assert perf_phase.report.ok, perf_phase.fail_reasons
'''
"""Text of the first test."""

TEST_FILE = "tests/test_perf.py"

PROFILES = "profiles"

MOST_FILES = 2000
"""Files in which a test of the project's own is looked for."""

_LEFT_OUT = frozenset({"node_modules", "site-packages", "build", "dist", "venv", "__pycache__"})


@dataclass(frozen=True)
class ProjectFiles:
    """The files of a project that matter to its performance tests.

    Attributes:
        root: root directory, where the tables are read.
        ini_file: the file that pytest is configured by; None where there is none.
        ini_keys: keys of that file.
        test_files: patterns of the names of its test files.
    """

    root: Path
    ini_file: Path | None
    ini_keys: frozenset[str]
    test_files: Sequence[str]


@dataclass(frozen=True)
class FileChange:
    """One file that is made, or added to.

    Attributes:
        path: where it is.
        data: its new content.
        what: what is added, in words.
        is_new: it does not exist yet.
    """

    path: Path
    data: bytes
    what: str
    is_new: bool

    def write(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            UsageError: it cannot be written.
        """
        mode = None if self.is_new else self.path.stat().st_mode
        write_file(self.path, self.data)
        if mode is not None:
            self.path.chmod(mode)


@dataclass(frozen=True)
class FirstFiles:
    """The files of a first performance test.

    Attributes:
        changes: in the order in which they are written.
        kept: what is left as it is, each in words.
    """

    changes: tuple[FileChange, ...]
    kept: tuple[str, ...]


def plan_files(
    project: ProjectFiles, name: str, paths: Sequence[str], keys: Mapping[str, TomlValue]
) -> FirstFiles:
    """Plan the files of a first performance test; nothing is written yet.

    Args:
        project: what is there.
        name: of the profile, which the project does not have.
        paths: of the profile.
        keys: of pytest's configuration.

    Raises:
        UsageError: a file cannot be read, or nothing can be added to it.
    """
    changes, kept = [_plan_profile(project.root, name, paths)], []
    existing = next(_own_tests(project), None)
    test = project.root / TEST_FILE
    if os.path.lexists(test):
        kept.append(f"{TEST_FILE} exists")
    elif existing is not None:
        kept.append(f"{existing.relative_to(project.root).as_posix()} requests perf_phase: no {TEST_FILE}")
    else:
        function = re.sub(r"\W", "_", name)
        text = TEST.format(name=name, function=function)
        changes.append(FileChange(test, text.encode(), f"test_{function}", is_new=True))
    held = [key for key in keys if key in project.ini_keys]
    if held and project.ini_file is not None:
        kept.append(f"{project.ini_file.name} has {', '.join(held)}")
    missing = {key: value for key, value in keys.items() if key not in held}
    if missing:
        changes = _with_keys(changes, project, missing)
    return FirstFiles(tuple(changes), tuple(kept))


def _plan_profile(root: Path, name: str, paths: Sequence[str]) -> FileChange:
    """Add the profile to espperf.toml where it exists, else to pyproject.toml, else to a new espperf.toml."""
    own, pyproject = root / "espperf.toml", root / "pyproject.toml"
    if pyproject.exists() and not own.exists():
        try:
            return _with_profile(pyproject, ("tool", "espperf", PROFILES, name), paths)
        except AdditionError:
            pass  # both files are read
    try:
        return _with_profile(own, (PROFILES, name), paths)
    except AdditionError as error:
        raise UsageError(f"{own}: the profile cannot be added: {error}") from None


def _with_profile(file: Path, names: Sequence[str], paths: Sequence[str]) -> FileChange:
    text = _read(file)
    data = with_table(text, names, {"paths": list(paths)}).encode()
    return FileChange(file, data, f"[{'.'.join(names)}]", is_new=not file.exists())


def _with_keys(
    changes: list[FileChange], project: ProjectFiles, keys: Mapping[str, TomlValue]
) -> list[FileChange]:
    """Add keys to pytest's configuration, which may be a file that is changed already.

    Raises:
        UsageError: they cannot be added.
    """
    pyproject = project.root / "pyproject.toml"
    file = project.ini_file or (pyproject if pyproject.exists() else project.root / "pytest.ini")
    before = next((change for change in changes if change.path == file), None)
    text = before.data.decode() if before is not None else _read(file)
    what = ", ".join(keys)
    try:
        if file.suffix == ".toml":
            own = file.name in {"pytest.toml", ".pytest.toml"}
            after = with_keys(text, ("pytest",) if own else pytest_table(text), keys)
        else:
            after = with_ini_keys(text, "tool:pytest" if file.suffix == ".cfg" else "pytest", keys)
    except AdditionError as error:
        raise UsageError(f"{file}: {what} cannot be added: {error}") from None
    whole = f"{before.what}, {what}" if before is not None else what
    change = FileChange(file, after.encode(), whole, is_new=not file.exists())
    return [*(one for one in changes if one is not before), change]


def _read(file: Path) -> str:
    """Read a file, with its line ends and its byte order mark; "" where there is none.

    Raises:
        UsageError: it cannot be read, or is not UTF-8.
    """
    try:
        return file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: cannot be read, save it as UTF-8 ({error})") from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror or error})") from None


def _own_tests(project: ProjectFiles) -> Iterator[Path]:
    """Find test files that request the fixture of a phase."""
    for file in islice(_python_files(project.root), MOST_FILES):
        if any(fnmatch(file.name, pattern) for pattern in project.test_files):
            try:
                if b"perf_phase" in file.read_bytes():
                    yield file
            except OSError:
                continue


def _python_files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in _LEFT_OUT)
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(".py"))
