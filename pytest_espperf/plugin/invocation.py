"""pytest, started by the commands of ``espperf``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import EspperfError, UsageError
from pytest_espperf.plugin.state import ini_keys_of, state_of

QUIET = ("-W", "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning")
"""This very package is loaded before pytest, which warns of it."""

SUITE = ("--pyargs", "pytest_espperf.suite", *QUIET)
"""The words for pytest that select the packaged suite."""


def run_suite(words: Sequence[str]) -> int:
    """Run the perf tests of the packaged suite in this process; pytest's exit code.

    Args:
        words: further words of pytest's command line.
    """
    return int(pytest.main([*SUITE, "-m", "perf", *words]))


class ProjectHere(NamedTuple):
    """The project in this folder, as pytest sees it.

    Attributes:
        settings: the options in force.
        root: root directory.
        ini_file: the file that pytest is configured by; None where there is none.
        ini_keys: keys of that file, of all plugins.
        test_paths: where tests are looked for; empty for everywhere.
        test_files: patterns of their names.
    """

    settings: Settings
    root: Path
    ini_file: Path | None
    ini_keys: frozenset[str]
    test_paths: tuple[str, ...]
    test_files: tuple[str, ...]


def settings_here(options: Mapping[str, object]) -> tuple[Settings, Path]:
    """Return the options in force in this folder, and the root directory, without running a test.

    Args:
        options: values from the command line, by ``dest``.

    Raises:
        UsageError: an option is bad, or pytest does not start here; its message stands above.
    """
    return project_here(options)[:2]


def project_here(options: Mapping[str, object]) -> ProjectHere:
    """Return the project in this folder, without running a test; see :func:`settings_here`."""
    asking = _Asking(options)
    pytest.main(list(SUITE), plugins=[asking])
    if asking.found is None:
        raise UsageError("pytest does not start in this folder, so that its options are not known: see above")
    if isinstance(asking.found, EspperfError):
        raise asking.found
    return asking.found


class _Asking:
    """A plugin that looks the options up in place of running tests."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self.found: ProjectHere | EspperfError | None = None
        self._options = options

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        """Take the options over, look all of them up, and end."""
        for dest, value in self._options.items():
            setattr(config.option, dest, value)
        try:
            if not config.pluginmanager.hasplugin("espperf"):
                raise UsageError(
                    "pytest does not load pytest-espperf here: remove -p no:espperf from its options"
                )
            self.found = ProjectHere(
                settings=state_of(config).settings,
                root=config.rootpath,
                ini_file=config.inipath,
                ini_keys=ini_keys_of(config),
                test_paths=tuple(config.getini("testpaths")),
                test_files=tuple(config.getini("python_files")),
            )
        except EspperfError as error:
            self.found = error
        return 0
