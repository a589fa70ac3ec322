"""What a plain pytest run pays for having the plugin installed: its share of the start.

::

    python tools/bench_import.py

Prints, as medians over several interleaved runs: the time in which the plugin's own modules are
imported (from ``-X importtime``, pytest being there already), and a whole ``pytest`` run of one empty test
with the plugin over one without.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def own_import_ms() -> float:
    """Milliseconds spent in modules of the package and in what only they load."""
    code = "import pytest, pytest_espperf.plugin, pytest_espperf.plugin.fixtures"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    )
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines()[1:]]
    # Top-level rows are indented by one blank; the package and its plugin module are such rows.
    names = {"pytest_espperf", "pytest_espperf.plugin", "pytest_espperf.plugin.fixtures"}
    return sum(int(row[1]) for row in rows if row[2].strip() in names and row[2].startswith(" p")) / 1000


def whole_run_s(folder: Path, *, plugin: bool) -> float:
    """Seconds of a pytest run of one empty test, other plugins left out."""
    environment = dict(os.environ) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    words = ["-p", "pytest_espperf.plugin"] if plugin else []
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, "test_nothing.py"],
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
    parser.add_argument("--repeat", type=int, default=11, help="runs of each kind (default: %(default)s)")
    repeat = parser.parse_args().repeat
    own_import_ms()  # writes the byte code
    print(f"import of the plugin: {statistics.median(own_import_ms() for _ in range(repeat)):.1f} ms")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_nothing.py").write_text("def test_nothing(): pass\n", encoding="utf-8")
        pairs = [(whole_run_s(folder, plugin=True), whole_run_s(folder, plugin=False)) for _ in range(repeat)]
    added = statistics.median(1000 * (with_ - without) for with_, without in pairs)
    ratio = statistics.median(with_ / without for with_, without in pairs)
    print(f"a plain pytest run with the plugin: {added:+.1f} ms, x {ratio:.3f}")


if __name__ == "__main__":
    main()
