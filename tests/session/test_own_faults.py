"""Faults of this computer are this computer's: what it lacks, and when it stood still."""

from __future__ import annotations

import errno
import random
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from support.few_sockets import few_sockets
from support.gate_sessions import change, history, run, session
from support.load_servers import HELLO, NOWHERE, always, answer, delayed, phase, serving
from support.sessions_at import artifacts, run_at

from pytest_espperf.device import probe
from pytest_espperf.device.http import get
from pytest_espperf.errors import ComputerError, ProbeError
from pytest_espperf.gate import judge, measure_again
from pytest_espperf.gate.stops import stopped_rounds, without_stops
from pytest_espperf.load import connector, guard, limits, run_phase
from pytest_espperf.load.faults import LocalError, transport_error
from pytest_espperf.load.guard import STOP_S, SelfWatch
from pytest_espperf.load.outcomes import classify
from pytest_espperf.model.artifact import GeneratorReport, PhaseReport, SessionArtifact
from pytest_espperf.model.computer import LACKS, lack_of, own_fault
from pytest_espperf.model.metrics import summarise
from pytest_espperf.session.limits import phase_failures

LIMITS = {
    "max_error_rate": 2.0,
    "max_p95_ms": 2000.0,
    "max_p99_ms": 3000.0,
    "max_tail_p95_ratio": 1.8,
    "max_internal_free_drop": 131072.0,
    "max_psram_free_drop": 524288.0,
}


@pytest.fixture
def rng() -> random.Random:
    print("seed 9")
    return random.Random(9)


class TestNames:
    """Which errors are this computer's."""

    @pytest.mark.parametrize("name", LACKS)
    def test_by_the_number_of_this_system(self, name: str) -> None:
        error = OSError(getattr(errno, name), "said by the system")
        assert lack_of(error) == name
        assert classify(error) == f"local_{name}"
        assert classify(transport_error(error, httpx.ConnectError)) == f"local_{name}"
        assert name in own_fault(PhaseReport(requests_total=9, ok=8, error_kinds={f"local_{name}": 1}))

    @pytest.mark.parametrize(
        ("number", "name"),
        [
            (10024, "EMFILE"),
            (10055, "ENOBUFS"),
            (10049, "EADDRNOTAVAIL"),
            (10050, "ENETDOWN"),
            (10051, "ENETUNREACH"),
        ],
    )
    def test_by_the_number_of_windows(self, number: int, name: str) -> None:
        assert lack_of(OSError(number, "said by Windows")) == name

    def test_behind_what_others_made_of_it(self) -> None:
        below = OSError(errno.EMFILE, "too many")
        above = httpx.ConnectError("all attempts failed")
        above.__cause__ = below
        assert classify(above) == "local_EMFILE"
        assert lack_of(RuntimeError("no cause")) == ""

    @pytest.mark.parametrize(
        "number", [errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EPIPE]
    )
    def test_the_boards_and_the_links_stay_theirs(self, number: int) -> None:
        error = OSError(number, "said by the system")
        assert lack_of(error) == ""
        assert classify(transport_error(error, httpx.ReadError)) == "ReadError"
        assert not isinstance(transport_error(error, httpx.ConnectError), LocalError)


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let every connect fail on this side."""

    def lack(name: str) -> None:
        def fail(*_: object) -> None:
            raise OSError(getattr(errno, name), "said by the system")

        monkeypatch.setattr(connector, "begin_connect", fail)

    return lack


class TestLack:
    """A phase for which this computer lacks something."""

    @pytest.mark.parametrize("name", ["EMFILE", "EADDRNOTAVAIL", "ENETUNREACH"])
    def test_it_is_bound_and_breaks_no_budget(self, name: str, lacking: Callable[[str], None]) -> None:
        lacking(name)
        report = summarise(run_phase(NOWHERE, HELLO, phase(0.3), deadline_s=20))
        assert set(report.error_kinds) == {f"local_{name}"}
        assert report.generator is not None
        assert report.generator.bound
        (reason,) = phase_failures(report, LIMITS)
        assert f"this computer {LACKS[name][0]}" in reason
        some = msgspec.structs.replace(report, ok=100, error_rate=50.0, p95_ms=9000.0)
        assert phase_failures(some, LIMITS) == []

    def test_a_session_says_so_and_blames_no_board(self, rng: random.Random) -> None:
        def lacked(index: int, old: PhaseReport) -> PhaseReport:
            if index != 1:  # runs count from 1
                return old
            generator = GeneratorReport(bound=True)
            kinds = {"local_EADDRNOTAVAIL": 40}
            return msgspec.structs.replace(
                old, err=40, error_rate=30.0, error_kinds=kinds, generator=generator, stalled_s=4.0
            )

        verdict = judge(change(session(rng), "python_light", lacked), history(rng, 8))
        assert verdict.kind in {"unchanged", "inconclusive"}
        said = [finding.message for finding in verdict.findings if finding.kind == "generator-bound"]
        assert any("this computer has no local port left" in message for message in said)
        assert any("It is not the board's fault: " in message for message in said)
        assert not [finding for finding in verdict.findings if finding.kind in {"stalled", "budget"}]
        assert all(row.verdict != "regressed" for row in verdict.gates)

    def test_the_probe_names_it_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def none_left(main: Coroutine[Any, Any, Any]) -> None:
            main.close()
            raise OSError(errno.EMFILE, "too many open files")

        monkeypatch.setattr("pytest_espperf.device.http.run_async", none_left)
        with pytest.raises(ComputerError) as caught:
            get(NOWHERE, "/", timeout_s=1.0)
        assert "this computer has no file descriptor left" in str(caught.value)
        with pytest.raises(ProbeError) as probed:
            probe(NOWHERE, "/", tries=1, timeout_s=1.0)
        assert "could not be asked: this computer has no file descriptor left" in str(probed.value)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
class TestDescriptors:
    """Clients against the limit of open files."""

    @pytest.fixture
    def limit(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
        import resource

        now = [(64, 64)]
        monkeypatch.setattr(resource, "getrlimit", lambda _: now[-1])
        monkeypatch.setattr(resource, "setrlimit", lambda _, pair: now.append(pair))
        monkeypatch.setattr(limits, "_open_now", lambda: 20)
        return now

    def test_enough_is_left_alone(self, limit: list[tuple[int, int]]) -> None:
        assert limits.raise_file_limit(64 - 20 - limits.SPARE) == ""
        assert limit == [(64, 64)]

    def test_too_few_is_said(self, limit: list[tuple[int, int]]) -> None:
        said = limits.raise_file_limit(80)
        assert "80 clients need 116 file descriptors, and this computer allows 64" in said
        assert "ulimit -n 256" in said

    def test_a_soft_limit_is_raised_as_far_as_needed(self, limit: list[tuple[int, int]]) -> None:
        limit[:] = [(64, 4096)]
        assert limits.raise_file_limit(80) == ""
        assert limit[-1] == (116, 4096)

    def test_a_session_with_too_many_clients_is_a_usage_error(self, tmp_path: Path) -> None:
        with few_sockets(4) as board:
            done = run_at(board.port, tmp_path, clients=1000, limit=100)
            assert not board.requests
        assert done.returncode == 4
        assert "page:only: 1000 clients need" in done.stderr
        assert "file descriptors" in done.stdout


class TestStop:
    """A generator that stood still."""

    def test_a_late_loop_is_a_stop_from_half_a_second_on(self) -> None:
        watch = SelfWatch(clients=1, open_loop=False)
        for _ in range(100):
            watch.idle_since(round(0.9 * STOP_S * 1e9))
        assert watch.health("x").stopped_s == 0
        watch.idle_since(1_600_000_000)
        health = watch.health("x")
        assert health.stopped_s == pytest.approx(1.6)
        assert health.bound

    def test_a_short_stop_in_a_long_phase_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        watch = SelfWatch(clients=1, open_loop=False)
        watch.idle_since(600_000_000)
        later_ns = time.perf_counter_ns() + 60_000_000_000
        monkeypatch.setattr(guard, "perf_counter_ns", lambda: later_ns)
        assert watch.health("x").stopped_s == 0

    def test_a_suspended_computer_is_a_stop_though_its_clock_stood_still(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asleep = [100.0]
        monkeypatch.setattr(guard, "suspended_s", lambda: asleep[0])
        watch = SelfWatch(clients=1, open_loop=False)
        assert watch.health("x").stopped_s == 0
        asleep[0] += 3600
        health = watch.health("x")
        assert health.stopped_s == 3600
        assert health.bound

    def test_the_clocks_of_this_system_are_read(self) -> None:
        assert guard.suspended_s() >= -0.001

    @pytest.mark.parametrize("rate_rps", [None, 50.0])
    def test_a_phase_whose_loop_was_held_up(self, rate_rps: float | None) -> None:
        """A callback stands in for a signal: nothing of the loop runs meanwhile."""
        naps = iter([0.0, 0.7] + [0.0] * 1000)
        with serving(delayed(0.005)) as server:
            samples = run_phase(
                server.target,
                HELLO,
                phase(1.2, 2, rate_rps),
                heartbeat_s=0.1,
                on_heartbeat=lambda _: time.sleep(next(naps)),
                deadline_s=20,
            )
        report = summarise(samples)
        assert report.generator is not None
        assert 0.6 < report.generator.stopped_s < report.elapsed
        assert report.generator.bound
        assert report.stalled_s == 0
        assert "stood still" in own_fault(report)

    def test_a_phase_that_ran_on_is_none(self) -> None:
        with serving(always(answer())) as server:
            samples = run_phase(server.target, HELLO, phase(0.2), deadline_s=20)
        assert samples.generator is not None
        assert samples.generator.stopped_s == 0


def stopped(report: PhaseReport) -> PhaseReport:
    """A phase in which this computer stood still for a while, as it would look."""
    return msgspec.structs.replace(
        report,
        rps_ok=report.rps_ok / 3,
        p95_ms=9000.0,
        error_rate=50.0,
        err=report.ok,
        generator=GeneratorReport(bound=True, stopped_s=1.6),
    )


class TestStoppedRounds:
    """What the gate makes of rounds in which the generator stood still."""

    @staticmethod
    def of(now: SessionArtifact, indices: set[int]) -> SessionArtifact:
        runs = [
            msgspec.structs.replace(
                one,
                results=[
                    msgspec.structs.replace(result, report=stopped(result.report)) for result in one.results
                ],
            )
            if one.profile == "python_light" and one.role == "run" and one.run_index in indices
            else one
            for one in now.raw_runs
        ]
        return msgspec.structs.replace(now, raw_runs=runs)

    def test_they_are_measured_again(self, rng: random.Random) -> None:
        now = self.of(session(rng), {2, 3})
        assert stopped_rounds(now.raw_runs) == {"python_light": [2, 3]}
        for past in (history(rng, 8), []):
            verdict = judge(now, past)
            assert measure_again(verdict).get("python_light", 0) >= 2
            assert not [finding for finding in verdict.findings if finding.severity == "fail"]
            said = [finding.message for finding in verdict.findings if finding.kind == "generator-bound"]
            assert any("this computer stood still for 3.2 s in 2 of 6 runs" in message for message in said)

    def test_what_was_measured_again_stands_for_them(self, rng: random.Random) -> None:
        """Even where all of them stood still."""
        past = history(rng, 8, rounds=3)
        now = self.of(session(rng, rounds=3), {1, 2, 3})
        assert judge(now, past).kind == "inconclusive"
        again = [run("python_light", index, [1.0, 1.0], role="confirm") for index in (1, 2, 3)]
        whole = msgspec.structs.replace(now, raw_runs=[*now.raw_runs, *again])
        replaced = without_stops(whole)
        assert not stopped_rounds(replaced.raw_runs)
        assert len(replaced.raw_runs) == len(now.raw_runs)
        verdict = judge(whole, past)
        assert verdict.kind == "unchanged"
        assert not measure_again(verdict)
        slower = [run("python_light", index, [1.8, 1.8], role="confirm") for index in (1, 2, 3)]
        assert (
            judge(msgspec.structs.replace(now, raw_runs=[*now.raw_runs, *slower]), past).kind != "unchanged"
        )

    def test_they_lower_no_baseline(self, rng: random.Random) -> None:
        past = [self.of(one, {1, 2}) for one in history(rng, 8)]
        assert judge(session(rng), past).kind == "unchanged"

    def test_a_session_without_any_is_left_alone(self, rng: random.Random) -> None:
        now = session(rng)
        assert without_stops(now) is now


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP")
def test_a_session_that_is_stopped_measures_again(tmp_path: Path) -> None:
    with few_sockets(8, answer_s=0.002) as board:
        done = run_at(board.port, tmp_path, "--perf-confirm=3", clients=2, seconds=2.0, runs=2, stop_s=1.0)
    assert "this computer stood still for" in done.stdout, done.stdout
    assert "without an answer" not in done.stdout
    assert "measuring again" in done.stdout
    assert done.returncode == 0, done.stdout
    (made,) = artifacts(tmp_path)
    assert [one.role for one in made.raw_runs].count("confirm") >= 1
