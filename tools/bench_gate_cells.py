"""What the gate says after so many sessions of so many rounds: blindness, alarms, power, time, the baseline.

Parts of ``bench_gate.py``, for a level of its model or for a recording of a real server:

* *cells*: for each number of rounds R and length of history H, false alarms per 1,000 sessions of one
  firmware; of sessions in which one profile is 10, 30 and 50 % slower, how many fail (in percent); and how
  many that are 30 % slower are called ``unchanged``;
* *chain*: what becomes of a baseline in twelve sessions of the same firmware;
* *hang*: a hang of 3 s in one run, of a session that is 75 % slower and of one that is not;
* *times*: what early ends save and cost.

Every session passes the whole flow: planned rounds, what is measured again, the verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from bench_gate_flow import (
    Bench,
    RecordedBench,
    Recording,
    SimulatedBench,
    accepted,
    hang,
    measure,
)
from bench_gate_model import LEVELS, Pool, make_pool

from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.verdicts import FAILING

FACTORS = (1.0, 1.1, 1.3, 1.5)
SLOWDOWNS = (1.1, 1.2, 1.3, 1.5, 1.75)
SESSIONS_A_LAB = 25
WARM_UP = 25
LEAST_BENCHES = 20
CHAIN = 12
"""Sessions of the same firmware from an empty history on."""

LEVEL_SEED = 2026


@dataclass(frozen=True)
class Task:
    """A part of the work: sessions of one cell, from one seed."""

    source: str
    seed: int
    rounds: int
    sessions: int
    history: int = 0
    early: bool = False
    shape: str = "normal"
    pause_s: float = 0.0
    pool: int = 1000


@cache
def _pool(level: str, size: int) -> Pool:
    return make_pool(LEVEL_SEED, LEVELS[level], (1.0, *SLOWDOWNS), size)


@cache
def _recording(path: str) -> Recording:
    return Recording.load(Path(path))


def bench_of(task: Task, seed: int) -> Bench:
    """Return a bench of the task's level or recording."""
    if task.source in LEVELS:
        return SimulatedBench(_pool(task.source, task.pool), seed, task.shape)
    return RecordedBench(_recording(task.source), seed, task.pause_s)


def slow_profile(bench: Bench, place: int) -> str:
    """Return the profile that is made slower: each in turn; of a recording the last, the heaviest."""
    return (
        bench.profiles[place % len(bench.profiles)]
        if isinstance(bench, SimulatedBench)
        else bench.profiles[-1]
    )


def cell(task: Task) -> Counter[tuple[str, str]]:
    """Count (factor, word) of sessions judged after ``history`` others, each on a bench of its own."""
    counts: Counter[tuple[str, str]] = Counter()
    for place in range(task.sessions):
        bench = bench_of(task, task.seed + place)
        history = [
            accepted(measure(bench, [], rounds=task.rounds, name=f"h{i}").session)
            for i in range(task.history)
        ]
        for factor in FACTORS:
            slow = {} if factor == 1.0 else {slow_profile(bench, place): factor}
            done = measure(bench, history, rounds=task.rounds, slow=slow, early=task.early)
            counts[f"{factor:g}", done.verdict.kind] += 1
    return counts


def chain(task: Task) -> Counter[tuple[str, str]]:
    """Find out how many sessions of the same firmware join the baseline, and the longest row kept out."""
    counts: Counter[tuple[str, str]] = Counter()
    for place in range(task.sessions):
        bench = bench_of(task, task.seed + place)
        history: list[SessionArtifact] = []
        kept_out = longest = joined = 0
        for index in range(CHAIN):
            done = measure(bench, history, rounds=task.rounds, early=task.early, name=f"s{index}")
            kept_out = 0 if done.joins else kept_out + 1
            longest = max(longest, kept_out)
            joined += done.joins
            history += done.kept
            counts["word", done.verdict.kind] += 1
        counts["joined", str(joined)] += 1
        counts["kept out", str(longest)] += 1
    return counts


def hung(task: Task) -> Counter[tuple[str, str]]:
    """Simulate a hang of 3 s in one run of a session that is 75 % slower, and the sessions after it."""
    counts: Counter[tuple[str, str]] = Counter()
    for place in range(task.sessions):
        bench = bench_of(task, task.seed + place)
        history = [accepted(measure(bench, [], rounds=task.rounds, name=f"h{i}").session) for i in range(2)]
        profile = slow_profile(bench, place)
        spoil = hang(profile, 1 + place % task.rounds)
        slow = {profile: 1.75}
        for name, how in (
            ("hang, +75 %", {"slow": slow, "spoil": spoil}),
            ("hang, same", {"spoil": spoil}),
        ):
            done = measure(bench, history, rounds=task.rounds, name=name, **how)
            counts[name, done.verdict.kind] += 1
            after = [*history, *done.kept]
            counts[f"{name}; then same", measure(bench, after, rounds=task.rounds).verdict.kind] += 1
            then = measure(bench, after, rounds=task.rounds, slow=slow)
            counts[f"{name}; then +75 %", then.verdict.kind] += 1
    return counts


def times(task: Task) -> list[tuple[str, float, str]]:
    """(factor, share of the full time, word) of sessions with early end, after others of their kind."""
    found: list[tuple[str, float, str]] = []
    bench = bench_of(task, task.seed)
    history: list[SessionArtifact] = []
    for index in range(WARM_UP):
        done = measure(bench, history, rounds=task.rounds, early=True, name=f"w{index}")
        history += done.kept
    for place in range(task.sessions):
        for factor in (1.0, 1.1, 1.2):
            slow = {} if factor == 1.0 else {slow_profile(bench, place): factor}
            done = measure(bench, history, rounds=task.rounds, slow=slow, early=True, name=f"t{place}")
            found.append((f"{factor:g}", done.share, done.verdict.kind))
            if factor == 1.0:
                history += done.kept
        history = history[-60:]
    return found


def split(task: Task, parts: int) -> Iterator[Task]:
    """Return the same in parts, each with seeds of its own."""
    each = -(-task.sessions // parts)
    for part in range(parts):
        yield replace(task, sessions=each, seed=task.seed + 10_000 * part)


def _share(counts: Counter[tuple[str, str]], factor: str, words: frozenset[str]) -> float:
    mine = {word: n for (of, word), n in counts.items() if of == factor}
    return sum(n for word, n in mine.items() if word in words) / max(1, sum(mine.values()))


def show_cell(task: Task, counts: Counter[tuple[str, str]]) -> None:
    """One line of the first table."""
    power = "/".join(f"{100 * _share(counts, f'{factor:g}', FAILING):.0f}" for factor in FACTORS[1:])
    alarms = 1000 * _share(counts, "1", FAILING)
    blind = 100 * _share(counts, "1.3", frozenset({"unchanged"}))
    unclear = 100 * _share(counts, "1", frozenset({"inconclusive"}))
    name = Path(task.source).stem
    print(
        f"  {name:<26} R={task.rounds} H={task.history:<3} alarms {alarms:5.1f}  power 10/30/50 % {power:>11}"
        f"  unchanged though 30 % slower {blind:4.1f} %  same, inconclusive {unclear:4.1f} %",
        flush=True,
    )


def show_rest(title: str, task: Task, counts: Counter[tuple[str, str]]) -> None:
    """Return counts by their first word."""
    print(f"  {Path(task.source).stem:<26} R={task.rounds} {title}")
    for of in dict.fromkeys(of for of, _ in counts):
        mine = {word: n for (other, word), n in counts.items() if other == of}
        key = (lambda item: int(item[0])) if of in {"joined", "kept out"} else (lambda item: -item[1])
        told = ", ".join(f"{word} {n}" for word, n in sorted(mine.items(), key=key))
        print(f"      {of}: {told}", flush=True)


def show_times(task: Task, found: Sequence[tuple[str, float, str]]) -> None:
    """Median and mean share of the full time."""
    for factor in ("1", "1.1", "1.2"):
        shares = sorted(share for of, share, _ in found if of == factor)
        failed = sum(word in FAILING for of, _, word in found if of == factor)
        print(
            f"  {Path(task.source).stem:<26} R={task.rounds} early end, x{factor}: time median "
            f"{shares[len(shares) // 2]:.2f}, mean {sum(shares) / len(shares):.2f}; failed "
            f"{1000 * failed / len(shares):.1f} per 1,000 ({len(shares)})",
            flush=True,
        )


def run_parts(
    names: Sequence[str],
    task: Task,
    *,
    rounds: Sequence[int],
    histories: Sequence[int],
    workers: int,
) -> None:
    """Run some parts for one level or recording, and print them.

    Args:
        names: of :data:`PARTS`; others are passed over.
        task: the level or recording, the seed, how many sessions.
        rounds: numbers of rounds.
        histories: lengths of history, for the cells.
        workers: processes.
    """
    if task.source in LEVELS:
        _pool(task.source, task.pool)
    with ProcessPoolExecutor(workers) as executor:
        for name in names:
            if name in PARTS:
                PARTS[name](executor, task, rounds, histories, workers)


def _cells(
    executor: Executor, task: Task, rounds: Sequence[int], histories: Sequence[int], workers: int
) -> None:
    for one in rounds:
        for history in histories:
            here = replace(task, rounds=one, history=history)
            show_cell(here, sum(executor.map(cell, split(here, workers)), Counter()))


def _chains(executor: Executor, task: Task, rounds: Sequence[int], _: Sequence[int], workers: int) -> None:
    for one in rounds:
        here = replace(task, rounds=one, sessions=max(LEAST_BENCHES, task.sessions // 5))
        show_rest(f"{CHAIN} equal sessions", here, sum(executor.map(chain, split(here, workers)), Counter()))


def _hangs(executor: Executor, task: Task, _: Sequence[int], __: Sequence[int], workers: int) -> None:
    for one in (2, 3, 6):
        here = replace(task, rounds=one, sessions=max(LEAST_BENCHES, task.sessions // 5))
        show_rest("a hang of 3 s in one run", here, sum(executor.map(hung, split(here, workers)), Counter()))


def _times(executor: Executor, task: Task, rounds: Sequence[int], _: Sequence[int], workers: int) -> None:
    # Each part of the work is a lab of its own, whose sessions share what its baseline happens to be.
    labs = max(workers, task.sessions // SESSIONS_A_LAB)
    for one in rounds:
        here = replace(task, rounds=one)
        show_times(here, [found for part in executor.map(times, split(here, labs)) for found in part])


PARTS = {"cells": _cells, "chain": _chains, "hang": _hangs, "times": _times}
