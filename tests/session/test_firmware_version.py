"""The version of the firmware that a session records: named by the user, or told by the board in its slot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support.pytest_alone import ENVIRONMENT
from support.short_sessions import SHORT

from pytest_espperf.sim import SimConfig, SimProcess

PATIENCE_S = 120.0


def run(place: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_espperf.cli", "run", *words],
        cwd=place,
        env={**os.environ, **ENVIRONMENT, **SHORT},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def recorded(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((next(place.rglob("latest.json"))).read_text())["device"]
    return found


def test_a_session_records_what_its_slot_runs(tmp_path: Path) -> None:
    slots = {"a": {"version": "1.0"}, "b": {"version": "1.1", "boot_s": 0.1}}
    with SimProcess.start(SimConfig().merged({"noise": "none", "time_scale": 0.1, "slot": slots})) as sim:
        at = f"{sim.host}:{sim.port}"
        switch = (
            f'"{sys.executable}" -c "import urllib.request as u; '
            f"u.urlopen(u.Request('http://{at}/ota/switch?slot=b', method='POST')).read()\""
        )
        code, said = run(tmp_path, at)
        assert code == 0, said
        assert (recorded(tmp_path)["firmware"], recorded(tmp_path)["firmware_told"]) == ("1.0", True)
        subprocess.run(switch, shell=True, check=True, timeout=PATIENCE_S)
        code, said = run(tmp_path, at)  # the probe awaits the boot
        assert code == 0, said
        assert recorded(tmp_path)["firmware"] == "1.1"
        with urllib.request.urlopen(f"http://{at}/ota", timeout=PATIENCE_S) as answer:
            assert json.load(answer)["running"] == "b"


def test_the_reference_device_of_a_session_has_slots_and_a_name_of_the_users_comes_first(
    tmp_path: Path,
) -> None:
    words = (
        "sim",
        "--sim-time-scale=0.1",
        "--sim-noise=none",
        "--sim-slot=a:version=3.0,python_light=1.5",
        "--perf-no-gate",
    )
    code, said = run(tmp_path, *words)
    assert code == 0, said
    assert recorded(tmp_path)["firmware"] == "3.0"
    code, said = run(tmp_path, *words, "--device-firmware=mine")
    assert code == 0, said
    assert recorded(tmp_path)["firmware"] == "mine"
    assert "firmware_told" not in recorded(tmp_path)


@pytest.mark.parametrize(
    ("slot", "said"),
    [
        ("c:version=1", "--sim-slot: 'c' is no slot"),
        ("a:boots=no", "--sim-slot: slot a is what the device starts from"),
        ("a:vversion=1", "did you mean 'version'"),
    ],
)
def test_a_bad_slot_is_one_sentence_and_exit_code_4(tmp_path: Path, slot: str, said: str) -> None:
    code, output = run(tmp_path, "sim", f"--sim-slot={slot}")
    assert (code, said in output) == (4, True), output
