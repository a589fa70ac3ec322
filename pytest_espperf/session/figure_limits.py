"""The budgets of the firmware's own figures, from the options."""

from __future__ import annotations

from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import UsageError
from pytest_espperf.gate import parse_figure_limit
from pytest_espperf.model.registry import own_gate


def figure_limits(settings: Settings) -> dict[str, float]:
    """Return the budgets of the firmware's own figures, as ``thresholds`` of the artifact has them.

    Raises:
        UsageError: one is not well-formed; names its source.
    """
    if not settings.perf_figure_limit:
        return {}
    try:
        limits = parse_figure_limit(",".join(settings.perf_figure_limit))
    except ValueError as error:
        raise UsageError(f"{settings.where('perf_figure_limit')}: {error}") from None
    return {own_gate(name): limit for name, limit in limits.items()}
