"""What a session takes beside its load: ``python tools/bench_overhead.py [--noise medium] [--repeat 3]``.

Runs the packaged suite on the reference device, each time in a process of its own with an empty history, and
prints what a phase costs from the planned end of its load to the begin of the next one, part by part. Words
behind ``--`` go to pytest. Let nothing else run meanwhile: device and session share the computer already.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pytest_espperf import device, load
from pytest_espperf.history.checkpoint import Checkpoint
from pytest_espperf.model import metrics
from pytest_espperf.session.board import Board
from pytest_espperf.session.driver import PhaseDriver
from pytest_espperf.session.meter import Meter

DRAIN = "in-flight"
PARTS = (
    (Meter, "_sleep_until", "waiting"),
    (PhaseDriver, "_rest", "waiting"),
    (device, "read_link", "link"),
    (device.Telemetry, "read_stats", "telemetry"),
    (device.Telemetry, "read_memory", "telemetry"),
    (Board, "probe", "probe"),
    (metrics, "summarise", "figures"),
    (Checkpoint, "write", "checkpoint"),
)
"""Functions, and the part that their time belongs to."""

NAMES = (DRAIN, *dict.fromkeys(name for *_, name in PARTS))


class Tracer:
    """Seconds of each part of a session, on this process's monotonic clock.

    Attributes:
        gaps: between two loads: the cell of the first, the seconds of each part, and of all.
        loads: when each load began, by the wall clock that all processes share, and its planned seconds.
    """

    def __init__(self) -> None:
        self.gaps: list[tuple[str, dict[str, float], float]] = []
        self.loads: list[tuple[float, float]] = []
        self._parts: dict[str, float] = defaultdict(float)
        self._cell = ""
        self._ended: tuple[str, float] | None = None
        for owner, attribute, name in PARTS:
            self._count(owner, attribute, name)
        self._watch_phases(PhaseDriver)
        self._watch_loads(load)

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        began_s = time.monotonic()
        try:
            yield
        finally:
            self._parts[name] += time.monotonic() - began_s

    def _count(self, owner: Any, attribute: str, name: str) -> None:
        plain = getattr(owner, attribute)

        @functools.wraps(plain)
        def counted(*args: Any, **how: Any) -> Any:
            with self._part(name):
                return plain(*args, **how)

        setattr(owner, attribute, counted)

    def _watch_phases(self, owner: Any) -> None:
        plain = owner.run_phase

        @functools.wraps(plain)
        def named(driver: Any, planned: Any, *args: Any) -> Any:
            self._cell = planned.cell
            return plain(driver, planned, *args)

        owner.run_phase = named

    def _watch_loads(self, owner: Any) -> None:
        """Find the gaps: one ends where a load begins, and begins where a load was planned to end."""
        plain = owner.run_phase

        @functools.wraps(plain)
        def counted(target: Any, requests: Any, phase: Any, **how: Any) -> Any:
            now_s = time.monotonic()
            planned_s = phase.duration_s + how["warmup_s"]
            if self._ended is not None:
                cell, ended_s = self._ended
                self.gaps.append((cell, dict(self._parts), now_s - ended_s))
            self.loads.append((time.time(), planned_s))
            self._parts.clear()
            samples = plain(target, requests, phase, **how)
            self._ended = self._cell, now_s + planned_s
            self._parts[DRAIN] = time.monotonic() - now_s - planned_s
            return samples

        owner.run_phase = counted


def traced(report: Path, words: list[str]) -> int:
    """Run pytest in this process with every part counted; its exit code."""
    tracer = Tracer()
    code = int(pytest.main(words))
    report.write_text(json.dumps({"gaps": tracer.gaps, "loads": tracer.loads}), encoding="utf-8")
    return code


def run(noise: str, preset: str, seed: int, words: Sequence[str]) -> dict[str, Any]:
    """One session in a process of its own: what the tracer saw of it, its wall time and its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "parts.json"
        command = [
            *(sys.executable, __file__, f"--traced={report}", "--"),
            *("--pyargs", "pytest_espperf.suite", "-m", "perf", "-q", "-p", "no:cacheprovider"),
            *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"),
            *("--device-ip=sim", f"--sim-noise={noise}", f"--sim-seed={seed}", f"--perf-preset={preset}"),
            *("--perf-history=history", *words),
        ]
        began_s = time.time()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        ended_s = time.time()
        if not report.exists():
            sys.exit(f"no session was measured:\n{done.stdout}{done.stderr}")
        seen: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return {**seen, "began_s": began_s, "ended_s": ended_s, "code": done.returncode}


def show(noise: str, sessions: Sequence[Mapping[str, Any]]) -> None:
    """Print the gaps of several sessions by the cell before them, and what each session took."""
    rows: dict[str, list[tuple[dict[str, float], float]]] = defaultdict(list)
    for session in sessions:
        for cell, parts, total_s in session["gaps"]:
            rows[cell].append((parts, total_s))
    rows["all"] = [gap for row in list(rows.values()) for gap in row]
    width = max(len(name) for name in rows)
    print(
        f"\n{noise} noise, sessions: {len(sessions)}; milliseconds from a planned end to the next load, means"
    )
    print(" ".join([f"{'':{width}}", *(f"{name:>10}" for name in (*NAMES, "other", "overhead"))]))
    for name, row in rows.items():
        cells = [mean(parts.get(part, 0.0) for parts, _ in row) for part in NAMES]
        total_s = mean(total_s for _, total_s in row)
        cells += [total_s - sum(cells), total_s]
        print(" ".join([f"{name:{width}}", *(f"{1e3 * seconds:10.0f}" for seconds in cells)]))
    totals = [total_s for _, total_s in rows["all"]]
    print(f"overhead of a phase: median {median(totals):.3f} s, mean {mean(totals):.3f} s")
    for session in sessions:
        loads = session["loads"]
        parts = {
            "load": sum(planned_s for _, planned_s in loads),
            "start": loads[0][0] - session["began_s"],
            "gaps": sum(total_s for *_, total_s in session["gaps"]),
            "end": session["ended_s"] - sum(loads[-1]),
        }
        told = ", ".join(f"{name} {seconds:.2f}" for name, seconds in parts.items())
        print(f"wall {session['ended_s'] - session['began_s']:.1f} s: {told}; exit code {session['code']}")


def main() -> int:
    """Measure and print; in the process that is measured, run pytest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--noise", action="append", choices=["none", "low", "medium", "high"])
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--repeat", type=int, default=1, help="sessions of each level of noise")
    parser.add_argument("--traced", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", help="for pytest")
    options = parser.parse_args()
    if options.traced:
        return traced(options.traced, options.words)
    for noise in options.noise or ["low", "medium"]:
        show(noise, [run(noise, options.preset, seed, options.words) for seed in range(options.repeat)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
