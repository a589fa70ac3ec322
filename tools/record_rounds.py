"""Record the rounds of a real server as a small data file, for ``bench_gate_cells.py --real FILE``.

::

    python tools/record_rounds.py measure microdot tools/data/rounds_microdot_quiet.json
    python tools/record_rounds.py measure one_write FILE --disturbed   # beside busy loops that come and go
    python tools/record_rounds.py convert ARTIFACT FILE --server "my board, firmware 1.4"
    python tools/record_rounds.py show tools/data/*.json               # how noisy they are

``measure`` runs one long session on a server of tests/support/real_servers.py; ``convert`` takes a session
that was measured otherwise. A file keeps the rounds in their order: neighbours are alike, and whoever
resamples takes blocks of them. A quiet recording wants a computer that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import msgspec
import numpy as np
from real_rig import busy_spells, session
from support.real_servers import SERVERS, missing

from pytest_espperf.model.artifact import PhaseReport, SessionArtifact

METRICS = ("rps_ok", "p95_ms", "p99_ms", "ok", "err")
DIGITS = 5
PROFILES = ("python_light", "python_heavy")
Rounds = dict[str, list[float | None]]


class Recording(msgspec.Struct, kw_only=True):
    """The rounds of one session; of each profile and phase a list per metric, in the order of the rounds.

    ``round_s`` is about how many seconds one round of all profiles took.
    """

    server: str
    when: str
    command: str
    note: str = ""
    round_s: float = 0.0
    profiles: dict[str, dict[str, Rounds]] = {}


def rounded(value: float | None) -> float | None:
    """Return the value with five significant digits."""
    return None if value is None else float(f"{value:.{DIGITS}g}")


def rounds(artifact: SessionArtifact) -> dict[str, dict[str, Rounds]]:
    """Return the planned rounds of a session, by profile, phase and metric."""
    reports: dict[str, dict[str, list[PhaseReport]]] = {}
    for run in artifact.raw_runs:
        if run.role == "run":
            for result in run.results:
                of_profile = reports.setdefault(run.profile, {})
                of_profile.setdefault(result.phase, []).append(result.report)
    return {
        profile: {
            phase: {name: [rounded(getattr(one, name)) for one in found] for name in METRICS}
            for phase, found in phases.items()
        }
        for profile, phases in reports.items()
    }


def text(recording: Recording) -> str:
    """Return the file's text: JSON with a line for each list."""
    indented = json.dumps(msgspec.to_builtins(recording), indent=1)
    listed = re.sub(r"\[[^\]]*\]", lambda found: " ".join(found[0].split()), indented)
    return re.sub(r"(\d)\.0(?=[,\]\s])", r"\1", listed).replace("[ ", "[").replace(" ]", "]") + "\n"


def load_average() -> str:
    """Of the last minute, of all that ran on this computer; ``?`` where the system keeps none."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "?"


def measure(server: str, runs: int, seconds: float, seed: int | None) -> Recording:
    """Run one long session on a server; ``seed`` draws when other work disturbs it, None for never."""
    words = [
        *(f"--perf-runs={runs}", f"--perf-profiles={','.join(PROFILES)}"),
        *(f"--perf-burst-duration={seconds:g}", f"--perf-long-duration={seconds:g}"),
        *("--perf-no-gate", "--perf-hard-timeout-s=0", "--perf-metrics-retries=0"),
    ]
    computer = f"{os.cpu_count()} cores, {platform.system()}, load average {load_average()}"
    spells = f"busy loops on one or two cores in spells of 20-60 s (seed {seed})"
    other = "no other work" if seed is None else spells
    with tempfile.TemporaryDirectory() as folder, SERVERS[server](Path(folder), 1.0) as started:
        limit_s = 60 + runs * len(PROFILES) * 2 * (5 * seconds + 10)
        with nullcontext() if seed is None else busy_spells(seed):
            began = time.monotonic()
            artifact = session(Path(folder) / "history", [started.address, *words], limit_s)
            took_s = time.monotonic() - began
    return Recording(
        server=server,
        when=artifact.timestamp_utc,
        command=" ".join(["espperf run HOST", *words]),
        note=f"{computer} before, {load_average()} at the end; {other}",
        round_s=round(took_s / runs, 1),
        profiles=rounds(artifact),
    )


def convert(artifact: Path, server: str, note: str) -> Recording:
    """Return the recording of a session measured before; between its phases passed a tenth of their time."""
    read = msgspec.json.decode(artifact.read_bytes(), type=SessionArtifact)
    elapsed_s = sum(result.report.elapsed for run in read.raw_runs for result in run.results)
    return Recording(
        server=server,
        when=read.timestamp_utc,
        command="espperf run HOST",
        note=note,
        round_s=round(1.1 * elapsed_s / max(1, read.runs_per_profile), 1),
        profiles=rounds(read),
    )


def noise(values: Sequence[float | None]) -> tuple[float, float, float, float]:
    """Of the logarithms: sd and robust sd in percent, lag-1 autocorrelation; largest distance as a factor."""
    logs = np.log([value for value in values if value])
    centred = logs - logs.mean()
    spread = 1.4826 * float(np.median(np.abs(logs - np.median(logs))))
    lag1 = float((centred[1:] * centred[:-1]).sum() / (centred**2).sum()) if centred.any() else 0.0
    return (
        100 * float(logs.std(ddof=1)),
        100 * spread,
        lag1,
        float(np.exp(np.abs(logs - np.median(logs)).max())),
    )


def table(files: Sequence[Path]) -> Iterator[str]:
    """How noisy the rounds of each file are."""
    yield f"{'':<46}{'median':>9}{'sd %':>7}{'MAD %':>7}{'lag 1':>7}{'farthest':>10}"
    for file in files:
        recording = msgspec.json.decode(file.read_bytes(), type=Recording)
        yield f"{file.name}: {recording.server}, {recording.when}; {recording.note}"
        for profile, phases in recording.profiles.items():
            for phase, metrics in phases.items():
                errors = sum(value or 0 for value in metrics["err"])
                for metric in ("rps_ok", "p95_ms"):
                    values = metrics[metric]
                    middle = float(np.median([value for value in values if value]))
                    sd, robust, lag1, farthest = noise(values)
                    name = f"  {profile}:{phase} {metric} ({len(values)} rounds)"
                    yield f"{name:<46}{middle:>9.1f}{sd:>7.1f}{robust:>7.1f}{lag1:>7.2f}{farthest:>9.2f}x"
                if errors:
                    yield f"  {profile}:{phase}: {errors:.0f} errors"


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = made.add_subparsers(dest="what", required=True)
    one = what.add_parser("measure", help="measure a server of tests/support/real_servers.py")
    one.add_argument("server", choices=SERVERS)
    one.add_argument("file", type=Path)
    one.add_argument("--runs", type=int, default=60)
    one.add_argument("--seconds", type=float, default=1.0, help="of each phase")
    one.add_argument("--disturbed", action="store_true", help="beside busy loops that come and go")
    one.add_argument("--seed", type=int, default=1, help="of the spells")
    one = what.add_parser("convert", help="convert the artifact of a session")
    one.add_argument("artifact", type=Path)
    one.add_argument("file", type=Path)
    one.add_argument("--server", required=True)
    one.add_argument("--note", default="")
    one = what.add_parser("show", help="show how noisy recordings are")
    one.add_argument("files", type=Path, nargs="+")
    return made


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    args = parser().parse_args(words)
    if args.what == "show":
        print("\n".join(table(args.files)))
        return 0
    if args.what == "convert":
        recording = convert(args.artifact, args.server, args.note)
    else:
        if reason := missing(args.server):
            print(reason)
            return 1
        recording = measure(args.server, args.runs, args.seconds, args.seed if args.disturbed else None)
    args.file.parent.mkdir(parents=True, exist_ok=True)
    args.file.write_text(text(recording), encoding="utf-8")
    print("\n".join(table([args.file])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
