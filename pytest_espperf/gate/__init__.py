"""The gate judges whether a firmware got slower. Pure: artifacts in, a verdict out; no I/O, no pytest.

::

    verdict = judge(candidate, history)          # history oldest first
    verdict.kind                                 # "unchanged", "regressed", ...

Modules, in the order a session passes them: :mod:`policy` (what may be chosen), :mod:`baseline` (which
sessions are the baseline), :mod:`differences` (why others are not), :mod:`series` (artifacts to numbers),
:mod:`noise` (thresholds), :mod:`rows` (the rules), :mod:`pairs`, :mod:`drift`, :mod:`generator` (this
computer and the link), :mod:`health` (budgets), :mod:`telemetry`, :mod:`worst` (single runs), :mod:`own`
(figures of the firmware's own), :mod:`ratios` (profiles against each other), :mod:`findings`
(of the comparison), :mod:`verdict` (all of it).
"""

from pytest_espperf.gate.baseline import baseline_of, choose
from pytest_espperf.gate.early import decide_early
from pytest_espperf.gate.generator import host_finding
from pytest_espperf.gate.places import compare_to_previous
from pytest_espperf.gate.planning import BenchNoise, bench_noise, rounds_needed
from pytest_espperf.gate.policy import GatePolicy, fails, parse_fail_on, parse_figure_limit, parse_min_effect
from pytest_espperf.gate.rows import detectable, detectable_sentence
from pytest_espperf.gate.verdict import judge, may_stop_early, measure_again, suspects, unclear_profiles
from pytest_espperf.gate.worst import unresolved_worst

__all__ = [
    "BenchNoise",
    "GatePolicy",
    "baseline_of",
    "bench_noise",
    "choose",
    "compare_to_previous",
    "decide_early",
    "detectable",
    "detectable_sentence",
    "fails",
    "host_finding",
    "judge",
    "may_stop_early",
    "measure_again",
    "parse_fail_on",
    "parse_figure_limit",
    "parse_min_effect",
    "rounds_needed",
    "suspects",
    "unclear_profiles",
    "unresolved_worst",
]
