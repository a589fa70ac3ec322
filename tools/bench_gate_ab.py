"""Old firmware against new in pairs, decided after each: how often it is wrong, and how long it takes.

Part of ``bench_gate.py`` (``--ab``), for each level of its model and for recordings of real servers. A
comparison has all profiles of the bench; in one of them, or in all, the new firmware is as slow as told.
Printed are, of comparisons of equal firmwares, how many have an alarm ("slower") and a false "faster", per
1,000; of unequal ones how many have "slower" for the profile that is slower, how many call it the same, and
how many end open; and the median of the pairs and of the minutes until the answer of *all* profiles.

The rounds that are drawn differ by what the level says. Each boot has an effect of its own (``--boots``), and
serves two neighbouring pairs. A recording has neighbouring rounds in the order AB BA AB ...
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median

import numpy as np
from bench_gate_flow import RecordedBench, Recording, SimulatedBench
from bench_gate_model import LEVELS, Pool, make_pool

from pytest_espperf.gate.sequential import PairPlan, PairSeries, decide, open_profiles
from pytest_espperf.gate.series import COMPOSITES, composite
from pytest_espperf.model.artifact import RawRun

FACTORS = (1.0, 1.05, 1.10)
ROWS = ((1.0, False), (1.05, False), (1.05, True), (1.10, False))
"""(factor, whether all profiles are slower)."""

SWITCH_S = 5.0
"""Seconds for a switch of the firmware with its boot: one in a pair, as neighbours share a boot."""

SEED = 2027
PARTS = 8

Rounds = tuple[float, ...]
"""One composite of each metric."""

Measure = Callable[[str, int], tuple[Rounds, Rounds]]
"""(profile, pair from 0 on) -> old and new."""


@dataclass(frozen=True)
class Task:
    """Comparisons with one slowdown, at one level or on one recording."""

    source: str
    factor: float
    everywhere: bool
    comparisons: int
    seed: int
    pool: int
    boots: float
    plan: PairPlan


@dataclass(frozen=True)
class Answer:
    """One comparison: the words of the gates of the slower profile and of the others, and what it took."""

    touched: frozenset[str]
    others: frozenset[str]
    pairs: int
    seconds: float


@cache
def _pool(level: str, size: int) -> Pool:
    return make_pool(SEED, LEVELS[level], FACTORS, size)


@cache
def _recording(path: str) -> Recording:
    return Recording.load(Path(path))


def _values(run: RawRun) -> Rounds:
    phases = {result.phase: result for result in run.results}
    found = [composite(phases, list(phases), metric) for metric in COMPOSITES]
    return tuple(value for value in found if value is not None)


def simulated(bench: SimulatedBench, slow: Mapping[str, float], boots: float, most: int) -> Measure:
    """Return pairs of the model. An effect of each boot is common to all profiles."""
    lab = bench.lab
    effects = lab.rng.normal(0.0, boots, (2, most + 2)) if boots else np.zeros((2, most + 2))

    def measure(profile: str, pair: int) -> tuple[Rounds, Rounds]:
        old, new = float(effects[0, (pair + 1) // 2]), float(effects[1, pair // 2])
        (before,) = lab.rounds(profile, 1, old, 1.0, "ab-baseline")
        (after,) = lab.rounds(profile, 1, new, slow.get(profile, 1.0), "ab-candidate")
        return _values(before), _values(after)

    return measure


def recorded(bench: RecordedBench, slow: Mapping[str, float], rounds: int) -> Measure:
    """Return pairs of neighbouring rounds of a recording."""
    drawn = bench.draw({}, rounds)
    made = {profile: drawn.rounds(profile, 1, rounds, "run") for profile in bench.profiles}

    def measure(profile: str, pair: int) -> tuple[Rounds, Rounds]:
        first, second = (0, 1) if pair % 2 == 0 else (1, 0)
        change = math.log(slow.get(profile, 1.0))
        new = _values(made[profile][2 * pair + second])
        return _values(made[profile][2 * pair + first]), tuple(value + change for value in new)

    return measure


def compare(
    profiles: Sequence[str], slower: str, measure: Measure, plan: PairPlan, round_s: Mapping[str, float]
) -> Answer:
    """Measure pairs until all profiles are decided, or the plan is through."""
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {
        (profile, metric): [] for profile in profiles for metric in COMPOSITES
    }
    left, count, seconds = list(profiles), 0, SWITCH_S
    while left and count < plan.most_pairs:
        for profile in left:
            old, new = measure(profile, count)
            for metric, before, after in zip(COMPOSITES, old, new, strict=True):
                pairs[profile, metric].append((before, after))
            seconds += 2 * round_s[profile]
        count += 1
        seconds += SWITCH_S
        answers = decide([PairSeries(*name, tuple(found)) for name, found in pairs.items()], plan)
        left = open_profiles(answers)
    words = {True: set[str](), False: set[str]()}
    for answer in answers.values():
        words[answer.profile == slower].add(answer.word)
    return Answer(frozenset(words[True]), frozenset(words[False]), count, seconds)


def answers_of(task: Task) -> list[Answer]:
    """Make the comparisons of a task."""
    found = []
    for place in range(task.comparisons):
        seed = task.seed + place
        bench = (
            SimulatedBench(_pool(task.source, task.pool), seed)
            if task.source in LEVELS
            else RecordedBench(_recording(task.source), seed)
        )
        slower = bench.profiles[place % len(bench.profiles)]
        slow = dict.fromkeys(bench.profiles if task.everywhere else [slower], task.factor)
        most = task.plan.most_pairs
        measure = (
            simulated(bench, slow, task.boots, most)
            if isinstance(bench, SimulatedBench)
            else recorded(bench, slow, 2 * most)
        )
        seconds = {profile: bench.seconds(profile) for profile in bench.profiles}
        found.append(compare(bench.profiles, slower, measure, task.plan, seconds))
    return found


def _per_mille(answers: Sequence[Answer], word: str) -> float:
    return 1000 * sum(word in one.touched | one.others for one in answers) / len(answers)


def show(task: Task, answers: Sequence[Answer]) -> None:
    """Print one line."""
    where = ", all" if task.everywhere else ""
    name = f"  {Path(task.source).stem:<30} {100 * (task.factor - 1):+3.0f} %{where:5}"
    minutes = median(one.seconds for one in answers) / 60
    took = f"pairs {median(one.pairs for one in answers):4.1f}, minutes {minutes:5.1f}"
    words: Counter[str] = Counter()
    for one in answers:
        here = one.touched if task.factor > 1 and not task.everywhere else one.touched | one.others
        words["slower" if "slower" in here else "open" if "open" in here else "same"] += 1
    shares = {word: 100 * n / len(answers) for word, n in words.items()}
    if task.factor == 1:
        said = (
            f"alarms {_per_mille(answers, 'slower'):5.1f}, false faster {_per_mille(answers, 'faster'):5.1f} "
            f"per 1,000;  open {shares.get('open', 0.0):5.1f} %"
        )
    else:
        said = "  ".join(f"{word} {shares.get(word, 0.0):5.1f} %" for word in ("slower", "same", "open"))
    print(f"{name}  {said};  median {took}  ({len(answers)})", flush=True)


def run_ab(sources: Sequence[str], task: Task, workers: int) -> None:
    """Print the table of levels and recordings; of equal firmwares four times as many comparisons."""
    for source in sources:
        if source in LEVELS:
            _pool(source, task.pool)
        with ProcessPoolExecutor(workers) as executor:
            for factor, everywhere in ROWS:
                each = math.ceil(task.comparisons * (4 if factor == 1 else 1) / PARTS)
                parts = [
                    replace(
                        task,
                        source=source,
                        factor=factor,
                        everywhere=everywhere,
                        comparisons=each,
                        seed=task.seed + 100_000 * part,
                    )
                    for part in range(PARTS)
                ]
                show(parts[0], [one for found in executor.map(answers_of, parts) for one in found])
