"""Open loops: starts at fixed times, whatever the answers do."""

from __future__ import annotations

import time

import pytest
from support.load_servers import (
    HELLO,
    LoopFactory,
    Peer,
    answer,
    delayed,
    phase,
    serving,
)

from pytest_espperf.load import run_phase
from pytest_espperf.model.samples import Outcome


def test_open_loop_starts_at_fixed_times(loop_factory: LoopFactory) -> None:
    with serving(delayed(0.001)) as server:
        samples = run_phase(
            server.target, HELLO, phase(0.5, 4, rate_rps=100), deadline_s=20, loop_factory=loop_factory
        )
    assert len(samples) == 50
    assert samples.dropped_starts == 0
    intended = sorted(start - lag for start, lag in zip(samples.start_s, samples.lag_s, strict=True))
    assert intended == pytest.approx([k / 100 for k in range(50)], abs=1e-5)
    assert min(samples.lag_s) >= 0


def test_open_loop_waiting_is_not_omitted() -> None:
    """One connection, 20 ms service, a start every 10 ms: each waits 10 ms longer than the one before."""
    with serving(delayed(0.02)) as server:
        samples = run_phase(server.target, HELLO, phase(0.3, 1, rate_rps=100), deadline_s=20)
    assert len(samples) == 30
    assert samples.dropped_starts == 0
    assert samples.elapsed_s >= 30 * 0.02
    for k, lag in enumerate(samples.lag_s):
        assert lag >= k * 0.01 - 1e-4


def test_open_loop_starts_that_cannot_be_made_are_dropped_and_counted(loop_factory: LoopFactory) -> None:
    with serving(lambda peer: peer.until_gone()) as server:
        samples = run_phase(
            server.target,
            HELLO,
            phase(0.2, 1, rate_rps=100),
            request_timeout_s=0.25,
            deadline_s=20,
            loop_factory=loop_factory,
        )
    assert len(samples) + samples.dropped_starts == 20
    assert samples.dropped_starts >= 17
    assert {outcome.error for outcome in samples.outcomes} == {"ReadTimeout"}


def test_open_loop_cut_short_drops_what_is_left() -> None:
    with serving(delayed(0.001)) as server:
        samples = run_phase(server.target, HELLO, phase(30, 2, rate_rps=50), deadline_s=0.3)
    assert samples.cut_short
    assert 1500 - 2 <= len(samples) + samples.dropped_starts <= 1500


def test_open_loop_warmup_runs_at_the_same_rate() -> None:
    with serving(delayed(0.001)) as server:
        samples = run_phase(server.target, HELLO, phase(0.2, 2, rate_rps=50), warmup_s=0.2, deadline_s=20)
    assert len(samples) == 10
    assert samples.dropped_starts == 0


def test_an_idle_close_is_no_error() -> None:
    """The server closes after 20 ms of silence; starts come every 400 ms."""

    def handle(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(answer())
            time.sleep(0.02)

    with serving(handle) as server:
        samples = run_phase(server.target, HELLO, phase(1.5, 1, rate_rps=1 / 0.4), deadline_s=60)
        assert server.accepted >= 4
    assert samples.outcomes == [Outcome(200, None)]
    assert len(samples) == 4
    assert samples.stale_retries == 0


@pytest.mark.parametrize(
    ("farewell", "errors"), [(b"HTTP/1.1 408 Request Timeout\r\n\r\n", 0), (b"garbage", 3)]
)
def test_words_on_an_idle_connection(farewell: bytes, errors: int) -> None:
    def handle(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(answer())
            time.sleep(0.04)
            peer.send(farewell)

    with serving(handle) as server:
        samples = run_phase(server.target, HELLO, phase(1.1, 1, rate_rps=2.5), deadline_s=20)
    kinds = [samples.outcomes[index].error for index in samples.outcome]
    assert kinds.count(None) == 3
    # The last connection's garbage may come after the phase.
    assert errors - 1 <= kinds.count("RemoteProtocolError") <= errors
