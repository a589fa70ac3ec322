"""Figures in what a board tells of itself, wherever they stand in it. Pure.

Boards nest them differently: a figure is found by its name at any depth. What a project's table says about
its board's own names stands under :data:`KNOWN` of a reading, and comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

KNOWN = "known"
"""Key of a reading under which a board's figures stand by our names."""

BOOT = ("boot_id", "reset_reason", "uptime_ms")
HEAP = ("internal_free", "internal_largest", "internal_min_free", "psram_free")
STARTED = "requests_started"

COUNTERS: Mapping[str, str] = {
    "accepts_rejected": "connections rejected",
    "request_errors": "requests that failed on the board",
    "backpressure_503_sent": "answers 503 for backpressure",
    "ipc_pending_dropped": "pending requests dropped",
    "ipc_wait_timeouts": "time-outs while waiting for a handler",
    "ipc_req_ring_alloc_fail": "failed allocations in the request ring",
    "ipc_req_queue_push_fail": "failed pushes to the request queue",
    "event_conn_dropped": "event connections dropped",
    "dropped_requests": "requests dropped between the cores",
    "dropped_responses": "responses dropped between the cores",
    "ring_full": "times that the ring was full",
}
"""Counters that a healthy board leaves alone, and what a reader is told of them."""


def find_figure(tree: object, name: str) -> Any:
    """A value by its name, wherever it stands in a reading; None if absent."""
    if not isinstance(tree, Mapping):
        return None
    known = tree.get(KNOWN)
    if isinstance(known, Mapping) and name in known:
        return known[name]
    if name in tree:
        return tree[name]
    return next((found for value in tree.values() if (found := find_figure(value, name)) is not None), None)


def at_path(tree: object, path: str) -> Any:
    """A value by the dotted path to it (``heap.free``); None if absent."""
    for step in path.split("."):
        if not isinstance(tree, Mapping) or step not in tree:
            return None
        tree = tree[step]
    return tree


def number_at(tree: object, name: str) -> float | None:
    """The same as :func:`find_figure`, where it is a number."""
    value = find_figure(tree, name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def moved_counters(before: object, after: object, names: Iterable[str]) -> dict[str, int]:
    """By how much counters rose between two readings; those that did not are left out.

    A counter that fell began anew (a board may zero it after the first reading): its value counts.
    """
    moved = {}
    for name in names:
        now = number_at(after, name)
        was = number_at(before, name) or 0.0
        if now is None:
            continue
        rose = int(now - was if now >= was else now)
        if rose > 0:
            moved[name] = rose
    return moved
