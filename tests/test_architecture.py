"""The direction of the house: plugin, fixtures, cli -> session -> rooms -> shared data -> errors."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pytest_espperf"

DATA = {
    "errors",
    "artifact",
    "samples",
    "workload",
    "registry",
    "parsers",
    "option",
    "figures",
    "interrupts",
    "computer",
    "loops",
    "dialing",
    "texts",
    "homes",
    "tls",
    "streams",
    "redaction",
    "regular",
    "text",
    "__init__",
}
OPTIONS = {"options", "options_sim", "lookup", "tables"}
ROOMS = {"profiles", "device", "load", "metrics", "history", "gate", "report", "sim"}
SESSION = {
    "session",
    "answers",
    "board",
    "boards",
    "judging",
    "error_kinds",
    "identity",
    "repository",
    "budget",
    "capacity",
    "firmware",
    "handover",
    "record",
    "calibrate",
    "commands",
    "telemetry_table",
    "measuring",
    "doctor",
    "driving",
    "comparing",
    "rejudging",
    "progress",
    "reach",
    "reference",
    "reporting",
    "exporting",
    "sharing",
    "lab",
}
FRONT = {
    "streams",
    "plugin",
    "fixtures",
    "suite",
    "state",
    "items",
    "ending",
    "confirming",
    "outputs",
    "distributed",
    "embedded",
    "cli",
}
PYTEST = {
    "plugin",
    "fixtures",
    "suite",
    "state",
    "items",
    "ending",
    "confirming",
    "outputs",
    "distributed",
    "embedded",
    "cli",
}

ALLOWED = {
    **dict.fromkeys(DATA, DATA),
    **dict.fromkeys(OPTIONS, DATA | OPTIONS),
    # A room knows the shared data; profiles are made from options.
    **{room: DATA | {room} for room in ROOMS},
    "profiles": DATA | OPTIONS | {"profiles"},
    **dict.fromkeys(SESSION, DATA | OPTIONS | ROOMS | SESSION),
    **dict.fromkeys(FRONT, DATA | OPTIONS | ROOMS | SESSION | FRONT),
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_street(path: Path) -> None:
    room = room_of(path)
    assert room in ALLOWED, f"{room} has no place in the house yet"
    for name in imports(path):
        parts = name.split(".")
        other = parts[1] if parts[0] == "pytest_espperf" and len(parts) > 1 else ""
        if other and ((PACKAGE / other).is_dir() or (PACKAGE / f"{other}.py").exists()):
            assert other in ALLOWED[room], f"{room} imports {other}"
        if parts[0] in {"pytest", "_pytest"}:
            assert room in PYTEST, f"{room} imports pytest"


@pytest.mark.parametrize("room", ["gate", "report", "metrics"])
def test_pure_rooms_do_no_io(room: str) -> None:
    io = {"os", "socket", "pathlib", "subprocess", "asyncio", "threading", "time", "sqlite3", "httpx"}
    for path in FILES:
        if room_of(path) == room:
            assert not {name.split(".")[0] for name in imports(path)} & io, path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_too_long_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600
