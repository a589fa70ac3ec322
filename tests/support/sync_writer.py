"""A bench that saves, decides and syncs until it is killed; it tells what it has done, and what is next."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from support.benches import Bench

from pytest_espperf.errors import RemoteError

with contextlib.suppress(ImportError):
    importlib.import_module("s3fs")  # by whom writers are forked, not by each of them


def work(url: str, folder: Path, seed: int, environment: Mapping[str, str], told: Connection) -> None:
    os.environ.update(environment)
    # What a killed process has written is there all the same.
    pytest.MonkeyPatch().setattr("os.fsync", lambda _: None)
    bench = Bench(url, folder)
    rng = random.Random(seed)
    while True:
        session_id = f"{rng.getrandbits(64):016x}"
        # All of one second and one tag, as far as names go.
        bench.save(session_id, tag="night")
        told.send(("saved", session_id))
        if rng.random() < 0.5:
            bench.store.accept(session_id, "meant")
            told.send(("accepted", session_id))
        word = rng.choice(("pull", "push"))
        told.send((word, ""))
        try:
            getattr(bench.sync, word)()
        except RemoteError as error:
            told.send(("refused", str(error)))
        else:
            told.send(("synced", ""))
