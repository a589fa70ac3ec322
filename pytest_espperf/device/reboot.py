"""Signs of a reboot between two readings of a board's telemetry. Pure.

Most boards report no uptime. Other signs are counters below the number of requests answered since they were
zeroed, and a low-water mark of the heap that rises, which only a boot can do.
``boot_id``, ``uptime_ms`` and ``reset_reason`` are used where a board has them.

Uptimes and counters wrap: ``millis()`` of 32 bits every 49.7 days, MicroPython's ``ticks_ms()`` every 12.4.
One that fell has wrapped where, across the end of its width, it advanced by what has really passed between
the readings: by so many seconds, or by so many requests. After a boot it did not.
"""

from __future__ import annotations

import math
from typing import Any

from pytest_espperf.device.telemetry import TelemetryReading
from pytest_espperf.model.figures import STARTED, WIDTHS, find_figure, number_at

UPTIME_WIDTHS = (*WIDTHS, 2**32 / 1000)
"""Where uptimes wrap; the last one is of microseconds in 32 bits, given in milliseconds (71.6 minutes), and
of milliseconds given in seconds."""

TICKS_PER_S = (1000.0, 100.0, 1.0)
"""Milliseconds, FreeRTOS' ticks and seconds: a project may name any of them as its uptime."""

CLOCK_ERROR = 0.01
"""Share by which a board's clock and ours may differ ..."""

CLOCK_SLACK_S = 0.25
"""... beside the time that the readings took, and this."""

OTHERS_SHARE = 0.02
"""Share of the requests that others than the load may have started as well ..."""

OTHERS_LEAST = 100
"""... and how many at least: probes, telemetry, a browser beside it."""


def _whole(reading: TelemetryReading) -> dict[str, Any]:
    return {"stats": reading.stats, "memory": reading.memory}


def reboot_signs(
    before: TelemetryReading, after: TelemetryReading, *, answered: int = 0, asked: float | None = None
) -> list[str]:
    """List the signs that the board booted between two readings; [] if there are none.

    Args:
        before: the earlier reading, whose counters were zeroed.
        after: the later one.
        answered: requests answered in between.
        asked: requests sent in between, warm-up included; ``answered`` where not given.
    """
    signs = []
    for name in ("boot_id", "reset_reason"):
        was, now = (find_figure(_whole(reading), name) for reading in (before, after))
        if was is not None and now is not None and was != now:
            signs.append(f"{name} went from {was} to {now}")
    was_up, now_up = (number_at(_whole(reading), "uptime_ms") for reading in (before, after))
    if was_up is not None and now_up is not None and now_up < was_up:
        passed_s = _passed_s(before, after)
        if passed_s is None or not _uptime_wrapped(was_up, now_up, *passed_s):
            signs.append(f"uptime_ms fell from {was_up:.0f} to {now_up:.0f}")
    was_started, started = (number_at(reading.stats, STARTED) for reading in (before, after))
    if started is not None and started < answered:
        most = OTHERS_LEAST + (1 + OTHERS_SHARE) * max(answered, asked or 0)
        if not _count_wrapped(was_started or 0.0, started, answered, most):
            signs.append(f"its counter shows {started:.0f} requests started, and it answered {answered}")
    was_low, now_low = (number_at(reading.memory, "internal_min_free") for reading in (before, after))
    if was_low is not None and now_low is not None and now_low > was_low:
        signs.append(f"internal_min_free, a low-water mark, rose from {was_low:.0f} to {now_low:.0f} bytes")
    return signs


def _passed_s(before: TelemetryReading, after: TelemetryReading) -> tuple[float, float] | None:
    """Bound the seconds between the moments of two readings: least and most; None where unknown."""
    if before.began_s is None or before.ended_s is None or after.began_s is None or after.ended_s is None:
        return None
    return max(0.0, after.began_s - before.ended_s), after.ended_s - before.began_s


def _uptime_wrapped(was: float, now: float, least_s: float, most_s: float) -> bool:
    """Whether an uptime that fell advanced by what has passed, across the end of its width."""
    return any(
        _advanced(
            was,
            now,
            width,
            least=ticks * (least_s * (1 - CLOCK_ERROR) - CLOCK_SLACK_S) - 1,
            most=ticks * (most_s * (1 + CLOCK_ERROR) + CLOCK_SLACK_S) + 1,
        )
        for width in UPTIME_WIDTHS
        for ticks in TICKS_PER_S
    )


def _count_wrapped(was: float, now: float, least: float, most: float) -> bool:
    """Whether a counter of requests, zeroed before or after the first reading, has wrapped."""
    return any(_advanced(start, now, width, least, most) for width in WIDTHS for start in (was, 0.0))


def _advanced(was: float, now: float, width: float, least: float, most: float) -> bool:
    """Whether a counter of a width can have advanced from one value to another by so much, wraps included."""
    if max(was, now) >= width or min(was, now) < -width / 2:
        return False
    step = (now - was) % width
    return step + max(0, math.ceil((least - step) / width)) * width <= most
