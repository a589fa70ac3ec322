"""The policy that a user may choose for the gate, and the constants that nobody has to choose.

Constants and their sources: the smallest relevant change and the prior were fixed before measuring on
simulated sessions (``tools/bench_gate.py``). The levels were planned to be 0.01 and, for the pairs, 0.05, and
were set a tenth lower in view of that tool: the drift guard has alarms of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

from pytest_espperf.model import registry
from pytest_espperf.model.artifact import CellAggregate, Verdict
from pytest_espperf.model.gates import MAIN_METRIC, TAIL
from pytest_espperf.model.own_figures import check_name
from pytest_espperf.model.text import nearest
from pytest_espperf.model.verdicts import VERDICTS

ALPHA = 0.009
"""Chance of any false alarm per run that the composite gates share (weighted Bonferroni).

All boards of a run share it: the run fails with any of them, and what a firmware lost shows on more than one.
"""
ALPHA_EARLY = 0.0075
"""The same where sessions end early: a profile is looked at after each round, and good news ends it. From
simulation (``tools/bench_gate_cells.py``): at high noise 10 false alarms per 1,000 sessions or fewer."""

LEAST_SHARE = 0.25
"""Of an equal part of its profile's alpha, what every gate has."""

ALPHA_TAIL = 0.0005
"""The same for the p99 gates: a share of their own, so that they take no power from the composites."""

ALPHA_PAIRS = 0.045
"""Level of the A/B pairs, of the composites' together and of the p99 gates' together; they only ever see
suspects, so that it multiplies with the suspects' share.
"""

MIN_CHANGE = math.log(1.05)
"""Log ratio below which a single session never calls a change."""

MIN_CHANGE_SUSPECT = math.log(1.03)
"""Log ratio below which a gate is not even suspect."""

MIN_CHANGE_PAIRS = math.log(1.035)
"""Log ratio below which A/B pairs never call a change."""

SUSPECT_SIGMAS = 0.84
"""A gate is suspect from this many standard errors on: 80 % quantile of the normal distribution."""

BLUNT = math.log(1.20)
"""Above this threshold the session is too noisy for the plain rule ..."""

BLUNT_FACTOR = 1.5
"""... and only a change of this many thresholds is called; what lies between is inconclusive ..."""

BLUNT_FULL = math.log(1.30)
"""... from this threshold on; in between the factor grows evenly, so that no hair's breadth decides."""

PRIOR_SESSION_SIGMA = 0.02
"""Prior for how much a board's figures move from session to session (log ratio, 2 %)."""

PRIOR_SINGLE_SIGMA = 0.03
"""The same where there is one earlier session only, which does not show it."""

PRIOR_ROUND_SIGMA = 0.05
"""Prior for how much they move from round to round (log ratio, 5 %) ..."""

PRIOR_ROUND_DF = 2
"""... and how many degrees of freedom it is worth, while the history is shorter than :data:`YOUNG`."""

PRIOR_WEIGHT = 4
"""How many sessions the prior of the session-to-session movement is worth ..."""

PRIOR_WEIGHT_YOUNG = 6
"""... and how many while the history is shorter than :data:`YOUNG`."""

YOUNG = 10
"""Sessions from which on a history is trusted to show its own noise."""

SESSION_SIGMA_FLOOR = 0.005
"""Session-to-session movement is never taken to be smaller than this (log ratio)."""

TOLERANCE = 0.25
"""Slowdown (a share, 25 %) that ``unchanged`` excludes ..."""

TOLERANCE_TAIL_FACTOR = 2.0
"""... and how many times as much of the p95 of a closed loop: what slows every request shows in the
throughput, too, which is several times as steady."""

EXCLUDED_TAIL = 0.05
"""Chance that a slowdown of just the tolerance is excluded, of each gate. Every gate of a profile must
exclude it by itself, so that their number needs no correction (intersection-union test: Berger 1982)."""

LOOKS_SLOWER_SIGMAS = 2.8
"""A change of this many standard errors looks slower: 99.75 % quantile of the normal distribution. With six
gates, 1.5 % of clean sessions are held back; more would trim the baseline, and its noise with it."""

LOOKS_SLOWER_LEAST_SIGMAS = 2.0
"""... and never one of fewer, where the user's tolerance is smaller than that."""

DISTURBED_SIGMAS = 4.0
"""Standard deviations of undisturbed rounds above a session's others at which a round is disturbed ..."""

DISTURBED_LEAST = math.log(1.25)
"""... and the least log ratio for it: a smaller one cannot spoil a session's median."""

DISTURBED_MOST = 2
"""Rounds of a profile that are left out at most, always fewer than half."""

PRINTED_MOST_PCT = 300.0
"""Thresholds and bounds above this (in percent) mean nothing: they are not given."""

CALM_SIGMAS = 1.0
"""Early end: standard deviations (84 % quantile) by which the rounds still to come are allowed to move ..."""

CALM_ROUNDS = 2
"""... rounds from which on a profile may end as calm ..."""

SLOWER_ROUNDS = 3
"""... or as slower, where each of them is ..."""

EARLY_SESSIONS = 5
"""... and sessions of the baseline below which every planned round is measured."""

STOP_SHARE = 0.03
"""Early end: how far good news alone ends a session, as a share of the variance between rounds, and of their
standard deviation. From simulation (two generators): without it the baseline lies low by this much."""

ERROR_POINTS = 0.5
"""Percentage points by which the pooled error rate may rise."""

ERROR_SIGMAS = 3.0
"""Standard errors of a session's error rate, from the baseline's rounds, that the rise must exceed."""

ERROR_MIN_COUNT = 5
"""Errors below which the error rule stays silent."""

ERROR_MIN_ROUNDS = 2
"""Rounds with errors below which it stays silent: a stall confined to one round is no regression."""

TAIL_MIN_REQUESTS = registry.METRICS["p99_ms"].gateable_from
"""Pooled requests from which on p99 is gated: 14 lie above it."""

ALPHA_CONTEST = 0.004
"""Old against new in pairs from the start: the chance of a false "slower" that all gates and looks share. Set
by simulation, so that about 5 in 1,000 comparisons have one at most (:mod:`~pytest_espperf.gate.sequential`),
..."""

MIN_CHANGE_CONTEST = math.log(1.02)
"""... the log ratio below which nothing is called slower or faster, ..."""

TOLERANCE_CONTEST = 0.05
"""... and the slowdown (a share) that "same" excludes: nothing but chance stands between the firmwares."""

TOLERANCE_TAIL_FACTOR_CONTEST = 4.0
"""How many times as much of the p95 of a closed loop: rounds of it move three to four times as much as
those of throughput (the levels of the bench, recordings of servers), and each gate must find an answer."""

MIN_PAIRS = 3
"""Valid A/B pairs below which nothing is decided by them."""

EARLY_STOP_ROUNDS = 3
"""Rounds after which a session without a suspect may end, where A/B pairs can be run."""

DRIFT_ALLOWANCE = 1.0
"""CUSUM: standard errors per session that are let pass (Page 1954; half of a shift of two)."""

DRIFT_CLIP = 3.0
"""CUSUM: one session counts at most this many standard errors."""

DRIFT_ALARM = 6.0
"""CUSUM: alarm level, in standard errors, where a run has one board; see :func:`drift_alarm`."""

DRIFT_REFERENCE = 20
"""Sessions at the start of an epoch that the drift guard measures against."""

DRIFT_WATCHED = 10
"""Latest sessions that never become the reference of a young epoch, as far as it has so many."""

DRIFT_MIN_REFERENCE = 5
"""Fewest sessions to measure drift against; see :mod:`pytest_espperf.gate.drift`."""

LEAK_MIN_PHASES = 6
"""Phases with telemetry below which no trend is judged."""

LEAK_BYTES_PER_1K = {"internal_free": 4096.0, "psram_free": 16384.0, "gc_mem_free": 4096.0}
"""Default leak budgets, bytes per 1,000 requests.

4 bytes per request is one smallest heap block (16 bytes with its header) on every fourth request: a
board at 50 requests/s loses 170 KB of heap in less than a quarter of an hour at this rate. PSRAM gets
four times as much, the ratio of the two per-phase drop budgets. MicroPython's heap, whose smallest block has
16 bytes as well, is judged by what is free right after a collection.
"""

LEAK_MIN_LOSS = {"internal_free": 16384.0, "psram_free": 65536.0, "gc_mem_free": 16384.0}
"""Bytes a session must have lost in all to be called a leak: pools and lingering sockets take less."""

FIGURE_SESSIONS = 5
"""Sessions of the baseline with a figure of the firmware's own from which on their spread is known."""

EXACT_MIN_CHANGE = math.log(1.02)
"""Log ratio below which a file's size, which does not move by chance, never calls a change."""

BaselineMode = Literal["history", "previous", "fixed"]

METRICS: tuple[str, ...] = tuple(name for name in CellAggregate.__struct_fields__ if name in registry.METRICS)
"""The registry's metrics that a cell is aggregated by, in the artifact's order."""


RULE_METRICS: tuple[str, ...] = (
    *METRICS,
    *(name for name, metric in registry.METRICS.items() if metric.only_some),
)
"""The metrics that rules and floors may name, besides a firmware's own figures."""


def worse_by(metric: str, before: float, after: float) -> float:
    """Compute how much worse ``after`` is, in the metric's unit; negative where it is better."""
    return before - after if registry.METRICS[metric].better == "higher" else after - before


def tolerance_of(
    metric: str, tolerance: float, *, paced: bool, alone: bool, tail_factor: float = TOLERANCE_TAIL_FACTOR
) -> float:
    """Return the log ratio of the slowdown that a gate must exclude; infinite where another gate does.

    A schedule sets the throughput of an open loop, and p99 hangs on too few requests. A multiple of the
    tolerance is enough for latencies of a closed loop, where the throughput shows a slowdown too; those of a
    paced phase are all that it has.

    Args:
        metric: of the gate.
        tolerance: a share, 0.25 is 25 %.
        paced: a schedule or pauses set the pace.
        alone: no throughput is gated beside it.
        tail_factor: the multiple.
    """
    if metric == TAIL or (paced and metric == MAIN_METRIC):
        return math.inf
    tail = registry.METRICS[metric].better == "lower" and not alone
    return math.log1p(tolerance * (tail_factor if tail else 1.0))


def drift_alarm(boards: int) -> float:
    """Choose the alarm level of the CUSUM at which a run of so many boards has no more alarms than one.

    The time between two false alarms grows as ``exp(2 k h)`` with the level h, for the allowance k
    (Siegmund 1985, equation 2.56).
    """
    return DRIFT_ALARM + math.log(boards) / (2 * DRIFT_ALLOWANCE)


@dataclass(frozen=True)
class GatePolicy:
    """Policy by which a session is judged.

    Attributes:
        baseline: ``history``: the last accepted comparable sessions; ``previous``: only the last of
            them; ``fixed``: all that were handed in, whatever their epoch.
        max_history: sessions that are the baseline at most.
        fail_on: plain rules ``(metric, percent)`` on cell medians against the baseline's last session.
        min_effect: metric -> absolute change in its unit that must be exceeded to be called.
        strict: ``inconclusive`` fails the session, see :func:`fails`.
        require_baseline: ``no-baseline`` fails the session, see :func:`fails`.
        tolerance: slowdown, as a share, that ``unchanged`` excludes; twice that for the p95 of a closed loop.
        confirm_rounds: rounds that a profile without a clear answer is measured again; 0 means none.
        enabled: False: no comparison at all, absolute budgets only.
        leak_bytes_per_1k: heap key -> budget of the leak rule, bytes per 1,000 requests.

    Raises:
        ValueError: a field is out of its range.
    """

    baseline: BaselineMode = "history"
    max_history: int = 20
    fail_on: tuple[tuple[str, float], ...] = ()
    min_effect: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    strict: bool = False
    require_baseline: bool = False
    tolerance: float = TOLERANCE
    confirm_rounds: int = 3
    enabled: bool = True
    leak_bytes_per_1k: Mapping[str, float] = field(
        default_factory=lambda: MappingProxyType(LEAK_BYTES_PER_1K)
    )

    def __post_init__(self) -> None:
        if self.baseline not in get_args(BaselineMode):
            words = ", ".join(get_args(BaselineMode))
            raise ValueError(f"baseline mode {self.baseline!r} is none of: {words}")
        if self.max_history < 1:
            raise ValueError(f"max_history must be at least 1, not {self.max_history}")
        if not (math.isfinite(self.tolerance) and self.tolerance > 0):
            raise ValueError(f"the tolerance must be above 0 %, not {100 * self.tolerance:g} %")
        if self.confirm_rounds < 0:
            raise ValueError(f"confirm_rounds must not be negative, not {self.confirm_rounds}")
        for metric in (*(name for name, _ in self.fail_on), *self.min_effect):
            _known(metric)


DEFAULT_POLICY = GatePolicy()


def fails(verdict: Verdict, policy: GatePolicy = DEFAULT_POLICY) -> bool:
    """Whether the verdict means exit code 1 under this policy."""
    wanted = {"strict": policy.strict, "require-baseline": policy.require_baseline}
    return verdict.fails or (policy.enabled and wanted.get(VERDICTS[verdict.kind].exit, False))


def parse_fail_on(text: str) -> tuple[tuple[str, float], ...]:
    """``p95_ms:10%,rps_ok:5%`` -> ``(("p95_ms", 10.0), ("rps_ok", 5.0))``.

    The percentage is how much *worse* the metric may get; of ``error_rate``, which is a percentage
    itself, it is percentage points.

    Raises:
        ValueError: with one sentence about what is wrong and what was probably meant.
    """
    rules = []
    for part, metric, value in _pairs(text, "p95_ms:10%"):
        if not value.endswith("%"):
            raise ValueError(f"{part!r} lacks its percent sign: write {metric}:{value or 10}%")
        rules.append((metric, _positive(value[:-1], part)))
    return tuple(rules)


def parse_min_effect(text: str) -> dict[str, float]:
    """``p95_ms:2`` -> ``{"p95_ms": 2.0}``: absolute floors in each metric's own unit.

    Raises:
        ValueError: with one sentence about what is wrong and what was probably meant.
    """
    floors: dict[str, float] = {}
    for part, metric, value in _pairs(text, "p95_ms:2"):
        if metric in floors:
            raise ValueError(f"{metric} is given twice in {text!r}: keep one of the two")
        floors[metric] = _positive(value, part)
    return floors


def parse_figure_limit(text: str) -> dict[str, float]:
    """``app:1500000`` -> ``{"app": 1500000.0}``: budgets of figures of the firmware's own, in their unit.

    Raises:
        ValueError: with one sentence about what is wrong.
    """
    limits: dict[str, float] = {}
    for part in (piece.strip() for piece in text.split(",")):
        name, colon, value = (piece.strip() for piece in part.rpartition(":"))
        if not colon or not name or not value:
            raise ValueError(f"{part!r} is not of the form NAME:VALUE, for example boot_ms:1500")
        name = check_name(name.removeprefix(f"{registry.OWN}:"))
        if name in limits:
            raise ValueError(f"{name} is given twice in {text!r}: keep one of the two")
        limits[name] = _positive(value, part)
    return limits


def _pairs(text: str, example: str) -> Iterator[tuple[str, str, str]]:
    for part in (piece.strip() for piece in text.split(",")):
        metric, colon, value = (piece.strip() for piece in part.rpartition(":"))
        if not colon or not metric or not value:
            raise ValueError(f"{part!r} is not of the form METRIC:VALUE, for example {example}")
        yield part, _known(metric), value


def _known(metric: str) -> str:
    if metric.startswith(f"{registry.OWN}:"):
        return registry.own_gate(check_name(metric.removeprefix(f"{registry.OWN}:")))
    if metric not in RULE_METRICS:
        known = f"{', '.join(RULE_METRICS)}, and {registry.OWN}:NAME for a figure of your own"
        raise ValueError(f"unknown metric {metric!r}{nearest(metric, RULE_METRICS)} (known: {known})")
    return metric


def _positive(number: str, part: str) -> float:
    try:
        value = float(number)
    except ValueError:
        raise ValueError(f"{number!r} in {part!r} is not a number") from None
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{number!r} in {part!r} must be a number above zero")
    return value
