"""The absolute budgets in force, and which of them a phase broke. Pure."""

from __future__ import annotations

from msgspec import structs

from pytest_espperf.config.profiles import LIMITS, WORST_LIMITS
from pytest_espperf.config.settings import Settings
from pytest_espperf.model.artifact import (
    PhaseReport,
)
from pytest_espperf.model.computer import own_fault
from pytest_espperf.model.error_kinds import describe_errors, errors_by_kind
from pytest_espperf.model.figures import number_at
from pytest_espperf.model.registry import METRICS
from pytest_espperf.model.workload import Profile

REASONS = 3
"""Reasons of errors that one message names."""


def thresholds(settings: Settings, profile: Profile | None) -> dict[str, float]:
    """Return the absolute budgets in force, a profile's own before the options'; those not set are left out.

    The default of a budget of any single run gives way to a budget of the median that is set above it.
    """
    given = {name: getattr(settings, dest) for name, dest in LIMITS.items()}
    common = {name: float(value) for name, value in given.items() if value is not None}
    own = dict(profile.limits) if profile is not None else {}
    limits = common | own
    for worst, median in WORST_LIMITS.items():
        if worst not in own and LIMITS[worst] not in settings.sources:
            limits[worst] = max(limits[worst], limits[median])
    return limits


def phase_failures(report: PhaseReport, limits: dict[str, float]) -> list[str]:
    """Name the absolute budgets that one phase broke, each in words; empty where it kept them all."""
    fault = own_fault(report)
    if not report.ok and fault:
        return [f"no request succeeded in {report.elapsed:.1f} s: {fault}"]
    why = "; ".join(map(str, report.error_reasons[:REASONS]))
    if not report.ok:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in report.error_kinds.items())
        return [f"no request succeeded in {report.elapsed:.1f} s ({why or kinds or 'no answer'})"]
    broken = []

    # What this computer lacked or did is no figure of the board: only what the board tells of itself counts.
    judged = report if not fault else structs.replace(report, error_rate=0.0, p95_ms=None, p99_ms=None)

    def check(what: str, value: float | None, limit: float, unit: str, why: str = "") -> None:
        if value is not None and value > limit:
            broken.append(f"{what} {value:,.2f}{unit} is above the budget of {limit:,g}{unit}{why}")

    check(
        "error rate",
        judged.error_rate,
        limits["max_error_rate"],
        " %",
        f": {why}" if why else _of_kinds(report),
    )
    for kind, errors in errors_by_kind(report).items() if not fault else ():
        share = 100.0 * sum(errors.values()) / report.requests_total
        limit = limits.get(f"max_{kind}_error_rate", float("inf"))
        check(f"rate of {kind} errors", share, limit, " %", f" ({describe_errors({kind: errors})})")
    check("p95", judged.p95_ms, limits["max_p95_ms"], " ms")
    check("p99", judged.p99_ms, limits["max_p99_ms"], " ms")
    # One stall catches a request of each client: those must be less than 5 % of the quarter.
    enough = report.tail_ok >= max(METRICS["p95_tail_ms"].gateable_from, 20 * report.clients + 1)
    if enough and judged.p95_ms and report.p95_tail_ms is not None:
        ratio = report.p95_tail_ms / judged.p95_ms
        check("p95 of the last quarter over p95", ratio, limits["max_tail_p95_ratio"], "")
    for region in ("internal_free", "psram_free"):
        before, after = number_at(report.mem_before, region), number_at(report.mem_after, region)
        if before is not None and after is not None:
            check(f"loss of {region}", before - after, limits[f"max_{region}_drop"], " bytes")
    return broken


def worst_failures(report: PhaseReport, limits: dict[str, float]) -> list[str]:
    """Name the budgets of any single run that one phase broke, each in words.

    A phase without an answer is hard evidence already, see :func:`phase_failures`; what this computer did
    says nothing of the board.
    """
    if not report.ok or own_fault(report):
        return []
    worst = (
        ("error rate", report.error_rate, limits["max_error_rate_worst"], " %", _of_kinds(report)),
        ("p95", report.p95_ms, limits["max_p95_worst_ms"], " ms", ""),
    )
    return [
        f"{what} {value:,.2f}{unit} is above {limit:,g}{unit}, the budget of any single run{why}"
        for what, value, limit, unit, why in worst
        if value is not None and value > limit
    ]


def _of_kinds(report: PhaseReport) -> str:
    """Name the kinds of the errors of a phase, in parentheses; "" where they are not known."""
    kinds = errors_by_kind(report)
    return f" ({describe_errors(kinds)})" if kinds else ""
