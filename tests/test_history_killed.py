"""Real processes, really killed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benches import Bench

from pytest_espperf.history import names, objects

WRITER = Path(__file__).parent / "sync_writer.py"
SEED = 20260131


def run_and_kill(url: str, folders: list[Path], rng: random.Random) -> list[list[str]]:
    """Let a writer in each folder work, and kill it at some moment; the lines that each has printed."""
    writers = [
        subprocess.Popen(
            [sys.executable, str(WRITER), url, str(folder), str(rng.getrandbits(32))],
            stdout=subprocess.PIPE,
            text=True,
        )
        for folder in folders
    ]
    lines = []
    try:
        for writer in writers:
            assert writer.stdout is not None
            lines.append([writer.stdout.readline()])
        for writer in writers:
            time.sleep(rng.uniform(0, 0.5))
            writer.kill()
    finally:
        for number, writer in enumerate(writers):
            writer.kill()
            rest, _ = writer.communicate(timeout=30)
            lines[number] += rest.splitlines()
    return lines


@pytest.mark.timeout(120)
def test_two_benches_that_are_killed_while_they_save_and_sync_lose_nothing(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    (tmp_path / "share").mkdir()
    url = (tmp_path / "share").as_uri()
    folders = [tmp_path / "a", tmp_path / "b"]
    said: list[str] = []
    for _ in range(2):
        for lines in run_and_kill(url, folders, rng):
            said += lines
    saved = {line.split()[1] for line in said if line.startswith("saved")}
    accepted = {line.split()[1] for line in said if line.startswith("accepted")}
    assert len(saved) >= 4
    print(f"{len(saved)} saved, {len(accepted)} accepted")
    benches = [Bench(url, folder) for folder in folders]
    for bench in (*benches, *benches):
        assert bench.sync.pull().skipped == []
        bench.sync.push()
    everything = benches[0].ids()
    assert saved <= set(everything)
    assert len(everything) == len(set(everything))
    there = [name for name in benches[0].there(objects.SESSIONS) if not names.is_temp_name(name)]
    assert [name for name in there if not name.endswith(".md")] == [f"{one}.json" for one in everything]
    # A summary is no condition: it appears after its session, and so may be lost.
    assert {name.removesuffix(".md") for name in there if name.endswith(".md")} <= set(everything)
    for bench in benches:
        assert bench.ids() == everything
        assert bench.store.skipped == []
        decided = bench.decided()
        assert accepted <= {session_id for session_id, (reason, _) in decided.items() if reason == "meant"}
    assert benches[0].decided() == benches[1].decided()
