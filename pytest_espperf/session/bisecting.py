"""The search for the commit that made a board slower: build, flash, measure beside the good end, remember.

Each reading is one round of a commit between two rounds of the good end, so that what wanders on the bench
falls on both. What was measured is on the disk before the next commit is chosen: a search goes on after a
power loss where it was. A commit that cannot be built, flashed or booted is skipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from msgspec import structs

from pytest_espperf.errors import BuildError, DeviceError
from pytest_espperf.gate.bisection import (
    LEAST_END_READINGS,
    AnswerKind,
    Beliefs,
    BisectionAnswer,
    BisectionReading,
    StepAt,
    answer_of,
    believe,
    next_commit,
    weight_of,
)
from pytest_espperf.gate.contest import NEW, OLD
from pytest_espperf.gate.rows import pct
from pytest_espperf.model.artifact import Finding, GateRow, RunRole, Verdict
from pytest_espperf.model.contest import Candidate
from pytest_espperf.model.findings import FIRMWARES, INCOMPLETE
from pytest_espperf.model.gates import MAIN_METRIC, divided, units_of, with_units
from pytest_espperf.model.registry import METRICS
from pytest_espperf.model.text import one_line
from pytest_espperf.model.verdicts import VerdictWord
from pytest_espperf.session.identity import clean_build_of
from pytest_espperf.session.judging import Judgement
from pytest_espperf.session.levels import Levels, levels_of, mean_of, usual_metric
from pytest_espperf.session.revisions import Revision, Revisions
from pytest_espperf.session.round_meter import RoundMeter, keep
from pytest_espperf.session.saving import SessionOutcome
from pytest_espperf.session.searches import MeasuredCommit, SearchState, reading_at

MOST_READINGS = 60
"""Readings after which a search ends without an answer, unless told otherwise."""

MOST_LOST = 3
"""Rounds in a row without a figure, or tries of a commit, after which it is given up."""

WORTH_SAYING = 0.25
"""Probability from which on a commit is named while the search goes on."""

VERDICT_OF: Mapping[AnswerKind, VerdictWord] = {
    "found": "regressed",
    "several": "regressed",
    "none": "unchanged",
    "open": "inconclusive",
}
"""The verdict of the session: on the bad end."""


class _EndLostError(Exception):
    """The good or the bad end cannot be measured; says which, and why."""


class Bisection:
    """One search.

    Args:
        meter: opened.
        revisions: the repository.
        ends: the good end and the commits behind it, oldest first.
        state: with what was measured before.
        save: keeps the state.
        metric: of the gate, where another one is asked for than the throughput, or the p95 where a schedule
            paces the profile.
        most: readings after which it ends.
        minutes: after which no reading is begun; 0 for no limit.
    """

    def __init__(
        self,
        meter: RoundMeter,
        revisions: Revisions,
        ends: Sequence[Revision],
        state: SearchState,
        save: Callable[[SearchState], None],
        *,
        metric: str = "",
        most: int = MOST_READINGS,
        minutes: float = 0.0,
    ) -> None:
        self.state = state
        self._meter = meter
        self._revisions = revisions
        self._ends = list(ends)
        self._save = save
        state.metric = metric or state.metric
        self._most = most
        self._ends_s = meter.context.clock() + minutes * 60 if minutes else math.inf
        self._weights = [weight_of(one.paths) for one in ends[1:]]
        self._failed: dict[int, int] = {}
        rounds = (run.run_index + 1 for run in meter.artifact().raw_runs)  # of earlier parts
        self._index = max(len(state.measured), *rounds, 0)
        self._say = meter.context.say
        self.lost = ""
        """Which end cannot be measured, and why; "" where both can."""

    def run(self) -> SessionOutcome:
        """Measure until the answer is certain, or an end cannot be measured; judge and save all readings.

        Raises:
            KeyboardInterrupt: again, once what was measured is saved.
        """
        try:
            self._note()
            self._search()
        except KeyboardInterrupt:
            self._conclude(interrupted=True)
            raise
        except _EndLostError as error:
            self.lost = str(error)
        return self._conclude()

    def _note(self) -> None:
        """Say in the checkpoints what a search is that was killed."""
        answer = f"the search was interrupted after {self.state.many}; espperf bisect --resume continues"
        self._meter.contest = structs.replace(self._meter.contest, word="not found", answer=answer)

    # --- measuring

    def _search(self) -> None:
        before: Levels | None = None
        while True:
            beliefs, answer = self.stand()
            if self._is_over(answer):
                return
            if before is None:
                before = self._good_round()
            commit = next_commit(beliefs, self._readings(), self.state.skipped, self._ready())
            levels = self._try(commit)
            if levels is None:
                continue
            self._index += 1
            after = self._good_round()
            row = MeasuredCommit(commit=commit, levels=levels, before=before, after=after)
            self.state.measured = [*self.state.measured, row]
            self._save(self.state)
            self._note()
            self._say(self._progress())
            before = after

    def _is_over(self, answer: BisectionAnswer) -> bool:
        if answer.kind != "open" and self.state.measured:
            return True
        if len(self.state.measured) >= self._most:
            return True
        return self._meter.context.clock() >= self._ends_s and bool(self.state.measured)

    def _try(self, commit: int) -> Levels | None:
        """Measure a round of a commit; None where it cannot be measured, which is remembered.

        Raises:
            _EndLostError: the good end cannot be measured either, or it is the bad one.
        """
        try:
            return self._round(commit, NEW)
        except BuildError as error:
            self._skip(commit, error)
        except DeviceError as error:
            tries = self._failed.get(commit, 0) + 1
            self._say_try(commit, tries, error)
            # Is it this firmware, or the board?
            self._good_round()
            self._failed[commit] = tries
            if tries >= MOST_LOST:
                self._skip(commit, error)
        return None

    def _skip(self, commit: int, error: DeviceError) -> None:
        why = self._why(commit, error)
        if commit == len(self._weights):
            raise _EndLostError(f"BAD, {self._ends[commit].shown}, {why}")
        self._say(f"skipping {self._ends[commit].short}, which {why}")
        self.state.skipped = self.state.skipped | {commit: why}
        self._save(self.state)

    def _why(self, commit: int, error: DeviceError) -> str:
        """``cannot be measured, in 3 tries: ...``."""
        if isinstance(error, BuildError):
            return str(error).removeprefix(f"{self._ends[commit].short} ")
        return f"cannot be measured, in {MOST_LOST} tries: {error}"

    def _say_try(self, commit: int, tries: int, error: DeviceError) -> None:
        self._say(f"{self._ends[commit].shown}: try {tries} of {MOST_LOST} failed: {error}")

    def _good_round(self) -> Levels:
        """Measure a round of the good end.

        Raises:
            _EndLostError: it cannot be built, or not be measured again and again.
        """
        for tries in range(1, MOST_LOST + 1):
            try:
                return self._round(0, OLD)
            except DeviceError as error:
                if isinstance(error, BuildError) or tries == MOST_LOST:
                    raise _EndLostError(f"GOOD, {self._ends[0].shown}, {self._why(0, error)}") from None
                self._say_try(0, tries, error)
        raise AssertionError

    def _round(self, commit: int, role: RunRole) -> Levels:
        """Measure a round of a commit until it has a figure.

        Raises:
            BuildError: it cannot be built.
            DeviceError: it cannot be put on the board or measured, or has no figure again and again.
        """
        firmware = self._revisions.firmware(self._ends[commit])
        for _ in range(MOST_LOST):
            runs = self._meter.measure(firmware, index=self._index, role=role, profiles=self._profiles())
            levels = levels_of(runs)
            if levels:
                if not self.state.metric:
                    self.state.metric = usual_metric(runs)
                return levels
        raise DeviceError(
            f"{self._ends[commit].short}: no round of {MOST_LOST} had a figure: this computer, not the "
            "board, set the pace"
        )

    def _profiles(self) -> list[str]:
        """Name the profiles that are measured: all until it is known which one shows the step best."""
        gate = self.gate()
        return [gate.rpartition(":")[0]] if gate else self._meter.profiles

    def _ready(self) -> set[int]:
        return {n for n, one in enumerate(self._ends) if n and self._revisions.is_built(one)}

    # --- what is known

    def gate(self) -> str:
        """Return the gate that decides, ``python_heavy:rps_ok``; "" until it is known.

        Of several profiles it is that in which the bad end is slowest.
        """
        metric = self.state.metric or MAIN_METRIC
        profiles = self._meter.profiles
        if len(profiles) == 1:
            return f"{profiles[0]}:{metric}"
        ends = [row for row in self.state.measured[:LEAST_END_READINGS] if row.commit == len(self._weights)]
        if len(ends) < LEAST_END_READINGS:
            return ""
        changes: dict[str, float] = {}
        for name in (f"{profile}:{metric}" for profile in profiles):
            found = [one.change for row in ends if (one := reading_at(row, name)) is not None]
            if len(found) == len(ends):
                changes[name] = min(found)
        return max(changes, key=changes.__getitem__, default="")

    def _readings(self) -> list[BisectionReading]:
        gate = self._shown_gate()
        rows = (reading_at(row, gate) for row in self.state.measured)
        return [one for one in rows if one is not None]

    def _shown_gate(self) -> str:
        return self.gate() or f"{self._meter.profiles[0]}:{self.state.metric or MAIN_METRIC}"

    @property
    def is_certain(self) -> bool:
        """Whether the answer stands, so that nothing is left to measure."""
        return bool(self.state.measured) and self.stand()[1].kind != "open"

    def stand(self) -> tuple[Beliefs, BisectionAnswer]:
        """Return the beliefs and the answer of all that was measured."""
        beliefs = believe(self._weights, self._readings())
        return beliefs, answer_of(beliefs, self.state.skipped)

    def _progress(self) -> str:
        """``measured abc1234: +11.9 %; likeliest def5678 (63 %)``."""
        last, gate = self.state.measured[-1], self.gate()
        reading = reading_at(last, gate) if gate else None
        change = f": {self._size(reading.change):+.1f} %" if reading is not None else ""
        steps = self.stand()[1].steps
        if len(steps) > 1:  # each has a probability of its own: their sum may be anything up to 200 %
            guess = f"; likely two steps, at {' and at '.join(map(self._step, steps))}"
        elif steps and steps[0].probability >= WORTH_SAYING:
            guess = f"; likeliest {self._step(steps[0])}"
        else:
            guess = ""
        return f"measured {self._ends[last.commit].short}{change}{guess}"

    def _size(self, change: float) -> float:
        """Convert a log change to percent, slower positive, as the table has it."""
        return divided(METRICS.get(self._shown_gate().rpartition(":")[2]), pct(change))

    def _step(self, step: StepAt) -> str:
        shorts = " or ".join(self._ends[commit].short for commit in step.commits[:3])
        more = f" or {len(step.commits) - 3} more" if len(step.commits) > 3 else ""
        return f"{shorts}{more} ({probability(step.probability)})"

    # --- the end

    def _conclude(self, *, interrupted: bool = False) -> SessionOutcome:
        meter = self._meter
        beliefs, answer = self.stand()
        word, text = ("not found", self.lost) if self.lost else self._words(beliefs, answer)
        meter.contest = structs.replace(
            meter.contest, word=word, answer=text, candidates=self._candidates(beliefs)
        )
        session = meter.artifact()
        session = structs.replace(
            session,
            partial=interrupted,
            environment=clean_build_of(session.environment, self._ends[-1].commit),
        )
        kind = "inconclusive" if self.lost else VERDICT_OF[answer.kind]
        findings = [*meter.findings()]
        if interrupted:
            findings.append(Finding(kind=INCOMPLETE, message="the search was interrupted."))
        for commit, reason in self.state.skipped.items():
            short = self._ends[commit].short
            findings.append(
                Finding(severity="warn", kind=FIRMWARES, message=f"{short} is skipped, it {reason}.")
            )
        gate = self.gate()
        verdict = Verdict(
            kind="incomplete" if interrupted else kind,
            baseline={"mode": "pairs", "sessions": [], "latest": None, "epoch": None},
            gates=with_units([self._row(gate, beliefs, kind)] if gate else [], session),
            findings=findings,
        )
        found = answer.kind in {"found", "several"} and not self.lost
        session = structs.replace(session, gate=verdict, overall_pass=found and not interrupted)
        return keep(meter, Judgement(session, verdict, fails=not found))

    def _row(self, gate: str, beliefs: Beliefs, word: str) -> GateRow:
        profile, _, metric = gate.rpartition(":")
        good, bad = self._figure(0, gate), self._figure(len(self._weights), gate)
        if good is not None and word != "unchanged":
            # What all readings say, each beside its own runs of GOOD: both figures have the size of the step.
            ratio = math.exp(beliefs.change)
            bad = round(good / ratio if METRICS[metric].better == "higher" else good * ratio, 3)
        return GateRow(
            name=gate,
            profile=profile,
            metric=metric,
            verdict=word,
            baseline=good,
            now=bad,
            d_pct=0.0 if word == "unchanged" else round(pct(beliefs.change), 2),
            rounds=len(self.state.measured),
            detail="the bad end against the good one",
        )

    def _words(self, beliefs: Beliefs, answer: BisectionAnswer) -> tuple[str, str]:
        """Return the word and the sentence of the answer."""
        good, bad = self._ends[0].shown, self._ends[-1].shown
        many = f"after {self.state.many}"
        profile = self.gate().rpartition(":")[0] or self._meter.profiles[0]
        if answer.kind == "none":
            return "no step", f"{bad} is not slower than {good} ({profile}), {many}"
        if answer.kind == "several":
            named = [f"{self._named(step)} ({self._size(step.change):+.0f} %)" for step in answer.steps]
            steps = " and ".join(named)
            return "found", f"more than one step: {steps}; {profile}, {many}"
        if answer.kind == "found":
            slower = f"{profile} is {pct(beliefs.change):.0f} % slower from there on"
            return "found", f"{self._named(answer.steps[0])}; {slower}, {many}"
        if beliefs.none > 0.5 or beliefs.two + max(beliefs.began) < beliefs.none:
            return "not found", f"{good} and {bad} cannot be distinguished ({profile}), {many}"
        if len(answer.steps) > 1:
            both = " and at ".join(map(self._named, answer.steps))
            return "not found", f"not certain {many}; two steps are likely, at {both}"
        return "not found", f"not certain {many}; the likeliest is {self._named(answer.steps[0])}"

    def _named(self, step: StepAt) -> str:
        """``abc1234 (Escape values): 97 %``; of commits that cannot be distinguished, all."""
        names = [
            f"{one.short} ({one_line(one.subject, 60)})" for one in map(self._ends.__getitem__, step.commits)
        ]
        return f"{' or '.join(names)}: {probability(step.probability)}"

    def _figure(self, commit: int, gate: str) -> float | None:
        """Return the mean of what was measured of a commit, in the unit of a gate."""
        rows = self.state.measured
        levels = [row.levels for row in rows if row.commit == commit]
        if commit == 0:
            levels = [side for row in rows for side in (row.before, row.after)]
        return mean_of([one[gate] for one in levels if gate in one], gate.rpartition(":")[2])

    def _candidates(self, beliefs: Beliefs) -> list[Candidate]:
        gate = self._shown_gate()
        profile, _, metric = gate.rpartition(":")
        unit = units_of(self._meter.artifact()).get(profile, "")
        readings: dict[int, list[float]] = {}
        for reading in self._readings():
            readings.setdefault(reading.commit, []).append(reading.change)
        return [
            Candidate(
                label=one.short,
                commit=one.commit,
                subject=one_line(one.subject, 200),
                rounds=len(readings.get(n, ())),
                d_pct=round(pct(sum(changes) / len(changes)), 2) if (changes := readings.get(n)) else None,
                probability=round(beliefs.began[n - 1], 4) if n else None,
                trouble=self.state.skipped.get(n, ""),
                figure=self._figure(n, gate),
                metric=metric,
                unit=unit,
            )
            for n, one in enumerate(self._ends)
        ]


def probability(share: float) -> str:
    """Format a probability: ``97 %``; never 100."""
    return f"{min(99.9, 100 * share):.3g} %" if share > 0.99 else f"{100 * share:.0f} %"
