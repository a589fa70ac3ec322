"""Figures in the telemetry of a board, wherever they stand in it. Pure.

Boards nest them differently: a figure is found by its name at any depth. What a project's table maps of
its board's own names stands under :data:`KNOWN` of a reading, and comes first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

KNOWN = "known"
"""Key of a reading under which a board's figures stand by our names."""

DEEPEST = 20
"""Levels of nesting that are looked through."""

BOOT = ("boot_id", "reset_reason", "uptime_ms")
VERSION = "firmware"
"""The version of the firmware that runs, where a board tells it."""

HEAP = ("internal_free", "internal_largest", "internal_min_free", "psram_free")
STARTED = "requests_started"

COLLECTED = ("gc_mem_free",)
"""Free heaps with a garbage collector: only right after it ran do they show what is in use."""

PEAKS: Mapping[str, str] = {
    "ipc_pending_peak": "requests pending between the cores",
    "accept_queue_peak": "connections that wait to be served",
    "event_queue_peak": "events that wait for the server's loop",
    "event_conn_peak": "open connections",
}
"""High-water marks since the counters were zeroed. They are no counters: what counts is their height."""

SECURE_COUNTERS: Mapping[str, str] = {
    "https_handshake_fail": "failed TLS handshakes",
    "http2_err_protocol": "HTTP/2 protocol errors",
    "http2_err_flow_control": "HTTP/2 flow control errors",
    "http2_err_frame_size": "HTTP/2 frame size errors",
    "http2_err_compression": "HTTP/2 header compression errors",
    "http2_err_refused_stream": "HTTP/2 streams refused",
    "http2_err_stream_closed": "HTTP/2 frames on closed streams",
    "http2_err_internal": "HTTP/2 internal errors",
    "http2_err_http11_required": "HTTP/2 requests that need HTTP/1.1",
    "http2_rst_sent": "HTTP/2 streams reset",
}
"""Those of a board that speaks HTTPS or HTTP/2."""

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
    **SECURE_COUNTERS,
}
"""Counters that a healthy board leaves alone, and their names for a reader."""


WATCHED = (STARTED, *BOOT, VERSION, *HEAP, *COLLECTED, *COUNTERS, *PEAKS)
"""The figures that a rule or a reader looks at, by our names."""

_TEXTS = frozenset({*BOOT, VERSION} - {"uptime_ms"})

WIDTHS = (2**16, 2**30, 2**31, 2**32)
"""Where counters wrap: 16 and 32 bits, signed ones, and MicroPython's ``ticks_ms`` (30 bits)."""

COUNTER_RANGES = (*((0, size) for size in WIDTHS), (-(2**15), 2**16), (-(2**31), 2**32))
"""Lowest value and width of each kind of counter that wraps; of the signed ones below zero as well."""

LAST_QUARTER = 0.75
"""A counter that fell from above this share of its width to below the rest of it has wrapped."""


def within_bounds(tree: Any, depth: int = 2 * DEEPEST) -> Any:
    """Reduce what a board sent to what can be kept; None for each part that cannot.

    Whole numbers have up to 64 bits, other numbers are finite, and nesting goes up to a depth.
    """
    if isinstance(tree, Mapping):
        return {name: within_bounds(value, depth - 1) for name, value in tree.items()} if depth else None
    if isinstance(tree, list):
        return [within_bounds(value, depth - 1) for value in tree] if depth else None
    if isinstance(tree, int):
        return tree if -(2**63) <= tree < 2**63 else None
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


UNREAD = "no telemetry from"
"""Beginning of a note on telemetry that could not be read; other notes are on what was not kept of it."""


def count_values(tree: object) -> int:
    """Count the values of a reading, containers included."""
    if isinstance(tree, Mapping):
        return 1 + sum(map(count_values, tree.values()))
    if isinstance(tree, (list, tuple)):
        return 1 + sum(map(count_values, tree))
    return 1


def find_figure(tree: object, name: str, depth: int = DEEPEST) -> Any:
    """Find a value by its name, wherever it stands in a reading, ``depth`` levels deep; None if absent."""
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
    """Return the value at a dotted path (``heap.free``); None if absent."""
    for step in path.split("."):
        if not isinstance(tree, Mapping) or step not in tree:
            return None
        tree = tree[step]
    return tree


def named_value(tree: object, name: str) -> Any:
    """Find a value at a dotted path, or wherever a plain name stands; None if absent."""
    return at_path(tree, name) if "." in name else find_figure(tree, name)


def number_at(tree: object, name: str) -> float | None:
    """Find a value as :func:`find_figure` does, where it is a finite number."""
    return as_number(find_figure(tree, name))


def as_number(value: object) -> float | None:
    """Return a finite number as a float; None for anything else."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:  # an int of 400 digits
        return None
    return number if math.isfinite(number) else None


def watched(tree: object) -> dict[str, float | str]:
    """Collect in one walk the finite numbers of :data:`WATCHED`, and all that stand under :data:`KNOWN`.

    Each is the one that :func:`find_figure` finds. A boot's id and reason, and a version, may be text.
    """
    found: dict[str, float | str] = {}
    for name, value in _all_of(tree, frozenset(WATCHED), DEEPEST).items():
        number = as_number(value)
        if number is not None:
            found[name] = number
        elif isinstance(value, str) and name in _TEXTS:
            found[name] = value
    return found


def _all_of(tree: object, names: frozenset[str], depth: int) -> dict[str, Any]:
    """Collect the first value of each name, in the order in which :func:`find_figure` looks for it."""
    if not isinstance(tree, Mapping) or depth == 0:
        return {}
    known = tree.get(KNOWN)
    found = dict(known) if isinstance(known, Mapping) else {}
    for name in names & tree.keys():
        found.setdefault(name, tree[name])
    for value in tree.values():
        if isinstance(value, Mapping):
            for name, inner in _all_of(value, names, depth - 1).items():
                if inner is not None:
                    found.setdefault(name, inner)
    return found


def rise(was: float, now: float) -> float:
    """By how much a counter rose between two readings, at least 0.

    A counter that fell has wrapped where it fell from the last quarter of a width to the first one; else it
    began anew (a board may zero it after the first reading), and its value counts.
    """
    if now >= was:
        return now - was
    for lowest, width in COUNTER_RANGES:
        low, high = (now - lowest) / width, (was - lowest) / width
        if LAST_QUARTER <= high < 1 and 0 <= low < 1 - LAST_QUARTER:
            return (now - was) % width
    return max(now, 0.0)


def moved_counters(before: object, after: object, names: Iterable[str]) -> dict[str, int]:
    """By how much counters rose between two readings, see :func:`rise`; those that did not are left out.

    A counter that the first reading did not have does not count: it may have counted since the board was
    switched on.
    """
    moved = {}
    for name in names:
        now, was = number_at(after, name), number_at(before, name)
        if now is not None and was is not None and (rose := int(rise(was, now))) > 0:
            moved[name] = rose
    return moved
