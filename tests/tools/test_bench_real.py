"""The benches on real servers: what a recording keeps, and what makes the end-to-end check pass."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support import gate_sessions
from support.paths import TOOLS
from support.pytest_alone import ENVIRONMENT
from support.short_sessions import SHORT

from pytest_espperf.model.artifact import RawRun, SessionArtifact

DATA = TOOLS / "data"


@pytest.fixture(autouse=True)
def _tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(TOOLS))
    before = signal.getsignal(signal.SIGTERM)  # which the benches handle
    yield
    signal.signal(signal.SIGTERM, before)


def runs() -> list[RawRun]:
    """Three planned rounds, each slower than the one before, and a round of confirmation."""
    planned = [gate_sessions.run("python_heavy", number, (number, 2 * number)) for number in (1, 2, 3)]
    return [*planned, gate_sessions.run("python_heavy", 1, (9.0, 9.0), role="confirm")]


def test_a_recording_keeps_the_planned_rounds_in_their_order() -> None:
    import record_rounds

    rounds = record_rounds.rounds(SessionArtifact(raw_runs=runs()))
    assert list(rounds) == ["python_heavy"]
    assert rounds["python_heavy"]["burst"]["rps_ok"] == [20.0, 10.0, 6.6667]
    assert rounds["python_heavy"]["long"]["rps_ok"] == [10.0, 5.0, 3.3333]
    assert rounds["python_heavy"]["long"]["err"] == [0, 0, 0]


def test_a_recording_of_an_artifact_is_read_as_it_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import record_rounds

    artifact, file = tmp_path / "perf.json", tmp_path / "rounds.json"
    artifact.write_bytes(
        msgspec.json.encode(SessionArtifact(timestamp_utc="20260101T000000Z", raw_runs=runs()))
    )
    assert record_rounds.main(["convert", str(artifact), str(file), "--server", "mine"]) == 0
    read = msgspec.json.decode(file.read_bytes(), type=record_rounds.Recording)
    assert read == record_rounds.convert(artifact, "mine", "")
    assert "python_heavy:long p95_ms (3 rounds)" in capsys.readouterr().out


def test_the_noise_of_rounds_is_that_of_their_logarithms() -> None:
    import record_rounds

    sd, robust, lag1, farthest = record_rounds.noise([100.0, None, 110.0, 100.0, 110.0])
    assert sd == pytest.approx(5.503, abs=0.01)
    assert robust == pytest.approx(1.4826 * 4.766, abs=0.01)
    assert lag1 == pytest.approx(-0.75)
    assert farthest == pytest.approx(1.1**0.5)


@pytest.mark.parametrize("file", sorted(DATA.glob("rounds_*.json")), ids=lambda file: file.stem)
def test_the_recordings_are_small_and_whole(file: Path) -> None:
    import record_rounds

    assert file.stat().st_size < 40_000
    recording = msgspec.json.decode(file.read_bytes(), type=record_rounds.Recording)
    lengths = {
        len(values)
        for phases in recording.profiles.values()
        for metrics in phases.values()
        for values in metrics.values()
    }
    assert set(recording.profiles) == {"python_light", "python_heavy"}
    assert lengths == {60}


@pytest.mark.parametrize(
    ("slower", "equal", "met"),
    [
        ({"regressed": 9, "inconclusive": 1}, {"unchanged": 18, "inconclusive": 2}, True),
        ({"regressed": 8, "inconclusive": 2}, {"unchanged": 20}, False),
        ({"regressed": 9, "unchanged": 1}, {"unchanged": 20}, False),
        ({"regressed": 10}, {"unchanged": 19, "drift": 1}, False),
        ({"regressed": 10}, {"unchanged": 19, "no artifact": 1}, False),
        ({}, {"unchanged": 20}, True),
    ],
)
def test_what_makes_the_end_to_end_check_pass(
    slower: dict[str, int], equal: dict[str, int], *, met: bool
) -> None:
    import bench_real

    tally = bench_real.Tally((1.8,))
    tally.slower[1.8].update(slower)
    tally.equal.update(equal)
    assert tally.met is met


def test_a_smaller_slowdown_must_be_called_where_it_was_seen() -> None:
    import bench_real

    def met(verdict: str, *, seen: bool) -> bool:
        tally = bench_real.Tally((1.3, 1.8))
        tally.add(1.8, bench_real.Answer("regressed", "", 1.0, seen=True))
        tally.add(1.3, bench_real.Answer(verdict, "", 1.0, seen=seen))
        return tally.met

    assert met("regressed", seen=True)
    assert met("inconclusive", seen=False)
    assert met("unchanged", seen=False)
    assert not met("inconclusive", seen=True)


@pytest.mark.timeout(600)  # it is several sessions, on a machine that may be busy
def test_a_try_and_equal_firmware_on_the_reference_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import bench_real

    for name, value in {**ENVIRONMENT, **SHORT}.items():
        monkeypatch.setenv(name, value)
    words = "--servers sim --tries 1 --baseline 1 --factors 3 --equal 1 --preset quick --runs 1 --seconds 0.1"
    bench_real.main([*words.split(), "--profiles", "python_heavy", "--", "--sim-noise=none"])
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert lines[0].startswith("sim try 1: no-baseline, 3x slower: ")
    assert "rps_ok +" in lines[0]
    assert lines[1].startswith("sim equal firmware, 1 before it: ")
    assert lines[2].startswith("sim: 3x slower: regressed ")


def test_a_session_without_an_artifact_says_why(tmp_path: Path) -> None:
    import real_rig

    with pytest.raises(real_rig.SessionError, match="no-such-option"):
        real_rig.session(tmp_path / "history", ["sim", "--no-such-option"], 60)


def test_a_busy_loop_ends_with_the_process_that_started_it() -> None:
    import real_rig

    loop = subprocess.Popen([sys.executable, "-c", real_rig.BUSY], stdin=subprocess.PIPE)
    assert loop.stdin is not None
    loop.stdin.close()
    assert loop.wait(60) == 0
