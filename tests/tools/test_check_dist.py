"""The check of built distributions finds what is missing and what does not belong there."""

from __future__ import annotations

import pytest
from support.paths import TOOLS

TRACKED = ("README.md", "pytest_espperf/__init__.py", "pytest_espperf/py.typed", "tests/helper.py")


@pytest.fixture(autouse=True)
def tools_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))


def test_complete_archives_have_no_faults() -> None:
    from check_dist import sdist_faults, wheel_faults

    made = ("PKG-INFO", "setup.cfg", "pytest_espperf.egg-info/PKG-INFO")
    assert sdist_faults((f"pytest_espperf-0.1.0/{name}" for name in (*TRACKED, *made)), TRACKED) == []
    packed = (
        "pytest_espperf/__init__.py",
        "pytest_espperf/py.typed",
        "pytest_espperf-0.1.0.dist-info/RECORD",
    )
    assert wheel_faults(packed, TRACKED) == []


def test_each_difference_is_a_line() -> None:
    from check_dist import sdist_faults, wheel_faults

    names = ("x-1/README.md", "x-1/pytest_espperf/__init__.py", "x-1/tests/helper.py", "x-1/left.pyc")
    assert sdist_faults(names, TRACKED) == [
        "sdist: left.pyc does not belong there",
        "sdist: pytest_espperf/py.typed is missing",
    ]
    assert wheel_faults(("pytest_espperf/__init__.py", "tests/helper.py"), TRACKED) == [
        "wheel: pytest_espperf/py.typed is missing",
        "wheel: tests/helper.py does not belong there",
    ]
