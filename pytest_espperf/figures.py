"""Figures in what a board tells of itself, wherever they stand in it. Pure.

Boards nest them differently: a figure is found by its name at any depth. What a project's table says about
its board's own names stands under :data:`KNOWN` of a reading, and comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

KNOWN = "known"
"""Key of a reading under which a board's figures stand by our names."""

MOST_TEXT = 200
"""Characters that are kept of a text that a board sent."""

DEEPEST = 20
"""Levels of nesting that are looked through."""

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


def one_line(text: str, most: int = MOST_TEXT) -> str:
    """Text of a board as one line without control characters, ``most`` characters long."""
    flat = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * most]).split())
    return flat if len(flat) <= most else f"{flat[: most - 3]}..."


def within_bounds(tree: Any, depth: int = 2 * DEEPEST) -> Any:
    """What a board sent, fit to be kept: whole numbers of up to 64 bits, nesting up to a depth; else None."""
    if isinstance(tree, Mapping):
        return {name: within_bounds(value, depth - 1) for name, value in tree.items()} if depth else None
    if isinstance(tree, list):
        return [within_bounds(value, depth - 1) for value in tree] if depth else None
    return None if isinstance(tree, int) and not -(2**63) <= tree < 2**63 else tree


def find_figure(tree: object, name: str, depth: int = DEEPEST) -> Any:
    """A value by its name, wherever it stands in a reading, ``depth`` levels deep; None if absent."""
    if not isinstance(tree, Mapping) or depth == 0:
        return None
    known = tree.get(KNOWN)
    if isinstance(known, Mapping) and name in known:
        return known[name]
    if name in tree:
        return tree[name]
    inner = (find_figure(value, name, depth - 1) for value in tree.values())
    return next((found for found in inner if found is not None), None)


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
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:  # an int of 400 digits
        return None


def moved_counters(before: object, after: object, names: Iterable[str]) -> dict[str, int]:
    """By how much counters rose between two readings; those that did not are left out.

    A counter that fell began anew (a board may zero it after the first reading): its value counts. One that
    the first reading did not have says nothing: it may have counted since the board was switched on.
    """
    moved = {}
    for name in names:
        now, was = number_at(after, name), number_at(before, name)
        if now is None or was is None:
            continue
        rose = int(now - was if now >= was else now)
        if rose > 0:
            moved[name] = rose
    return moved
