"""The architecture, a line for each rule: see docs/architecture.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support.paths import PACKAGE

NAME = PACKAGE.name
FILES = sorted(PACKAGE.rglob("*.py"))

FOUNDATION = {"model", "errors", "interrupts"}
MEASURE_AND_JUDGE = {"config", "load", "device", "sim", "history", "gate", "report"}

KNOWS: dict[str, set[str]] = {
    "": {"gate", "history", "model"},  # the public names, imported on first use (PEP 562)
    "model": set(),
    "interrupts": set(),
    "errors": {"model"},  # its messages are printable text
    "system": FOUNDATION,
    "config": FOUNDATION | {"system"},
    "load": FOUNDATION | {"system"},
    "device": FOUNDATION | {"system"},
    "sim": FOUNDATION | {"system"},
    "history": FOUNDATION | {"system"},
    "gate": FOUNDATION,
    "report": FOUNDATION,
    "lab": FOUNDATION | {"system"} | MEASURE_AND_JUDGE,
    "output": FOUNDATION | {"system"} | MEASURE_AND_JUDGE,
    "session": FOUNDATION | {"system"} | MEASURE_AND_JUDGE | {"lab", "output"},
    "doctor": FOUNDATION | {"system"} | MEASURE_AND_JUDGE | {"lab", "output", "session"},
    "plugin": FOUNDATION | {"system"} | MEASURE_AND_JUDGE | {"lab", "output", "session"},
    "cli": FOUNDATION | {"system"} | MEASURE_AND_JUDGE | {"lab", "output", "session", "doctor", "plugin"},
    "suite": FOUNDATION,
}
"""Which packages a package may import from, besides itself."""

ROOT_MODULES = {"__init__", "errors", "interrupts", "suite"}
USE_PYTEST = {"plugin", "suite"}
PURE = {"model", "gate", "report"}
IO = {
    *("asyncio", "fcntl", "httpx", "multiprocessing", "os", "pathlib", "select", "shutil", "signal"),
    *("socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "urllib"),
}


def module_of(path: Path) -> str:
    """``pytest_espperf.gate.noise``."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(module: str) -> str:
    """``gate`` of ``pytest_espperf.gate.noise``; "" of ``pytest_espperf`` itself."""
    return module.partition(".")[2].partition(".")[0]


MODULES = {module_of(path): path for path in FILES}


def imported(path: Path) -> Iterator[str]:
    """Every name that a module imports, anywhere in it: types alone, and within functions, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def edges(module: str) -> frozenset[str]:
    """The modules of ours that a module imports from."""
    found = set()
    for name in imported(MODULES[module]):
        while name.startswith(NAME) and name not in MODULES:
            name = name.rpartition(".")[0]  # noqa: PLW2901 - a name in a module is not a module
        if name.startswith(NAME) and name != module:
            found.add(name)
    return frozenset(found)


each_module = pytest.mark.parametrize("module", sorted(MODULES))


@each_module
def test_imports_go_one_way(module: str) -> None:
    here = package_of(module)
    assert here in KNOWS, f"{here} is no package of the architecture"
    there = {package_of(name): name for name in edges(module)}
    unknown = set(there) - KNOWS[here] - {here, ""}
    assert not unknown, f"{module} imports {', '.join(there[name] for name in unknown)}"


def test_modules_have_no_circle() -> None:
    try:
        # The package itself imports its public names on first use, when all else is loaded.
        TopologicalSorter({module: edges(module) for module in MODULES if module != NAME}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_packages_have_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        there = {package_of(name) for name in edges(module)} - {package_of(module), ""}
        graph.setdefault(package_of(module), set()).update(there)
    TopologicalSorter(graph).prepare()


def test_the_root_holds_four_modules() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == ROOT_MODULES


@each_module
def test_only_the_plugin_imports_pytest(module: str) -> None:
    if package_of(module) not in USE_PYTEST:
        assert not {name.partition(".")[0] for name in imported(MODULES[module])} & {"pytest", "_pytest"}


@each_module
def test_the_core_does_no_io(module: str) -> None:
    if package_of(module) in PURE:
        assert not {name.partition(".")[0] for name in imported(MODULES[module])} & IO


def test_driving_needs_neither_gate_nor_history() -> None:
    found, waiting = set(), {f"{NAME}.session.driver"}
    while waiting:
        found |= waiting
        waiting = {name for module in waiting for name in edges(module)} - found - {NAME}
    assert not {package_of(module) for module in found} & {"gate", "history", "report", "output"}


def test_each_class_has_a_name_of_its_own() -> None:
    places: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name.lstrip("_"), []).append(module)
    repeated = {name: modules for name, modules in places.items() if len(modules) > 1}
    assert not repeated
