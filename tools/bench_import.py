"""The cost of an installed pytest-espperf for a pytest run that uses no perf test.

::

    python tools/bench_import.py

Two figures are printed, each a median over ``--repeat`` processes:

*import*: the wall time of ``import pytest_espperf.plugin, pytest_espperf.plugin.fixtures`` in a new
interpreter that has imported pytest before. Modules that pytest has loaded itself cost nothing more; all
others count, those of the standard library too. As a measure for the speed of the computer, the wall time of
``import pytest`` in the same processes stands beside it, with the ratio of the two.

*whole run*: the wall time of ``python -m pytest -q`` with one empty test, with ``-p pytest_espperf.plugin``,
minus that of the same run with ``-p`` and a plugin that is an empty module. The two kinds of run alternate,
other plugins are switched off, and the difference and the ratio are taken within each pair, so that a change
of the computer's speed affects both sides. It has the import, the registration of the options and the hooks.

Byte code is written to a temporary folder before anything is timed, as it is after the first run in any
environment: with ``PYTHONDONTWRITEBYTECODE`` each process would compile the sources anew, which takes three
times as long as the import itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

PLUGIN, EMPTY_PLUGIN = "pytest_espperf.plugin", "empty_plugin"

TIMED_IMPORT = """
from time import perf_counter
began = perf_counter()
import pytest
between = perf_counter()
import pytest_espperf.plugin, pytest_espperf.plugin.fixtures
print(between - began, perf_counter() - between)
"""


def environment_in(folder: Path) -> dict[str, str]:
    """Environment variables of the timed processes: byte code is kept in the folder, plugins are named."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return variables | {
        "PYTHONPYCACHEPREFIX": str(folder / "byte_code"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join(paths),
    }


def import_s(environment: Mapping[str, str]) -> tuple[float, float]:
    """Seconds of importing pytest, and of importing the plugin after it."""
    done = subprocess.run(
        [sys.executable, "-c", TIMED_IMPORT], capture_output=True, text=True, check=True, env=environment
    )
    pytest_s, plugin_s = map(float, done.stdout.split())
    return pytest_s, plugin_s


def whole_run_s(folder: Path, environment: Mapping[str, str], plugin: str) -> float:
    """Seconds of a pytest run of one empty test with one plugin."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", plugin, "test_nothing.py"],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeat", type=int, default=21, help="processes of each kind (default: %(default)s)"
    )
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = environment_in(folder)
        (folder / "test_nothing.py").write_text("def test_nothing(): pass\n", encoding="utf-8")
        (folder / f"{EMPTY_PLUGIN}.py").write_text('"""No hooks."""\n', encoding="utf-8")
        import_s(environment)  # writes the byte code, and so do the two runs
        for plugin in (PLUGIN, EMPTY_PLUGIN):
            whole_run_s(folder, environment, plugin)
        imports = [import_s(environment) for _ in range(repeat)]
        pairs = [
            tuple(whole_run_s(folder, environment, plugin) for plugin in (PLUGIN, EMPTY_PLUGIN))
            for _ in range(repeat)
        ]
    pytest_ms, plugin_ms = (1000 * statistics.median(column) for column in zip(*imports, strict=True))
    print(f"import: {plugin_ms:.1f} ms after pytest's own {pytest_ms:.1f} ms, x {plugin_ms / pytest_ms:.3f}")
    added_ms = 1000 * statistics.median(ours - empty for ours, empty in pairs)
    ratio = statistics.median(ours / empty for ours, empty in pairs)
    print(f"whole run: {added_ms:+.1f} ms with the plugin, x {ratio:.3f}")


if __name__ == "__main__":
    main()
