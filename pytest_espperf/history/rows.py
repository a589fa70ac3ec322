"""Rows: what listing and choosing a baseline need of a session, without its runs. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

import msgspec

from pytest_espperf.history import names
from pytest_espperf.history.names import OrderKey
from pytest_espperf.model.artifact import (
    CellAggregate,
    Comparability,
    Json,
    SessionArtifact,
    Verdict,
    has_answers,
)
from pytest_espperf.model.gates import change_of, divided_pct, units_of, worst_gate
from pytest_espperf.model.own_figures import MOST_OF_A_UNIT
from pytest_espperf.model.registry import METRICS
from pytest_espperf.model.standing import Standing
from pytest_espperf.model.text import MOST_TEXT, one_line
from pytest_espperf.model.verdicts import NOT_GATEABLE

_T = TypeVar("_T")

MEDIANS = ("p50_ms", "p95_ms", "p99_ms", "rps_ok", "error_rate")
"""The metrics whose medians a row can carry, per profile and phase."""

GATE_FACTS = (
    "profile",
    "metric",
    "rule",
    "verdict",
    "now",
    "baseline",
    "d_pct",
    "threshold_pct",
    "smallest_detectable_pct",
    "at_most_pct",
)
"""What a row can carry of each gate."""

MOST_OF_A_WORD = 40
"""Characters of what a comparison calls its answer."""

OwnMedian = tuple[str, str, float]
"""Unit, direction and median of a figure of the firmware's own."""


class SessionRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Session without its runs.

    Attributes:
        name: its file name in the folder.
        stamp, number: its place in the history (see :mod:`pytest_espperf.history.names`).
        board: the board that comparability names, or the session where it never reached it; else its target.
        verdict: the gate's word, "" where there was no gate (files of the original tool).
        joins: whether it joins the baseline by its verdict, see :attr:`Verdict.joins_baseline`.
        held_back: it looks slower without proof.
        completed: False for sessions that were interrupted, and for those that compare firmwares.
        measured: False where no request succeeded: such a session is no evidence about any firmware.
        comparability_key: equal keys mean wholly comparable sessions; "" where unknown.
        base_key: digest of all that must be equal for any comparison; "" where unknown.
        profiles: each profile's own digest; "" where unknown.
        word: what a comparison of firmwares calls its answer, as ``slower`` or ``sweep``; "" otherwise.
        worst_pct: the worst change of a gate in percent, slower positive; None where none was judged.
        worst_gate: name of the gate that stands for it, see :func:`pytest_espperf.model.gates.worst_gate`; ""
            where none was judged.
        worst_change: its change in percent, slower positive; of errors in percentage points.
        commit, dirty: of the firmware's repository, and whether something in it was not committed.
        firmware: its version, as the user names it; "" where it is not named.
        accepted, pinned: later decisions.
        copies: names of other files with the same session, see :func:`original`; its decisions may lie beside
            any of them.
        medians: per profile and phase, those of :data:`MEDIANS`, and what the phase has besides; only where
            the query asked for details.
        paced: the cells of which a schedule or pauses set the throughput.
        units: of the throughput, of the profiles and cells that count no requests.
        own: per figure of the firmware's own its unit, its direction and its median; likewise.
        gates: per gate name, :data:`GATE_FACTS`; likewise.
    """

    name: str
    stamp: str
    number: int = 1
    session_id: str = ""
    timestamp_utc: str = ""
    tag: str = ""
    target: str = ""
    board: str = ""
    verdict: str = ""
    joins: bool = False
    held_back: bool = False
    overall_pass: bool = False
    completed: bool = True
    measured: bool = True
    schema_version: int = 1
    runs: int = 0
    comparability_key: str = ""
    base_key: str = ""
    profiles: dict[str, str] = {}
    word: str = ""
    worst_pct: float | None = None
    worst_gate: str = ""
    worst_change: float | None = None
    commit: str = ""
    dirty: bool = False
    firmware: str = ""
    accepted: Json | None = None
    pinned: bool = False
    copies: tuple[str, ...] = ()
    medians: dict[str, dict[str, float | None]] | None = None
    paced: list[str] = []
    units: dict[str, str] = {}
    gates: dict[str, Json] | None = None
    own: dict[str, OwnMedian] | None = None

    @property
    def in_history(self) -> bool:
        """Whether later sessions are judged against this one: by its verdict, or by explicit acceptance."""
        return self.standing.in_baseline

    @property
    def kept_out(self) -> bool:
        """Whether it looks slower or is, and so is no baseline."""
        return self.standing.kept_out

    @property
    def standing(self) -> Standing:
        """How the session stands to the baseline of later ones."""
        return Standing(
            verdict=self.verdict,
            complete=self.completed,
            comparable=bool(self.base_key),
            joins=self.joins,
            held_back=self.held_back,
            accepted=self.accepted is not None,
        )

    @property
    def opens_epoch(self) -> bool:
        """Whether sessions before this one are no longer the baseline."""
        return self.standing.opens_epoch


def original(rows: Iterable[SessionRow]) -> SessionRow:
    """Choose the file that counts of several with one session; the others are copies, and no evidence.

    Synchronising folders and file managers leave copies behind, with something added to the name. The
    original is complete and has the time and the tag of its session in its name; of several such it has the
    shortest name.
    """

    def oddness(row: SessionRow) -> tuple[object, ...]:
        other_time = names.stamp_at(row.timestamp_utc) != row.stamp
        other_tag = names.tag_of(row.name) != names.clean_tag(row.tag)
        place = (row.stamp, row.number, row.name)
        return (not row.completed, other_time, other_tag, len(row.name), place)

    return min(rows, key=oddness)


def with_copies(rows: Iterable[SessionRow]) -> list[SessionRow]:
    """Choose the originals of sessions that have copies, with their names; a row without an id has none."""
    groups: dict[str, list[SessionRow]] = {}
    for row in rows:
        if row.session_id:
            groups.setdefault(row.session_id, []).append(row)
    found = []
    for group in groups.values():
        if len(group) > 1:
            first = original(group)
            copies = tuple(sorted(row.name for row in group if row is not first))
            found.append(msgspec.structs.replace(first, copies=copies))
    return found


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions on sessions, all of which must hold, and their order.

    Attributes:
        accepted_only: those that are history (:attr:`SessionRow.in_history`).
        completed_only: leave out interrupted ones, and comparisons of firmwares.
        pinned_only: the fixed anchors.
        comparable_with: at least one profile can be compared.
        comparability_key: wholly comparable: equal keys.
        tag, board, verdicts: as recorded; ``board`` also matches the target.
        limit: at most so many, counted from the end where the order begins.
        newest_first: the order, and which end ``limit`` keeps.
        details: fill :attr:`SessionRow.medians` and :attr:`SessionRow.gates`.
    """

    accepted_only: bool = False
    completed_only: bool = False
    pinned_only: bool = False
    comparable_with: Comparability | None = None
    comparability_key: str | None = None
    tag: str | None = None
    board: str | None = None
    verdicts: Collection[str] | None = None
    limit: int | None = None
    newest_first: bool = True
    details: bool = False

    def matches(self, row: SessionRow, keys: Keys | None) -> bool:
        """Whether ``row`` satisfies every condition; ``keys`` are those of ``comparable_with``."""
        return (
            (not self.accepted_only or row.in_history)
            and (not self.completed_only or row.completed)
            and (not self.pinned_only or row.pinned)
            and (self.tag is None or row.tag == self.tag)
            and (self.board is None or self.board in (row.board, row.target))
            and (self.verdicts is None or row.verdict in self.verdicts)
            and (self.comparability_key is None or row.comparability_key == self.comparability_key)
            and (keys is None or bool(keys.common(row)))
        )


class Keys(msgspec.Struct, frozen=True):
    """Digests of a session's comparability: of what its profiles share, and of each profile's own facts."""

    base: str
    profiles: dict[str, str]

    def common(self, row: SessionRow) -> list[str]:
        """List the profiles that can be compared between these keys and ``row``."""
        if not self.base or self.base != row.base_key:
            return []
        return [name for name, key in self.profiles.items() if row.profiles.get(name) == key]


def keys_of(comparability: Comparability | None) -> Keys:
    """Compute the digests of ``comparability``; an unknown one compares with nothing."""
    if comparability is None or not comparability.fields:
        return Keys("", {})
    fields = dict(comparability.fields)
    profiles = fields.pop("profiles", None)
    own = profiles if isinstance(profiles, dict) else {}
    return Keys(_digest(fields), {str(name): _digest(facts) for name, facts in own.items()})


def row_of(artifact: SessionArtifact, key: OrderKey, keys: Keys | None = None) -> SessionRow:
    """Make the row of ``artifact``: with details, without later decisions.

    Args:
        artifact: the session.
        key: the place of its file.
        keys: those of its comparability, where they are known.
    """
    keys = keys_of(artifact.comparability) if keys is None else keys
    standing = Standing.of(artifact)
    facts = artifact.comparability.fields if artifact.comparability else {}
    board = facts.get("board") or artifact.device.get("id")
    worst = worst_gate(artifact.gate) if artifact.gate is not None else None
    return SessionRow(
        name=key.name,
        stamp=key.stamp,
        number=key.number,
        session_id=artifact.session_id,
        timestamp_utc=artifact.timestamp_utc,
        tag=artifact.tag,
        target=artifact.target,
        board=board if isinstance(board, str) and board else artifact.target,
        verdict=standing.verdict,
        joins=standing.joins,
        held_back=standing.held_back,
        overall_pass=artifact.overall_pass,
        completed=standing.complete and artifact.contest is None,
        measured=has_answers(artifact),
        schema_version=0 if artifact.session_id.startswith("s0-") else artifact.schema_version,
        runs=artifact.runs_per_profile,
        comparability_key=artifact.comparability.key if artifact.comparability else "",
        base_key=keys.base,
        profiles=keys.profiles or dict.fromkeys(artifact.profiles, ""),
        word=one_line(artifact.contest.word, MOST_OF_A_WORD) if artifact.contest is not None else "",
        worst_pct=_worst_pct(artifact.gate),
        worst_gate=worst.name if worst is not None else "",
        worst_change=_precise(change_of(worst)) if worst is not None else None,
        commit=_text(artifact.environment.get("git_commit")),
        dirty=artifact.environment.get("git_dirty") is True,
        firmware=_text(artifact.device.get("firmware")),
        medians={name: _medians(cell) for name, cell in artifact.aggregated.items()},
        paced=[name for name, cell in artifact.aggregated.items() if cell.paced],
        units=units_of(artifact),
        gates=_gates(artifact.gate),
        own=_own(artifact),
    )


def _text(value: object) -> str:
    return value[:MOST_TEXT] if isinstance(value, str) else ""


def _medians(cell: CellAggregate) -> dict[str, float | None]:
    names = (*MEDIANS, *(name for name in cell.figures if name in METRICS))
    return {metric: _rounded(cell.summary(metric).median) for metric in names}


def _own(artifact: SessionArtifact) -> dict[str, OwnMedian]:
    return {
        name: (one_line(figure.unit, MOST_OF_A_UNIT), figure.better, _rounded(value))
        for name, figure in artifact.figures.items()
        if (value := figure.median) is not None
    }


def _worst_pct(verdict: Verdict | None) -> float | None:
    """Find the worst change in percent; the error rate, which changes in points, has none."""
    changes = [
        change
        for gate in (verdict.gates if verdict is not None else ())
        if (change := divided_pct(gate, gate.d_pct)) is not None
        and gate.verdict != NOT_GATEABLE
        and gate.metric != "error_rate"
    ]
    return _rounded(max(changes)) if changes else None


def _gates(verdict: Verdict | None) -> dict[str, Json]:
    if verdict is None:
        return {}
    return {gate.name: {fact: _rounded(getattr(gate, fact)) for fact in GATE_FACTS} for gate in verdict.gates}


def _rounded(value: _T) -> _T | float:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _precise(change: float | None) -> float | None:
    """Round a change so little that one decimal of it is that of every other report."""
    return None if change is None else float(f"{change:.12g}")


def _digest(value: Any) -> str:
    canonical = msgspec.json.encode(_canonical(value), order="deterministic")
    return hashlib.sha256(canonical).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    """Make equal facts equal: 12 and 12.0, a tuple and a list."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {str(key): _canonical(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(inner) for inner in value]
    return value
