"""Sessions of parts of a second, by the environment."""

from __future__ import annotations

SHORT = {
    "ESPPERF_PERF_PROFILES": "python_heavy",
    "ESPPERF_PERF_RUNS": "1",
    "ESPPERF_PERF_BURST_DURATION": "0.1",
    "ESPPERF_PERF_LONG_DURATION": "0.1",
    "ESPPERF_PERF_CONFIRM": "0",
    "ESPPERF_PERF_TOLERANCE": "1000",
    "ESPPERF_PERF_SETTLE_MS": "0",
    "ESPPERF_PERF_BETWEEN_RUNS_MS": "0",
    "ESPPERF_PERF_METRICS_RETRIES": "0",
}
