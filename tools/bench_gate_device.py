"""The gate on the reference device, end to end: real sessions over sockets, real artifacts.

::

    python tools/bench_gate_device.py                    # every scenario, about 25 minutes
    python tools/bench_gate_device.py stall accept       # some of them
    python tools/bench_gate_device.py --seconds 2        # longer phases: quieter figures

Each scenario starts a reference device with ``--sim-noise low``, runs sessions of the packaged suite in
subprocesses with a history of its own, and prints each session's exit code and verdict, then whether the
scenario ended as it must. Exit code 1 if one did not. No figure of it is a figure of a board.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pytest_espperf.sim.config import SimConfig
from pytest_espperf.sim.process import SimProcess

SWITCH = (
    "import sys, urllib.request as r; "
    "r.urlopen(r.Request(sys.argv[1], sys.argv[2].encode(), {'Content-Type': 'application/json'})).close()"
)


class Bench:
    """A reference device, a history, and sessions of the two between."""

    def __init__(self, folder: Path, device: SimProcess, seconds: float) -> None:
        self.folder = folder
        self.device = device
        self.seconds = seconds

    def session(self, note: str = "", *words: str) -> tuple[int, str]:
        """Run one; its exit code and its verdict."""
        command = [
            *(sys.executable, "-m", "pytest", "--pyargs", "pytest_espperf.suite", "-m", "perf", "-q"),
            *("-p", "no:cacheprovider", f"--device-ip={self.device.host}:{self.device.port}"),
            *("--device-id=bench", "--perf-profiles=python_light,python_heavy", "--perf-runs=6"),
            *(f"--perf-burst-duration={self.seconds}", f"--perf-long-duration={self.seconds}"),
            *("--perf-settle-ms=20", "--perf-between-runs-ms=0", "--perf-history=history", *words),
        ]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        latest = json.loads((self.folder / "history" / "latest.json").read_text(encoding="utf-8"))
        verdict = str(latest["gate"]["verdict"])
        changes = ", ".join(
            f"{row['name']} {row['d_pct']:+.1f} of {row['threshold_pct']:.1f} %"
            for row in latest["gate"]["gates"]
            if row["d_pct"] is not None and row["threshold_pct"] is not None
        )
        print(f"    exit {done.returncode}  {verdict:<18} {note:<28} {changes}", flush=True)
        return done.returncode, verdict

    def command(self, values: Mapping[str, object]) -> str:
        """Return a shell command that sets the device's configuration, as flashing sets a board's."""
        url = f"http://{self.device.host}:{self.device.port}/sim/config"
        body = json.dumps(values)
        return subprocess.list2cmdline([sys.executable, "-c", SWITCH, url]) + f" '{body}'"


def identical(bench: Bench) -> bool:
    """20 identical sessions: no failure."""
    return all(bench.session()[0] == 0 for _ in range(20))


def slowdown(bench: Bench) -> bool:
    """15 % slowdown of one profile after 5 accepted sessions: caught."""
    accepted = all(bench.session()[0] == 0 for _ in range(5))
    bench.device.configure(slowdown={"python_heavy": 1.15})
    return accepted and bench.session("python_heavy 15 % slower") == (1, "regressed")


def stall(bench: Bench) -> bool:
    """Try a stall confined to one run: no failure."""
    accepted = all(bench.session()[0] == 0 for _ in range(5))
    once = threading.Timer(
        2.0 + 6 * bench.seconds, bench.device.configure, kwargs={"fault": [f"hang@0:{2 * bench.seconds}"]}
    )
    once.start()
    code, _ = bench.session(f"a hang of {2 * bench.seconds:g} s in one run")
    once.join()
    return accepted and code == 0


def accept(bench: Bench) -> bool:
    """Try an intended slowdown, accepted with a reason: fails before, not after, and is recorded."""
    accepted = all(bench.session()[0] == 0 for _ in range(5))
    bench.device.configure(slowdown={"python_heavy": 1.3})
    failed = bench.session("python_heavy 30 % slower") == (1, "regressed")
    words = ["accept", "latest", "--reason", "TLS", "--perf-history", "history"]
    subprocess.run([sys.executable, "-m", "pytest_espperf.cli", *words], cwd=bench.folder, check=True)
    after = all(bench.session("accepted")[0] == 0 for _ in range(2))
    return accepted and failed and after and len(list((bench.folder / "history").glob("accept_*"))) == 1


def slide(bench: Bench) -> bool:
    """3 % slower with each session: caught as drift, though each step passes."""
    accepted = all(bench.session()[0] == 0 for _ in range(8))
    for step in range(1, 13):
        bench.device.configure(slowdown={"python_heavy": 1.03**step})
        code, verdict = bench.session(f"{100 * (1.03**step - 1):.0f} % slower by now")
        if code == 1:
            return accepted and verdict == "drift"
    return False


def switching(bench: Bench) -> bool:
    """A/B pairs tell an environment shift (both firmwares 8 % slower) from a regression."""
    old: Mapping[str, object] = {"slowdown": {}}
    new: Mapping[str, object] = {"slowdown": {"python_heavy": 1.08}}
    shifted: Mapping[str, object] = {"slowdown": {"all": 1.08}}
    accepted = all(bench.session()[0] == 0 for _ in range(8))

    def judged(note: str, baseline: Mapping[str, object], candidate: Mapping[str, object]) -> str:
        bench.device.configure(**candidate)
        words = (
            f"--perf-ab-baseline-cmd={bench.command(baseline)}",
            f"--perf-ab-candidate-cmd={bench.command(candidate)}",
        )
        return bench.session(note, *words)[1]

    shift = judged("both 8 % slower", shifted, shifted)
    regression = judged("the new one 8 % slower", old, new)
    return accepted and shift == "environment-shift" and regression == "regressed"


SCENARIOS: Mapping[str, Callable[[Bench], bool]] = {
    scenario.__name__: scenario for scenario in (identical, slowdown, stall, accept, slide, switching)
}


@contextmanager
def bench(seconds: float) -> Iterator[Bench]:
    """Return a fresh device and history."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        device = SimProcess.start(SimConfig(noise="low", time_scale=0.25))
        try:
            yield Bench(Path(name), device, seconds)
        finally:
            device.stop()


def main() -> int:
    """Run the scenarios that were named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--seconds", type=float, default=0.6, help="of each phase (default: %(default)s)")
    arguments = parser.parse_args()
    unknown = set(arguments.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    bad = 0
    for name in arguments.scenarios or SCENARIOS:
        print(f"{name}: {SCENARIOS[name].__doc__}", flush=True)
        with bench(arguments.seconds) as made:
            held = SCENARIOS[name](made)
        bad += not held
        print(f"  {'held' if held else 'DID NOT HOLD'}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
