from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_espperf.config.lookup import resolve
from pytest_espperf.errors import DeviceError
from pytest_espperf.session.firmware import FirmwareSwitch
from pytest_espperf.system import commands

LONG_S = 100
STARTED_S = 5.0
"""In which a script has started, and has started another one, on a machine that is busy."""

DAEMON = """
import os, subprocess, sys, time
code = "import time; time.sleep({seconds})"
flags = {{}} if sys.platform != "win32" else {{"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}}
child = subprocess.Popen([sys.executable, "-c", code], start_new_session={own_session}, **flags)
open(r"{pid_file}", "w").write(str(child.pid))
print("last lines", flush=True)
time.sleep({stays})
"""


class Daemon:
    """A script that leaves a process behind, which holds the script's output."""

    def __init__(self, folder: Path, *, own_session: bool = True, stays: float = 0) -> None:
        self.pid_file = folder / "pid"
        self.script = folder / "script.py"
        self.script.write_text(
            DAEMON.format(seconds=LONG_S, own_session=own_session, pid_file=self.pid_file, stays=stays)
        )
        self.command = f'"{sys.executable}" "{self.script}"'

    def is_alive(self) -> bool:
        try:
            os.kill(int(self.pid_file.read_text()), 0)
        except OSError:
            return False
        stat = Path(f"/proc/{self.pid_file.read_text()}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"

    def stop(self) -> None:
        try:
            os.kill(int(self.pid_file.read_text()), signal.SIGTERM)
        except (OSError, ValueError):
            return


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon(tmp_path)
    yield one
    one.stop()


def test_a_command_is_done_when_its_shell_is(daemon: Daemon) -> None:
    done = commands.run(daemon.command, LONG_S / 2)
    assert (done.code, done.text.strip()) == (0, "last lines")
    if sys.platform != "win32":  # there, os.kill ends whatever it is asked about
        assert daemon.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="no session of its own, so taskkill finds it")
def test_a_timeout_holds_whatever_survives_it(tmp_path: Path) -> None:
    one = Daemon(tmp_path, stays=LONG_S)
    try:
        with pytest.raises(subprocess.TimeoutExpired) as late:
            commands.run(one.command, STARTED_S)
        assert one.is_alive()
        assert late.value.output.strip() == b"last lines"
    finally:
        one.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends whatever it is asked about")
def test_a_timeout_ends_all_that_stayed_in_the_group(tmp_path: Path) -> None:
    one = Daemon(tmp_path, own_session=False, stays=LONG_S)
    with pytest.raises(subprocess.TimeoutExpired):
        commands.run(one.command, STARTED_S)
    for _ in range(3000):
        if not one.is_alive():
            return
        time.sleep(0.02)
    one.stop()
    pytest.fail("a process of the group was left behind")


def test_of_a_large_output_the_end_is_kept(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nfor _ in range(100): sys.stdout.write('y' * 100_000)\nprint('the end')\n")
    done = commands.run([sys.executable, str(script)], LONG_S)
    assert len(done.output) == commands.KEPT_BYTES
    assert done.text.rstrip().endswith("yythe end")
    short = commands.run([sys.executable, str(script)], LONG_S, keep=10)
    assert len(short.output) == 10


def test_complaints_can_be_kept_apart(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint('answer')\nprint('complaint', file=sys.stderr)\nsys.exit(3)\n")
    with tempfile.TemporaryFile() as complaints:
        done = commands.run([sys.executable, str(script)], LONG_S, stderr=complaints)
        complaints.seek(0)
        assert complaints.read().strip() == b"complaint"
    assert (done.code, done.text.strip()) == (3, "answer")


def test_its_reader_ends_with_the_output(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    commands.run([sys.executable, "-c", "print('x')"], LONG_S)
    for thread in set(threading.enumerate()) - before:  # the command has ended, its reader may be about to
        thread.join(LONG_S)
        assert not thread.is_alive()


def switch(command: str, **options: str) -> FirmwareSwitch:
    given = {"perf_ab_baseline_cmd": command, "perf_ab_candidate_cmd": "exit 0", **options}
    return FirmwareSwitch(resolve(given, {}, {}), say=lambda _: None)


def failing(tmp_path: Path, line: str) -> str:
    script = tmp_path / "script.py"
    script.write_text(f"import sys\nprint({line!r})\nsys.exit(2)\n")
    return f'"{sys.executable}" "{script}"'


@pytest.mark.parametrize(
    "line",
    [
        "GET https://ci/old.bin failed, Authorization: Bearer s3cr3t-7f1b",
        "cannot clone https://bench:s3cr3t-7f1b@git.example/firmware.git",
        "flash.sh: token=s3cr3t-7f1b is refused",
        "the variable says s3cr3t-7f1b-of-the-environment",
    ],
)
def test_a_failing_command_repeats_no_secret(
    tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_TOKEN", "s3cr3t-7f1b-of-the-environment")
    with pytest.raises(DeviceError, match="exit code 2") as failed:
        switch(failing(tmp_path, line)).ensure("ab-baseline")
    assert "s3cr3t" not in str(failed.value)


def test_of_a_long_line_a_part_is_shown(tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as failed:
        switch(failing(tmp_path, "x" * 30_000)).ensure("ab-baseline")
    assert len(str(failed.value)) < 500


def test_a_command_has_no_more_than_what_is_left_of_the_session(tmp_path: Path) -> None:
    hanging = f'"{sys.executable}" -c "import time; time.sleep({LONG_S})"'
    with pytest.raises(DeviceError, match=r"not done after 0\.5 s"):
        switch(hanging, perf_ab_timeout_s="50").ensure("ab-baseline", within_s=0.5)


def test_a_command_that_no_shell_can_be_given_is_an_error_of_the_device() -> None:
    with pytest.raises(DeviceError, match="cannot be started"):
        switch("flash\0it").ensure("ab-baseline")
