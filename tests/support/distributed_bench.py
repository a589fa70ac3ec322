"""A run of several boards by pytest-xdist, and what the boards and the file system saw of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import MagicMock

from support.board_server import Boards
from support.distributed_probe import NOTES
from support.paths import TESTS
from support.plugin_project import FAST, PROFILES, Span
from support.pytest_alone import ENVIRONMENT

SUITE = ("--pyargs", "pytest_espperf.suite", "-m", "perf")
ARTIFACTS = (".json", ".md", ".csv", ".xml")


@dataclass(frozen=True)
class Seen:
    """What became of one run.

    Attributes:
        code: pytest's exit code.
        output: what it wrote.
        boards: what each board saw, by its address.
        writers: the process that pytest was started as, and of each artifact who wrote it; process ids.
    """

    code: int
    output: str
    boards: Mapping[str, Sequence[Span]]
    controller: int
    writers: Mapping[str, frozenset[int]]


def known_dists() -> list[str]:
    """The values of ``--dist`` that the installed pytest-xdist takes."""
    from xdist.plugin import pytest_addoption

    parser = MagicMock()
    pytest_addoption(parser)
    (choices,) = (
        call.kwargs["choices"] for call in parser.mock_calls if "--dist" in call.args and call.kwargs
    )
    return [str(choice) for choice in choices]


def run_boards(folder: Path, count: int, *words: str, delay_s: float = 0.005) -> Seen:
    """Measure so many boards, each in a process of its own, from a new project in an empty folder."""
    (folder / "espperf.toml").write_text(PROFILES, encoding="utf-8")
    notes = folder.with_name(f"{folder.name}-notes")
    environment = {
        **os.environ,
        **ENVIRONMENT,
        NOTES: str(notes),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH", "")))),
        "XDG_STATE_HOME": str(folder.with_name(f"{folder.name}-state")),
    }
    seen: dict[str, Sequence[Span]] = {}
    with ExitStack() as running:
        boards = [running.enter_context(Boards.running(1, delay_s)) for _ in range(count)]
        addresses = ",".join(address for board in boards for address in board.addresses)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", *SUITE, *FAST, "-p", "support.distributed_probe"),
                *(f"--device-ip={addresses}", "--perf-export=csv=out.csv", "--junitxml=out.xml", *words),
            ],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        output, _ = process.communicate(timeout=120)
    for board in boards:
        seen |= board.seen
    written = [line.split(" ", 1) for line in notes.read_text(encoding="utf-8").splitlines()]
    writers: dict[str, frozenset[int]] = {}
    for pid, path in written:
        # Whatever a file is called while it is written, it is an artifact from when it has its name.
        if path.endswith(ARTIFACTS) and (folder / path).exists():
            writers[path] = writers.get(path, frozenset()) | {int(pid)}
    return Seen(process.returncode, output, seen, process.pid, writers)


def driven_by_two(spans: Iterable[Span]) -> int:
    """How many requests one worker made of a board between the first and the last of another's."""
    by_worker: dict[str, list[Span]] = {}
    for span in spans:
        by_worker.setdefault(span.worker, []).append(span)
    times = {
        worker: (min(span.began for span in own), max(span.ended for span in own))
        for worker, own in by_worker.items()
    }
    return sum(
        begin <= span.began <= end
        for worker, own in by_worker.items()
        for other, (begin, end) in times.items()
        if other != worker
        for span in own
    )


def driven_together(boards: Sequence[Sequence[Span]]) -> int:
    """How many requests were made of a board while another one was answering another."""
    events = sorted(
        event
        for board, spans in enumerate(boards)
        for span in spans
        # At one and the same moment, the end comes first.
        for event in ((span.began, 1, board), (span.ended, -1, board))
    )
    events.sort(key=lambda event: event[:2])
    busy = [0] * len(boards)
    together = 0
    for _, change, board in events:
        if change > 0 and any(count for other, count in enumerate(busy) if other != board):
            together += 1
        busy[board] += change
    return together
