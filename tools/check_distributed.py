"""Show, with the pytest and the pytest-xdist that are installed, that each board has one worker at a time.

    python tools/check_distributed.py

For each value of ``--dist`` that pytest-xdist knows, several boards are measured in one short run. They note
when which worker asked them for what; a table tells what came of it. Exit code 1 if a board was driven by two
workers at once, if no two boards were driven at once where they should be, or if any process but the
controller wrote an artifact.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.distributed_bench import Seen, driven_by_two, driven_together, known_dists, run_boards

BOARDS = 3
VERDICTS = BOARDS  # a session, and a verdict, of each
WIDTHS = (8, 8, 22, 18, 12, 10, 26)
HEAD = ("pytest", "xdist", "run as", "requests", "two workers", "together", "artifacts by")


def ways() -> Iterator[tuple[tuple[str, ...], bool]]:
    """Return the words of each run, and whether boards are to be driven at the same time in it."""
    for dist in known_dists():
        yield (f"-n{BOARDS}", f"--dist={dist}"), True
    yield (f"--tx={BOARDS}*popen", "--dist=no"), False


def wrong(seen: Seen, *, parallel: bool) -> list[str]:
    """Return what is not as it should be, each in words."""
    found = []
    if seen.code != 0:
        found.append(f"exit code {seen.code}")
    if not all(seen.boards.values()):
        found.append("a board was never asked for anything")
    if twice := sum(map(driven_by_two, seen.boards.values())):
        found.append(f"{twice} requests of a second worker")
    if any(len({span.worker for span in spans}) != 1 for spans in seen.boards.values()):
        found.append("a board changed its worker")
    if parallel != (driven_together(list(seen.boards.values())) > 0):
        found.append("no two boards were driven at once" if parallel else "boards were driven at once")
    strangers = {pid for pids in seen.writers.values() for pid in pids} - {seen.controller}
    if strangers:
        found.append(f"artifacts written by {', '.join(map(str, sorted(strangers)))}")
    if sum(Path(path).match("perf_history/perf_*.json") for path in seen.writers) != VERDICTS:
        found.append(f"not one session of each board among: {', '.join(sorted(seen.writers))}")
    return found


def cells(words: tuple[str, ...], seen: Seen) -> tuple[str, ...]:
    """Return a row of the table."""
    spans = list(seen.boards.values())
    pids = sorted({pid for pids in seen.writers.values() for pid in pids})
    who = ", ".join("the controller" if pid == seen.controller else f"pid {pid}" for pid in pids)
    return (
        version("pytest"),
        version("pytest-xdist"),
        " ".join(words),
        " ".join(str(len(one)) for one in spans),
        str(sum(map(driven_by_two, spans))),
        str(driven_together(spans)),
        f"{who} ({len(seen.writers)})",
    )


def main() -> int:
    """Run all, print the table."""
    print("  ".join(f"{name:<{width}}" for name, width in zip(HEAD, WIDTHS, strict=True)), flush=True)
    failed = 0
    for words, parallel in ways():
        with tempfile.TemporaryDirectory() as folder:
            project = Path(folder) / "project"
            project.mkdir()
            seen = run_boards(project, BOARDS, *words)
        found = wrong(seen, parallel=parallel)
        row = cells(words, seen)
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, WIDTHS, strict=True)), flush=True)
        for one in found:
            print(f"    FAILED: {one}", flush=True)
        if found:
            failed += 1
            print(seen.output)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
