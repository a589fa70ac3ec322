"""From the options and the history folder to what the gate needs, and back to words for the session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from pytest_espperf import gate
from pytest_espperf.config.settings import SIM, Settings
from pytest_espperf.errors import ArtifactError, HistoryError, UsageError
from pytest_espperf.gate.baseline import is_bar
from pytest_espperf.gate.policy import CALM_ROUNDS
from pytest_espperf.history import HistoryStore, load_session
from pytest_espperf.history.rows import Query
from pytest_espperf.model.artifact import (
    DETECTABLE,
    NAMED_BASELINE,
    OWN_TEST,
    STANDING,
    EndedEarly,
    Finding,
    SessionArtifact,
    Verdict,
    has_answers,
)
from pytest_espperf.session.identity import asked_for, board_name
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.system import regular
from pytest_espperf.system.homes import expand_reference

HISTORY, PREVIOUS = "history", "previous"


MAX_SESSIONS = 200
"""Sessions that the gate is given: the baseline takes the newest 20, the drift guard looks further back."""


def measures_all(settings: Settings) -> bool:
    """Whether every planned round is wanted, however certain the answer is.

    The point of a soak is its duration; a reference board's rounds stand beside those of the board.
    """
    return settings.perf_all_rounds or settings.perf_preset == "soak" or bool(settings.device_reference)


def early_end(
    planned: PlannedPhase,
    so_far: Callable[[], SessionArtifact],
    judge: Judge,
    store: HistoryStore,
) -> dict[str, EndedEarly]:
    """Whether the profile of a planned phase needs this round, with those before it all measured.

    Args:
        planned: the first phase of the round.
        so_far: makes the artifact of what was measured.
        judge: as the session will be judged.
        store: the history.
    """
    if planned.run <= CALM_ROUNDS:
        return {}
    name = planned.profile.name
    decided = judge.decide_early(so_far(), store)
    return {name: decided[name]} if name in decided and decided[name].after == planned.run - 1 else {}


def with_failed_tests(verdict: Verdict, failed_tests: Sequence[str]) -> Verdict:
    """The verdict of a session in which a project's own tests failed: it fails, and is never a baseline."""
    if not failed_tests:
        return verdict
    tests = "1 test" if len(failed_tests) == 1 else f"{len(failed_tests)} tests"
    message = f"{tests} of the project's own failed, {failed_tests[0]} first"
    return failed_by(verdict, Finding(severity="fail", kind=OWN_TEST, message=message))


def failed_by(verdict: Verdict, finding: Finding) -> Verdict:
    """The verdict with one more reason to fail."""
    kind = verdict.kind if verdict.fails else "failed"
    kept = [one for one in verdict.findings if one.kind not in STANDING]
    return structs.replace(verdict, kind=kind, findings=[*kept, finding])


@dataclass
class Judge:
    """Judges a session against the history, as the options say.

    Attributes:
        settings: the options in force.
        policy: what they say of judging.
        fixed: the session that ``--perf-baseline`` names, once it is known which: a tag, and ``latest``, mean
            another one for each board.
    """

    settings: Settings
    policy: gate.GatePolicy
    fixed: SessionArtifact | None = None
    _missing: str = ""
    _bars: dict[str, list[SessionArtifact]] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, settings: Settings) -> Judge:
        """Check the options that say how to judge.

        Raises:
            UsageError: a bad rule; names its source.
        """
        try:
            fail_on = [rule for text in settings.perf_fail_on for rule in gate.parse_fail_on(text)]
        except ValueError as error:
            raise UsageError(f"{settings.where('perf_fail_on')}: {error}") from None
        try:
            min_effect = (
                gate.parse_min_effect(",".join(settings.perf_min_effect)) if settings.perf_min_effect else {}
            )
        except ValueError as error:
            raise UsageError(f"{settings.where('perf_min_effect')}: {error}") from None
        mode = settings.perf_baseline if settings.perf_baseline in {HISTORY, PREVIOUS} else "fixed"
        return cls(
            settings,
            gate.GatePolicy(
                baseline=mode,  # type: ignore[arg-type] # one of the three words by the line above
                fail_on=tuple(fail_on),
                min_effect=min_effect,
                strict=settings.perf_strict,
                tolerance=settings.perf_tolerance / 100,
                confirm_rounds=settings.perf_confirm,
                enabled=not settings.perf_no_gate,
            ),
        )

    def find_baseline(self, store: HistoryStore, root: Path, *, board: str = "", alone: bool = False) -> None:
        """Load the session that ``--perf-baseline`` names, before anything is measured, where it is known.

        Args:
            store: the history.
            root: what the path of a file is relative to.
            board: whose session will be judged; "" for the one that the options name, where they do.
            alone: what this board lacks may stop the run. Else it is told in the verdict, which it fails.

        Raises:
            UsageError: there is no such file or tag, or it cannot be read; where ``alone``, it can be no
                baseline of this board.
        """
        if self.policy.baseline != "fixed":
            return
        name = self.settings.perf_baseline
        path = root / expand_reference(name, self.settings.where("perf_baseline"))
        board = board or _named_board(self.settings)
        try:
            if regular.is_file(path):
                self.fixed = load_session(path)
            elif alone and board:
                self.fixed = store.find(name, board=board).artifact
            else:
                store.find(name)
                if board:
                    self._find_of(board, store)
            if alone and self.fixed is not None:
                _check_fixed(self.fixed, board)
        except (ArtifactError, HistoryError) as error:
            raise UsageError(f"{self.settings.where('perf_baseline')}: {error}") from None

    def _find_of(self, board: str, store: HistoryStore) -> None:
        """What the name of the baseline means for a board; of one that has no identity ("") for any."""
        try:
            self.fixed = store.find(self.settings.perf_baseline, board=board).artifact
        except (ArtifactError, HistoryError) as error:
            self._missing = f"{self.settings.where('perf_baseline')}: {error}"

    def to_measure_again(self, verdict: Verdict) -> dict[str, int]:
        """The profiles without a clear answer yet, and how many rounds each is to be measured again."""
        return gate.measure_again(verdict, self.policy)

    def suspects(self, verdict: Verdict) -> list[str]:
        """The profiles that pairs of both firmwares have to decide."""
        return gate.suspects(verdict)

    def may_stop_early(self, candidate: SessionArtifact, store: HistoryStore) -> bool:
        """Whether nothing is suspect so far."""
        if measures_all(self.settings):
            return False
        history = self._bar(candidate, store)
        return self.policy.enabled and gate.may_stop_early(candidate, history, self.policy)

    def decide_early(self, candidate: SessionArtifact, store: HistoryStore) -> dict[str, EndedEarly]:
        """The profiles of an unfinished session that need no further round."""
        if measures_all(self.settings):
            return {}
        return gate.decide_early(candidate, self._bar(candidate, store), self.policy)

    def judge(self, candidate: SessionArtifact, store: HistoryStore) -> tuple[SessionArtifact, Verdict]:
        """The candidate with its comparison to the previous session, and the verdict."""
        history = self._bar(candidate, store)
        previous = self.fixed or _previous(candidate, store)
        comparison = gate.compare_to_previous(candidate, previous) if previous is not None else {}
        candidate = structs.replace(candidate, comparison_to_previous=comparison)
        verdict = gate.judge(candidate, history, self.policy)
        if self._missing and self.policy.enabled and not candidate.partial:
            finding = Finding(severity="fail", kind=NAMED_BASELINE, message=self._missing)
            verdict = failed_by(verdict, finding)
        first = [] if history or self._missing else self._first_of_board(candidate, store)
        unreadable = [
            Finding(
                severity="warn",
                kind="unreadable-artifact",
                where=str(error.path),
                message=f"skipped: {error}",
            )
            for error in store.skipped
        ]
        sentence = gate.detectable_sentence(verdict)
        seen = [Finding(kind=DETECTABLE, message=sentence)] if sentence else []
        return candidate, structs.replace(verdict, findings=[*verdict.findings, *first, *unreadable, *seen])

    def _first_of_board(self, candidate: SessionArtifact, store: HistoryStore) -> list[Finding]:
        """That a history has sessions of other boards only, and which of them may be the same hardware."""
        if candidate.comparability is None:
            return []
        board = identity_of(candidate)
        rows = store.select(Query(completed_only=True))
        others = [row for row in rows if row.comparability_key and row.measured]
        if not others:
            return []
        here = [row for row in others if row.target == candidate.target]
        moved = candidate.boards == 1 and not self.settings.device_id
        moved = moved and not candidate.device.get("reference_device")
        hint = ""
        if here or moved:
            where = "the newest at this address" if here else "the newest here"
            then = (here or others)[0].board
            hint = f"; {where} is of {then}: if that is the same hardware, --device-id={then} goes on with it"
        return [
            Finding(
                severity="warn" if hint else "info",
                kind="first-of-board",
                message=f"no earlier session of this board, {board}{hint}.",
            )
        ]

    def _bar(self, candidate: SessionArtifact, store: HistoryStore) -> list[SessionArtifact]:
        """What a session is judged against: the same at each of its judgements, whatever others save."""
        if self.policy.baseline == "fixed":
            if self.fixed is None and not self._missing:
                self._find_of(identity_of(candidate), store)
            return [self.fixed] if self.fixed is not None else []
        key = candidate.comparability.key if candidate.comparability is not None else ""
        if key not in self._bars:
            self._bars = {key: _history(candidate, store)}
        return self._bars[key]

    def fails(self, verdict: Verdict) -> bool:
        """Whether the verdict means exit code 1."""
        return gate.fails(verdict, self.policy)


def identity_of(session: SessionArtifact) -> str:
    """The identity of the board that a session measured; "" where it reached none."""
    fields = session.comparability.fields if session.comparability is not None else {}
    return str(fields.get("board") or "")


def _named_board(settings: Settings) -> str:
    """The identity of the board that the options name, as far as they tell it; else ""."""
    asked = asked_for(settings)
    if settings.device_id or asked is None or asked[0] == SIM:
        return settings.device_id
    return board_name(*asked, settings)


def _check_fixed(fixed: SessionArtifact, board: str) -> None:
    """Refuse a baseline that nothing can be compared with.

    Raises:
        HistoryError: it was not completed, failed, or is of another board.
    """
    name = fixed.session_id or fixed.timestamp_utc
    if not is_bar(fixed, named=True):
        raise HistoryError(f"{name} failed or was not completed: it can be no baseline")
    if fixed.comparability is None:
        raise HistoryError(f"{name} has no record of what was measured: it can be no baseline")
    theirs = identity_of(fixed)
    if board and theirs != board:
        raise HistoryError(f"{name} is a session of board {theirs!r}, not of {board!r}")


def _history(candidate: SessionArtifact, store: HistoryStore) -> list[SessionArtifact]:
    """The accepted comparable sessions, oldest first; without any, this board's newest other, to say why."""
    if candidate.comparability is None:
        return []
    bar = store.baseline(candidate.comparability, per_profile=MAX_SESSIONS)
    if bar:
        return bar
    board = identity_of(candidate)
    rows = store.select(Query(board=board, completed_only=True))
    # The original tool's files know no board but its address; a later one without a key reached none.
    own = [row for row in rows if row.board == board and (row.comparability_key or row.schema_version == 0)]
    measured = [row for row in own if row.measured]
    joined = [row for row in measured if row.in_history]
    return store.load_rows((joined or measured)[:1])


def _previous(candidate: SessionArtifact, store: HistoryStore) -> SessionArtifact | None:
    """The previous completed session with the same board and load, whatever its verdict."""
    own = candidate.comparability
    if own is None:
        return None

    def same(session: SessionArtifact) -> bool:
        other = session.comparability
        alike = other is not None and _common(other.fields) == _common(own.fields)
        return alike and not session.partial and has_answers(session)

    return next(iter(store.newest(same)), None)


def _common(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name != "profiles"}
