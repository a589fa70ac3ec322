"""The gate end to end, on real servers and on the reference device: is what is slower called, and only that?

::

    python tools/bench_real.py                               # ten tries and twenty equal sessions of each
    python tools/bench_real.py --servers microdot --busy 1   # beside a busy loop
    python tools/bench_real.py --servers all --factors 1.3,1.8 --tries 3 --equal 5 --seconds 1.5

A try has a history of its own: sessions that become the baseline (``--baseline``, two), then one for each of
``--factors`` in which the template handlers (profile python_heavy) do that many times the work; those do not
see each other. Equal firmware is judged in sequences: each begins with a history of its own, and its first
session is not judged. Each session is the real command line in a process of its own, on a server that was
just started; the verdict is the artifact's.

Exit code 1 where of the largest factor less than nine tries in ten are called, or one is called unchanged or
better; where a smaller one is not called although its change is as large as what the session says that it
would have noticed; or where equal firmware fails. MicroPython is needed for ``microdot`` (see
.ci/micropython.sh), a C compiler for ``one_write``, ``two_writes``, ``nginx`` and ``lighttpd``.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from real_rig import SessionError, busy, session
from support.real_servers import SERVERS, missing

from pytest_espperf.gate.rows import detectable
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.verdicts import ACCEPTED, FAILING

SLOWED = "python_heavy"
SIM = "sim"
NO_ARTIFACT = "no artifact"
CALLED_SHARE = 0.9


@dataclass(frozen=True)
class Answer:
    """What one session answered.

    Attributes:
        verdict: its word, or that it left no artifact.
        gates: what changed in the profile that is made slower, and from where on it fails; other failures.
        seen: whether a gate of that profile changed by as much as the session says it would have noticed.
        seconds: how long the session took.
        warnings: what it warned of.
    """

    verdict: str
    gates: str
    seconds: float
    seen: bool = False
    warnings: tuple[str, ...] = ()


@dataclass
class Tally:
    """All verdicts on one server.

    Attributes:
        factors: by how much handlers were made slower, smallest first.
        slower: for each factor the verdicts.
        missed: for each factor how often a change that was seen by its session's own word was not called.
        equal: the verdicts on equal firmware.
    """

    factors: Sequence[float]
    slower: dict[float, Counter[str]] = field(init=False)
    missed: Counter[float] = field(default_factory=Counter)
    equal: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.slower = {factor: Counter() for factor in self.factors}

    def add(self, factor: float, answer: Answer) -> None:
        """Count a slower session's answer."""
        self.slower[factor][answer.verdict] += 1
        self.missed[factor] += answer.seen and answer.verdict != "regressed"

    @property
    def met(self) -> bool:
        """Whether what is slower was called, and nothing else."""
        largest = self.slower[self.factors[-1]]
        called = largest["regressed"] >= CALLED_SHARE * largest.total()
        measured = not self.equal[NO_ARTIFACT] + sum(words[NO_ARTIFACT] for words in self.slower.values())
        honest = called and never_green(largest) and not self.missed.total()
        return honest and self._failed == 0 and measured

    @property
    def _failed(self) -> int:
        return sum(self.equal[word] for word in FAILING)

    def summary(self) -> str:
        """One line for each factor, and one for equal firmware."""
        lines = [
            f"{factor:g}x slower: regressed {words['regressed']} of {words.total()}, never unchanged: "
            f"{'yes' if never_green(words) else 'no'}, seen and not called: {self.missed[factor]}   "
            f"({words_of(words)})"
            for factor, words in self.slower.items()
        ]
        lines.append(
            f"equal firmware: failed {self._failed} of {self.equal.total()}   ({words_of(self.equal)})"
        )
        return "\n    ".join(lines)


def never_green(words: Counter[str]) -> bool:
    """Whether none of the verdicts is one that a baseline is made of."""
    return not any(words[word] for word in ACCEPTED)


def words_of(counter: Counter[str]) -> str:
    """``9 regressed, 1 inconclusive``."""
    return ", ".join(f"{number} {word}" for word, number in counter.most_common()) or "none"


def gates_of(artifact: SessionArtifact) -> str:
    """Return the change that the gates of the slowed profile saw, and those that fail."""
    assert artifact.gate is not None
    compared = [
        f"{row.metric if row.profile == SLOWED else row.name} {row.d_pct:+.0f} %"
        + ("" if row.threshold_pct is None else f" (fails at {row.threshold_pct:.0f} %)")
        for row in artifact.gate.gates
        if row.d_pct is not None and (row.profile == SLOWED or row.verdict in FAILING)
    ]
    return ", ".join(compared) or f"{SLOWED} was not compared"


def seen_in(artifact: SessionArtifact) -> bool:
    """Whether the slowed profile changed by as much as the session says that it would have noticed."""
    assert artifact.gate is not None
    said = detectable(artifact.gate).get(SLOWED)
    changes = [row.d_pct for row in artifact.gate.gates if row.profile == SLOWED and row.metric == "rps_ok"]
    return said is not None and any(change is not None and change >= said for change in changes)


def warnings_of(artifact: SessionArtifact) -> tuple[str, ...]:
    """Return what the session warned of, or failed for."""
    assert artifact.gate is not None
    return tuple(
        f"{one.kind} {one.where}: {one.message}" for one in artifact.gate.findings if one.severity != "info"
    )


class Bench:
    """Sessions on one kind of server.

    Attributes:
        server: a name of tests/support/real_servers.py, or ``sim``.
        words: options of each session.
        limit_s: how long a session may take.
        keep: where the histories are kept; None: nowhere.
    """

    def __init__(
        self, server: str, words: Sequence[str], limit_s: float, seed: int, keep: Path | None = None
    ) -> None:
        self.server = server
        self.words = words
        self.limit_s = limit_s
        self.keep = keep
        self._seeds = count(seed)
        self._places = count(1)

    @contextmanager
    def place(self) -> Iterator[Path]:
        """Return a folder for a new history."""
        if self.keep is None:
            with tempfile.TemporaryDirectory(prefix="espperf-real-") as folder:
                yield Path(folder)
        else:
            kept = self.keep / f"{self.server}-{next(self._places)}"
            kept.mkdir(parents=True)
            yield kept.resolve()

    @contextmanager
    def board(self, folder: Path, factor: float) -> Iterator[list[str]]:
        """Return the words that name a board whose template handlers do ``factor`` times the work."""
        if self.server == SIM:
            yield [SIM, f"--sim-slowdown={SLOWED}={factor:g}", f"--sim-seed={next(self._seeds)}"]
        else:
            with SERVERS[self.server](folder, factor) as started:
                yield [started.address, "--device-id=bench"]  # whatever its port is

    def answer(self, folder: Path, factor: float = 1.0) -> Answer:
        """Run a session with the history in ``folder``."""
        began = time.monotonic()
        try:
            with self.board(folder, factor) as board:
                artifact = session(folder / "history", [*board, *self.words], self.limit_s)
        except SessionError as error:
            return Answer(NO_ARTIFACT, str(error), time.monotonic() - began)
        assert artifact.gate is not None
        seconds = time.monotonic() - began
        return Answer(
            artifact.gate.kind, gates_of(artifact), seconds, seen_in(artifact), warnings_of(artifact)
        )

    def slower(self, factors: Sequence[float], baseline: int) -> Iterator[tuple[float, Answer]]:
        """Return the answers of a try, the baseline's (factor 1) first."""
        with self.place() as folder:
            for _ in range(baseline):
                yield 1.0, self.answer(folder)
            for factor in factors:
                apart = folder / f"{factor:g}"
                shutil.copytree(folder / "history", apart / "history")
                yield factor, self.answer(apart, factor)

    def equal(self, sessions: int) -> Iterator[Answer]:
        """Return the answers to sessions of equal firmware; the first one has nothing to be compared with."""
        with self.place() as folder:
            for _ in range(1 + sessions):
                yield self.answer(folder)


def run(bench: Bench, args: argparse.Namespace) -> Tally:
    """All tries on one server, printed as they come."""
    tally = Tally(args.factors)
    for number in range(1, args.tries + 1):
        before: list[str] = []
        for factor, answer in bench.slower(args.factors, args.baseline):
            if factor == 1.0:
                before.append(answer.verdict)
            else:
                tally.add(factor, answer)
                past = ", ".join(before)
                show(f"{bench.server} try {number}: {past}, {factor:g}x slower:", answer, "regressed")
    while (left := args.equal - tally.equal.total()) > 0:
        for place, answer in enumerate(bench.equal(min(left, args.sequence))):
            if place:
                tally.equal[answer.verdict] += 1
                show(f"{bench.server} equal firmware, {place} before it:", answer, "unchanged")
            elif answer.verdict != "no-baseline":
                show(f"{bench.server} first session:", answer, "no-baseline")
    return tally


def show(what: str, answer: Answer, wanted: str) -> None:
    """Print a line for an answer, and what it warned of where it is not the one that was wanted."""
    print(f"{what} {answer.verdict.upper()}  {answer.gates}  [{answer.seconds:.0f} s]", flush=True)
    if answer.verdict != wanted:
        print("".join(f"    {warning}\n" for warning in answer.warnings), end="", flush=True)


def factors(text: str) -> tuple[float, ...]:
    """Return the factors of ``--factors``, smallest first.

    Raises:
        ValueError: not numbers above 1.
    """
    found = tuple(sorted(map(float, text.split(","))))
    if found[0] <= 1:
        raise ValueError(text)
    return found


def session_words(args: argparse.Namespace) -> list[str]:
    """Return the options of each session."""
    words = [f"--perf-profiles={args.profiles}"]
    if args.preset:
        words.append(f"--perf-preset={args.preset}")
    if args.runs:
        words.append(f"--perf-runs={args.runs}")
    if args.seconds:
        words += [f"--perf-burst-duration={args.seconds:g}", f"--perf-long-duration={args.seconds:g}"]
    return [*words, *args.words]


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*SERVERS, SIM]
    made.add_argument("--servers", default="microdot,sim", help=f"some of {','.join(names)}, or all")
    made.add_argument("--factors", type=factors, default=(1.8,), help="how much slower they get: 1.3,1.8")
    made.add_argument("--tries", type=int, default=10, help="sessions on slower handlers")
    made.add_argument("--baseline", type=int, default=2, help="sessions before each of them")
    made.add_argument("--equal", type=int, default=20, help="judged sessions of equal firmware")
    made.add_argument("--sequence", type=int, default=5, help="so many of them share a history")
    made.add_argument("--preset", default="quick", help="the sessions' schedule")
    made.add_argument("--runs", type=int, help="runs of a session, in place of the preset's")
    made.add_argument("--seconds", type=float, help="of each phase, in place of the preset's")
    made.add_argument("--profiles", default=f"python_light,{SLOWED}")
    made.add_argument("--busy", type=int, default=0, metavar="N", help="beside so many busy loops")
    made.add_argument("--limit", type=float, default=600.0, help="seconds that a session may take")
    made.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the histories in it")
    made.add_argument("--seed", type=int, default=1, help="of the reference device")
    made.add_argument("words", nargs="*", help="further options of each session, behind --")
    return made


def main(words: Sequence[str] | None = None) -> int:
    """Run all; the exit code."""
    made = parser()
    args = made.parse_args(words)
    servers = [*SERVERS, SIM] if args.servers == "all" else args.servers.split(",")
    if unknown := [name for name in servers if name not in {*SERVERS, SIM}]:
        made.error(f"no such server: {', '.join(unknown)}")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # what was started is stopped
    tallies: dict[str, Tally] = {}
    with busy(args.busy):
        for name in servers:
            if name != SIM and (reason := missing(name)):
                print(f"{name} is left out: {reason}")
                continue
            tallies[name] = run(Bench(name, session_words(args), args.limit, args.seed, args.keep), args)
    for name, tally in tallies.items():
        print(f"{name}: {tally.summary()}")
    return 0 if tallies and all(tally.met for tally in tallies.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
