"""Conducts one phase: makes the loop, keeps its time, ends it, and puts everything back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Any, Protocol

from pytest_espperf.errors import UsageError
from pytest_espperf.load.connector import Connector, connector_to
from pytest_espperf.load.custom import CustomTraffic, TransportFactory
from pytest_espperf.load.feed import ClosedFeed, Feed, OpenFeed, rotation
from pytest_espperf.load.guard import (
    LoopFactory,
    SelfWatch,
    collect_if_needed,
    fastest_loop,
    quiet_gc,
)
from pytest_espperf.load.kinds import STREAMS, stream_request, stream_traffic
from pytest_espperf.load.lanes import Lane, LaneTraffic
from pytest_espperf.load.login import DURING, Login
from pytest_espperf.load.pages import Browsing
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.load.requests import PreparedRequest, RequestMaker, prepare_requests
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import Header, LoginSpec, PhaseSpec, RequestSpec, Target
from pytest_espperf.system.loops import Deliver, run_apart

_SWEEP_S = 0.02
_UNTIL_DONE_S = 1e6
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
    """Keeps a phase's time by one timer: time-outs, heartbeats, the deadline, and the loop's lag."""

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
        self._loop = loop
        self._traffic = traffic
        self._feed = feed
        self._recorder = recorder
        self._watch = watch
        self._timing = timing
        self._on_heartbeat = on_heartbeat
        self._finished: asyncio.Future[None] = loop.create_future()
        self._failure: BaseException | None = None
        self._measuring = False
        self._next_heartbeat_ns = timing.warmup_ns + round(timing.heartbeat_s * _NS_PER_S)
        self._sweep_due_ns = 0
        self._end_ns: int | None = None

    def run(self) -> None:
        """Drive the phase to its end.

        Whatever a callback raises (a signal handler's exception included) ends the phase and is raised here.
        """
        self._loop.set_exception_handler(self._on_exception)
        self._loop.call_soon(self._begin)
        try:
            self._loop.run_until_complete(self._finished)
            if self._failure is not None:
                raise self._failure
        finally:
            # It may have stood still at the very end.
            if self._sweep_due_ns:
                self._watch.idle_since(perf_counter_ns() - self._sweep_due_ns)
            samples = self._recorder.samples
            end_ns = self._recorder.last_end_ns if self._end_ns is None else self._end_ns
            if self._timing.steady_end_ns and not samples.cut_short:
                end_ns = min(end_ns, self._timing.steady_end_ns)
            if self._failure is None and not samples.cut_short:
                end_ns = max(end_ns, self._timing.least_end_ns)
            samples.elapsed_s = max(0, end_ns - self._timing.begin_ns) * 1e-9

    def _begin(self) -> None:
        self._tick()
        self._traffic.start(self._loop, self._finish)

    def _finish(self) -> None:
        if not self._finished.done():
            self._finished.set_result(None)

    def _on_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End the phase for what a callback raised; the errors of sockets are handled elsewhere."""
        exc = context.get("exception")
        if exc is None or isinstance(exc, asyncio.CancelledError) or self._finished.done():
            return
        if not (isinstance(exc, OSError) and "transport" in context):
            # Not as the future's exception: asyncio does not stop a loop for a KeyboardInterrupt in one.
            self._failure = exc
            self._finish()

    def _tick(self) -> None:
        try:
            self._deliver_signals()
        except BaseException as exc:  # noqa: BLE001 - raised again by run(), outside of the loop
            self._failure = self._failure or exc
            self._finish()
        now = perf_counter_ns()
        if self._sweep_due_ns:
            self._watch.late(now - self._sweep_due_ns)
            self._watch.idle_since(now - self._sweep_due_ns)
        if self._finished.done():
            self._sweep_due_ns = 0
            return
        # First of all, so that whatever holds the loop up from here on shows as the next one's lateness.
        self._sweep_due_ns = now + round(_SWEEP_S * _NS_PER_S)
        self._loop.call_later(_SWEEP_S, self._tick)
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


@dataclass(frozen=True)
class _Job:
    """One call of :func:`run_phase`, whose arguments these are."""

    target: Target
    requests: Sequence[RequestSpec]
    phase: PhaseSpec
    headers: Sequence[Header]
    request_timeout_s: float
    warmup_s: float
    deadline_s: float | None
    heartbeat_s: float
    on_heartbeat: Callable[[Progress], None] | None
    transport: TransportFactory | None
    make_loop: LoopFactory
    each_once: bool
    login: LoginSpec | None
    login_alone: bool


@quiet_gc()  # around all of it: what it holds in circles is let go with its frame, and collected behind that
def run_phase(
    target: Target,
    requests: Sequence[RequestSpec],
    phase: PhaseSpec,
    *,
    headers: Sequence[Header] = (),
    request_timeout_s: float = 6.0,
    warmup_s: float = 0.0,
    deadline_s: float | None = None,
    heartbeat_s: float = 5.0,
    on_heartbeat: Callable[[Progress], None] | None = None,
    transport: TransportFactory | None = None,
    loop_factory: LoopFactory | None = None,
    each_once: bool = False,
    login: LoginSpec | None = None,
    login_alone: bool = False,
) -> PhaseSamples:
    """Drive one phase of load and return what was observed.

    Requests are started for ``phase.duration_s`` (after ``warmup_s`` of discarded load); those in flight
    then are awaited and counted. What a server does wrong is a counted outcome, never an exception.

    Args:
        target: the board.
        requests: the paths, taken in rotation.
        phase: the load shape.
        headers: the profile's headers; they override ``target.headers``, which override ours.
        request_timeout_s: total time of a request, from its start (connecting included) to its last byte.
        warmup_s: seconds of load before measuring; connections stay open across the border.
        deadline_s: hard limit in seconds for the whole call; reaching it sets ``cut_short``, and requests
            in flight then are not counted.
        heartbeat_s: seconds between calls of ``on_heartbeat``.
        on_heartbeat: called with the progress, on the loop's thread: its time is the generator's.
        transport: makes an httpx transport per client, used in place of this engine's own connections.
        loop_factory: makes the event loop; the fastest one installed by default.
        each_once: one client asks for each path once, whatever the duration and rate of the phase; for none
            where its login fails, which is the error of the first one.
        login: what each client asks for first, before anything is measured. A client whose login fails tries
            again before each of its requests, which is an error as long as that fails.
        login_alone: nothing is asked for but the login; where it fails, that is the error of the first path.

    Raises:
        UsageError: a phase that cannot be driven (no requests, a bad rate or header, an unreadable CA file).
    """
    job = _Job(
        target=target,
        requests=requests,
        phase=phase,
        headers=headers,
        request_timeout_s=request_timeout_s,
        warmup_s=warmup_s,
        deadline_s=deadline_s,
        heartbeat_s=heartbeat_s,
        on_heartbeat=on_heartbeat,
        transport=transport,
        make_loop=fastest_loop() if loop_factory is None else loop_factory,
        each_once=each_once,
        login=login,
        login_alone=login_alone,
    )
    return run_apart(lambda deliver_signals: _drive(job, deliver_signals))


def _drive(job: _Job, deliver_signals: Deliver) -> PhaseSamples:
    """Drive the phase in this thread, in which no event loop runs."""
    call_ns = perf_counter_ns()
    phase = job.phase
    _check(job)
    own = job.transport is None
    maker = RequestMaker(job.target, job.headers, own_connection=own, reuse=phase.reuse)
    login = None if job.login is None else Login(job.login, maker, job.target)
    asked = job.requests[:1] if phase.page is not None else job.requests
    if phase.kind in STREAMS:
        maker, opening = stream_request(job.target, phase, job.headers)
        asked = (opening,)
    recorder, prepared = _prepare(job, maker, asked)
    samples = recorder.samples
    browsing = None
    if phase.page is not None:
        parts, assets = _prepare(replace(job, phase=replace(phase, rate_rps=None)), maker, job.requests[1:])
        samples.parts = parts.samples
        browsing = Browsing(phase.page, assets, parts)
    connector = connector_to(job.target, resume=phase.reuse or phase.tls_resumption) if own else None
    watch = SelfWatch(clients=phase.clients, open_loop=phase.rate_rps is not None)
    loop = job.make_loop()
    traffic: Traffic | None = None
    try:
        timing = _make_timing(job, call_ns)
        feed = _make_feed(job, asked, prepared, timing.begin_ns)
        traffic = _make_traffic(
            job,
            prepared,
            feed=feed,
            recorder=recorder,
            connector=connector,
            watch=watch,
            login=login,
            browsing=browsing,
        )
        if login is not None:
            login.maker = maker
            trouble = loop.run_until_complete(traffic.log_in(deliver_signals, timing.deadline_ns))
            if job.login_alone or (job.each_once and trouble is not None):
                return _login_alone(recorder, prepared[0], trouble, timing)
            timing = _make_timing(job, call_ns)  # from now on
            feed = traffic.feed = _make_feed(job, asked, prepared, timing.begin_ns)
        recorder.start_at(timing.begin_ns)
        if browsing is not None:
            browsing.parts.start_at(timing.begin_ns)
        Conductor(
            loop=loop,
            traffic=traffic,
            feed=feed,
            recorder=recorder,
            watch=watch,
            timing=timing,
            on_heartbeat=job.on_heartbeat,
            deliver_signals=deliver_signals,
        ).run()
        samples.generator = watch.health(traffic.label)
        samples.never_answered = traffic.never_answered()
    finally:
        _close(loop, traffic)
    return samples


def _login_alone(
    recorder: Recorder, request: PreparedRequest, trouble: BaseException | None, timing: Timing
) -> PhaseSamples:
    """Record a login that failed as the error of the first request; without it, or its time, nothing."""
    now = perf_counter_ns()
    if timing.deadline_ns is not None and now >= timing.deadline_ns:
        recorder.samples.cut_short = "inner deadline reached during the login"
    elif trouble is not None:
        recorder.add(request.index, request.failed(trouble, DURING), timing.warmup_ns, 0, now, 0)
    return recorder.samples


def _prepare(
    job: _Job, maker: RequestMaker, requests: Sequence[RequestSpec]
) -> tuple[Recorder, list[PreparedRequest]]:
    """Make the recorder of some of the phase's requests, and the requests ready."""
    phase = job.phase
    samples = PhaseSamples(
        paths=tuple(spec.label for spec in requests),
        clients=phase.clients,
        duration_s=phase.duration_s,
        rate_rps=phase.rate_rps,
        think_time_s=phase.think_time_s,
        reuse=phase.reuse,
        kind=phase.kind,
    )
    recorder = Recorder(samples)
    prepared = prepare_requests(maker, requests, recorder.table)
    if phase.stream is None:
        samples.seen = [request.seen for request in prepared]
    if any(spec.body for spec in requests):
        samples.sent_bytes = tuple(len(spec.body or b"") for spec in requests)
    return recorder, prepared


def _make_timing(job: _Job, call_ns: int) -> Timing:
    """Lay the times out: load begins now."""
    warmup_ns = perf_counter_ns()
    begin_ns = warmup_ns + round(job.warmup_s * _NS_PER_S)
    stop_ns = begin_ns + round(job.phase.duration_s * _NS_PER_S)
    closed = job.phase.rate_rps is None
    return Timing(
        warmup_ns=warmup_ns,
        begin_ns=begin_ns,
        steady_end_ns=stop_ns if closed and job.warmup_s > 0 else 0,
        least_end_ns=stop_ns if job.phase.think_time_s else 0,
        give_up_ns=0 if closed else stop_ns + round(job.request_timeout_s * _NS_PER_S),
        deadline_ns=None if job.deadline_s is None else call_ns + round(job.deadline_s * _NS_PER_S),
        heartbeat_s=job.heartbeat_s,
    )


def _make_feed(
    job: _Job, asked: Sequence[RequestSpec], prepared: Sequence[PreparedRequest], begin_ns: int
) -> Feed:
    if job.each_once:
        return ClosedFeed(prepared, begin_ns, _UNTIL_DONE_S, most=len(prepared))
    turn = [prepared[index] for index in rotation([spec.weight for spec in asked])]
    if job.phase.rate_rps is None:
        return ClosedFeed(turn, begin_ns, job.phase.duration_s)
    return OpenFeed(turn, begin_ns, job.phase.duration_s, job.phase.rate_rps, job.warmup_s)


def _make_traffic(
    job: _Job,
    prepared: Sequence[PreparedRequest],
    *,
    feed: Feed,
    recorder: Recorder,
    connector: Connector | None,
    watch: SelfWatch,
    login: Login | None,
    browsing: Browsing | None,
) -> Traffic:
    """Make the clients: over our connections, or without a connector over the user's own transport."""
    if job.phase.kind in STREAMS:
        assert connector is not None  # by _check
        return stream_traffic(
            job.phase,
            feed=feed,
            recorder=recorder,
            connector=connector,
            timeout_s=job.request_timeout_s,
            watch=watch,
            request=prepared[0],
            login=login,
        )
    if connector is not None:
        return LaneTraffic(
            phase=job.phase,
            feed=feed,
            recorder=recorder,
            connector=connector,
            timeout_s=job.request_timeout_s,
            watch=watch,
            login=login,
            make_client=Lane if browsing is None else browsing.client,
        )
    assert job.transport is not None
    return CustomTraffic(
        phase=job.phase,
        feed=feed,
        recorder=recorder,
        make_transport=job.transport,
        timeout_s=job.request_timeout_s,
        login=login,
    )


def _check(job: _Job) -> None:
    phase = job.phase
    if phase.clients < 1:
        raise UsageError(f"phase {phase.name!r} needs at least one client, not {phase.clients}")
    if job.request_timeout_s <= 0:
        raise UsageError(f"the request timeout must be above 0 s, not {job.request_timeout_s}")
    if phase.rate_rps is not None and phase.think_time_s:
        raise UsageError(f"phase {phase.name!r} has a rate and a pause: both say when a request is sent")
    if phase.kind != "requests" and job.transport is not None:
        raise UsageError(
            f"phase {phase.name!r} is of kind {phase.kind!r}, which needs connections of our own: "
            "a transport of the project's own carries requests alone"
        )


def _close(loop: asyncio.AbstractEventLoop, traffic: Traffic | None) -> None:
    try:
        if traffic is not None:
            loop.run_until_complete(traffic.close())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
