"""Real processes, really killed, and many at once."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import sync_writer
from support.benches import Bench, quick_disk  # noqa: F401 - of the benches in this process
from support.history_places import AZ, BUCKET, CLOUDS, GS, USE
from support.paths import TESTS

from pytest_espperf.history import names
from pytest_espperf.history.shared import objects
from pytest_espperf.history.shared.storage import side_by_side

pytest_plugins = ["support.history_servers"]

SEED = 20260131
ROUNDS = 2
Told = list[tuple[str, str]]

_WAYS = multiprocessing.get_all_start_methods()
processes: Any = multiprocessing.get_context("forkserver" if "forkserver" in _WAYS else "spawn")
if "forkserver" in _WAYS:
    processes.set_forkserver_preload(["support.sync_writer"])


@pytest.fixture(params=["file", "s3", GS, AZ])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place for several benches."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))  # where writers are forked from looks there
    if request.param == "file":
        (tmp_path / "share").mkdir()
        return (tmp_path / "share").as_uri()
    USE[request.param](request.getfixturevalue(request.param), monkeypatch)
    return f"{request.param}://{BUCKET}/{request.node.originalname}"


def run_and_kill(url: str, folder: Path, seed: int, syncs: int, after_s: float) -> Told:
    """Let a writer work, kill it a moment after so many syncs, and give what it told until then."""
    ours, theirs = processes.Pipe(duplex=False)
    named = {name: value for name, value in os.environ.items() if name.startswith(CLOUDS)}
    writer = processes.Process(target=sync_writer.work, args=(url, folder, seed, named, theirs), daemon=True)
    writer.start()
    theirs.close()
    told: Told = []
    try:
        while not told or sum(word == "synced" for word, _ in told) < syncs:
            told.append(ours.recv())
        time.sleep(after_s)
        writer.kill()
        while True:
            told.append(ours.recv())
    except (EOFError, ConnectionResetError):  # it is dead, and all that it told was heard
        return told
    finally:
        writer.kill()
        writer.join()
        ours.close()


def check_all_is_everywhere(benches: list[Bench], saved: set[str], accepted: set[str]) -> None:
    """After a sync of each: on every bench, and there, is what anyone ever had on a disk, once."""
    for bench in benches:
        assert bench.sync.pull().skipped == []
        bench.sync.push()
    for bench in benches[:-1]:
        assert bench.sync.pull().skipped == []
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
        assert decided == benches[0].decided()


@pytest.mark.timeout(600)
def test_two_benches_that_are_killed_while_they_save_and_sync_lose_nothing(
    place: str, tmp_path: Path
) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    folders = [tmp_path / "a", tmp_path / "b"]
    told: Told = []
    killed_in: Counter[str] = Counter()
    for _ in range(ROUNDS):
        orders = [
            (place, folder, rng.getrandbits(32), rng.randint(0, 2), rng.uniform(0, 0.15))
            for folder in folders
        ]
        for heard in side_by_side(lambda order: run_and_kill(*order), orders):
            told += heard
            killed_in[heard[-1][0]] += 1
    assert [text for word, text in told if word == "refused"] == []
    saved = {session_id for word, session_id in told if word == "saved"}
    accepted = {session_id for word, session_id in told if word == "accepted"}
    print(f"{len(saved)} saved, {len(accepted)} accepted, killed after: {dict(killed_in)}")
    assert len(saved) >= 4
    check_all_is_everywhere([Bench(place, folder) for folder in folders], saved, accepted)


def test_benches_that_finish_at_once_lose_nothing(place: str, tmp_path: Path) -> None:
    benches = [
        Bench(place, tmp_path / str(number)) for number in range(30 if place.startswith("file") else 4)
    ]
    for number, bench in enumerate(benches):
        session_id = f"session-{number:02}"
        bench.save(session_id)
        if number % 3 == 0:
            bench.store.accept(session_id, "meant")
    together = threading.Barrier(len(benches))

    def finish(bench: Bench) -> None:
        together.wait(90)
        bench.sync.push()

    with ThreadPoolExecutor(len(benches)) as pool:
        list(pool.map(finish, benches))
    late = Bench(place, tmp_path / "late")
    assert late.sync.pull().new == len(benches)
    assert late.decided() == {
        f"session-{number:02}": ("meant" if number % 3 == 0 else None, False)
        for number in range(len(benches))
    }
