"""Calibration of the gate on simulated sessions and on recorded ones: false alarms, power, blindness, time.

    python tools/bench_gate.py                      # all levels, 500 judged sessions each
    python tools/bench_gate.py --sessions 5000 --levels low --parts table --no-rivals --shape heavy
    python tools/bench_gate.py --levels "" --real tools/data/*.json --histories 1,2
    python tools/bench_gate.py --ab                 # old against new in pairs, about two minutes

The *table* compares the gate with what people use today; the other parts are in ``bench_gate_cells.py``.
A recording has no table: it is drawn from in blocks of neighbouring rounds.

Sessions come in labs, as in life: 20 accepted ones, then every further session is judged against those
that were accepted before it. At each place one session of the same firmware is judged (false alarms),
and three in which one profile is 5, 10 or 20 % slower (power). Power counts failing verdicts. Needs the
``dev`` extra. Nothing in the gate was fitted to this generator: ``--shape`` offers others.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import bench_gate_ab as contest
import bench_gate_cells as cells
import msgspec
import numpy as np
from bench_gate_cells import PARTS, run_parts
from bench_gate_model import LEVELS, PROFILES, SHAPES, Lab, Pool, make_pool
from bench_gate_rivals import View, otava_calls, otava_function, rivals, view

from pytest_espperf.gate import GatePolicy, judge, may_stop_early, measure_again, suspects
from pytest_espperf.gate.policy import EARLY_STOP_ROUNDS
from pytest_espperf.gate.sequential import PairPlan
from pytest_espperf.model.artifact import SessionArtifact, Verdict
from pytest_espperf.model.verdicts import ACCEPTED

SLOWDOWNS = (1.05, 1.10, 1.20)
WARM_UP = 20
JUDGED = 50
PAIRS = 6
DRIFT_STEP = 1.02
DRIFT_STEPS = 10
DRIFT_SESSIONS = 20
OTAVA_SHARE = 5
DATA = Path(__file__).parent / "data"
Counts = Counter[tuple[str, str, str]]
PREVIOUS = GatePolicy(baseline="previous")

NAMES = {1.0: "same", 1.05: "5 %", 1.10: "10 %", 1.20: "20 %"}


@dataclass(frozen=True)
class Task:
    """One lab's worth of work."""

    level: str
    seed: int
    shape: str
    pool_size: int
    with_rivals: bool
    boots: float = 0.0
    shared: float | None = None
    boards: int = 1


_POOLS: dict[tuple[str, int], Pool] = {}


def pool_of(level: str, size: int) -> Pool:
    """Return the level's pool of rounds; the same in every worker, and made once in each."""
    key = (level, size)
    if key not in _POOLS:
        _POOLS[key] = make_pool(2024, LEVELS[level], (1.0, *SLOWDOWNS), size)
    return _POOLS[key]


def lab_of(task: Task) -> Lab:
    """Return the lab that a task is about."""
    return Lab(pool_of(task.level, task.pool_size), task.seed, task.shape, task.shared, task.boards)


def accepted(session: SessionArtifact, verdict: Verdict) -> SessionArtifact:
    """Return the session as the store would hand it out later."""
    return msgspec.structs.replace(session, gate=Verdict(kind=verdict.kind))


@dataclass(frozen=True)
class Trial:
    """One session to be judged, and what it takes to measure it again under the same conditions."""

    lab: Lab
    now: SessionArtifact
    effect: dict[str, float]
    slow: dict[str, float]
    boots: float = 0.0

    def confirmed(self, verdict: Verdict) -> SessionArtifact:
        """Run confirmation B: more rounds of every profile without a clear answer."""
        extra = [
            run
            for profile, count in measure_again(verdict).items()
            for run in self.lab.rounds(
                profile, count, self.effect[profile], self.slow.get(profile, 1.0), "confirm"
            )
        ]
        return msgspec.structs.replace(self.now, raw_runs=[*self.now.raw_runs, *extra])

    def paired(self, verdict: Verdict) -> SessionArtifact:
        """Run confirmation C: six A/B pairs of every suspect profile, in the order AB BA AB ..."""
        extra = []
        for profile in suspects(verdict):
            old, new = self._boots(profile)
            extra += self.lab.rounds(profile, PAIRS, old, 1.0, "ab-baseline")
            extra += self.lab.rounds(profile, PAIRS, new, self.slow.get(profile, 1.0), "ab-candidate")
        return msgspec.structs.replace(self.now, raw_runs=[*self.now.raw_runs, *extra])

    def _boots(self, profile: str) -> tuple[list[float], list[float]]:
        """Each pair's effect on either firmware: one boot serves two neighbouring pairs."""
        effect = self.effect[profile]
        if not self.boots:
            return [effect] * PAIRS, [effect] * PAIRS
        draw = self.lab.rng.normal(effect, self.boots, PAIRS + 2).tolist()
        return [draw[(pair + 1) // 2] for pair in range(PAIRS)], [
            draw[PAIRS // 2 + 1 + pair // 2] for pair in range(PAIRS)
        ]

    def alone(self) -> SessionArtifact:
        """Return the session without its control board."""
        own = [run for run in self.now.raw_runs if run.role != "reference"]
        return msgspec.structs.replace(self.now, raw_runs=own)

    def early(self) -> SessionArtifact:
        """Return the session after the rounds from which on it may stop."""
        first = [run for run in self.now.raw_runs if run.run_index <= EARLY_STOP_ROUNDS]
        return msgspec.structs.replace(self.now, raw_runs=first)


def judged(trial: Trial, verdict: Verdict, history: list[SessionArtifact]) -> Iterator[tuple[str, str]]:
    """Every way to judge a session: (rule, word). ``verdict`` is the single-shot one."""
    yield "H=20", verdict.kind
    if trial.lab.shared is not None:
        yield "H=20, no reference", judge(trial.alone(), history).kind
    yield "H=5", judge(trial.now, history[-5:]).kind
    yield "H=1", judge(trial.now, history, PREVIOUS).kind
    word = verdict.kind
    if measure_again(verdict):
        word = judge(trial.confirmed(verdict), history).kind
    yield "H=20 + B", word
    word = verdict.kind
    if suspects(verdict):
        word = judge(trial.paired(verdict), history).kind
    yield "H=20 + C", word
    if may_stop_early(trial.early(), history):
        word = judge(trial.early(), history).kind
    yield "H=20 + C, early stop", word


def one_lab(task: Task) -> Counts:
    """Return counts of (rule, slowdown, word) in one lab."""
    lab = lab_of(task)
    counts: Counts = Counter()
    history: list[SessionArtifact] = []
    views: list[View] = []
    compute = otava_function() if task.with_rivals else None
    for _ in range(WARM_UP):
        history.append(accepted(lab.session(), Verdict(kind="unchanged")))
        views.append(view(history[-1], lab.requests()))
    for place in range(JUDGED):
        effect = lab.effect()
        clean: tuple[Trial, Verdict, View] | None = None
        for factor, name in NAMES.items():
            slow = {} if factor == 1.0 else {PROFILES[place % 3]: factor}
            trial = Trial(lab, lab.session(slower=slow, effect=effect), effect, slow, task.boots)
            looked = view(trial.now, lab.requests())
            verdict = judge(trial.now, history)
            for rule, word in judged(trial, verdict, history):
                counts[rule, name, word] += 1
            clean = clean or (trial, verdict, looked)
            calls = rivals(looked, views[-WARM_UP:]) if task.with_rivals else {}
            if compute is not None and place % OTAVA_SHARE == 0:
                calls["otava"] = otava_calls(compute, looked, views)
            for rule, called in calls.items():
                counts[rule, name, "regressed" if called else "unchanged"] += 1
        assert clean is not None
        trial, verdict, looked = clean
        stopped = may_stop_early(trial.early(), history)
        counts["early stop", "same", "stopped" if stopped else "went on"] += 1
        counts["suspect profiles", "same", str(len(suspects(verdict)))] += 1
        if verdict.kind in ACCEPTED:
            history.append(accepted(trial.now, verdict))
            views.append(looked)
    return counts


def drift_lab(task: Task) -> Counts:
    """Simulate a slide of 2 % per session for ten sessions, then level: when and how does the first fail."""
    lab = lab_of(task)
    history = [accepted(lab.session(), Verdict(kind="unchanged")) for _ in range(WARM_UP)]
    counts: Counts = Counter()
    profile = PROFILES[task.seed % 3]
    for step in range(1, DRIFT_SESSIONS + 1):
        now = lab.session(slower={profile: DRIFT_STEP ** min(step, DRIFT_STEPS)})
        verdict = judge(now, history)
        if verdict.fails:
            counts["drift", str(step), verdict.kind] += 1
            return counts
        if verdict.kind in ACCEPTED:
            history.append(accepted(now, verdict))
    counts["drift", str(DRIFT_SESSIONS + 1), "not found"] += 1
    return counts


def show(level: str, counts: Counts) -> None:
    """Return the table of one level."""
    fail = ("regressed", "drift", "failed")
    words = (*fail, "inconclusive", "environment-shift")
    others = ("drift", "early stop", "suspect profiles")
    print(f"\n{level}: per 1,000 sessions of the same firmware; power in % with one profile slower")
    heads = "".join(f"{head:>9}" for head in ("regr.", "drift", "failed", "inconcl.", "env."))
    print(f"  {'rule':<22}{heads}   " + "".join(f"{name:>8}" for name in list(NAMES.values())[1:]))
    for rule in dict.fromkeys(rule for rule, _, _ in counts if rule not in others):
        found: dict[str, Counter[str]] = {name: Counter() for name in NAMES.values()}
        for (other, name, word), n in counts.items():
            if other == rule:
                found[name][word] += n
        total = found["same"].total()
        cells = "".join(f"{1000 * found['same'][word] / total:9.1f}" for word in words)
        power = [100 * sum(one[word] for word in fail) / one.total() for one in list(found.values())[1:]]
        print(f"  {rule:<22}{cells}   " + "".join(f"{value:8.1f}" for value in power) + f"   ({total})")
    early = Counter({word: n for (rule, _, word), n in counts.items() if rule == "early stop"})
    profiles = {int(word): n for (rule, _, word), n in counts.items() if rule == "suspect profiles"}
    share = sum(k * n for k, n in profiles.items()) / sum(profiles.values())
    print(
        f"  early stop: {100 * early['stopped'] / early.total():.0f} % of clean sessions end after 3 rounds"
    )
    print(f"  A/B pairs: {share:.2f} suspect profiles per clean session")
    steps = sorted(int(step) for (rule, step, _), n in counts.items() if rule == "drift" for _ in range(n))
    how: Counter[str] = Counter()
    for (rule, _, word), n in counts.items():
        how[word] += n if rule == "drift" else 0
    within = 100 * sum(step <= 8 for step in steps) / len(steps)
    print(
        f"  slide of 2 % x 10: first failing session: median {np.median(steps):.0f}, "
        f"90 % {np.percentile(steps, 90):.0f}, within 8: {within:.0f} % ({dict(+how)})"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=500, help="judged sessions per level and slowdown")
    parser.add_argument("--levels", default="low,medium,high,wild", help='of the model; "" for none')
    parser.add_argument("--real", nargs="*", default=[], metavar="FILE", help="of tools/record_rounds.py")
    parser.add_argument("--parts", default=",".join(["table", *PARTS]), help="default: %(default)s")
    parser.add_argument("--rounds", default="3,6", help="of the parts but the table")
    parser.add_argument("--histories", default="1,2,5,20", help="of the cells")
    parser.add_argument("--early", action="store_true", help="cells and chains may end early")
    parser.add_argument("--pause", type=float, default=20.0, help="of recordings: s before measuring again")
    parser.add_argument("--shape", choices=SHAPES, default="normal", help="of the session effect")
    parser.add_argument(
        "--boots",
        type=float,
        default=0.0,
        help="log ratio by which A/B pairs' boots differ (sd), 0.02 is 2 %%",
    )
    parser.add_argument(
        "--reference",
        type=float,
        metavar="SHARE",
        help="measure a control board beside, which has this share of the session effect's variance: 0.8",
    )
    parser.add_argument(
        "--boards", type=int, default=1, help="of the run that a session belongs to; they share its alarms"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pool", type=int, default=2000, help="simulated rounds to draw from")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--ab", action="store_true", help="only old against new, see bench_gate_ab.py")
    args = parser.parse_args(argv)
    if args.ab:
        contests(args)
        return
    parts = args.parts.split(",")
    levels = [level for level in args.levels.split(",") if level]
    print(f"seed {args.seed}, shape {args.shape}, {args.sessions} sessions")
    if otava_function() is None and not args.no_rivals and "table" in parts and levels:
        print("apache-otava: not installed")
    for source in [*levels, *args.real]:
        began = time.perf_counter()
        if "table" in parts and source in LEVELS:
            table(source, args)
        run_parts(
            parts,
            cells.Task(
                source,
                1_000_000 * args.seed,
                rounds=0,
                sessions=args.sessions,
                early=args.early,
                shape=args.shape,
                pause_s=args.pause,
                pool=args.pool,
            ),
            rounds=[int(count) for count in args.rounds.split(",")],
            histories=[int(count) for count in args.histories.split(",")],
            workers=args.workers,
        )
        print(f"  {time.perf_counter() - began:.0f} s", flush=True)


def contests(args: argparse.Namespace) -> None:
    """Compare firmwares in pairs at the levels and on the recordings, all unless some are named."""
    levels = [level for level in args.levels.split(",") if level]
    real = args.real or sorted(str(path) for path in DATA.glob("*.json"))
    print(f"seed {args.seed}, {args.sessions} comparisons of a slowdown, boots differ by {args.boots:g}")
    task = contest.Task(
        "", 1.0, False, args.sessions, 1_000_000 * args.seed, args.pool, args.boots, PairPlan()
    )
    contest.run_ab([*levels, *real], task, args.workers)


def table(level: str, args: argparse.Namespace) -> None:
    """Run and print the table of one level: 20 accepted sessions of six rounds, judged in every way."""
    labs = max(1, -(-args.sessions // JUDGED))
    print(f"\n{level}: {labs} labs of {JUDGED} judged sessions, 6 rounds each")
    pool_of(level, args.pool)
    tasks = [
        Task(
            level,
            1000 * args.seed + lab,
            args.shape,
            args.pool,
            not args.no_rivals,
            args.boots,
            args.reference,
            args.boards,
        )
        for lab in range(labs)
    ]
    drifting = [
        replace(tasks[0], seed=500_000 + 1000 * args.seed + i) for i in range(max(10, args.sessions // 10))
    ]
    counts: Counts = Counter()
    with ProcessPoolExecutor(args.workers) as executor:
        for part in executor.map(one_lab, tasks):
            counts.update(part)
        for part in executor.map(drift_lab, drifting):
            counts.update(part)
    show(level, counts)


if __name__ == "__main__":
    main()
