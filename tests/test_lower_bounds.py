"""The oldest versions that are tested are the oldest that are allowed."""

from __future__ import annotations

import sys

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from support.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OPTIONAL = frozenset({"pytest-xdist", "websockets"})
"""What the tested versions have beyond what is required; of several extras' bounds, all must be the same."""


def allowed() -> dict[str, set[Version]]:
    """The lower bounds of what is required, and of :data:`OPTIONAL`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [Requirement(line) for extra in project["optional-dependencies"].values() for line in extra]
    wanted = [Requirement(line) for line in project["dependencies"]]
    wanted += [one for one in extras if one.name in OPTIONAL]
    found: dict[str, set[Version]] = {}
    for requirement in wanted:
        (bound,) = (one for one in requirement.specifier if one.operator == ">=")
        found.setdefault(requirement.name, set()).add(Version(bound.version))
    return found


def held() -> dict[str, Version]:
    lines = (ROOT / ".ci" / "lower-bounds.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    found = {}
    for requirement in wanted:
        (exact,) = requirement.specifier
        assert exact.operator == "==", f"{requirement}: a tested version is an exact one"
        found[requirement.name] = Version(exact.version)
    return found


@pytest.mark.parametrize("name", sorted(allowed()))
def test_the_oldest_version_allowed_is_the_one_that_is_tested(name: str) -> None:
    assert allowed()[name] == {held()[name]}


def test_nothing_else_is_held_back() -> None:
    assert held().keys() == allowed().keys()
