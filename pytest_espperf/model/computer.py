"""Resources that the computer which makes the load can run out of, and what to do about it. Pure.

An error of one of these kinds is none of the board's: the system call that opens or uses a connection failed
on this side. Windows has numbers of its own for some of them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping

from pytest_espperf.model.artifact import PhaseReport

LOCAL = "local_"
"""What the error kinds of this computer begin with: ``local_EMFILE``."""

STOOD_STILL = "this computer stood still"

LACKS: Mapping[str, tuple[str, str]] = {
    "EMFILE": (
        "has no file descriptor left for this process",
        "raise its limit (ulimit -n 4096), or use fewer clients",
    ),
    "ENFILE": ("has no file descriptor left at all", "end other programs, or raise fs.file-max"),
    "EADDRNOTAVAIL": (
        "has no local port left for a connection",
        "use fewer clients or shorter phases, or let the board keep connections alive (TIME_WAIT)",
    ),
    "ENOBUFS": ("has no buffer left for a connection", "use fewer clients, or end other programs"),
    "ENOMEM": ("has no memory left for a connection", "use fewer clients, or end other programs"),
    "ENETUNREACH": ("has no network to the board", "connect it to the board's network"),
    "ENETDOWN": ("has no network: its interface is down", "switch its network interface on"),
}
"""By the name of the error: what this computer lacks, and what to do."""

_WINDOWS = {
    10024: "EMFILE",
    10049: "EADDRNOTAVAIL",
    10050: "ENETDOWN",
    10051: "ENETUNREACH",
    10055: "ENOBUFS",
}

_BY_NUMBER: Mapping[int, str] = _WINDOWS | {
    getattr(errno, name): name for name in LACKS if hasattr(errno, name)
}

_DEEPEST = 10


def lack_of(error: BaseException) -> str:
    """Return the name in :data:`LACKS` of what made an exception, or one that it came from; else ""."""
    for one in _causes(error, _DEEPEST):
        if isinstance(one, OSError) and one.errno is not None and one.errno in _BY_NUMBER:
            return _BY_NUMBER[one.errno]
    return ""


def _causes(error: BaseException, depth: int) -> Iterator[BaseException]:
    """Walk an exception and what it came from, members of groups included."""
    yield error
    if depth:
        members = getattr(error, "exceptions", ())
        for cause in (error.__cause__ or error.__context__, *members):
            if isinstance(cause, BaseException):
                yield from _causes(cause, depth - 1)


def local_kinds(error_kinds: Mapping[str, int]) -> dict[str, int]:
    """Those of the error kinds, with their counts, that are this computer's own."""
    return {kind: count for kind, count in error_kinds.items() if kind.startswith(LOCAL)}


def own_fault(report: PhaseReport) -> str:
    """Explain why a phase does not measure the board: what this computer lacked or did; else ""."""
    local = local_kinds(report.error_kinds)
    if local:
        worst = max(local, key=lambda kind: local[kind])
        return f"{describe_lack(worst)}: {local[worst]:,} of {report.requests_total:,} requests were not made"
    if not stood_still(report):
        return ""
    assert report.generator is not None
    return f"{STOOD_STILL} for {report.generator.stopped_s:.1f} s (stopped, suspended or without a processor)"


def stood_still(report: PhaseReport) -> bool:
    """Whether the generator did not run for a good part of a phase."""
    return report.generator is not None and report.generator.stopped_s > 0


def describe_lack(name: str) -> str:
    """Describe a lack: ``this computer has no local port left ... (EADDRNOTAVAIL)``; of a name or a kind."""
    name = name.removeprefix(LOCAL)
    return f"this computer {LACKS[name][0]} ({name})"


def advice(name: str) -> str:
    """Describe what to do about a lack; of a name or a kind."""
    return LACKS[name.removeprefix(LOCAL)][1]
