"""The sentence about clients that get no answer because the board serves fewer connections at once. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_espperf.model.artifact import Capacity

_MET = {
    "unanswered": "never get an answer",
    "refused": "are refused",
    "closed": "are closed at once",
    "busy": "are answered 503",
}

_OPTIONS = ("burst", "long")
"""Phases whose clients an option sets."""


def sentence(capacity: Capacity, clients: Mapping[str, int]) -> str:
    """Say how many clients get nothing, and what to do; "" where each one is served.

    Args:
        capacity: of the board.
        clients: how many there are, by phase (``burst``) or by cell (``page:burst``).
    """
    serves = capacity.connections
    starved = {name: count for name, count in clients.items() if count > serves}
    if not capacity.ended or not starved:
        return ""
    most = max(starved.values())
    connections = "1 connection" if serves == 1 else f"{serves} connections"
    return (
        f"{most - serves} of {most} clients {_MET[capacity.ended]}: the board serves {connections} at once; "
        f"{advice(starved, serves)}"
    )


def advice(cells: Iterable[str], clients: int) -> str:
    """Say how some phases are given so many clients."""
    phases = list(dict.fromkeys(name.rpartition(":")[2] for name in cells))
    options = [f"--perf-{phase}-clients {clients}" for phase in phases if phase in _OPTIONS]
    tables = [f"clients = {clients} to phase {phase!r}" for phase in phases if phase not in _OPTIONS]
    said = [f"pass {' '.join(options)}"] if options else []
    said += [f"give {' and '.join(tables)}"] if tables else []
    return f"{', '.join(said)}, or give the board more sockets"
