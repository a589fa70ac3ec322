"""A meter of rounds without a board: each firmware has a level, and some fail."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support.gate_sessions import run, session

from pytest_espperf.errors import BuildError, DeviceError
from pytest_espperf.model.artifact import RawRun, RunRole, SessionArtifact
from pytest_espperf.model.contest import Contest, ContestKind
from pytest_espperf.session.judging import Judgement
from pytest_espperf.session.saving import SessionOutcome


class FakeMeter:
    """Stands in for :class:`RoundMeter`.

    Args:
        factor: label, commit and profile -> factor on all times of a round.
        profiles: names of the plan's.
        noise: standard deviation of a round, log ratio.
        trouble: label -> what putting it on the board raises; None for nothing.
    """

    def __init__(
        self,
        factor: Callable[[str, str], float],
        *,
        kind: ContestKind = "bisect",
        profiles: Sequence[str] = ("python_heavy",),
        noise: float = 0.005,
        trouble: Callable[[str], Exception | None] = lambda _: None,
        seed: int = 1,
    ) -> None:
        self.profiles = list(profiles)
        self.contest = Contest(kind=kind)
        self.measured: list[tuple[str, RunRole, int, tuple[str, ...]]] = []
        self.now_s = 0.0
        self.dropped = False
        self.lines: list[str] = []
        self.changes: dict[str, Any] = {}
        self.environment: dict[str, Any] = {}
        self.context: Any = SimpleNamespace(clock=lambda: self.now_s, say=self.lines.append)
        self._factor = factor
        self._noise = noise
        self._trouble = trouble
        self._rng = random.Random(seed)
        self._runs: list[RawRun] = []

    def measure(
        self, firmware: Any, *, index: int, role: RunRole, profiles: Sequence[str] | None = None
    ) -> list[RawRun]:
        label = firmware.facts.label
        if (error := self._trouble(label)) is not None:
            raise error
        firmware.prepare()
        self.now_s += 60.0
        names = self.profiles if profiles is None else profiles
        self.measured.append((label, role, index, tuple(names)))
        runs = []
        for name in names:
            off = 1 + self._rng.gauss(0, self._noise)
            runs.append(run(name, index, [self._factor(label, name) * off] * 2, role=role, **self.changes))
        self._runs += runs
        return runs

    def artifact(self) -> SessionArtifact:
        return session(
            random.Random(0),
            raw_runs=self._runs,
            contest=self.contest,
            comparability=None,
            environment=self.environment,
        )

    def findings(self) -> list[Any]:
        return []

    def drop(self) -> None:
        self.dropped = True

    def save(self, judgement: Judgement) -> SessionOutcome:
        return SessionOutcome(judgement.artifact, judgement.verdict, saved=None, fails=judgement.fails)


def broken(message: str = "it is broken") -> DeviceError:
    return DeviceError(message)


def unbuilt(folder: Path | str = "") -> BuildError:
    return BuildError(f"cannot be built {folder}".strip())
