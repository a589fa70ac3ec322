"""The course of a comparison: order of pairs, when it ends, what it says and keeps."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs
from support.gate_sessions import run

from pytest_espperf.errors import DeviceError
from pytest_espperf.gate.policy import GatePolicy
from pytest_espperf.gate.sequential import PairPlan
from pytest_espperf.model.artifact import RawRun, RunRole, SessionArtifact, Verdict
from pytest_espperf.model.contest import Contest, FirmwareFacts, Switch
from pytest_espperf.report.contest import duration
from pytest_espperf.report.view import make_view
from pytest_espperf.session.contest import AbContest, ContestPlan, most_changes
from pytest_espperf.session.firmwares import SlotFirmware
from pytest_espperf.session.judging import Judgement
from pytest_espperf.session.round_meter import Placing
from pytest_espperf.session.saving import SessionOutcome

OLD, NEW = SlotFirmware("old", "a", "/s"), SlotFirmware("new", "b", "/s")


class FakeMeter:
    """Boards whose rounds cost a minute each on the test's clock, and nothing else."""

    def __init__(
        self, *, boards: int = 1, slower: dict[str, float] | None = None, noise: float = 0.004
    ) -> None:
        self.profiles = ["light", "heavy"]
        self.boards = [f"board{index}" for index in range(boards)]
        self.contest = Contest(kind="ab")
        self.now = 0.0
        self.said: list[str] = []
        self.asked: list[tuple[int, str, tuple[str, ...]]] = []
        self.placed: list[tuple[str, ...]] = []
        self.slower = slower or {}
        self.noise = noise
        self.gap = 1.0
        self.how = "slot"
        self.fails: dict[int, BaseException] = {}
        self.saved: list[Judgement] = []
        self.runs: list[RawRun] = []
        self.switches = [Switch(label="old", seconds=1.0, boot_s=0.5)]
        self.context = SimpleNamespace(clock=lambda: self.now, say=self.said.append)
        self._rng = random.Random(7)

    def artifact(self) -> SessionArtifact:
        contest = structs.replace(
            self.contest,
            seconds=self.now,
            switches=self.switches,
            firmwares=[FirmwareFacts(label="old", how=self.how), FirmwareFacts(label="new", how=self.how)],
        )
        return SessionArtifact(
            session_id="x", profiles=self.profiles, raw_runs=list(self.runs), contest=contest, partial=True
        )

    def measure(self, firmware: SlotFirmware, *, index: int, role: RunRole, profiles: Sequence[str]) -> None:
        self.asked.append((index, firmware.facts.label, tuple(profiles)))
        self._round(index, role, profiles, "")

    def measure_twins(self, placings: Sequence[Placing], *, index: int, profiles: Sequence[str]) -> None:
        self.placed.append(tuple(placing.firmware.facts.label for placing in placings))
        for placing in placings:
            self._round(index, placing.role, profiles, "AB"[placing.board])
        self.now -= 60.0

    def _round(self, index: int, role: RunRole, profiles: Sequence[str], board: str) -> None:
        self.now += 60.0
        if index in self.fails and role == "ab-candidate":
            raise self.fails[index]
        for profile in profiles:
            factor = self.slower.get(profile, 1.0) if role == "ab-candidate" else 1.0
            factor *= self.gap if board == "B" else 1.0
            factors = [factor * math.exp(self._rng.gauss(0, self.noise)) for _ in range(2)]
            self.runs.append(structs.replace(run(profile, index, factors, role), board=board))

    def findings(self) -> list[Any]:
        return []

    def save(self, judgement: Judgement) -> SessionOutcome:
        self.saved.append(judgement)
        return SessionOutcome(judgement.artifact, judgement.verdict, saved=None, fails=judgement.fails)


def compare(
    meter: FakeMeter, *, pairs: int = 16, minutes: float = 0.0, strict: bool = False
) -> SessionOutcome:
    plan = ContestPlan(PairPlan(most_pairs=pairs), minutes=minutes)
    fake: Any = meter
    return AbContest(fake, OLD, NEW, plan, GatePolicy(strict=strict)).run()


def labels(meter: FakeMeter) -> list[str]:
    return [label for _, label, _ in meter.asked]


def test_the_first_pair_tells_how_long_changes_of_firmware_take() -> None:
    meter = FakeMeter(noise=0.2)
    meter.switches = [Switch(label=label, seconds=40.0, boot_s=5.0) for label in ("old", "new")]
    compare(meter, pairs=16)
    # Of the 120 s of a pair 90 are two changes; each of the other 15 pairs has one.
    assert meter.said[0].endswith(f"; it took 2 min, at most {duration(15 * 30 + 15 * 45)} left")


@pytest.mark.parametrize("pairs", [3, 4, 9, 10, 16])
def test_the_changes_of_firmware_are_counted_as_they_are_made(pairs: int) -> None:
    one, two = FakeMeter(noise=0.5), FakeMeter(boards=2, noise=0.5)
    compare(one, pairs=pairs)
    compare(two, pairs=pairs)
    assert len(one.asked) == len(two.placed) * 2 == 2 * pairs
    there, put = labels(one), list(two.placed)
    made = 1 + sum(before != after for before, after in itertools.pairwise(there))
    assert made == most_changes(pairs, twins=False)
    assert 2 + 2 * sum(before != after for before, after in itertools.pairwise(put)) == most_changes(
        pairs, twins=True
    )


def test_neighbouring_pairs_share_a_firmware() -> None:
    meter = FakeMeter(noise=0.2)
    compare(meter, pairs=4)
    assert labels(meter) == ["old", "new", "new", "old", "old", "new", "new", "old"]
    assert [index for index, _, _ in meter.asked] == [1, 1, 2, 2, 3, 3, 4, 4]


def test_it_ends_as_soon_as_every_profile_is_decided() -> None:
    meter = FakeMeter()
    outcome = compare(meter)
    assert outcome.verdict.kind == "unchanged"
    assert len(meter.asked) < 12
    assert meter.said[0].endswith("; it took 2 min, at most 30 min left")
    assert "left" not in meter.said[1]
    assert not outcome.fails
    assert outcome.artifact.overall_pass


def test_a_slower_firmware_fails() -> None:
    meter = FakeMeter(slower={"heavy": 1.15})
    outcome = compare(meter)
    assert outcome.verdict.kind == "regressed"
    assert outcome.fails
    assert not outcome.artifact.overall_pass
    assert "heavy slower by 1" in meter.said[-1]
    assert "light the same" in meter.said[-1]


def test_a_decided_profile_is_measured_no_more() -> None:
    meter = FakeMeter(slower={"heavy": 1.5})
    meter.noise = 0.03  # the slowdown is clear at once, that the other one is the same is not
    compare(meter)
    measured = [profiles for _, _, profiles in meter.asked]
    assert measured[0] == ("light", "heavy")
    assert ("light",) in measured
    assert measured.index(("light",)) > measured.index(("light", "heavy"))
    assert measured[-1] == ("light",)


@pytest.mark.parametrize("strict", [False, True])
def test_what_stays_open_is_inconclusive(strict: bool) -> None:
    meter = FakeMeter(noise=0.3)
    outcome = compare(meter, pairs=3, strict=strict)
    assert outcome.verdict.kind == "inconclusive"
    assert outcome.fails is strict


def test_no_pair_is_begun_that_would_end_too_late() -> None:
    meter = FakeMeter(noise=0.3)
    outcome = compare(meter, minutes=7)
    assert len(meter.asked) == 6  # three pairs of two minutes each
    assert any("--minutes=7" in one.message for one in outcome.verdict.findings)


@pytest.mark.parametrize("pair", [1, 3])
def test_a_board_that_fails_ends_it_and_names_the_firmware(pair: int) -> None:
    meter = FakeMeter(noise=0.3)
    meter.fails[pair] = DeviceError("no answer from the board")
    outcome = compare(meter)
    assert outcome.verdict.kind == "failed"
    assert outcome.fails
    (finding,) = [one for one in outcome.verdict.findings if one.severity == "fail"]
    assert finding.message == f"the new firmware: no answer from the board (pair {pair})."
    assert make_view(outcome.artifact).meaning == (f"{finding.message[:-1]}: the firmwares were not compared")
    assert finding not in make_view(outcome.artifact).further  # the headline has it
    assert {one.run_index for one in outcome.artifact.raw_runs} == set(range(1, pair + 1))


def test_ctrl_c_keeps_what_was_measured() -> None:
    meter = FakeMeter(noise=0.3)
    meter.fails[2] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        compare(meter)
    (judgement,) = meter.saved
    assert judgement.verdict.kind == "incomplete"
    assert judgement.artifact.partial
    assert judgement.artifact.raw_runs
    view = make_view(judgement.artifact)
    assert view.verdict == "incomplete"
    assert view.meaning == (
        "interrupted after 1 pair in 3 min: light, heavy: neither shown slower nor shown the same"
    )
    (step,) = view.next_steps
    assert step.startswith("run the same command again")


def test_ctrl_c_keeps_what_is_certain_by_then() -> None:
    meter = FakeMeter(slower={"heavy": 1.5})
    meter.noise = 0.03
    meter.fails[4] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        compare(meter)
    meaning = make_view(meter.saved[0].artifact).meaning
    assert meaning.startswith("interrupted after 3 pairs in 7 min: heavy is ")
    assert meaning.endswith("light: neither shown slower nor shown the same")


def test_a_checkpoint_alone_says_that_it_is_one() -> None:
    meter = FakeMeter()
    compare(meter)
    view = make_view(structs.replace(meter.artifact(), gate=None))
    assert view.meaning.startswith("interrupted after ")
    assert "-k" not in " ".join(view.next_steps)


def test_boards_never_seen_to_restart_are_a_warning() -> None:
    def words(verdict: Verdict) -> str:
        return " ".join(one.message for one in verdict.findings)

    meter = FakeMeter()
    meter.switches = [Switch(label="old", seconds=1.0), Switch(label="new", seconds=1.0)]
    assert "never seen to restart" in words(compare(meter).verdict)
    meter.how = "command"  # which may wait for the boot
    assert "never seen to restart" not in words(compare(meter).verdict)
    assert "never seen to restart" not in words(compare(FakeMeter()).verdict)


def test_the_same_says_that_nobody_asked_which_firmware_ran() -> None:
    meter = FakeMeter()
    assert any("--check-url" in one.message for one in compare(meter).verdict.findings)
    asked = FakeMeter()
    asked.contest = structs.replace(asked.contest, told_apart=True)
    assert not any("--check-url" in one.message for one in compare(asked).verdict.findings)


# --- two boards


def test_two_boards_swap_their_firmwares() -> None:
    meter = FakeMeter(boards=2, noise=0.3)
    compare(meter, pairs=12)
    here, there = ("old", "new"), ("new", "old")
    assert meter.placed == [here] * 3 + [there] * 6 + [here] * 3


def test_what_two_boards_differ_by_is_no_slowdown_and_is_said() -> None:
    meter = FakeMeter(boards=2)
    meter.gap = 1.2
    outcome = compare(meter)
    assert outcome.verdict.kind == "unchanged"
    assert len(meter.placed) >= 5  # both places were measured
    assert outcome.artifact.contest is not None
    assert outcome.artifact.contest.board_pct["heavy"] == pytest.approx(20, abs=3)


def test_a_slowdown_is_found_whichever_board_is_the_slower_one() -> None:
    for gap in (0.8, 1.25):
        meter = FakeMeter(boards=2, slower={"heavy": 1.12})
        meter.gap = gap
        outcome = compare(meter)
        assert outcome.verdict.kind == "regressed"
        row = next(one for one in outcome.verdict.gates if one.name == "heavy:rps_ok")
        assert row.d_pct == pytest.approx(12, abs=3)
