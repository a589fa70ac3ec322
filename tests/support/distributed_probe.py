"""A pytest plugin: each process tells the boards who it is, and notes what files of the project it writes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support.board_server import WORKER

NOTES = "PROBE_NOTES"
"""The variable that names the file of notes; a line of it is ``pid path``."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_ALIKE = {".pytest_cache", "__pycache__"}


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is measured."""
    config.option.device_header = [f"{WORKER}: {os.environ.get('PYTEST_XDIST_WORKER', 'controller')}"]
    notes = os.open(os.environ[NOTES], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    here = Path.cwd()

    def note(event: str, arguments: tuple[object, ...]) -> None:
        written: object = None
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            written = arguments[0]
        elif event in {"os.rename", "os.link"}:
            written = arguments[1]
        if not isinstance(written, (str, os.PathLike)):
            return
        path = here / written
        if here in path.parents and not _ALIKE & set(path.parts):
            os.write(notes, f"{os.getpid()} {path.relative_to(here).as_posix()}\n".encode())

    sys.addaudithook(note)
