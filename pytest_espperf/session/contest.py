"""Old firmware against new, now: interleaved pairs of rounds until the answer is certain either way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from msgspec import structs

from pytest_espperf import gate
from pytest_espperf.errors import DeviceError
from pytest_espperf.gate.contest import (
    NEW,
    OLD,
    Judged,
    Trouble,
    board_gaps,
    judge_contest,
    pair_count,
    series_of,
)
from pytest_espperf.gate.policy import GatePolicy
from pytest_espperf.gate.rows import pct
from pytest_espperf.gate.sequential import PairAnswer, PairPlan, PairWord, decide, open_profiles
from pytest_espperf.model.artifact import Finding, RunRole, SessionArtifact, Verdict
from pytest_espperf.model.findings import FIRMWARES, INCOMPLETE
from pytest_espperf.model.gates import divided
from pytest_espperf.model.registry import METRICS
from pytest_espperf.model.verdicts import VERDICTS
from pytest_espperf.report.contest import WORDS, duration
from pytest_espperf.session.firmwares import Firmware
from pytest_espperf.session.judging import Judgement
from pytest_espperf.session.progress import OVERHEAD_S
from pytest_espperf.session.round_meter import Placing, RoundMeter
from pytest_espperf.session.saving import SessionOutcome

BLOCK = 3
"""Pairs of two boards before the first swap; between two later ones there are twice as many."""


@dataclass(frozen=True)
class ContestPlan:
    """How long two firmwares are compared.

    Attributes:
        pairs: when answers are certain, and how many pairs there are at most.
        minutes: after which no pair is begun that would not end in time; 0 for no limit.
    """

    pairs: PairPlan
    minutes: float = 0.0


class AbContest:
    """Compares two firmwares.

    Args:
        meter: opened; with one board, or with two.
        old: the firmware of before.
        new: the one that is judged.
        plan: how long.
        policy: floors and rules.

    Attributes:
        outcome: what was measured, judged and saved; None before that.
    """

    def __init__(
        self, meter: RoundMeter, old: Firmware, new: Firmware, plan: ContestPlan, policy: GatePolicy
    ) -> None:
        self._meter = meter
        self._firmwares: dict[RunRole, Firmware] = {OLD: old, NEW: new}
        self._plan = plan
        self._policy = policy
        self._clock = meter.context.clock
        self._trouble: Trouble | None = None
        self._ended = ""
        self._interrupted = ""
        self._answers: dict[str, PairAnswer] = {}
        self.outcome: SessionOutcome | None = None
        meter.contest = structs.replace(meter.contest, most_pairs=plan.pairs.most_pairs)

    def prepare(self) -> None:
        """Build both firmwares, where they are built, before anything is measured.

        Raises:
            BuildError: one cannot be built; nothing is kept of the session.
        """
        try:
            for firmware in self._firmwares.values():
                firmware.prepare()
        except BaseException:  # Ctrl-C as well
            self._meter.drop()
            raise

    def run(self) -> SessionOutcome:
        """Measure until every profile is decided; judge and save what was measured.

        A board or a firmware that fails ends it, and is named in the verdict; so does Ctrl-C.

        Raises:
            KeyboardInterrupt: again, once what was measured is saved: :attr:`outcome`.
        """
        try:
            self._measure()
        except KeyboardInterrupt:
            self._interrupted = "the comparison was interrupted"
            self._conclude()
            raise
        return self._conclude()

    # --- measuring

    def _measure(self) -> None:
        measure = self._measure_twins if len(self._meter.boards) > 1 else self._measure_one
        with suppress(_EndedError):
            measure()

    def _measure_one(self) -> None:
        """Measure pairs AB BA AB ...: the second half of a pair has the firmware of the next one's first."""
        profiles = self._meter.profiles
        for index in range(1, self._plan.pairs.most_pairs + 1):
            began_s = self._clock()
            for role in (OLD, NEW) if index % 2 else (NEW, OLD):
                self._drive(role, index, profiles)
            profiles = self._look(index, began_s)
            if not profiles:
                return

    def _measure_twins(self) -> None:
        """Measure pairs on two boards at once, each with a firmware, and swap these after some of them."""
        profiles = self._meter.profiles
        swapped, index = False, 0
        while index < self._plan.pairs.most_pairs:
            # So that either place has had about as many, whenever that ends.
            block = BLOCK if index == 0 else 2 * BLOCK
            for _ in range(block):
                index += 1
                began_s = self._clock()
                self._drive_twins(index, profiles, swapped=swapped)
                profiles = self._look(index, began_s)
                if not profiles or index == self._plan.pairs.most_pairs:
                    return
            swapped = not swapped

    def _drive(self, role: RunRole, index: int, profiles: Sequence[str]) -> None:
        firmware = self._firmwares[role]
        try:
            self._meter.measure(firmware, index=index, role=role, profiles=profiles)
        except DeviceError as error:
            self._fail(firmware.facts.label, index, error)

    def _drive_twins(self, index: int, profiles: Sequence[str], *, swapped: bool) -> None:
        roles: tuple[RunRole, RunRole] = (NEW, OLD) if swapped else (OLD, NEW)
        placings = [Placing(board, self._firmwares[role], role) for board, role in enumerate(roles)]
        try:
            self._meter.measure_twins(placings, index=index, profiles=profiles)
        except DeviceError as error:
            self._fail("", index, error)

    def _fail(self, label: str, index: int, error: DeviceError) -> None:
        self._trouble = Trouble(label, f"{error} (pair {index})")
        raise _EndedError from error

    def _look(self, index: int, began_s: float) -> list[str]:
        """Decide after a pair; return the profiles that need another one."""
        session = self._meter.artifact()
        self._answers = decide(series_of(session), self._plan.pairs)
        undecided = open_profiles(self._answers)
        pace = self._pace(self._clock() - began_s) if index == 1 else ""
        self._meter.context.say(f"pair {index}: {answer_words(self._answers.values())}{pace}")
        if not undecided:
            return []
        spent_s = (session.contest.seconds if session.contest is not None else 0.0) / 60
        pair_s = (self._clock() - began_s) / 60
        if self._plan.minutes and spent_s + pair_s > self._plan.minutes:
            self._ended = f"--minutes={self._plan.minutes:g} were over"
            return []
        return undecided

    def _pace(self, took_s: float) -> str:
        """Say after the first pair, when builds and boots are known, how long the others take at most."""
        most, twins = self._plan.pairs.most_pairs, len(self._meter.boards) > 1
        changes = [one.seconds + (one.boot_s or 0.0) for one in self._meter.switches]
        change_s = sum(changes) / max(1, len(changes))
        load_s = max(0.0, took_s - sum(changes))
        left_s = (most - 1) * load_s + (most_changes(most, twins=twins) - len(changes)) * change_s
        return f"; it took {duration(took_s)}, at most {duration(left_s)} left"

    # --- the end

    def _conclude(self) -> SessionOutcome:
        meter = self._meter
        session = meter.artifact()
        series = series_of(session)
        answers = decide(series, self._plan.pairs)
        meter.contest = structs.replace(
            meter.contest, pairs=pair_count(session), board_pct=board_gaps(answers)
        )
        session = structs.replace(meter.artifact(), partial=bool(self._interrupted))
        judged = Judged(
            series=series,
            answers=answers,
            trouble=self._trouble,
            labels=(self._firmwares[OLD].facts.label, self._firmwares[NEW].facts.label),
            findings=[*self._basis(session), *meter.findings()],
        )
        verdict = judge_contest(session, judged, self._policy)
        findings = [*verdict.findings, *self._unchecked(session, verdict)]
        verdict = structs.replace(verdict, findings=findings)
        fails = gate.fails(verdict, self._policy)
        passed = not fails and VERDICTS[verdict.kind].complete
        assert session.contest is not None
        contest = structs.replace(session.contest, word=WORDS.get(verdict.kind, ""))
        session = structs.replace(session, gate=verdict, overall_pass=passed, contest=contest)
        self.outcome = meter.save(Judgement(session, verdict, fails))
        return self.outcome

    def _basis(self, session: SessionArtifact) -> list[Finding]:
        """Say what the verdict rests on besides the figures."""
        contest = session.contest
        assert contest is not None
        found = []
        if self._interrupted:
            found.append(Finding(kind=INCOMPLETE, message=f"{self._interrupted}."))
        if self._ended:
            found.append(Finding(severity="warn", kind=FIRMWARES, message=f"it ended early: {self._ended}."))
        # A command may wait for the boot by itself; a request to switch does not.
        in_slots = any(one.how == "slot" for one in contest.firmwares)
        if contest.told_apart is False:
            version = contest.firmwares[0].version
            found.append(
                Finding(
                    severity="warn",
                    kind=FIRMWARES,
                    message=f"the board tells version {version} with either firmware: make sure that it "
                    "runs another one after each change (--check-url).",
                )
            )
        silent = [one for one in contest.switches if one.boot_s is None]
        if in_slots and contest.told_apart is None and silent and len(silent) == len(contest.switches):
            found.append(
                Finding(
                    severity="warn",
                    kind=FIRMWARES,
                    message="the board was never seen to restart when its firmware was changed: make sure "
                    "that it runs another one then.",
                )
            )
        return found

    def _unchecked(self, session: SessionArtifact, verdict: Verdict) -> list[Finding]:
        """Say that nobody has asked which firmware runs, where one measured twice would look as this does."""
        contest = session.contest
        if verdict.kind != "unchanged" or contest is None or contest.told_apart is not None:
            return []
        message = "whether the board ran another firmware after each change was not asked: see --check-url."
        return [Finding(kind=FIRMWARES, message=message)]


def opening_line(meter: RoundMeter, old: Firmware, new: Firmware, plan: ContestPlan) -> str:
    """Say before the first pair what will be measured, and how long that takes at most."""
    context = meter.context
    names = " and ".join(board.name for board in meter.boards)
    twins = len(meter.boards) > 1
    load_s = sum(phase.duration_s for profile in context.plan.profiles for phase in profile.phases)
    phases = sum(len(profile.phases) for profile in context.plan.profiles)
    pair_s = (load_s + phases * (context.plan.warmup_s + OVERHEAD_S)) * (1 if twins else 2)
    profiles, most = ", ".join(meter.profiles), plan.pairs.most_pairs
    return (
        f"{names}: {old.facts.label} against {new.facts.label} firmware, {profiles}; at most {most} pairs of "
        f"{duration(pair_s)}, and {most_changes(most, twins=twins)} changes of firmware besides: how long "
        "these take is known after the first pair"
    )


def most_changes(pairs: int, *, twins: bool) -> int:
    """Count the changes of firmware of so many pairs.

    Of one board each half of a pair needs one that the half before it has not put there; two boards are
    changed at once, at first and for each swap.
    """
    return 2 * (1 + -(-max(0, pairs - BLOCK) // (2 * BLOCK))) if twins else pairs + 1


def answer_words(answers: Iterable[PairAnswer]) -> str:
    """Say how each profile stands, by the worst of its gates: ``page slower by 12.1 %; other open``."""
    worst: dict[str, PairAnswer] = {}
    for answer in answers:
        known = worst.get(answer.profile)
        if known is None or _ORDER.index(answer.word) < _ORDER.index(known.word):
            worst[answer.profile] = answer
    return "; ".join(f"{profile} {_in_words(answer)}" for profile, answer in worst.items())


_ORDER: tuple[PairWord, ...] = ("slower", "open", "faster", "same")


def _in_words(answer: PairAnswer) -> str:
    metric = METRICS.get(answer.name.rpartition(":")[2])
    if answer.word == "slower":
        return f"slower by {pct(answer.change):.1f} %"
    if answer.word == "faster":
        return f"faster by {-divided(metric, pct(answer.change)):.1f} %"
    if answer.word == "same":
        return f"the same (at most {pct(answer.high):.1f} % slower)"
    if math.isfinite(answer.high):
        return f"open ({divided(metric, pct(answer.low)):+.1f} to {divided(metric, pct(answer.high)):+.1f} %)"
    return "open"


class _EndedError(Exception):
    """The comparison cannot go on."""
