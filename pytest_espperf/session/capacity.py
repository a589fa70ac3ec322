"""How many clients a board can serve, found before load is spent on it: two seconds at most."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from pytest_espperf.load.capacity import UNSERVED, hold
from pytest_espperf.load.talk import Caller
from pytest_espperf.model.artifact import Capacity
from pytest_espperf.session.board import Board
from pytest_espperf.session.plan import SessionPlan

MOST_S = 2.0
"""Seconds that it may take."""

LEAST_WAIT_S = 0.5
"""Seconds that a new connection is given at least ..."""

SLOWEST_TIMES = 4.0
"""... and as many times what the slowest answer so far took."""


def most_clients(plan: SessionPlan) -> int:
    """Return the largest number of clients of any phase."""
    return max(phase.clients for profile in plan.profiles for phase in profile.phases)


def clients_by_phase(plan: SessionPlan) -> dict[str, int]:
    """Return the clients of every cell, ``profile:phase``."""
    return {
        f"{profile.name}:{phase.name}": phase.clients for profile in plan.profiles for phase in profile.phases
    }


def find_capacity(
    board: Board,
    plan: SessionPlan,
    *,
    known: Capacity | None,
    budget_s: float = MOST_S,
    clock: Callable[[], float] = time.monotonic,
) -> Capacity | None:
    """Open as many connections as the largest phase has clients, and no more; None where that says nothing.

    Args:
        board: it has just answered a probe.
        plan: what will be driven.
        known: what was found before.
        budget_s: seconds that it may take.
        clock: monotonic seconds.
    """
    ends = clock() + min(MOST_S, budget_s)
    probe = board.last_probe
    usual_s = probe.took_s if probe is not None else 0.0
    path = board.settings.perf_probe_path
    if probe is not None and probe.status >= 400:  # many boards close a connection behind an error
        paths = (request.path for profile in plan.profiles for request in profile.requests)
        path = next(paths, path)
    try:
        held = hold(
            Caller(board.target, path, timeout_s=board.settings.perf_request_timeout),
            most=most_clients(plan),
            patience_s=lambda slowest_s: max(LEAST_WAIT_S, SLOWEST_TIMES * max(usual_s, slowest_s)),
            left=lambda: ends - clock(),
            known=known.connections if known is not None and known.ended else 0,
        )
    except (httpx.TransportError, OSError):  # this computer's own fault, which the load will meet and say
        return None
    if not held.connections or (held.ended and held.ended not in UNSERVED):
        return None
    return Capacity(connections=held.connections, ended=held.ended)  # type: ignore[arg-type] # by the line above
