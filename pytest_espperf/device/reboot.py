"""Signs of a reboot between two readings of a board's telemetry. Pure.

A board has no uptime of its own to ask for; what one tells instead: counters that are lower than what it
has answered since they were zeroed, and a low-water mark of the heap that rises, which only a boot can do.
``boot_id``, ``uptime_ms`` and ``reset_reason`` are used where a board has them.
"""

from __future__ import annotations

from typing import Any

from pytest_espperf.device.telemetry import TelemetryReading
from pytest_espperf.figures import STARTED, find_figure, number_at


def _whole(reading: TelemetryReading) -> dict[str, Any]:
    return {"stats": reading.stats, "memory": reading.memory}


def reboot_signs(before: TelemetryReading, after: TelemetryReading, *, answered: int = 0) -> list[str]:
    """What says that the board booted between two readings; [] where nothing does.

    Args:
        before: the earlier reading, whose counters were zeroed.
        after: the later one.
        answered: requests answered in between.
    """
    signs = []
    for name in ("boot_id", "reset_reason"):
        was, now = (find_figure(_whole(reading), name) for reading in (before, after))
        if was is not None and now is not None and was != now:
            signs.append(f"{name} went from {was} to {now}")
    was_up, now_up = (number_at(_whole(reading), "uptime_ms") for reading in (before, after))
    if was_up is not None and now_up is not None and now_up < was_up:
        signs.append(f"uptime_ms fell from {was_up:.0f} to {now_up:.0f}")
    started = number_at(after.stats, STARTED)
    if started is not None and started < answered:
        signs.append(f"its counter shows {started:.0f} requests started, and it answered {answered}")
    was_low, now_low = (number_at(reading.memory, "internal_min_free") for reading in (before, after))
    if was_low is not None and now_low is not None and now_low > was_low:
        signs.append(f"internal_min_free, a low-water mark, rose from {was_low:.0f} to {now_low:.0f} bytes")
    return signs
