"""Which value of a knob is the best: a firmware for each, measured in interleaved rounds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec import structs

from pytest_espperf.errors import BuildError, DeviceError, UsageError
from pytest_espperf.gate.contest import NEW
from pytest_espperf.gate.ranking import LEAST_ROUNDS, Ranking, rank_values
from pytest_espperf.gate.rows import pct
from pytest_espperf.model.artifact import Finding, Verdict
from pytest_espperf.model.contest import Candidate
from pytest_espperf.model.findings import FIRMWARES, INCOMPLETE
from pytest_espperf.model.gates import MAIN_METRIC, units_of
from pytest_espperf.session.firmwares import Firmware
from pytest_espperf.session.identity import clean_build_of
from pytest_espperf.session.judging import Judgement
from pytest_espperf.session.levels import Levels, levels_of, mean_of, usual_metric
from pytest_espperf.session.progress import OVERHEAD_S
from pytest_espperf.session.round_meter import RoundMeter, keep
from pytest_espperf.session.saving import SessionOutcome

ALPHA = 0.05
"""Chance that the best value is called worse, of each profile."""

ROUNDS = 6
"""Rounds of each value, unless told otherwise."""

LEAST_VALUES = 2
"""Values below which there is nothing to compare."""

NOT_ENOUGH = "not enough rounds have figures that can be compared"

_KNOB = re.compile(r"(?<![${])\{(knob|KNOB|value)\}")
_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_WORDS = {"best": "best", "alike": "cannot be distinguished", "worse": "worse"}


@dataclass(frozen=True)
class Knob:
    """A name in a build, and the values that are tried."""

    name: str
    values: tuple[str, ...]

    def fill(self, command: str, value: str) -> str:
        """Put the name and a value into a command: ``{knob}`` (or ``{KNOB}``) and ``{value}``."""
        return _KNOB.sub(lambda found: value if found[1] == "value" else self.name, command)

    @staticmethod
    def is_in(command: str) -> bool:
        """Whether a command depends on the value."""
        return any(found == "value" for found in _KNOB.findall(command))


def parse_knob(text: str) -> Knob:
    """Parse ``WORKERS=4,6,8``.

    Raises:
        ValueError: it is not of this form, or has fewer than two different values.
    """
    name, equals, listed = text.partition("=")
    values = [value.strip() for value in listed.split(",")]
    if not equals or _NAME.fullmatch(name) is None or not all(values):
        raise ValueError(f"{text!r} is no knob with values: write KNOB=4,6,8")
    if twice := next((value for value in values if values.count(value) > 1), ""):
        raise ValueError(f"{text!r}: {twice} is given twice")
    if len(values) < LEAST_VALUES:
        raise ValueError(f"{text!r}: a sweep needs two different values or more")
    if any(not re.fullmatch(r"[\w.+:@%/-]+", value) for value in values):
        raise ValueError(f"{text!r}: a value has letters, digits and . + - _ : @ % / only")
    return Knob(name, tuple(values))


class Sweep:
    """Measures every value of a knob once a round, in another order each time.

    Args:
        meter: opened.
        knob: what is varied.
        firmwares: of each value.
        rounds: how many.
        metric: of the gate, where another one is asked for than the throughput, or the p95 where a schedule
            paces a profile.
    """

    def __init__(
        self,
        meter: RoundMeter,
        knob: Knob,
        firmwares: Mapping[str, Firmware],
        *,
        rounds: int = ROUNDS,
        metric: str = "",
    ) -> None:
        self._meter = meter
        self._knob = knob
        self._firmwares = dict(firmwares)
        self._rounds = rounds
        self._metric = metric
        self._levels: dict[str, list[Levels]] = {value: [] for value in knob.values}
        self._trouble: dict[str, str] = {}

    def run(self) -> SessionOutcome:
        """Measure all rounds; judge and save them.

        It ends early where fewer than two values are left.

        Raises:
            KeyboardInterrupt: again, once what was measured is saved.
        """
        note = f"{self._knob.name}: the sweep was interrupted"
        self._meter.contest = structs.replace(self._meter.contest, word="sweep", answer=note)
        try:
            self._build()
            for index in range(self._rounds):
                if len(self._kept()) < LEAST_VALUES:
                    break
                self._round(index)
        except KeyboardInterrupt:
            self._conclude(interrupted=True)
            raise
        return self._conclude()

    # --- measuring

    def _build(self) -> None:
        """Build all before anything is measured: what does not build is left out."""
        for value in self._knob.values:
            try:
                self._firmwares[value].prepare()
            except BuildError as error:
                self._leave_out(value, error)

    def _leave_out(self, value: str, error: DeviceError) -> None:
        self._trouble[value] = str(error)
        self._meter.context.say(f"leaving out {self._knob.name}={value}: {error}")

    def _kept(self) -> list[str]:
        return [value for value in self._knob.values if value not in self._trouble]

    def _round(self, index: int) -> None:
        """Measure each value once: what wanders falls on all alike over the rounds."""
        for place, value in enumerate(order_of(self._kept(), index)):
            number = index * len(self._knob.values) + place + 1
            try:
                levels = self._measure(value, number)
            except BuildError as error:  # a build that is not kept any more
                self._leave_out(value, error)
                continue
            except DeviceError:
                try:  # the second time it is not chance
                    levels = self._measure(value, number)
                except DeviceError as error:
                    self._leave_out(value, error)
                    continue
            self._levels[value].append(levels)
        if len(self._kept()) >= LEAST_VALUES:
            self._meter.context.say(f"round {index + 1} of {self._rounds} is measured")

    def _measure(self, value: str, number: int) -> Levels:
        runs = self._meter.measure(self._firmwares[value], index=number, role=NEW)
        if not self._metric:
            self._metric = usual_metric(runs)
        return levels_of(runs)

    # --- the end

    def rankings(self) -> dict[str, Ranking]:
        """Rank the values by each profile that has figures of three rounds of two values or more."""
        found = {}
        for profile in self._meter.profiles:
            gate = f"{profile}:{self._metric or MAIN_METRIC}"
            rows = [self._levels[value] for value in self._kept()]
            whole = [
                place
                for place in range(min(map(len, rows), default=0))
                if all(gate in row[place] for row in rows)
            ]
            if len(whole) >= LEAST_ROUNDS and len(rows) > 1:
                found[profile] = rank_values(
                    {value: [self._levels[value][place][gate] for place in whole] for value in self._kept()},
                    ALPHA,
                )
        return found

    def _conclude(self, *, interrupted: bool = False) -> SessionOutcome:
        meter, rankings = self._meter, self.rankings()
        several = len(meter.profiles) > 1
        sentences = [
            f"{profile}: {ranking.sentence}" if several else ranking.sentence
            for profile, ranking in rankings.items()
        ]
        meter.contest = structs.replace(
            meter.contest,
            word="sweep",
            answer=f"{self._knob.name}: {'; '.join(sentences) or self._why_none()}",
            candidates=[
                one
                for profile, ranking in (rankings.items() or [("", None)])
                for one in self._candidates(profile, ranking)
            ],
        )
        findings = [*meter.findings()]
        if interrupted:
            findings.append(Finding(kind=INCOMPLETE, message="the sweep was interrupted."))
        for value, reason in self._trouble.items():
            message = f"{self._knob.name}={value} is left out: {reason}."
            findings.append(Finding(severity="warn", kind=FIRMWARES, message=message))
        verdict = Verdict(
            kind="incomplete" if interrupted else "no-baseline" if rankings else "inconclusive",
            baseline={"mode": "pairs", "sessions": [], "latest": None, "epoch": None},
            findings=findings,
        )
        session = meter.artifact()
        commits = {firmware.facts.commit for firmware in self._firmwares.values()}
        if len(commits) == 1 and (commit := commits.pop()):
            session = structs.replace(session, environment=clean_build_of(session.environment, commit))
        session = structs.replace(
            session,
            partial=interrupted,
            gate=verdict,
            overall_pass=bool(rankings) and not interrupted,
        )
        return keep(meter, Judgement(session, verdict, fails=not rankings))

    def _why_none(self) -> str:
        """Say why nothing can be ranked."""
        kept = self._kept()
        if len(kept) >= LEAST_VALUES:
            return NOT_ENOUGH
        left = f"only {kept[0]} can be measured" if kept else "none can be measured"
        return f"nothing to compare, {left}"

    def _candidates(self, profile: str, ranking: Ranking | None) -> list[Candidate]:
        several = bool(profile) and len(self._meter.profiles) > 1
        metric = self._metric or MAIN_METRIC
        shown = profile or self._meter.profiles[0]
        unit = units_of(self._meter.artifact()).get(shown, "")
        ranked = {rank.value: rank for rank in ranking.ranks} if ranking is not None else {}
        found = []
        for value in self._knob.values:
            rank = ranked.get(value)
            gate = f"{shown}:{metric}"
            levels = [one[gate] for one in self._levels[value] if gate in one]
            found.append(
                Candidate(
                    label=f"{profile} {value}" if several else value,
                    rounds=ranking.rounds
                    if ranking is not None and rank is not None
                    else len(self._levels[value]),
                    d_pct=round(pct(rank.change), 2) if rank is not None else None,
                    word=_WORDS[rank.word] if rank is not None else "",
                    trouble=self._trouble.get(value, ""),
                    figure=mean_of(levels, metric),
                    metric=metric,
                    unit=unit,
                )
            )
        return found


def load_s_of(meter: RoundMeter, knob: Knob, rounds: int) -> float:
    """Estimate the seconds that all rounds take, besides builds, switches and boots."""
    plan = meter.context.plan
    phases = [phase for profile in plan.profiles for phase in profile.phases]
    round_s = sum(phase.duration_s + plan.warmup_s + OVERHEAD_S for phase in phases)
    return round_s * rounds * len(knob.values)


def order_of(values: Sequence[str], index: int) -> list[str]:
    """Order the values of a round: each is first as often as any other; every second round is backwards."""
    start = (index // 2) % len(values)
    turned = [*values[start:], *values[:start]]
    return turned[::-1] if index % 2 else turned


def check_commands(knob: Knob, build: str, flash: str) -> None:
    """Refuse commands that make the same firmware of every value.

    Raises:
        UsageError: no command has ``{value}``, or there is none that flashes.
    """
    if not flash:
        raise UsageError("--flash-cmd is missing: it puts the firmware of a value on the board")
    if not knob.is_in(build) and not knob.is_in(flash):
        where = "--build-cmd and --flash-cmd" if build else "--flash-cmd"
        example = "--build-cmd 'make {knob}={value}'" if build else "--flash-cmd 'flash.sh pool_{value}.bin'"
        raise UsageError(
            f"{where}: {{value}} is missing, so that every value would be the same firmware: {example}"
        )
