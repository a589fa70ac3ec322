"""The choice of the baseline: comparable, accepted, complete sessions with figures, of the current epoch.

An epoch begins with a session that was accepted by hand, or whose verdict was ``environment-shift``:
the level has knowingly changed there, and what lies before cannot be compared with what comes after.

A session whose pace a computer set, and not the board, has no figures to be compared with: it is no baseline
of that profile, so that the next one that has figures is the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile

import msgspec

from pytest_espperf.gate.differences import differing, finding_about, sentence
from pytest_espperf.gate.policy import GatePolicy
from pytest_espperf.gate.series import (
    COMPOSITES,
    ProfileRounds,
    Rounds,
    bound,
    figures,
    gateable_phases,
    rounds_of,
    undisturbed_rounds,
)
from pytest_espperf.model.artifact import Finding, Json, SessionArtifact, has_answers
from pytest_espperf.model.findings import ANSWERS, INCOMPARABLE, NO_USABLE_BASELINE
from pytest_espperf.model.standing import KEPT_OUT_MOST, Standing

PROFILES = "profiles"
"""Key of the comparability fields under which each profile has its own."""


@dataclass
class BaselineChoice:
    """The sessions that each profile is judged against.

    Attributes:
        epochs: profile -> its comparable sessions of the current epoch that have the candidate's figures,
            oldest first; empty or missing means no baseline.
        findings: what a reader must know about sessions that were left out.
        gives_way: the newest comparable sessions were kept out of the baseline, most of them without proof:
            the next one that would be held back joins.
    """

    epochs: dict[str, list[SessionArtifact]] = field(default_factory=dict)
    gives_way: bool = False
    findings: list[Finding] = field(default_factory=list)


def name_of(session: SessionArtifact) -> str:
    """Name of a session in a message."""
    return session.session_id or session.timestamp_utc or "a session without a name"


def _is_usable(standing: Standing, policy: GatePolicy) -> bool:
    """Whether a session may be the baseline; for one that the user named fewer rules hold."""
    return standing.may_be_named if policy.baseline == "fixed" else standing.in_baseline


class _Groups:
    """Sessions that were left out, by what differs."""

    def __init__(self) -> None:
        self.counts: dict[bytes, int] = {}
        self.fields: dict[bytes, tuple[Json, Json]] = {}

    def add(self, names: tuple[str, ...], mine: Json, theirs: Json) -> None:
        key = msgspec.json.encode([[name, theirs.get(name)] for name in names])
        self.counts[key] = self.counts.pop(key, 0) + 1  # the newest last
        self.fields[key] = mine, theirs

    def sentences(self, *, blocking: bool) -> list[str]:
        """Say what differs; of groups that leave no baseline the newest alone, which says how to get one."""
        keys = list(self.counts)
        return [
            f"{sentence(*self.fields[key], self._those(key))}: not compared."
            for key in (keys[-1:] if blocking else keys)
        ]

    def _those(self, key: bytes) -> str:
        count, newest = self.counts[key], key == next(reversed(self.counts))
        if len(self.counts) == 1:
            return f"the {count} earlier sessions" if count > 1 else "the earlier session"
        if count > 1:
            return f"{count} earlier sessions"
        return "the latest session" if newest else "an earlier session"


def _left_out(message: str, *, blocking: bool) -> Finding:
    return Finding(severity="warn" if blocking else "info", kind=INCOMPARABLE, message=message)


def _flat(fields: Json) -> Json:
    return {key: value for key, value in fields.items() if key != PROFILES}


def _profiles(fields: Json) -> Json:
    profiles = fields.get(PROFILES)
    return profiles if isinstance(profiles, dict) else {}


def profiles_of(session: SessionArtifact) -> list[str]:
    """List the profiles of a session, declared or measured, each once, in order."""
    return list(dict.fromkeys([*session.profiles, *(run.profile for run in session.raw_runs)]))


def choose(
    candidate: SessionArtifact, history: Sequence[SessionArtifact], policy: GatePolicy
) -> BaselineChoice:
    """Choose the sessions that are the baseline of each profile of the candidate; history oldest first."""
    choice = BaselineChoice()
    # What measured nothing has no engine to differ in, and would never have been a baseline.
    history = [session for session in history if has_answers(session)]
    keyed = [session for session in history if session.comparability is not None]
    if len(keyed) < len(history):
        count = len(history) - len(keyed)
        choice.findings.append(
            Finding(
                kind=INCOMPARABLE,
                message=f"{count} session{'s' if count > 1 else ''} without a record of what was measured "
                "(the original tool's files have none): shown, never the baseline.",
            )
        )
    if candidate.comparability is None:
        choice.findings.append(
            Finding(
                severity="warn",
                kind=INCOMPARABLE,
                message="this session has no record of what was measured: it can be compared with nothing.",
            )
        )
        return choice
    mine = candidate.comparability.fields
    groups = _Groups()
    alike: list[SessionArtifact] = []
    for session in keyed:
        assert session.comparability is not None
        names = differing(_flat(mine), _flat(session.comparability.fields))
        if names:
            groups.add(names, _flat(mine), _flat(session.comparability.fields))
        else:
            alike.append(session)
    usable = [session for session in alike if _is_usable(Standing.of(session), policy)]
    choice.gives_way = _gives_way(alike)
    if has_answers(candidate):  # the same holds for it
        choice.findings += [
            _left_out(text, blocking=not alike) for text in groups.sentences(blocking=not alike)
        ]
    if alike and not usable:
        choice.findings.append(
            Finding(
                severity="warn",
                kind=NO_USABLE_BASELINE,
                message=f"none of the {len(alike)} comparable sessions passed or was accepted: "
                "there is no baseline to judge against.",
            )
        )
    _choose_profiles(choice, profiles_of(candidate), mine, usable, policy)
    for profile in profiles_of(candidate):
        _leave_out_bound(choice, profile, rounds_of(candidate, profile))
    return choice


def _gives_way(alike: Sequence[SessionArtifact]) -> bool:
    """Whether so many of the newest sessions were kept out without proof that the next one joins.

    Sessions that failed for another reason do not count, nor do those whose answers changed.
    """
    standings = ((session, Standing.of(session)) for session in reversed(alike))
    since = takewhile(lambda one: not one[1].in_baseline, standings)
    slower = (one for session, one in since if one.kept_out and not _answers_changed(session))
    newest = list(islice(slower, KEPT_OUT_MOST))
    return len(newest) == KEPT_OUT_MOST and 2 * sum(one.held_back for one in newest) > KEPT_OUT_MOST


def _answers_changed(session: SessionArtifact) -> bool:
    return session.gate is not None and any(one.kind == ANSWERS for one in session.gate.findings)


def depth_of(policy: GatePolicy) -> int:
    """How many of the newest sessions of an epoch are the baseline."""
    return 1 if policy.baseline == "previous" else policy.max_history


def baseline_of(epoch: Sequence[SessionArtifact], policy: GatePolicy) -> Sequence[SessionArtifact]:
    """Return the sessions of an epoch that are the baseline, oldest first."""
    return epoch[-depth_of(policy) :]


def rounds_by_profile(
    candidate: SessionArtifact, choice: BaselineChoice, policy: GatePolicy
) -> list[ProfileRounds]:
    """Collect the rounds of every profile of the candidate and of its epoch, without disturbed ones."""
    epochs = {profile: choice.epochs.get(profile, []) for profile in profiles_of(candidate)}
    return undisturbed_rounds(candidate, epochs, depth_of(policy))


def has_figures(session: SessionArtifact, profile: str, phases: Sequence[str]) -> bool:
    """Whether anything of a session's profile can be compared over those phases.

    Not so where a computer, and not the board, set the pace of one of them in more than half of the rounds.
    """
    rounds = rounds_of(session, profile)
    return any(figures(rounds, phases, metric) for metric in COMPOSITES)


def _leave_out_bound(choice: BaselineChoice, profile: str, planned: Rounds) -> None:
    """Take the sessions without figures out of a profile's epoch, which begins where it began.

    Where the candidate itself has none, all of its phases are asked for: the rules that need no pace (errors)
    still want a baseline.
    """
    epoch = choice.epochs[profile]
    phases = gateable_phases(planned) or tuple(
        dict.fromkeys(name for one in planned.values() for name in one)
    )
    if not phases or not epoch:
        return
    kept = [session for session in epoch if has_figures(session, profile, phases)]
    choice.epochs[profile] = kept
    if not kept:
        had = f"{len(epoch)} earlier sessions have" if len(epoch) > 1 else "an earlier session has"
        paced = any(
            bound(one.report) for phases in rounds_of(epoch[-1], profile).values() for one in phases.values()
        )
        why = " (a computer, not the board, set its pace)" if paced else ""
        choice.findings.append(
            Finding(
                severity="warn",
                kind=NO_USABLE_BASELINE,
                where=profile,
                message=f"{had} no figures to be compared with, as {name_of(epoch[-1])}{why}: "
                "not the baseline.",
            )
        )


def _choose_profiles(
    choice: BaselineChoice,
    profiles: Sequence[str],
    mine: Json,
    usable: Sequence[SessionArtifact],
    policy: GatePolicy,
) -> None:
    """Choose the epoch of each profile; what was left out for the same reason is named once."""
    reasons: dict[tuple[str, bool], list[str]] = {}
    for profile in profiles:
        groups, equal = _alike(profile, mine, usable)
        for text in groups.sentences(blocking=not equal):
            reasons.setdefault((text, not equal), []).append(profile)
        choice.epochs[profile] = _epoch(equal, policy)
    for (text, blocking), named in reasons.items():
        choice.findings.append(finding_about(named, profiles, _left_out(text, blocking=blocking)))


def _alike(
    profile: str, mine: Json, usable: Sequence[SessionArtifact]
) -> tuple[_Groups, list[SessionArtifact]]:
    """Separate the sessions that measured a profile otherwise from those that did as this one."""
    own = _profiles(mine).get(profile)
    groups = _Groups()
    equal: list[SessionArtifact] = []
    for session in usable:
        assert session.comparability is not None
        theirs = _profiles(session.comparability.fields)
        if profile not in theirs and own is not None:
            continue
        other = theirs.get(profile)
        if other == own:
            equal.append(session)
        elif isinstance(own, dict) and isinstance(other, dict):
            groups.add(differing(own, other), own, other)
        else:
            groups.add((profile,), {profile: own}, {profile: other})
    return groups, equal


def _epoch(equal: list[SessionArtifact], policy: GatePolicy) -> list[SessionArtifact]:
    """Return the sessions since the newest that opens an epoch; all of them where the user named them."""
    if policy.baseline == "fixed":
        return equal
    starts = [index for index, session in enumerate(equal) if Standing.of(session).opens_epoch]
    return equal[starts[-1] if starts else 0 :]
