"""Times of sessions for a reader."""

from __future__ import annotations

from datetime import datetime, tzinfo


def moment_of(stamp: str) -> datetime | None:
    """Parse the time of an artifact, ``20260131T235959Z``; None where it is not written so."""
    try:
        moment = datetime.strptime(f"{stamp.removesuffix('Z')}+0000", "%Y%m%dT%H%M%S%z")
    except ValueError:
        return None
    return moment if moment.year >= 1970 else None  # no tool takes a negative time


def readable_time(stamp: str, now: datetime, zone: tzinfo | None = None) -> str:
    """Write a time as ``2026-01-31 23:59``, or as ``today 23:59``; as it is where it cannot be read.

    Args:
        stamp: the time of an artifact, ``20260131T235959Z``.
        now: the present, with its zone.
        zone: of the text, which then has no ``today``; None for that of this computer.
    """
    moment = moment_of(stamp)
    if moment is None:
        return stamp
    try:
        local = moment.astimezone(zone)
        today = zone is None and local.date() == now.astimezone().date()
    except (OSError, OverflowError, ValueError):  # beyond what the system's zones know
        return stamp
    return f"today {local:%H:%M}" if today else f"{local:%Y-%m-%d %H:%M}"
