"""Two thousand phases against the reference device, with random faults: does anything grow, or get lost?

::

    python tools/soak.py                          # 2,000 phases, about 15 minutes
    python tools/soak.py --phases 200 --seed 7

Sessions of twenty phases run one after the other in one process, on one history. Before each a fault is
drawn (half of them run without), and now and then the device is killed or a session is interrupted. After the
first quarter its passing sessions are copied until the history has the 200 that a session is judged against,
so that what is loaded at once no longer grows by itself. At the end memory, descriptors and threads are
compared with what they were then, and the index with the files. Exit code 1 where something grew or is
missing. No figure of it is a figure of a board.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec
from bench_process import descriptors, resident_mb

from pytest_espperf.config.lookup import resolve
from pytest_espperf.errors import DeviceError
from pytest_espperf.history import HistoryStore
from pytest_espperf.session.earlier import MAX_SESSIONS
from pytest_espperf.session.session import PerfSession
from pytest_espperf.sim.config import SimConfig
from pytest_espperf.sim.process import SimProcess

PHASES_OF_A_SESSION = 20
FAULTS = (
    {"fault": "hang@{at}:2"},
    {"fault": "reboot@{at}"},
    {"fault": "reset@{at}:1"},
    {"fault": "truncate@{at}:1"},
    {"fault": "malformed@{at}:1"},
    {"fault": "slowloris@{at}:1"},
    {"fault": "garbage-length@{at}:1"},
    {"fault": "refuse@{at}:2"},
    {"error_rate": {"all": 0.05}},
    {"leak_bytes": 40},
    {"rate_limit": True},
    {"max_connections": 3},
)
CALM: dict[str, object] = {
    "fault": [],
    "error_rate": {},
    "leak_bytes": 0,
    "rate_limit": False,
    "max_connections": 20,
}
GROWTH_MB = 8.0
SCALE = 0.05


@dataclass(frozen=True)
class State:
    """What this process holds."""

    memory_mb: float
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> State:
        """As it is, without what the allocator keeps for later.

        Judging loads up to 200 sessions for a moment, and that peak grows until the history has them.
        """
        gc.collect()
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None:
            trim(0)
        return cls(resident_mb(), descriptors(), threading.active_count())

    def grown_since(self, first: State) -> list[str]:
        """Return what grew, in words."""
        grown = []
        if self.memory_mb - first.memory_mb > GROWTH_MB:
            grown.append(f"memory grew from {first.memory_mb:.1f} to {self.memory_mb:.1f} MB")
        if self.descriptors > first.descriptors + 2:
            grown.append(f"descriptors grew from {first.descriptors} to {self.descriptors}")
        if self.threads > first.threads:
            grown.append(f"threads grew from {first.threads} to {self.threads}")
        return grown


def one_session(root: Path, device: SimProcess, rng: random.Random) -> tuple[str, int]:
    """Run a session with whatever fault comes; its verdict and its phases."""
    device.configure(**CALM)
    if rng.random() < 0.5:
        drawn = rng.choice(FAULTS)
        at = rng.uniform(0, PHASES_OF_A_SESSION * 0.3 / SCALE)
        device.configure(
            **{
                name: value.format(at=f"{at:.1f}") if isinstance(value, str) else value
                for name, value in drawn.items()
            }
        )
    settings = resolve(
        {
            "device_ip": f"{device.host}:{device.port}",
            "device_serial": device.console_url,
            "perf_history": str(root / "history"),
            "perf_profiles": "python_light,python_heavy",
            "perf_runs": str(PHASES_OF_A_SESSION // 4),
            "perf_burst_duration": "0.1",
            "perf_long_duration": "0.1",
            "perf_request_timeout": "0.5",
            "perf_probe_retries": "4",
            "perf_settle_ms": "5",
            "perf_between_runs_ms": "0",
            "perf_metrics_retries": "1",
        },
        {},
        {},
    )
    session = PerfSession(settings, root, say=lambda _: None)
    driven = 0
    try:
        session.open()
        for planned in session.planned():
            try:
                session.driver.run_phase(planned, session.budget(planned))
            except DeviceError:
                if session.driver.state.hard_stop_reason:
                    break
            driven += 1
            if rng.random() < 0.002:
                return session.finish("interrupted by the soak").verdict.kind, driven
        return session.finish().verdict.kind, driven
    finally:
        session.close()


@dataclass
class Soak:
    """All sessions of a soak.

    Attributes:
        root: a folder for the history.
        rng: draws the faults.
    """

    root: Path
    rng: random.Random
    verdicts: Counter[str] = field(default_factory=Counter)
    phases: int = 0
    first: State | None = None

    def run(self, phases: int) -> None:
        """Run sessions until there were so many phases."""
        device = start_device()
        filled = False
        try:
            while self.phases < phases:
                if self.rng.random() < 0.02:
                    device.stop()
                    device = start_device()
                verdict, driven = one_session(self.root, device, self.rng)
                self.verdicts[verdict] += 1
                self.phases += max(1, driven)
                if self.first is None and filled:
                    self.first = State.now()
                if not filled and self.phases >= phases / 4:
                    self.fill()
                    filled = True
                if self.verdicts.total() % 10 == 0:
                    print(f"  {self.phases} phases, {State.now()}, {dict(self.verdicts)}", flush=True)
        finally:
            device.stop()

    def fill(self) -> None:
        """Copy passing sessions, as if they had been measured before, until there is a whole bar of them."""
        store = HistoryStore(self.root / "history")
        passed = [one for one in store.sessions() if one.gate is not None and one.gate.joins_baseline]
        oldest = datetime.now(timezone.utc) - timedelta(days=30)
        for number in range(len(passed), MAX_SESSIONS):
            copied = msgspec.structs.replace(
                passed[number % len(passed)],
                session_id=f"copy-{number}",
                timestamp_utc=(oldest + timedelta(minutes=number)).strftime("%Y%m%dT%H%M%SZ"),
            )
            store.save(copied, latest=False)
            assert copied.gate is not None
            self.verdicts[copied.gate.kind] += 1

    def lost(self) -> list[str]:
        """Return what is missing in the history, in words."""
        store = HistoryStore(self.root / "history")
        files = {path.name for path in store.folder.glob("perf_*.json")}
        rows = {row.name for row in store.select()}
        kinds = Counter(str(entry.artifact.gate.kind) for entry in store.entries() if entry.artifact.gate)
        wrong = []
        if len(files) != self.verdicts.total() or rows != files:
            wrong.append(f"{self.verdicts.total()} sessions, {len(files)} files, {len(rows)} rows")
        if kinds != self.verdicts:
            wrong.append(f"verdicts on disk {dict(kinds)}, given {dict(self.verdicts)}")
        return wrong


def start_device() -> SimProcess:
    """Return a fast one with a console."""
    return SimProcess.start(SimConfig(time_scale=SCALE), console="socket")


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--phases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(f"seed {args.seed}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="espperf-soak-") as folder:
        soak = Soak(Path(folder), random.Random(args.seed))
        soak.run(args.phases)
        last = State.now()
        assert soak.first is not None
        wrong = [*last.grown_since(soak.first), *soak.lost()]
    took = time.monotonic() - began
    print(f"{soak.phases} phases, {soak.verdicts.total()} sessions in {took:.0f} s: {soak.first} -> {last}")
    for reason in wrong:
        print(f"WRONG: {reason}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
