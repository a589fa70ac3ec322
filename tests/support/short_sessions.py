"""Sessions of parts of a second, by the environment; and without budgets of time."""

from __future__ import annotations

_BUDGETS = ("perf-max-p95-ms", "perf-max-p99-ms", "perf-max-tail-p95-ratio")

NO_TIME_BUDGETS = tuple(f"--{name}=1e9" for name in _BUDGETS)
"""Of sessions that are about something else: a busy machine may make them as slow, and as uneven, as it does.

The budget of p95 in any single run gives way to that of the median.
"""

UNHURRIED = {f"ESPPERF_{name.upper().replace('-', '_')}": "1e9" for name in _BUDGETS}
"""The same, by the environment."""

ANY_FIGURE = "connect_ms:1e5,handshake_ms:1e5,upload_mb_s:1e5,download_mb_s:1e5"

ANY_CHANGE = f"--perf-min-effect=p95_ms:1e5,rps_ok:1e5,{ANY_FIGURE}"
"""Of a session that has a baseline and is about something else: no difference between the two is called."""

SHORT = {
    **UNHURRIED,
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

BRIEF_ROUNDS: dict[str, object] = {
    "perf_long_clients": "1",
    "perf_settle_ms": "0",
    "perf_between_runs_ms": "0",
    "perf_metrics_retries": "0",
    "perf_request_timeout": "2",
    "perf_link_probes": "off",
}
"""Of rounds that a test measures in its own process, beside the length of their phases; by settings."""
