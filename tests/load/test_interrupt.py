"""A phase that is interrupted ends at once, and no phase leaves anything behind."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.load_servers import (
    HANG_S,
    HELLO,
    LoopFactory,
    Peer,
    Server,
    answer,
    delayed,
    open_descriptors,
    phase,
    serving,
    signalled,
    wait_until,
)

from pytest_espperf.load import Progress, run_phase
from pytest_espperf.load.guard import quiet_gc
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.model.samples import PhaseSamples

LONG_S = 300.0
"""Of a phase that is interrupted: far longer than :data:`HANG_S`."""


class Stop(BaseException):
    """Like what pytest-timeout's signal handler raises."""


@pytest.fixture
def stopping_signal() -> Iterator[None]:
    def handle(number: int, frame: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGINT, handle)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("busy", [False, True])
def test_a_signal_handlers_exception_ends_a_phase(
    stopping_signal: None, loop_factory: LoopFactory, busy: bool, custom: bool
) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    def remember() -> asyncio.AbstractEventLoop:
        loops.append(loop_factory())
        return loops[0]

    with serving(delayed(0.0005 if busy else LONG_S)) as server, signalled(server):
        begun = time.monotonic()
        with pytest.raises(Stop):
            run_phase(
                server.target,
                HELLO,
                phase(LONG_S, 2),
                deadline_s=2 * LONG_S,
                loop_factory=remember,
                transport=httpx.AsyncHTTPTransport if custom else None,
            )
        assert time.monotonic() - begun < HANG_S
    assert loops[0].is_closed()
    assert gc.isenabled()


def test_keyboard_interrupt(loop_factory: LoopFactory) -> None:
    with serving(delayed(0.0005)) as server, signalled(server), pytest.raises(KeyboardInterrupt):
        run_phase(server.target, HELLO, phase(LONG_S, 2), deadline_s=2 * LONG_S, loop_factory=loop_factory)
    assert gc.isenabled()


@pytest.mark.parametrize("exc", [ValueError("x"), OSError("x"), Stop(), KeyboardInterrupt()])
def test_what_a_heartbeat_raises_is_raised(exc: BaseException, loop_factory: LoopFactory) -> None:
    def beat(progress: Progress) -> None:
        raise exc

    with serving(delayed(0.001)) as server, pytest.raises(type(exc)):
        run_phase(
            server.target,
            HELLO,
            phase(30, 2),
            heartbeat_s=0.05,
            on_heartbeat=beat,
            deadline_s=60,
            loop_factory=loop_factory,
        )


def test_a_phase_leaves_nothing_behind(loop_factory: LoopFactory) -> None:
    def mixed(peer: Peer) -> None:
        for _ in range(3):
            if peer.request() is None:
                return
            if peer.number % 5 == 4:
                peer.reset()
                return
            if peer.number % 5 == 3:
                peer.until_gone()
                return
            peer.send(answer())

    def drive() -> PhaseSamples:
        return run_phase(
            server.target,
            HELLO,
            phase(0.4, 8),
            request_timeout_s=0.2,
            deadline_s=60,
            loop_factory=remember,
        )

    loops: list[asyncio.AbstractEventLoop] = []

    def remember() -> asyncio.AbstractEventLoop:
        loops.append(loop_factory())
        return loops[-1]

    others = threading.active_count()  # libraries that other tests use keep threads of their own
    with serving(mixed) as server:
        drive()
        gc.collect()
        assert wait_until(lambda: threading.active_count() <= others + 1)
        before = open_descriptors()
        for _ in range(3):
            assert len(drive().connect_s) > 8
        gc.collect()  # an unclosed socket or transport would warn now, and warnings are errors
        assert wait_until(lambda: threading.active_count() <= others + 1), "a connection was left open"
        assert open_descriptors() <= before
    assert all(loop.is_closed() and not asyncio.all_tasks(loop) for loop in loops)


def test_collections_are_held_off_and_restored() -> None:
    seen: list[bool] = []
    frozen = gc.get_freeze_count()
    with serving(delayed(0.001)) as server:
        run_phase(
            server.target,
            HELLO,
            phase(0.2, 1),
            heartbeat_s=0.05,
            on_heartbeat=lambda _: seen.append(gc.isenabled()),
            deadline_s=20,
        )
    assert seen
    assert not any(seen)
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
    gc.disable()
    try:
        with quiet_gc():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_a_phase_held_goes_with_it(loop_factory: LoopFactory) -> None:
    """Its loop alone holds 0.25 MB; thawed garbage would be among what the collector hardly ever looks at."""
    held: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    def make_loop() -> asyncio.AbstractEventLoop:
        loop = loop_factory()
        held.append(weakref.ref(loop))
        return loop

    gc.disable()
    try:
        with serving(delayed(0.001)) as server:
            for _ in range(2):
                run_phase(server.target, HELLO, phase(0.05, 2), deadline_s=20, loop_factory=make_loop)
        assert [ref() for ref in held] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("exc", [KeyboardInterrupt, Stop])
def test_an_interrupt_inside_a_callback_ends_a_phase(
    exc: type[BaseException], loop_factory: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in the engine a signal handler happens to raise, the loop must not swallow it."""
    for method in ("add", "connected"):
        with monkeypatch.context() as patch, serving(delayed(0.001)) as server:
            usual = getattr(Recorder, method)
            calls: list[int] = []

            def interrupt(
                self: Recorder, *figures: int, usual: Any = usual, calls: list[int] = calls
            ) -> None:
                calls.append(len(calls))
                if len(calls) == 1:
                    raise exc
                usual(self, *figures)

            patch.setattr(Recorder, method, interrupt)
            begun = time.monotonic()
            with pytest.raises(exc):
                run_phase(
                    server.target, HELLO, phase(LONG_S, 2), deadline_s=2 * LONG_S, loop_factory=loop_factory
                )
            assert time.monotonic() - begun < HANG_S


def test_ctrl_c_is_never_lost(loop_factory: LoopFactory) -> None:
    """At any moment of a busy phase: uvloop loses what a handler raises inside some of its callbacks."""

    def drive(server: Server, timer: threading.Timer) -> None:
        timer.start()
        run_phase(server.target, HELLO, phase(LONG_S, 4), deadline_s=2 * LONG_S, loop_factory=loop_factory)

    rng = random.Random(20261123)
    with serving(delayed(0.0)) as server:
        for _ in range(15):
            timer = threading.Timer(rng.uniform(0.02, 0.15), signal.raise_signal, (signal.SIGINT,))
            begun = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                drive(server, timer)
            assert time.monotonic() - begun < HANG_S
            timer.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_is_taken_at_once(loop_factory: LoopFactory) -> None:
    def beat(progress: Progress) -> None:
        signal.raise_signal(signal.SIGINT)  # noted
        signal.raise_signal(signal.SIGINT)  # raised here and now
        raise AssertionError("the second one was held back as well")

    with serving(delayed(0.001)) as server, pytest.raises(KeyboardInterrupt):
        run_phase(
            server.target,
            HELLO,
            phase(30, 2),
            heartbeat_s=0.05,
            on_heartbeat=beat,
            deadline_s=60,
            loop_factory=loop_factory,
        )
