"""``python -m pytest_espperf.cli``: the same as ``espperf``."""

from __future__ import annotations

from pytest_espperf.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
