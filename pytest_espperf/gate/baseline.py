"""The choice of the baseline: comparable, accepted, complete sessions with figures, of the current epoch.

An epoch begins with a session that was accepted by hand, or whose verdict was ``environment-shift``:
the level has knowingly changed there, and what lies before cannot be compared with what comes after.

A session whose pace a computer set, and not the board, has no figures to be compared with: it is no baseline
of that profile, so that the next one that has figures is the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any

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


def differing(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the fields whose values differ or that only one side has, sorted."""
    missing = object()
    return tuple(sorted(k for k in {*mine, *theirs} if mine.get(k, missing) != theirs.get(k, missing)))


def _differences(names: Iterable[str], mine: Json, theirs: Json) -> str:
    def shown(fields: Json, name: str) -> str:
        return repr(fields[name]) if name in fields else "not recorded"

    return ", ".join(f"{name} ({shown(theirs, name)} then, {shown(mine, name)} now)" for name in names)


class _Groups:
    """Groups of sessions that were left out for the same reason; the latest of each is the example."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, ...], int] = {}
        self.latest: dict[tuple[str, ...], tuple[SessionArtifact, Json, Json]] = {}

    def add(self, names: tuple[str, ...], session: SessionArtifact, mine: Json, theirs: Json) -> None:
        self.counts[names] = self.counts.get(names, 0) + 1
        self.latest[names] = (session, mine, theirs)

    def findings(self, where: str, *, blocking: bool) -> list[Finding]:
        found = []
        for names, count in self.counts.items():
            session, mine, theirs = self.latest[names]
            many = f"{count} earlier sessions differ" if count > 1 else "an earlier session differs"
            found.append(
                Finding(
                    severity="warn" if blocking else "info",
                    kind=INCOMPARABLE,
                    where=where,
                    message=f"{many} in {_differences(names, mine, theirs)}, as in {name_of(session)}: "
                    "not compared.",
                )
            )
        return found


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
            groups.add(names, session, _flat(mine), _flat(session.comparability.fields))
        else:
            alike.append(session)
    usable = [session for session in alike if _is_usable(Standing.of(session), policy)]
    choice.gives_way = _gives_way(alike)
    if has_answers(candidate):  # the same holds for it
        choice.findings += groups.findings("", blocking=not alike)
    if alike and not usable:
        choice.findings.append(
            Finding(
                severity="warn",
                kind=NO_USABLE_BASELINE,
                message=f"none of the {len(alike)} comparable sessions passed or was accepted: "
                "there is no baseline to judge against.",
            )
        )
    for profile in profiles_of(candidate):
        _choose_profile(choice, profile, mine, usable, policy)
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


def _choose_profile(
    choice: BaselineChoice, profile: str, mine: Json, usable: Sequence[SessionArtifact], policy: GatePolicy
) -> None:
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
            groups.add(differing(own, other), session, own, other)
        else:
            groups.add((profile,), session, {profile: own}, {profile: other})
    choice.findings += groups.findings(profile, blocking=not equal)
    if policy.baseline != "fixed":
        starts = [index for index, session in enumerate(equal) if Standing.of(session).opens_epoch]
        equal = equal[starts[-1] if starts else 0 :]
    choice.epochs[profile] = equal
