"""Drives one phase, or several at once: makes the loop and the clients, and puts everything back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter_ns

from pytest_espperf.errors import UsageError
from pytest_espperf.load.conductor import Conductor, Progress, Timing, Traffic, conduct
from pytest_espperf.load.connection import Connector, connector_to
from pytest_espperf.load.custom import CustomTraffic, TransportFactory
from pytest_espperf.load.feed import ClosedFeed, Feed, OpenFeed, rotation
from pytest_espperf.load.guard import (
    LoopFactory,
    SelfWatch,
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

_UNTIL_DONE_S = 1e6
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Job:
    """One phase that is to be driven; see :func:`run_phase`, whose arguments these are."""

    target: Target
    requests: Sequence[RequestSpec]
    phase: PhaseSpec
    headers: Sequence[Header] = ()
    request_timeout_s: float = 6.0
    warmup_s: float = 0.0
    deadline_s: float | None = None
    heartbeat_s: float = 5.0
    on_heartbeat: Callable[[Progress], None] | None = None
    transport: TransportFactory | None = None
    loop_factory: LoopFactory | None = None
    each_once: bool = False
    login: LoginSpec | None = None
    login_alone: bool = False


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
    job = Job(
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
        loop_factory=loop_factory,
        each_once=each_once,
        login=login,
        login_alone=login_alone,
    )
    return run_together([job])[0]


@quiet_gc()  # around all of it: what it holds in circles is let go with its frame, and collected behind that
def run_together(jobs: Sequence[Job]) -> list[PhaseSamples]:
    """Drive phases at the same time, by one loop; their loads begin in the same moment.

    Logins come first, one phase after the other. What a server does wrong is a counted outcome of its phase;
    the others go on.

    Raises:
        UsageError: a phase that cannot be driven.
    """
    return run_apart(lambda deliver_signals: _drive(jobs, deliver_signals))


def _drive(jobs: Sequence[Job], deliver_signals: Deliver) -> list[PhaseSamples]:
    """Drive the phases in this thread, in which no event loop runs."""
    deliver = _to_each(deliver_signals) if len(jobs) > 1 else deliver_signals
    running = [_Running(job) for job in jobs]
    loop = (jobs[0].loop_factory or fastest_loop())()
    try:
        for one in running:
            one.make_traffic()
        for one in running:
            one.log_in(loop, deliver)
        asking = [one for one in running if not one.is_over]
        if asking:
            conduct([one.conductor(loop, deliver) for one in asking])
        for one in asking:
            one.take_health()
    finally:
        _close(loop, [one.traffic for one in running])
    return [one.samples for one in running]


def _to_each(deliver_signals: Deliver) -> Deliver:
    """Raise again, for every phase that asks, what a signal's handler raised for the first one."""
    raised: list[BaseException] = []

    def deliver() -> None:
        if raised:
            raise raised[0]
        try:
            deliver_signals()
        except BaseException as error:
            raised.append(error)
            raise

    return deliver


class _Running:
    """One phase from its preparation to its samples.

    Attributes:
        samples: of it.
        traffic: its clients, once they are made.
        is_over: nothing is left to be asked for.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._call_ns = perf_counter_ns()
        self.traffic: Traffic | None = None
        self.is_over = False
        phase = job.phase
        _check(job)
        own = job.transport is None
        self._maker = RequestMaker(job.target, job.headers, own_connection=own, reuse=phase.reuse)
        self._login = None if job.login is None else Login(job.login, self._maker, job.target)
        self._asked = job.requests[:1] if phase.page is not None else job.requests
        if phase.kind in STREAMS:
            self._maker, opening = stream_request(job.target, phase, job.headers)
            self._asked = (opening,)
        self._recorder, self._prepared = _prepare(job, self._maker, self._asked)
        self.samples = self._recorder.samples
        self._browsing = None
        if phase.page is not None:
            unpaced = replace(job, phase=replace(phase, rate_rps=None))
            parts, assets = _prepare(unpaced, self._maker, job.requests[1:])
            self.samples.parts = parts.samples
            self._browsing = Browsing(phase.page, assets, parts)
        resume = phase.reuse or phase.tls_resumption
        self._connector = connector_to(job.target, resume=resume) if own else None
        self._watch = SelfWatch(clients=phase.clients, open_loop=phase.rate_rps is not None)

    def make_traffic(self) -> None:
        """Make the clients, in the thread of their loop."""
        self._timing = _make_timing(self._job, self._call_ns)
        self._feed = _make_feed(self._job, self._asked, self._prepared, self._timing.begin_ns)
        self.traffic = _make_traffic(
            self._job,
            self._prepared,
            feed=self._feed,
            recorder=self._recorder,
            connector=self._connector,
            watch=self._watch,
            login=self._login,
            browsing=self._browsing,
        )

    def log_in(self, loop: asyncio.AbstractEventLoop, deliver_signals: Deliver) -> None:
        """Have the clients log in, where they do; the phase may be over with that."""
        if self._login is None:
            return
        assert self.traffic is not None
        job = self._job
        self._login.maker = self._maker
        trouble = loop.run_until_complete(self.traffic.log_in(deliver_signals, self._timing.deadline_ns))
        if job.login_alone or (job.each_once and trouble is not None):
            _login_alone(self._recorder, self._prepared[0], trouble, self._timing)
            self.is_over = True

    def conductor(self, loop: asyncio.AbstractEventLoop, deliver_signals: Deliver) -> Conductor:
        """Lay the times out from now on, and make what keeps them."""
        assert self.traffic is not None
        self._timing = _make_timing(self._job, self._call_ns)
        self._feed = self.traffic.feed = _make_feed(
            self._job, self._asked, self._prepared, self._timing.begin_ns
        )
        self._recorder.start_at(self._timing.begin_ns)
        if self._browsing is not None:
            self._browsing.parts.start_at(self._timing.begin_ns)
        return Conductor(
            loop=loop,
            traffic=self.traffic,
            feed=self._feed,
            recorder=self._recorder,
            watch=self._watch,
            timing=self._timing,
            on_heartbeat=self._job.on_heartbeat,
            deliver_signals=deliver_signals,
        )

    def take_health(self) -> None:
        """Add what the phase showed of the generator."""
        assert self.traffic is not None
        self.samples.generator = self._watch.health(self.traffic.label)
        self.samples.never_answered = self.traffic.never_answered()


def _login_alone(
    recorder: Recorder, request: PreparedRequest, trouble: BaseException | None, timing: Timing
) -> None:
    """Record a login that failed as the error of the first request; without it, or its time, nothing."""
    now = perf_counter_ns()
    if timing.deadline_ns is not None and now >= timing.deadline_ns:
        recorder.samples.cut_short = "inner deadline reached during the login"
    elif trouble is not None:
        recorder.add(request.index, request.failed(trouble, DURING), timing.warmup_ns, 0, now, 0)


def _prepare(
    job: Job, maker: RequestMaker, requests: Sequence[RequestSpec]
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


def _make_timing(job: Job, call_ns: int) -> Timing:
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
    job: Job, asked: Sequence[RequestSpec], prepared: Sequence[PreparedRequest], begin_ns: int
) -> Feed:
    if job.each_once:
        return ClosedFeed(prepared, begin_ns, _UNTIL_DONE_S, most=len(prepared))
    turn = [prepared[index] for index in rotation([spec.weight for spec in asked])]
    if job.phase.rate_rps is None:
        return ClosedFeed(turn, begin_ns, job.phase.duration_s)
    return OpenFeed(turn, begin_ns, job.phase.duration_s, job.phase.rate_rps, job.warmup_s)


def _make_traffic(
    job: Job,
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


def _check(job: Job) -> None:
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


def _close(loop: asyncio.AbstractEventLoop, traffics: Sequence[Traffic | None]) -> None:
    try:
        for traffic in traffics:
            if traffic is not None:
                loop.run_until_complete(traffic.close())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
