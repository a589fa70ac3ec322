"""Tasks of a contributor and of CI: ``nox -s lint types tests``, ``nox --list``.

Sessions without a virtual environment of their own run in the one that nox is installed in, which is the one
that ``pip install -e ".[dev]"`` makes: to install it again for each session would take a minute each time.
What cannot live in that environment (labgrid and pytest-embedded bring different serial libraries, the oldest
allowed versions exclude the newest) has an environment of its own, which later calls use again.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nox
from filelock import FileLock

ROOT = Path(__file__).parent
LIGHT_TESTS = ("tests/config/test_profiles.py", "tests/gate/test_rules.py", "tests/sim/test_process.py")
"""Tests that need no extra and take seconds: they show that an unpacked sdist can be tested."""

BENCHES: Sequence[Sequence[str]] = (
    ("import",),
    ("history", "--sessions", "1000"),
    ("overhead", "--repeat", "1"),
)
"""Benchmarks that end within minutes and need no other tool, with their arguments."""

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True


def run_module(session: nox.Session, module: str, *arguments: str) -> None:
    """Run a module of the environment that nox runs in, and say what to install where it is missing.

    Args:
        session: the nox session.
        module: a name that ``python -m`` takes.
        arguments: of the module's command line.
    """
    if importlib.util.find_spec(module) is None:
        session.error(f'{module} is not installed beside nox: pip install -e ".[dev]", then nox from there')
    session.run(sys.executable, "-m", module, *arguments, external=True)


def install_checkout(session: nox.Session, extras: str, *more: str) -> None:
    """Install this checkout into a session's environment, one session at a time: the build writes into it.

    Args:
        session: the nox session.
        extras: of the package, separated by commas.
        more: further arguments of pip.
    """
    with FileLock(Path(tempfile.gettempdir()) / "pytest-espperf-nox.lock"):
        session.install("-e", f".[{extras}]", *more)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style, format and spelling of all files."""
    run_module(session, "ruff", "check", ".")
    run_module(session, "ruff", "format", "--check", ".")
    run_module(session, "codespell_lib")


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Check types with mypy, strict."""
    run_module(session, "mypy")
    run_module(session, "mypy", "conftest.py")  # by itself: tests/ has a module of the same name


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the test suite; arguments behind ``--`` go to pytest."""
    run_module(session, "pytest", *session.posargs)


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Run the commands of the pages and the examples, and check links, names and words."""
    run_module(session, "pytest", "tests/docs", *session.posargs)


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Run the quick benchmarks, or one of tools/bench_NAME.py: ``nox -s bench -- load fidelity``."""
    for name, *arguments in [session.posargs] if session.posargs else BENCHES:
        session.run(sys.executable, f"tools/bench_{name}.py", *arguments, external=True)


@nox.session
def lab(session: nox.Session) -> None:
    """Test beside the real labgrid."""
    install_checkout(session, "lab-test")
    session.run("python", "-c", "import labgrid")  # the tests would skip themselves without it
    session.run("pytest", "-p", "no:labgrid", "-n", "2", "--dist", "loadfile", "tests/lab", *session.posargs)


@nox.session
def embedded(session: nox.Session) -> None:
    """Test beside the real pytest-embedded."""
    install_checkout(session, "embedded-test")
    session.run("python", "-c", "import pytest_embedded_serial")  # as for lab
    files = ("tests/plugin/test_embedded.py", "tests/docs/test_examples.py")
    session.run("pytest", "-p", "no:pytest_embedded", *files, *session.posargs)


@nox.session
def otava(session: nox.Session) -> None:
    """Test that Apache Otava reads what is written for it."""
    install_checkout(session, "report", "hypothesis", "pytest-xdist", "apache-otava>=0.8")
    session.run("otava", "--help", silent=True)  # as for lab
    session.run("pytest", "tests/output/test_steps.py", *session.posargs)


@nox.session
def plugins(session: nox.Session) -> None:
    """Test beside plugins that report, repeat or select tests."""
    install_checkout(session, "plugins-test")
    session.run("python", "-c", "import pytest_html, allure_pytest, pytest_split")  # as for lab
    unwanted = ("randomly", "sugar", "socket", "html", "allure_pytest", "rerunfailures", "asyncio")
    left_out = [word for name in unwanted for word in ("-p", f"no:{name}")]
    session.run("pytest", *left_out, "-n", "4", "tests/plugin/test_neighbours.py", *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """Test the oldest versions that pyproject.toml allows; needs a Python for which these have wheels."""
    more = ("pytest-xdist", "lxml", "aiohttp")
    install_checkout(session, "report,sim-tls,websocket", *more, "-c", ".ci/lower-bounds.txt")
    session.run("python", "-c", "import xdist")  # as for lab
    files = ("tests/plugin/test_xdist.py", "tests/plugin/test_boards.py", "tests/load/test_websocket.py")
    session.run("pytest", "-n", "3", *files, *session.posargs)


@nox.session(reuse_venv=False)  # pip would keep an installed wheel of the same version
def build(session: nox.Session) -> None:
    """Build sdist and wheel, check their files, and test the unpacked sdist against the installed wheel."""
    session.install("build", "twine")
    folder = Path(session.create_tmp())
    made = folder / "dist"
    shutil.rmtree(made, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(made), silent=True)
    session.run("twine", "check", "--strict", *(str(file) for file in made.iterdir()))
    session.run("python", "tools/check_dist.py", str(made))
    (wheel,), (sdist,) = made.glob("*.whl"), made.glob("*.tar.gz")
    session.install(str(wheel))
    session.run("espperf", "--version")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    with session.chdir(folder / sdist.name.removesuffix(".tar.gz")):
        session.run("pytest", "-q", *LIGHT_TESTS)
