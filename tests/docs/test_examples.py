"""The repositories in examples/: every command of their README, on the reference device.

The one with pytest-embedded needs the environment of test_embedded.py and is skipped elsewhere.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.docs_pages import Command, steps, words
from support.paths import ROOT
from support.pytest_alone import ENVIRONMENT as ALONE
from support.short_sessions import SHORT

from pytest_espperf.sim import SimConfig, SimProcess

EXAMPLES = ROOT / "examples"
OWN_PROFILES = {name: value for name, value in SHORT.items() if name != "ESPPERF_PERF_PROFILES"}
"""Short sessions of the profiles that an example names itself."""

without_hardware = pytest.mark.skipif(
    sys.platform != "linux" or importlib.util.find_spec("pytest_embedded_serial") is None,
    reason="needs Linux's ptys and pytest-embedded; in an environment of its own: "
    "pip install -e '.[embedded-test]'",
)


@pytest.fixture(scope="module")
def device() -> Iterator[SimProcess]:
    with SimProcess.start(SimConfig(time_scale=0.1, noise="none")) as device:
        yield device


def commands(folder: Path) -> list[Command]:
    """The commands of a repository's README."""
    return [step for step in steps(folder / "README.md") if isinstance(step, Command)]


def run(command: Command, folder: Path, device: SimProcess, environment: Mapping[str, str]) -> str:
    """Run a command of pytest in a folder, the reference device in place of a board; return its output."""
    text = command.text.replace("192.168.0.135", f"127.0.0.1:{device.port}")
    program, *words = shlex.split(text)
    assert program == "pytest"
    others = ("ESPPERF_", "PYTEST_", "GITHUB_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=folder,
        env={**kept, **ALONE, "XDG_STATE_HOME": str(folder / "state"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == command.exit_code, done.stdout
    return done.stdout


def measured(folder: Path) -> tuple[dict[str, Any], set[str]]:
    """The artifact of a repository's first session, and the profiles and phases that it measured."""
    text = (folder / "tools" / "perf_history" / "latest.json").read_text(encoding="utf-8")
    artifact = dict(json.loads(text))
    assert artifact["gate"]["verdict"] == "no-baseline"
    assert artifact["settings"]["device_id"] == "bench-1"
    return artifact, set(artifact["aggregated"])


def test_the_readme_names_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\]\((\w+)/README\.md\)", text))
    assert named == {path.parent.name for path in EXAMPLES.glob("*/README.md")}


def test_a_repository_with_no_test_of_its_own(tmp_path: Path, device: SimProcess) -> None:
    folder = shutil.copytree(EXAMPLES / "firmware_only", tmp_path / "firmware")
    (command,) = commands(folder)
    output = run(command, folder, device, OWN_PROFILES)
    assert "NO-BASELINE" in output
    profiles = ("python_light", "python_heavy")
    assert measured(folder)[1] == {f"{name}:{phase}" for name in profiles for phase in ("burst", "long")}


def test_a_test_and_a_profile_of_its_own(tmp_path: Path, device: SimProcess) -> None:
    folder = shutil.copytree(EXAMPLES / "own_test", tmp_path / "firmware")
    short = re.sub(
        r"(duration_s = )\d+", r"\g<1>0.3", (folder / "pyproject.toml").read_text(encoding="utf-8")
    )
    (folder / "pyproject.toml").write_text(short, encoding="utf-8")
    listing, session = commands(folder)
    assert "[tool.espperf.profiles.status]" in run(listing, folder, device, OWN_PROFILES)
    assert "4 passed" in run(session, folder, device, OWN_PROFILES)
    artifact, phases = measured(folder)
    assert phases == {"status:burst", "status:steady"}
    paths = artifact["raw_runs"][0]["results"][0]["report"]["path_metrics"]
    assert paths["/hello"]["requests_total"] > paths["/api/ping"]["requests_total"]


@pytest.mark.skipif(importlib.util.find_spec("websockets") is None, reason="needs the extra [websocket]")
def test_a_rest_api_and_a_websocket(tmp_path: Path, device: SimProcess) -> None:
    folder = shutil.copytree(EXAMPLES / "rest_api", tmp_path / "firmware")
    short = re.sub(
        r"(duration_s = )\d+", r"\g<1>0.3", (folder / "pyproject.toml").read_text(encoding="utf-8")
    )
    (folder / "pyproject.toml").write_text(short, encoding="utf-8")
    listing, session = commands(folder)
    assert "POST /login  (login)" in run(listing, folder, device, OWN_PROFILES)
    output = run(session, folder, device, OWN_PROFILES)
    shown = {word for line in session.prints for word in words(line)}
    assert {"medians", "req", "msg"} <= shown
    assert not {word for word in shown if word not in output}, output
    artifact, phases = measured(folder)
    assert phases == {"shop:burst", "shop:reconnect", "live:echo"}
    reports = {
        f"{result['profile']}:{result['phase']}": result["report"]
        for one in artifact["raw_runs"]
        for result in one["results"]
    }
    assert all(report["ok"] and not report["err"] for report in reports.values())
    paths = reports["shop:burst"]["path_metrics"]
    assert paths["POST /item"]["status_counts"].keys() == {"201"}
    assert paths["POST /item"]["requests_total"] > paths["/cart"]["requests_total"]
    assert reports["shop:reconnect"]["figures"]["connect_ms"] > 0
    assert artifact["figures"]["item_p50_ms"]["unit"] == "ms"


@without_hardware
# Where it is loaded in this run, too: an autouse fixture of its asks for what pytest warns of.
@pytest.mark.filterwarnings("ignore:record_xml_attribute is an experimental")
def test_a_board_behind_pytest_embedded(tmp_path: Path) -> None:
    from support.embedded_bench import Board

    folder = shutil.copytree(EXAMPLES / "with_embedded", tmp_path / "firmware")
    (command,) = commands(folder)
    with Board.running() as board:
        at_hand = Command(command.text.replace("/dev/ttyUSB0", board.port), 0, (), 0)
        environment = {
            **OWN_PROFILES,
            "ESPPERF_DEVICE_PORT": str(board.device.port),
            "PYTEST_ADDOPTS": f"{ALONE['PYTEST_ADDOPTS']} -p pytest_embedded --root-logdir={folder}",
        }
        assert "4 passed" in run(at_hand, folder, board.device, environment)
        assert board.boots == 1
    assert measured(folder)[1] == {"python_heavy:burst", "python_heavy:long"}
