"""How fast a large history is: ``python tools/bench_history.py [--sessions 10000]``.

Writes realistic sessions (six runs, three profiles, histograms) into a temporary folder and prints, for each
operation, the median and the worst of several tries, with the limit it has to stay under.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pytest_espperf.history import HistoryStore, encode_session, load_session, names
from pytest_espperf.history.rows import Query
from pytest_espperf.model.artifact import (
    CellAggregate,
    Comparability,
    GateRow,
    PathReport,
    PhaseReport,
    PhaseResult,
    RawRun,
    SessionArtifact,
    Summary,
    Verdict,
)

ROOT = Path(__file__).resolve().parents[1]
PROFILES = {
    "c_static_only": ["/file", "/static/large.txt"],
    "python_light": ["/hello", "/api/ping", "/deps", "/query-typed?q=abc&page=2&ratio=1.5&active=true"],
    "python_heavy": [
        "/template",
        "/template-compat?name=Ana&count=2&role=user&roles=user,viewer&items=a,b,c",
    ],
}
RUNS = 6
START = datetime(2000, 1, 1, tzinfo=timezone.utc)
"""Early enough that no session is dated in the future, which would make it the oldest."""
FIELDS = {
    "board": "bench-1",
    "scheme": "http",
    "engine": "asyncio+httptools/1",
    "runs": RUNS,
    "profiles": {name: {"paths": paths, "clients": [12, 8]} for name, paths in PROFILES.items()},
}


def main() -> None:
    """Fill a folder, time the operations, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--folder", help="where the temporary history is made (default: the system's)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        store = HistoryStore(name)
        size = fill(store.folder, options.sessions)
        total = size * options.sessions / 1e9
        print(
            f"{options.sessions:,} sessions of {size / 1e3:,.0f} kB ({total:.2f} GB), {os.cpu_count()} cores"
        )
        measure(store, options.tries)


def measure(store: HistoryStore, tries: int) -> None:
    """Time every operation on the filled folder."""
    comparability = Comparability(key="k", fields=FIELDS)
    index = store.folder / names.INDEX

    def rebuild() -> None:
        index.unlink(missing_ok=True)
        HistoryStore(store.folder).select(Query(limit=1))

    def damage() -> None:
        data = bytearray(index.read_bytes())
        data[len(data) // 2] ^= 1
        index.write_bytes(data)
        HistoryStore(store.folder).select(Query(limit=1))

    def choose() -> None:
        query = Query(comparable_with=comparability, accepted_only=True, limit=20)
        assert len(HistoryStore(store.folder).select(query)) == 20

    moment = [START + timedelta(days=9000)]

    def save_and_choose() -> None:
        moment[0] += timedelta(seconds=30)
        HistoryStore(store.folder).save(session(moment[0], random.Random(1)), "# summary\n", latest=True)
        choose()

    newest = store.folder / store.file_names()[-1]
    report("index rebuilt from nothing", rebuild, 1, 60.0)
    print(f"{'':34} {index.name}: {index.stat().st_size / 1e6:.1f} MB")
    report("damaged index rebuilt", damage, 1, 60.0)
    report("baseline chosen (20 rows)", choose, tries, 0.1)
    report("baseline chosen and loaded", lambda: store.baseline(comparability), tries, None)
    report("list: all rows", lambda: HistoryStore(store.folder).select(), tries, 1.0)
    report("espperf list, whole process", lambda: espperf("list", store.folder), tries, 1.0)
    report("espperf list --json, likewise", lambda: espperf("list", store.folder, "--json"), tries, 1.0)
    report("espperf prune (dry run), likewise", lambda: espperf("prune", store.folder), tries, None)
    report(
        "list: all rows with medians",
        lambda: HistoryStore(store.folder).select(Query(details=True)),
        tries,
        1.0,
    )
    report("find by tag", lambda: HistoryStore(store.folder).find("nightly-7"), tries, 1.0)
    report("file names in order, no index", lambda: HistoryStore(store.folder).file_names(), tries, None)
    report("one session loaded", lambda: load_session(newest), tries * 10, None)
    report("saved, then baseline chosen", save_and_choose, tries, None)
    if sys.platform != "win32":  # it has no such figure
        print(f"{'memory of a process that lists all':34} {memory_mb(store.folder):.0f} MB")


def memory_mb(folder: Path) -> float:
    """Measure the greatest resident memory of a process of its own that lists all rows."""
    code = (
        "import resource, sys; from pytest_espperf.history import HistoryStore; "
        "HistoryStore(sys.argv[1]).select(); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    line = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(line, capture_output=True, check=True, text=True, cwd=ROOT)
    return int(done.stdout) / (1e6 if sys.platform == "darwin" else 1e3)


def espperf(command: str, folder: Path, *words: str) -> None:
    """Run a command on the history in a process of its own, as a user starts it, without its output."""
    line = [sys.executable, "-m", "pytest_espperf.cli", command, "--perf-history", str(folder), *words]
    subprocess.run(line, stdout=subprocess.DEVNULL, check=True)


def report(name: str, work: Callable[[], object], tries: int, limit_s: float | None) -> None:
    """Time ``work`` and print one line with its limit in seconds, if it has one."""
    took = []
    for _ in range(tries):
        before = time.perf_counter()
        work()
        took.append(time.perf_counter() - before)
    limit = ""
    if limit_s is not None:
        limit = f"  limit {limit_s * 1e3:>8,.0f} ms  {'ok' if max(took) <= limit_s else 'MISSED'}"
    median, worst = statistics.median(took) * 1e3, max(took) * 1e3
    print(f"{name:34} median {median:>9,.1f} ms  worst {worst:>9,.1f} ms{limit}")


def fill(folder: Path, count: int) -> int:
    """Write ``count`` sessions without syncing each; returns the size of one in bytes."""
    source = random.Random(20260101)
    template = session(START, source)
    size = 0
    for number in range(count):
        moment = START + timedelta(minutes=30 * number)
        stamp = names.format_stamp(moment)
        tag = f"nightly-{number % 50}"
        artifact = msgspec.structs.replace(
            template, session_id=f"{source.getrandbits(64):016x}", timestamp_utc=stamp, tag=tag
        )
        data = (
            encode_session(artifact)
            if number < 20
            else msgspec.json.format(msgspec.json.encode(artifact), indent=1)
        )
        size = size or len(data)
        (folder / f"{names.session_stem(stamp, tag)}.json").write_bytes(data)
        (folder / f"{names.session_stem(stamp, tag)}.md").write_bytes(b"# summary\n")
    return size


def session(moment: datetime, source: random.Random) -> SessionArtifact:
    """Make a session of the balanced preset."""
    runs = [
        RawRun(
            profile=profile,
            run_index=index,
            results=[phase(profile, paths, name, source) for name in ("burst", "long")],
        )
        for index in range(RUNS)
        for profile, paths in PROFILES.items()
    ]
    summary = Summary(median=34.1234567, best=31.2, worst=51.03, mean=35.5)
    cells = {
        f"{profile}:{name}": CellAggregate(
            profile=profile,
            phase=name,
            sample_count=RUNS,
            pass_rate=1.0,
            p50_ms=summary,
            p95_ms=summary,
            p99_ms=summary,
            rps_ok=summary,
        )
        for profile in PROFILES
        for name in ("burst", "long")
    }
    gates = [
        GateRow(
            name=f"{profile}:{metric}", profile=profile, metric=metric, d_pct=1.25, threshold_pct=7.5, now=3.2
        )
        for profile in PROFILES
        for metric in ("rps_ok", "p95_ms")
    ]
    return SessionArtifact(
        session_id=f"{source.getrandbits(64):016x}",
        timestamp_utc=names.format_stamp(moment),
        tag="bench",
        target="192.168.0.135:8080",
        profiles=list(PROFILES),
        runs_per_profile=RUNS,
        overall_pass=True,
        raw_runs=runs,
        aggregated=cells,
        gate=Verdict(kind="unchanged", gates=gates),
        settings={f"setting_{number}": number for number in range(60)},
        comparability=Comparability(key="k", fields=FIELDS),
        environment={
            "host": "bench",
            "python": "3.11.7",
            "packages": {f"package{n}": "1.2.3" for n in range(20)},
        },
    )


def phase(profile: str, paths: list[str], name: str, source: random.Random) -> PhaseResult:
    """Make a phase with a histogram per path and the telemetry of a board."""
    figures: dict[str, Any] = {
        "requests_total": 420,
        "ok": 419,
        "err": 1,
        "error_rate": 0.238,
        "rps_total": 52.5,
        "rps_ok": 52.375,
        "p50_ms": source.uniform(20, 30),
        "p95_ms": source.uniform(30, 40),
        "p99_ms": source.uniform(40, 90),
        "status_counts": {"200": 419, "503": 1},
    }
    stats = {f"counter_{number}": source.randrange(100_000) for number in range(61)}
    heap = {f"heap_{number}": source.randrange(8_000_000) for number in range(11)}
    shares = {
        path: PathReport(**figures, histogram=base64.b64encode(source.randbytes(450)).decode())
        for path in paths
    }
    return PhaseResult(
        profile=profile,
        phase=name,
        passed=True,
        report=PhaseReport(
            **figures,
            clients=12,
            duration=8.0,
            elapsed=8.01,
            path_metrics=shares,
            stats_before=stats,
            stats_after=stats,
            mem_before=heap,
            mem_after=heap,
            histogram=base64.b64encode(source.randbytes(700)).decode(),
        ),
    )


if __name__ == "__main__":
    main()
