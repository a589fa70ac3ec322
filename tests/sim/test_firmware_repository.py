"""The firmware of the test repository: its commits build, are flashed, and the seventh is slower."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.firmware_repo import CULPRIT, IMAGE, make_firmware_repository

from pytest_espperf.sim import SimConfig, SimProcess
from pytest_espperf.sim.images import read_image

PATIENCE_S = 60.0


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def test_each_commit_builds_an_image_but_the_one_told_not_to(tmp_path: Path) -> None:
    repository = make_firmware_repository(tmp_path, broken=[4], unbootable=[8])
    assert len(set(repository.commits)) == 12
    before = repository.state()
    built: list[Any] = []
    for commit in repository.commits:
        repository.git("checkout", "--quiet", commit)
        done = run(f'"{sys.executable}" build.py', repository.root)
        built.append(read_image((repository.root / IMAGE).read_bytes()) if done.returncode == 0 else None)
        (repository.root / IMAGE).unlink(missing_ok=True)
        if done.returncode != 0:
            assert "SyntaxError" in done.stderr
    repository.git("checkout", "--quiet", "main")
    (repository.root / IMAGE).parent.rmdir()
    assert repository.state() == before
    assert built[4] is None
    images = [image for image in built if image is not None]
    assert len({image.version for image in images}) == 11
    heavy = [None if image is None else image.slowdown["python_heavy"] for image in built]
    assert heavy[:4] == [1.0] * 4
    assert heavy[5] == 1.0
    assert heavy[CULPRIT:] == [1.12] * 6
    assert [index for index, image in enumerate(built) if image is not None and not image.boots] == [8]
    assert repository.culprit == repository.commits[6]
    assert repository.git("diff", "--name-only", f"{repository.commits[0]}..{repository.commits[1]}") == (
        "README.md"
    )


def test_a_knob_changes_what_is_built(tmp_path: Path) -> None:
    repository = make_firmware_repository(tmp_path)
    factors = {}
    for workers in (4, 6, 8):
        assert run(f'"{sys.executable}" build.py WORKERS={workers}', repository.root).returncode == 0
        factors[workers] = json.loads((repository.root / IMAGE).read_text())["slowdown"]["python_heavy"]
    assert factors[6] < min(factors[4], factors[8])


def test_what_was_built_is_flashed_by_the_command(tmp_path: Path) -> None:
    repository = make_firmware_repository(tmp_path)
    assert run(f'"{sys.executable}" build.py', repository.root).returncode == 0
    with SimProcess.start(SimConfig(noise="none", time_scale=0.1)) as sim:
        flash = repository.flash_command(str(repository.root), sim.host, str(sim.port))
        for slot in ("b", "a"):
            done = run(flash, tmp_path)
            assert (done.returncode, done.stderr) == (0, "")
            shown = run(
                f'"{sys.executable}" -c "import urllib.request as u; '
                f"print(u.urlopen('http://{sim.host}:{sim.port}/ota').read().decode())\"",
                tmp_path,
            )
            assert json.loads(shown.stdout)["running"] == slot
            assert repository.bad.startswith(json.loads(shown.stdout)["version"])
        image = repository.root / IMAGE
        image.write_text("{}")
        done = run(flash, tmp_path)
        assert done.returncode != 0
        assert "no version" in done.stderr
