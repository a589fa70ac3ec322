"""The original tool's command line: the same flags, run by pytest through the plugin.

::

    python tools/perf_regression.py 192.168.0.135 --profiles c_static_only --runs 3 --tag before_change

Returns pytest's exit code: 0 passed, 1 regressed or failed, 2 interrupted, 4 bad usage.
"""

from __future__ import annotations

import sys

from pytest_espperf.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["run", "--perf-preset", "classic", *sys.argv[1:]]))
