"""What a command found is its exit code, whoever reads its output and whatever signal comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs
from support.history_samples import session
from support.short_sessions import NO_TIME_BUDGETS

from pytest_espperf.cli import main
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import Comparability, SessionArtifact, Summary
from pytest_espperf.system.streams import guarded

ESPPERF = [sys.executable, "-m", "pytest_espperf.cli"]
PATIENCE_S = 90
LOAD = [
    "--perf-preset=quick",
    "--perf-runs=1",
    "--perf-burst-duration=0.3",
    "--perf-long-duration=0.3",
    "--perf-profiles=python_light",
    "--perf-confirm=0",
    *NO_TIME_BUDGETS,
]
RUN = ["run", "sim", *LOAD]
PYTEST = ["-m", "pytest", "--pyargs", "pytest_espperf.suite", "-m", "perf", "--device-ip=sim", *LOAD]
TOO_SLOW = "--perf-max-p95-ms=1"

Ending = Callable[[list[str], Path], tuple[int, str]]
"""Runs a command whose output is lost; its exit code and what it said beside its answer."""


def gone(command: list[str], place: Path) -> tuple[int, str]:
    """The reader is away before the first byte."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(command, cwd=place, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    said = process.communicate(timeout=PATIENCE_S)[1]
    return process.returncode, said


def full(command: list[str], place: Path) -> tuple[int, str]:
    """The disk behind the output is full."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with Path("/dev/full").open("w") as nowhere:
        done = subprocess.run(
            command,
            cwd=place,
            stdout=nowhere,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    return done.returncode, done.stderr


def closed(command: list[str], place: Path) -> tuple[int, str]:
    """Standard output was closed at the start."""
    if sys.platform == "win32":
        pytest.skip("a shell of POSIX")
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *command],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions; the second is twice as slow, and its verdict a failing one."""
    store = HistoryStore(tmp_path_factory.mktemp("history"))
    store.prepare()

    def made(number: int, p95: float, **changes: object) -> SessionArtifact:
        one = session(f"{number}" * 8, f"2026010{number}T000000Z", p95=p95, verdict="no-baseline")
        cell = structs.replace(one.aggregated["python_heavy:burst"], p95_ms=Summary(median=p95))
        return structs.replace(
            one,
            aggregated={"python_heavy:burst": cell},
            comparability=Comparability(key="k", fields={"profiles": {"python_heavy": {}}}),
            **changes,
        )

    store.save(made(1, 30.0), latest=True)
    store.save(made(2, 60.0), latest=True)
    return store.folder


@pytest.mark.parametrize("ending", [gone, full, closed])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["list"], {gone: 141, full: 1, closed: 0}),
        (["list", "--json"], {gone: 141, full: 1, closed: 0}),
        (["show", "latest"], {gone: 141, full: 1, closed: 0}),
        (["prune"], {gone: 141, full: 1, closed: 0}),
        (["export", "latest", "csv"], {gone: 141, full: 1, closed: 0}),
        (["compare", "11111111", "22222222"], {gone: 0, full: 1, closed: 0}),
        (["compare", "11111111", "22222222", "--fail-on=p95_ms:10%"], {gone: 1, full: 1, closed: 1}),
        (["show", "nobody"], {gone: 4, full: 4, closed: 4}),
        (["--help"], {gone: 141, full: 1, closed: 0}),
        (["sim", "--help"], {gone: 141, full: 1, closed: 0}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_keeps_its_code_without_a_reader(
    words: list[str], code: dict[Ending, int], ending: Ending, history: Path, tmp_path: Path
) -> None:
    where = [] if words[-1] == "--help" else [f"--perf-history={history}"]
    ended, said = ending([*ESPPERF, *words, *where], tmp_path)
    assert ended == code[ending], said
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    if ending is full and words != ["show", "nobody"]:
        assert said.splitlines()[-1].startswith("espperf: standard output: ")


@pytest.mark.parametrize("words", [RUN, PYTEST], ids=["espperf", "pytest"])
@pytest.mark.parametrize("ending", [gone, full])
@pytest.mark.parametrize(("more", "code"), [([], 0), ([TOO_SLOW], 1)], ids=["passes", "fails"])
def test_a_run_without_a_reader_is_measured_to_its_end(
    words: list[str], ending: Ending, more: list[str], code: int, tmp_path: Path
) -> None:
    command = [*ESPPERF, *words] if words is RUN else [sys.executable, *words]
    ended, said = ending([*command, *more, f"--perf-history={tmp_path}"], tmp_path)
    assert ended == code, said
    assert "Traceback" not in said
    assert (tmp_path / "latest.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
def test_head_of_a_failing_run(tmp_path: Path) -> None:
    """What people write: the first line, and the exit code of the left side."""
    command = [sys.executable, *PYTEST, "-v", TOO_SLOW, f"--perf-history={tmp_path}"]
    done = subprocess.run(
        ["sh", "-c", '{ "$@"; echo $? > code; } | head -n 1', "sh", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "code").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "code").read_text().strip() == "1", done.stderr
    assert done.stdout.startswith("=")


@pytest.fixture
def interrupted(tmp_path: Path) -> Callable[[list[str], int], tuple[int, str]]:
    """Starts a command that says something, and sends it a signal then."""

    def drive(words: list[str], number: int) -> tuple[int, str]:
        process = subprocess.Popen(
            [*ESPPERF, *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(number)
        try:
            rest = process.communicate(timeout=PATIENCE_S)[0]
        finally:
            process.kill()
        return process.returncode, first + rest

    return drive


@pytest.mark.skipif(sys.platform == "win32", reason="signals to one process are POSIX")
@pytest.mark.parametrize(("number", "code"), [("SIGINT", 2), ("SIGTERM", 143)])
@pytest.mark.parametrize("words", [["doctor", "sim"], ["calibrate", "sim", *LOAD], [*RUN, "--perf-runs=9"]])
def test_signals_end_a_command_without_a_traceback(
    words: list[str],
    number: str,
    code: int,
    interrupted: Callable[[list[str], int], tuple[int, str]],
) -> None:
    ended, said = interrupted(words, getattr(signal, number))
    assert "Traceback" not in said
    assert ended == code, said


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_interrupted_command_says_so(
    number: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*_: object) -> None:
        signal.raise_signal(getattr(signal, number))

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("pytest_espperf.cli.history.default_history", command)
    assert main(["list"]) == {"SIGINT": 2, "SIGTERM": 143}[number]
    assert capsys.readouterr().err in {"espperf: interrupted\n", "espperf: terminated\n"}
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_guarded_stream_takes_everything_and_says_what_it_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as stream:  # noqa: PTH123 - of a descriptor
        monkeypatch.setattr(sys, "stdout", stream)
        with guarded("stdout") as guard:
            assert sys.stdout is not stream
            print("kept", flush=True)
            assert os.read(reader, 100).strip() == b"kept"
            assert guard.lost is None
            os.close(reader)
            for _ in range(3):
                print("x" * 100_000)
            sys.stdout.flush()
            assert guard.reader_gone
        assert sys.stdout is stream


def test_a_stream_of_a_tests_own_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with guarded("stdout") as guard:
        assert sys.stdout is before
    assert guard.lost is None
