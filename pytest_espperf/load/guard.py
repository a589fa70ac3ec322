"""Conditions of the load generator: garbage collection, event loop, and measurements of itself."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import re
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from time import perf_counter_ns

import httptools

from pytest_espperf.load.acks import prompt_acks
from pytest_espperf.load.processor import cpu_turns, lost_share
from pytest_espperf.model.samples import GeneratorHealth
from pytest_espperf.system.loops import new_loop

ENGINE_VERSION = 2
"""Raised when a change makes figures incomparable with those of the version before."""

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

BOUND_CPU_SHARE = 0.9
"""A closed loop that leaves its core idle for less than a tenth of the time waits for itself: what the
board adds would have to fit into that tenth. (The reference device answers in milliseconds, at which the
engine needs a few per cent of a core.)"""

BOUND_TURNAROUND_SHARE = 0.5
"""A closed loop whose clients spend more time turning round than waiting for answers measures the generator,
whatever kept it: other work on the machine takes the processor without showing in our CPU share."""

BOUND_LAG_MS = 20.0
"""A loop that is later than this once in a hundred times was kept from running. No p99 survives that where
the process itself stamps what arrived, or has to start requests in time. A closed loop with the kernel's
stamps loses throughput alone, which :data:`BOUND_TURNAROUND_SHARE` and the lost share judge."""

STOP_S = 0.5
"""A loop that is late by this did not run: the process was stopped, the computer was suspended, or had no
processor for it. Less than that is what a busy computer does."""

STOPPED_SHARE = 0.05
"""Share of a phase for which the generator stood still from which on the phase is no measurement ..."""

STOPPED_S = 5.0
"""... as it is from so many seconds on, whatever the phase's length: requests time out, connections die."""

KERNEL = "kernel"
"""In an engine's label: the kernel's time stamps say when an answer arrived."""

QUICKACK = "quickack"
"""In an engine's label: what arrived is acknowledged at once, where an answer is not complete."""

_YOUNG_OBJECTS = 50_000


def fastest_loop() -> LoopFactory:
    """Find the factory of the fastest event loop installed: uvloop, on Windows winloop, else asyncio's."""
    name = "winloop" if sys.platform == "win32" else "uvloop"
    try:
        module = importlib.import_module(name)
    except ImportError:
        return new_loop
    factory: LoopFactory = module.new_event_loop
    return factory


def engine_label(loop: asyncio.AbstractEventLoop, *, stamped: bool) -> str:
    """``asyncio+httptools+kernel+quickack/2``: loop, parser, whose time stamps, and the engine's version.

    Without ``kernel`` the process itself stamped what arrived: later, so not comparable. Without ``quickack``
    acknowledgements may be delayed, for which some servers wait: not comparable either.
    """
    parts = [type(loop).__module__.partition(".")[0], httptools.__name__]
    parts += [KERNEL] if stamped else []
    parts += [QUICKACK] if prompt_acks() else []
    return f"{'+'.join(parts)}/{ENGINE_VERSION}"


@contextlib.contextmanager
def quiet_gc() -> Iterator[None]:
    """Turn automatic collection off inside; explicit ones skip what exists already.

    What is let go around and inside is collected here, while it is young and cheap to find: thawed objects
    count as old, and the old ones are hardly ever looked at. The connections of a phase hold 0.3 MB.
    """
    was_enabled = gc.isenabled()
    freeze = gc.get_freeze_count() == 0
    if freeze:
        gc.collect(1)
        gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        if freeze:
            gc.collect()
            gc.unfreeze()


def collect_if_needed() -> None:
    """Bound what reference cycles can pile up in a long phase (a reset connection leaves a few)."""
    if gc.get_count()[0] > _YOUNG_OBJECTS:
        gc.collect()


def suspended_s() -> float:
    """Measure the seconds for which this computer was suspended since its start; 0 where that is not known.

    The difference of two clocks of which one stands still meanwhile, as does the one that times phases. On
    Windows that one goes on: there a suspension shows as a late timer.
    """
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC) - time.clock_gettime(time.CLOCK_UPTIME_RAW)
    return 0.0


class SelfWatch:
    """Measures the generator: CPU share, how late the loop runs what is due, how fast clients turn round.

    Args:
        clients: how many there are.
        open_loop: starts come at fixed times; then CPU share says nothing (waiting precisely for the
            next start is done with the CPU), and being late with a start, connection free, does.
    """

    def __init__(self, *, clients: int, open_loop: bool) -> None:
        self._clients = clients
        self._open_loop = open_loop
        self.begin()

    def begin(self) -> None:
        """Start (again) with the measured part of the phase."""
        self._lags_ms = array("f")
        self._stopped_s = 0.0
        self._suspended_s = suspended_s()
        self._turns = self._turning_ns = 0
        self._cpu_s = time.process_time()
        self._cpu_turns = cpu_turns()
        self._wall_ns = perf_counter_ns()

    def late(self, lag_ns: int) -> None:
        """Count that something of the generator's own was run ``lag_ns`` after it was due."""
        self._lags_ms.append(max(0, lag_ns) * 1e-6)

    def idle_since(self, lag_ns: int) -> None:
        """Count the time for which the loop ran nothing at all, where that is a stop."""
        if lag_ns >= STOP_S * 1e9:
            self._stopped_s += lag_ns * 1e-9

    def turned(self, turnaround_ns: int) -> None:
        """Count a client's turnaround: the time from its last answer's arrival to its next request."""
        self._turns += 1
        self._turning_ns += turnaround_ns

    def health(self, engine: str) -> GeneratorHealth:
        """Judge the generator from :meth:`begin` until now; ``engine`` is its label."""
        wall_s = (perf_counter_ns() - self._wall_ns) * 1e-9
        cpu_share = (time.process_time() - self._cpu_s) / wall_s if wall_s > 0 else 0.0
        waited, lost = self._without_processor(wall_s)
        lags = sorted(self._lags_ms)
        lag_p99 = lags[int(0.99 * (len(lags) - 1))] if lags else None
        turning_s = self._turning_ns * 1e-9
        punctual = self._open_loop or KERNEL not in re.split(r"[+/]", engine)
        # A suspended computer's monotonic clock stands still as well, so that no lag shows it.
        stopped_s = self._stopped_s + max(0.0, suspended_s() - self._suspended_s)
        stopped = stopped_s >= min(STOPPED_S, STOPPED_SHARE * wall_s) and stopped_s >= STOP_S
        bound = (
            stopped
            or (punctual and lag_p99 is not None and lag_p99 > BOUND_LAG_MS)
            or (
                not self._open_loop
                and (
                    cpu_share >= BOUND_CPU_SHARE
                    or turning_s > BOUND_TURNAROUND_SHARE * wall_s * self._clients
                )
            )
        )
        return GeneratorHealth(
            cpu_share=cpu_share,
            lag_p99_ms=lag_p99,
            turnaround_ms=turning_s * 1e3 / self._turns if self._turns else None,
            bound=bound,
            engine=engine,
            waited_share=waited,
            lost_share=lost,
            stopped_s=stopped_s if stopped else 0.0,
        )

    def _without_processor(self, wall_s: float) -> tuple[float | None, float | None]:
        """Compute the shares waited and lost without a processor, see :class:`GeneratorHealth`."""
        now, before = cpu_turns(), self._cpu_turns
        if now is None or before is None or wall_s <= 0:
            return None, None
        taken = now.since(before)
        waited = min(1.0, taken.waited_s / wall_s)
        if self._open_loop or not self._turns:
            return waited, None
        turning = self._turning_ns * 1e-9 / (wall_s * self._clients)
        return waited, lost_share(waited, turning, self._turns / taken.turns / self._clients)
