"""The time that one phase may take, and how it is shared out. Pure.

pytest-timeout's watchdog ends a test item the hard way (on Windows it ends the process), so an inner
deadline comes first and leaves time to write down what was seen.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_espperf.config.settings import Settings
from pytest_espperf.session.plan import PlannedPhase, SessionPlan

MARGIN_S = 2.0
"""Seconds between the inner deadline and the watchdog: time to write the checkpoint."""

TELEMETRY_S = 4.0
"""Seconds for a telemetry reading; a healthy board needs a hundredth of it."""

LINK_S = 2.0
"""Seconds for a reading of the link; a healthy one needs a tenth of it."""

DELAYED_ACK_S = 2.0
"""Seconds, once per session, to find out whether answers wait for delayed acknowledgements."""

LEAST_PROBE_S = 3.0
"""Seconds that the probe gets at least."""


@dataclass(frozen=True)
class PhaseBudget:
    """The seconds of one phase's test item, by use.

    Attributes:
        watchdog_s: what pytest-timeout is given.
        probe_s: for the health probe and its retries.
        load_s: for the login, warm-up, load and the answers still awaited at its end.
        inner_s: for all of it together, ended by ourselves.
        reference_s: for the same phase on the control board, behind it; 0 where there is none.
    """

    watchdog_s: float
    probe_s: float
    load_s: float
    inner_s: float
    reference_s: float = 0.0


def is_reset(settings: Settings) -> bool:
    """Whether the options say how to reset the board, to time its boot."""
    return bool(settings.device_reset_cmd or settings.device_reset_lines)


def phase_budget(settings: Settings, plan: SessionPlan, planned: PlannedPhase) -> PhaseBudget:
    """Share out the time of a phase: ``max(min_s, duration * multiplier + 2 * request timeout + 10)``.

    The login, the warm-up, the settling time and the time to switch firmware are added on top: none is part
    of the phase's duration.
    """
    phase = planned.phase
    timeout_s = settings.perf_request_timeout
    link_s = LINK_S if settings.perf_link_probes == "on" else 0.0
    # At most: both count from the load's planned end, and answers may still be awaited then.
    around_s = plan.warmup_s + settings.perf_settle_ms / 1e3 + settings.perf_between_runs_ms / 1e3
    if planned.role.startswith("ab-"):
        around_s += settings.perf_ab_timeout_s
    login_s = timeout_s if planned.profile.login is not None else 0.0  # of all clients at the same time
    load_s = login_s + plan.warmup_s + phase.duration_s + timeout_s + 1.0
    wanted_s = phase.duration_s * settings.perf_phase_timeout_multiplier + 2 * timeout_s + 10.0
    watchdog_s = max(settings.perf_phase_timeout_min_s, wanted_s) + around_s + login_s
    inner_s = watchdog_s - MARGIN_S
    probe_s = max(LEAST_PROBE_S, inner_s - load_s - 2 * (TELEMETRY_S + link_s) - DELAYED_ACK_S - around_s)
    reference_s = inner_s if settings.device_reference and planned.role == "run" else 0.0
    # The board is reset before the first phase, which may be any one of the planned ones.
    resets = settings.device_resets if planned.role == "run" and is_reset(settings) else 0
    boots_s = 2 * resets * settings.device_boot_timeout_s
    return PhaseBudget(
        watchdog_s=watchdog_s + reference_s + boots_s,
        probe_s=probe_s,
        load_s=load_s,
        inner_s=inner_s,
        reference_s=reference_s,
    )
