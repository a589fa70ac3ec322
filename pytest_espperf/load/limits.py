"""How many connections this process may open at once: checked before the load, raised where possible."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import suppress

SPARE = 16
"""File descriptors that a session needs beside its clients': event loop, probe, console, history."""

_OPEN_WHERE_UNKNOWN = 16
_WANTED_AT_LEAST = 256
_MOST_SELECTED = 512


def raise_file_limit(clients: int) -> str:
    """Allow this process as many connections; return why that is impossible, "" if it is not.

    The soft limit of open files is raised towards the hard one where that suffices. Windows has none, but
    one of the sockets that asyncio watches there.
    """
    if sys.platform == "win32":
        return _too_many_to_watch(clients)
    import resource  # noqa: PLC0415 - POSIX only

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = clients + _open_now() + SPARE
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return ""
    if hard == resource.RLIM_INFINITY or needed <= hard:
        with suppress(OSError, ValueError):  # macOS may refuse what its hard limit seems to allow
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
            return ""
    return (
        f"{clients} clients need {needed} file descriptors, and this computer allows {soft} to this process: "
        f"run 'ulimit -n {max(needed, _WANTED_AT_LEAST)}' first, or use fewer clients"
    )


def _too_many_to_watch(clients: int) -> str:
    """Say why Windows' ``select`` cannot watch as many connections; "" if it can, or is not asked."""
    if clients + SPARE <= _MOST_SELECTED or importlib.util.find_spec("winloop") is not None:
        return ""
    return (
        f"{clients} clients need {clients + SPARE} sockets, and Windows watches {_MOST_SELECTED} of them: "
        "run 'pip install winloop' first, or use fewer clients"
    )


def _open_now() -> int:
    """Count the open file descriptors of this process."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return len(os.listdir(folder))  # noqa: PTH208 - names are enough
    return _OPEN_WHERE_UNKNOWN
