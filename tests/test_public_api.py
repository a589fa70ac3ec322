"""The public names of the package: there, typed, and imported on first use only."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pytest_espperf
from pytest_espperf import Verdict, gate, history, judge, load_session
from pytest_espperf.model import artifact


def test_the_public_names_are_those_of_the_packages() -> None:
    assert judge is gate.judge
    assert load_session is history.load_session
    assert Verdict is artifact.Verdict
    assert set(pytest_espperf.__all__) <= set(dir(pytest_espperf))


def test_their_types_are_known() -> None:
    verdict: artifact.Verdict = pytest_espperf.Verdict(kind="unchanged")  # the type checker reads this line
    assert verdict.kind == "unchanged"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'pytest_espperf' has no attribute 'jugde'"):
        pytest_espperf.jugde  # noqa: B018 # type: ignore[attr-defined] # looked up for its error


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = (
        "import sys, pytest_espperf\n"
        "print(sorted(name for name in sys.modules if name.startswith('pytest_espperf')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['pytest_espperf']"
