"""Keeps the time of a phase: its heartbeats, time-outs, deadline, and the loop's lag."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Protocol

from pytest_espperf.load.feed import Feed
from pytest_espperf.load.guard import SelfWatch, collect_if_needed
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.system.loops import Deliver

_SWEEP_S = 0.02
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Progress:
    """How a running phase stands.

    Attributes:
        elapsed_s: since the measured part began; negative during warm-up.
        duration_s: the phase's planned duration.
        completed: requests that ended, errors included.
        errors: those of them that count as errors.
        rps: ``completed`` per elapsed second.
        p95_ms: 95th percentile of the last 1,000 service times; None before the first.
        clients: the phase's clients.
    """

    elapsed_s: float
    duration_s: float
    completed: int
    errors: int
    rps: float
    p95_ms: float | None
    clients: int


class Traffic(Protocol):
    """Clients at work; see :class:`~pytest_espperf.load.lanes.LaneTraffic`."""

    @property
    def label(self) -> str:
        """Name of the engine that they are, for the comparability of what it measures."""

    @property
    def feed(self) -> Feed:
        """What the clients do; another one may be set before they begin."""

    @feed.setter
    def feed(self, feed: Feed) -> None: ...

    async def log_in(self, deliver_signals: Deliver, deadline_ns: int | None) -> BaseException | None:
        """Have each client log in, before anything is measured; return what one met that could not."""

    def start(self, loop: asyncio.AbstractEventLoop, done: Callable[[], None]) -> None:
        """Begin; call ``done`` when nothing is left."""

    def sweep(self, now_ns: int) -> None:
        """Time out what is overdue."""

    def wake(self) -> None:
        """Take note that the feed has ended early."""

    def in_flight(self) -> int:
        """Count the requests in flight."""

    def never_answered(self) -> int:
        """Count the clients of a closed loop that asked and never got an answer."""

    async def close(self) -> None:
        """Close everything."""


@dataclass(frozen=True)
class Timing:
    """The times of one phase; ``perf_counter_ns`` values and seconds.

    Attributes:
        warmup_ns: when load begins.
        begin_ns: when measuring begins.
        steady_end_ns: closed loop after a warm-up: when starting ends; from begin to there the requests that
            were in flight before and those still in flight after balance. 0 otherwise.
        least_end_ns: clients that pause: what rates are computed over is the time to here at least; else 0.
        give_up_ns: open loop: when starts not made by then are dropped; 0 in a closed loop.
        deadline_ns: when the phase ends whatever it does; None for never.
        heartbeat_s: seconds between heartbeats.
    """

    warmup_ns: int
    begin_ns: int
    steady_end_ns: int
    least_end_ns: int
    give_up_ns: int
    deadline_ns: int | None
    heartbeat_s: float


class Conductor:
    """Keeps a phase's time by one timer: time-outs, heartbeats, the deadline, and the loop's lag.

    Attributes:
        loop: of its clients.
        finished: done when the phase is.
        failure: what ended it that is no outcome of the phase; None for nothing.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        traffic: Traffic,
        feed: Feed,
        recorder: Recorder,
        watch: SelfWatch,
        timing: Timing,
        on_heartbeat: Callable[[Progress], None] | None,
        deliver_signals: Deliver,
    ) -> None:
        self._deliver_signals = deliver_signals
        self.loop = loop
        self._traffic = traffic
        self._feed = feed
        self._recorder = recorder
        self._watch = watch
        self._timing = timing
        self._on_heartbeat = on_heartbeat
        self.finished: asyncio.Future[None] = loop.create_future()
        self.failure: BaseException | None = None
        self._measuring = False
        self._next_heartbeat_ns = timing.warmup_ns + round(timing.heartbeat_s * _NS_PER_S)
        self._sweep_due_ns = 0
        self._end_ns: int | None = None

    def begin(self) -> None:
        """Begin, in the loop."""
        self._tick()
        self._traffic.start(self.loop, self._finish)

    def end(self) -> None:
        """Close the account of the phase."""
        # It may have stood still at the very end.
        if self._sweep_due_ns:
            self._watch.idle_since(perf_counter_ns() - self._sweep_due_ns)
        samples = self._recorder.samples
        end_ns = self._recorder.last_end_ns if self._end_ns is None else self._end_ns
        if self._timing.steady_end_ns and not samples.cut_short:
            end_ns = min(end_ns, self._timing.steady_end_ns)
        if self.failure is None and not samples.cut_short:
            end_ns = max(end_ns, self._timing.least_end_ns)
        samples.elapsed_s = max(0, end_ns - self._timing.begin_ns) * 1e-9

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)

    def on_exception(self, context: dict[str, Any]) -> None:
        """End the phase for what a callback raised; the errors of sockets are handled elsewhere."""
        exc = context.get("exception")
        if exc is None or isinstance(exc, asyncio.CancelledError) or self.finished.done():
            return
        if not (isinstance(exc, OSError) and "transport" in context):
            # Not as the future's exception: asyncio does not stop a loop for a KeyboardInterrupt in one.
            self.failure = exc
            self._finish()

    def _tick(self) -> None:
        try:
            self._deliver_signals()
        except BaseException as exc:  # noqa: BLE001 - raised again by run(), outside of the loop
            self.failure = self.failure or exc
            self._finish()
        now = perf_counter_ns()
        if self._sweep_due_ns:
            self._watch.late(now - self._sweep_due_ns)
            self._watch.idle_since(now - self._sweep_due_ns)
        if self.finished.done():
            self._sweep_due_ns = 0
            return
        # First of all, so that whatever holds the loop up from here on shows as the next one's lateness.
        self._sweep_due_ns = now + round(_SWEEP_S * _NS_PER_S)
        self.loop.call_later(_SWEEP_S, self._tick)
        timing = self._timing
        if not self._measuring and now >= timing.begin_ns:
            self._measuring = True
            self._watch.begin()
            self._watch.idle_since(now - timing.begin_ns)  # it may have stood still across the border
        self._traffic.sweep(now)
        if timing.deadline_ns is not None and now >= timing.deadline_ns:
            self._cut_short(now)
            return
        if timing.give_up_ns and now >= timing.give_up_ns and self._feed.next_due_ns() is not None:
            self._recorder.samples.dropped_starts += self._feed.give_up()
            self._traffic.wake()
        if now >= self._next_heartbeat_ns:
            self._next_heartbeat_ns = now + round(timing.heartbeat_s * _NS_PER_S)
            self._beat(now)
        collect_if_needed()

    def _beat(self, now_ns: int) -> None:
        if self._on_heartbeat is None:
            return
        samples = self._recorder.samples
        elapsed_s = (now_ns - self._timing.begin_ns) * 1e-9
        self._on_heartbeat(
            Progress(
                elapsed_s=elapsed_s,
                duration_s=samples.duration_s,
                completed=len(samples),
                errors=self._recorder.errors,
                rps=len(samples) / elapsed_s if elapsed_s > 0 else 0.0,
                p95_ms=self._recorder.recent_p95_ms(),
                clients=samples.clients,
            )
        )

    def _cut_short(self, now_ns: int) -> None:
        samples = self._recorder.samples
        flying = self._traffic.in_flight()
        samples.dropped_starts += self._feed.give_up()
        samples.cut_short = f"inner deadline reached with {flying} requests unanswered"
        self._end_ns = now_ns
        self._finish()


def conduct(conductors: Sequence[Conductor]) -> None:
    """Drive phases of one loop to their ends, beginning in the same moment.

    Whatever a callback raises (a signal handler's exception included) ends all and is raised here.
    """
    loop = conductors[0].loop

    def on_exception(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        for one in conductors:
            one.on_exception(context)

    loop.set_exception_handler(on_exception)
    for one in conductors:
        loop.call_soon(one.begin)
    try:
        for one in conductors:
            loop.run_until_complete(one.finished)
            if one.failure is not None:
                raise one.failure
    finally:
        for one in conductors:
            one.end()
