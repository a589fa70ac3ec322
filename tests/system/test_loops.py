"""A project's own event loop is neither in our way nor disturbed."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator

import pytest
from support.load_servers import HELLO, LoopFactory, answer, check_sound, delayed, phase, serving, signalled

from pytest_espperf.device import resolve_target
from pytest_espperf.device.http import get
from pytest_espperf.load import run_phase
from pytest_espperf.system.loops import run_apart, run_async


class Stop(BaseException):
    """Like what pytest-timeout's signal handler raises."""


@pytest.fixture(params=["held", "in a task"])
def running_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """A loop that runs in this thread: between two calls of a greenlet's, or below the very test."""
    loop = asyncio.new_event_loop()
    if request.param == "held":
        asyncio._set_running_loop(loop)
        yield
        asyncio._set_running_loop(None)
    else:
        yield
    loop.close()


def called(request: pytest.FixtureRequest, work: object) -> None:
    """Call ``work`` in a task where the fixture says so."""
    assert callable(work)

    async def task() -> None:
        work()

    if "in a task" in request.node.callspec.id:
        asyncio.run(task())
    else:
        work()


def test_load_and_probe_do_not_need_this_threads_loop(
    running_loop: None, request: pytest.FixtureRequest, loop_factory: LoopFactory
) -> None:
    with serving(delayed(0.001)) as server:

        def work() -> None:
            assert asyncio.get_running_loop() is not None
            assert get(server.target, "/", timeout_s=5).status == 200
            assert resolve_target("localhost", server.port).port == server.port
            samples = run_phase(server.target, HELLO, phase(0.2, 2), deadline_s=60, loop_factory=loop_factory)
            check_sound(samples)
            assert len(samples) > 2
            assert samples.generator is not None

        called(request, work)


def test_a_signal_ends_a_phase_beside_a_running_loop(
    running_loop: None, request: pytest.FixtureRequest, loop_factory: LoopFactory
) -> None:
    def handle(number: int, frame: object) -> None:
        raise Stop

    def work() -> None:
        with serving(delayed(300)) as server, signalled(server), pytest.raises(Stop):
            run_phase(server.target, HELLO, phase(300, 2), deadline_s=600, loop_factory=loop_factory)
        assert not [thread for thread in threading.enumerate() if thread.name == "espperf loop"]

    before = signal.signal(signal.SIGINT, handle)
    try:
        called(request, work)
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_a_request() -> None:
    with serving(delayed(300)) as server, signalled(server), pytest.raises(KeyboardInterrupt):
        get(server.target, "/", timeout_s=300)


def test_the_loop_that_is_set_for_later_stays() -> None:
    """``asyncio.run`` leaves its thread without one: ``asyncio.get_event_loop()`` raises from then on."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        with serving(lambda peer: peer.send(answer())) as server:
            get(server.target, "/", timeout_s=5)
        assert asyncio.get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_results_and_errors_come_back() -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    async def fail() -> None:
        raise ValueError("x")

    assert run_async(double(3)) == 6
    with pytest.raises(ValueError, match="x"):
        run_async(fail())
    here = threading.get_ident()
    assert run_apart(lambda _: threading.get_ident()) == here

    async def apart() -> int:
        return run_apart(lambda _: threading.get_ident())

    assert asyncio.run(apart()) != here
