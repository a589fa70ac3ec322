"""The registry of findings: every finding of the package is made with one of its constants."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.paths import PACKAGE

from pytest_espperf.model import findings
from pytest_espperf.model.artifact import Finding
from pytest_espperf.model.findings import FINDINGS, KEPT, STANDING

CONSTANTS = {
    name: value for name, value in vars(findings).items() if name.isupper() and isinstance(value, str)
}
FILES = sorted(PACKAGE.rglob("*.py"))


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
            yield node


def imported_constants(path: Path) -> set[str]:
    return {
        alias.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == findings.__name__
        for alias in node.names
        if alias.asname is None
    }


def test_every_constant_is_a_kind_and_every_kind_a_constant() -> None:
    assert sorted(CONSTANTS.values()) == sorted(FINDINGS)
    assert all(kind.severities and kind.name == name for name, kind in FINDINGS.items())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_finding_has_a_kind_of_the_registry_and_a_severity_of_it(path: Path) -> None:
    known = imported_constants(path)
    for call in calls(path):
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        kind = given.get("kind")
        where = f"{path}:{call.lineno}"
        assert isinstance(kind, ast.Name), f"{where}: a kind is a constant of {findings.__name__}"
        assert kind.id in CONSTANTS, f"{where}: {kind.id} is no kind"
        assert kind.id in known, f"{where}: {kind.id} is not that of {findings.__name__}"
        severity = given.get("severity", ast.Constant("info"))
        allowed = FINDINGS[CONSTANTS[kind.id]].severities
        if isinstance(severity, ast.Constant):
            assert severity.value in allowed, f"{where}: {severity.value!r} is not among {allowed}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_kind_is_compared_with_a_literal(path: Path) -> None:
    """But for words that something else has, too: verdicts, kinds of options and events."""
    own = set(FINDINGS) - {"drift", "incomplete", "no-baseline", "environment-shift"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Compare)
            and isinstance(node.left, ast.Attribute)
            and node.left.attr == "kind"
        ):
            words = {one.value for one in ast.walk(node) if isinstance(one, ast.Constant)}
            assert not words & own, f"{path}:{node.lineno}: {words & own}"


def test_what_says_whether_a_session_is_a_baseline_is_made_anew_when_it_is_judged_again() -> None:
    assert {"held-back", "provisional"} == STANDING
    assert not STANDING & KEPT


def test_a_finding_of_an_unknown_kind_is_about_its_board() -> None:
    assert Finding(kind="of a later version").scope == "board"
    assert Finding(kind=findings.GENERATOR_BOUND).scope == "computer"
    assert Finding(kind=findings.SHARED_HISTORY).scope == "run"
