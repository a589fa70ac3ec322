"""A bench that saves, decides and syncs until it is killed: URL FOLDER SEED; prints what is on its disk."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from benches import Bench

from pytest_espperf.errors import RemoteError


def work(url: str, folder: str, seed: int) -> None:
    bench = Bench(url, Path(folder))
    rng = random.Random(seed)
    while True:
        session_id = f"{rng.getrandbits(64):016x}"
        # All of one second and one tag, as far as names go.
        bench.save(session_id, tag="night")
        print("saved", session_id, flush=True)
        if rng.random() < 0.5:
            bench.store.accept(session_id, "meant")
            print("accepted", session_id, flush=True)
        try:
            rng.choice((bench.sync.pull, bench.sync.push))()
        except RemoteError as error:
            print("refused", error, flush=True)


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]))
