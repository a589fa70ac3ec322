"""The whole judgement: one candidate, its history, one verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

import msgspec

from pytest_espperf.artifact import (
    GATE_OFF,
    NAMED_BASELINE,
    Finding,
    GateRow,
    Json,
    Place,
    SessionArtifact,
    Verdict,
    VerdictWord,
)
from pytest_espperf.gate import policy as p
from pytest_espperf.gate.baseline import Choice, choose, name_of, opens_epoch, profiles_of
from pytest_espperf.gate.drift import Drift, drifts, is_slide
from pytest_espperf.gate.error_rate import error_row
from pytest_espperf.gate.health import health_findings
from pytest_espperf.gate.link import link_findings
from pytest_espperf.gate.noise import Noise, common_factor, noises, series_noise
from pytest_espperf.gate.pairs import pairs_result
from pytest_espperf.gate.places import places
from pytest_espperf.gate.policy import DEFAULT_POLICY, GatePolicy
from pytest_espperf.gate.reference import LEAST_SESSIONS
from pytest_espperf.gate.rows import gate_row, pct, plain_rows, tail_row
from pytest_espperf.gate.series import (
    COMPOSITES,
    TAIL,
    Series,
    build_series,
    gateable_phases,
    natural,
    rounds_of,
)
from pytest_espperf.gate.stats import t_quantile
from pytest_espperf.gate.words import MAIN_RULE

WORST_FIRST: tuple[VerdictWord, ...] = (
    "failed",
    "regressed",
    "drift",
    "inconclusive",
    "environment-shift",
    "improved",
    "unchanged",
    "no-baseline",
)
"""The session's verdict is the first of these that any of its rows has.

``no-baseline`` is last: it is the session's word only where nothing at all was compared.
"""


def judge(
    candidate: SessionArtifact,
    history: Sequence[SessionArtifact],
    policy: GatePolicy = DEFAULT_POLICY,
) -> Verdict:
    """Judge a session against its history, given oldest first. Pure; raises nothing on odd data.

    Sessions that failed, are partial or are not comparable may be handed in: they are left out, with a
    finding where a reader should know. Rounds of the roles ``confirm``, ``ab-baseline`` and
    ``ab-candidate`` in the candidate decide what the planned rounds only suspected.
    """
    choice = choose(candidate, history, policy)
    findings = [*health_findings(candidate, policy), *choice.findings, *_lost_reference(candidate)]
    bars = {profile: _bar(epoch, policy) for profile, epoch in choice.epochs.items() if epoch}
    findings += link_findings(candidate, max(bars.values(), key=len, default=[]))
    if not policy.enabled:
        findings.append(
            Finding(kind=GATE_OFF, message="the comparison with earlier sessions was switched off.")
        )
        words = ["inconclusive" if bars else "no-baseline"]
        baseline = _baseline(choice, policy)
        return _verdict(candidate, findings, words, baseline=baseline, rows=[], where=places(candidate, bars))
    rows = [
        *_composite_rows(candidate, choice, policy, findings),
        *(row for profile, bar in bars.items() if (row := error_row(candidate, profile, bar)) is not None),
        *(row for profile, bar in bars.items() for row in plain_rows(candidate, profile, bar[-1], policy)),
    ]
    _say_missing(candidate, bars, rows, findings)
    if policy.baseline == "fixed" and history and not bars and candidate.raw_runs:
        findings.append(_named_in_vain(history))
    words = [row.verdict for row in rows if row.verdict != "not-gateable"]
    if (bars or _nothing_to_keep(candidate)) and not any(
        row.rule == MAIN_RULE and row.metric in COMPOSITES for row in rows
    ):
        words.append("inconclusive")
    baseline = _baseline(choice, policy)
    return _verdict(candidate, findings, words, baseline=baseline, rows=rows, where=places(candidate, bars))


def _bar(epoch: Sequence[SessionArtifact], policy: GatePolicy) -> Sequence[SessionArtifact]:
    return epoch[-(1 if policy.baseline == "previous" else policy.max_history) :]


def _composite_rows(
    candidate: SessionArtifact, choice: Choice, policy: GatePolicy, findings: list[Finding]
) -> list[GateRow]:
    depth = 1 if policy.baseline == "previous" else policy.max_history

    def series_of(metric: str) -> list[Series]:
        built = (
            build_series(candidate, profile, metric, epoch, depth) for profile, epoch in choice.epochs.items()
        )
        return [one for one in built if one is not None]

    main = [one for metric in COMPOSITES for one in series_of(metric)]
    main.sort(key=lambda one: list(choice.epochs).index(one.profile))
    tail = series_of(TAIL)
    findings += _environment(candidate, main)
    factor = common_factor([series_noise(one) for one in main])
    boards = max(1, candidate.boards)
    noise = noises(main, alpha=p.ALPHA / boards)
    tail_noise = noises(tail, alpha=p.ALPHA_TAIL / boards, factor=factor)
    rows = [gate_row(one, noise[one.name], policy) for one in main]
    rows = _shifted(rows, main, noise)
    rows = [_slid(row, one, noise[one.name]) for row, one in zip(rows, main, strict=True)]
    rows += [tail_row(candidate, one, tail_noise[one.name], policy) for one in tail]
    if policy.baseline != "fixed":
        # A reference board may age, too: a slow slide is looked for in what was measured.
        measured = [one.as_measured() for one in main]
        drifted = drifts(measured, boards)
        rows += [
            row
            for one in measured
            if (row := _drift_row(one, noise[one.name], drifted.get(one.name))) is not None
        ]
    _say_changes(rows, findings)
    return rows


def _environment(candidate: SessionArtifact, series: Sequence[Series]) -> Iterator[Finding]:
    """What the reference board said, and what was made of it."""
    if not any(run.role == "reference" for run in candidate.raw_runs):
        return
    told = [(one.name, one.environment) for one in series if one.environment is not None]
    if told:
        moved = ", ".join(
            f"{name} {pct(here.moved):+.1f} % ({pct(here.shift):+.1f} % taken out)" for name, here in told
        )
        message = f"the reference board was slower than usual by: {moved}."
    else:
        message = (
            f"the reference board is used once {LEAST_SESSIONS} accepted sessions, and half of all, have it."
        )
    yield Finding(kind="reference", message=message)


def _lost_reference(candidate: SessionArtifact) -> Iterator[Finding]:
    """That the reference board was not measured to the end, however much of it was."""
    described = candidate.device.get("reference")
    lost = described.get("lost") if isinstance(described, dict) else None
    if lost:
        yield Finding(
            severity="warn",
            kind="reference",
            message=f"{lost}. It was not measured from there on: what moves on both boards may count as this "
            "one's.",
        )


def _shifted(rows: list[GateRow], series: list[Series], noise: dict[str, Noise]) -> list[GateRow]:
    """Tell a shift of the whole environment, where A/B pairs cleared every suspect.

    One test of one statistic: the median over all gates of d in standard errors, at the full alpha.
    Without it a shift that no single gate proves would be `unchanged`, and slide into the bar.
    """
    cleared = [row for row in rows if row.confirmation == "pairs"]
    if not cleared or any(row.verdict not in ("unchanged", "environment-shift") for row in rows):
        return rows
    common = median(
        (median(one.now) - noise[one.name].history.centre) / noise[one.name].sigma for one in series
    )
    df = min(noise[one.name].history.df for one in series)
    moved = median(row.d_pct or 0.0 for row in rows)
    if common <= t_quantile(p.ALPHA, df) or moved < pct(p.MIN_CHANGE_SUSPECT):
        return rows
    return [
        msgspec.structs.replace(row, verdict="environment-shift") if row.confirmation == "pairs" else row
        for row in rows
    ]


def _slid(row: GateRow, series: Series, noise: Noise) -> GateRow:
    if row.verdict != "regressed" or not is_slide(series, noise.history.centre):
        return row
    detail = "a slide: a good part of the loss was already there in the last accepted session"
    return msgspec.structs.replace(row, verdict="drift", detail="; ".join(filter(None, (row.detail, detail))))


def _drift_row(series: Series, noise: Noise, drift: Drift | None) -> GateRow | None:
    """A row for a gate that has drifted; A/B pairs against the old firmware can clear it."""
    if drift is None or not drift.alarm:
        return None
    row = GateRow(
        name=f"{series.name}:drift",
        profile=series.profile,
        metric=series.metric,
        rule="drift",
        verdict="drift",
        d_pct=pct(drift.moved),
        baseline=natural(drift.centre, series.metric),
        now=natural(median(series.now), series.metric),
        sessions=drift.watched,
        suspect=True,
        detail=f"slid over {drift.watched} sessions, against {drift.reference} at the start of the epoch "
        f"(score {drift.score:.1f}, alarm at {drift.limit:.1f})",
    )
    if len(series.pairs) < p.MIN_PAIRS:
        return row
    between = pairs_result(series, noise).change
    held = between > max(p.MIN_CHANGE_SUSPECT, drift.moved / 2)
    return msgspec.structs.replace(
        row,
        confirmation="pairs",
        verdict="drift" if held else "environment-shift",
        detail=f"{row.detail}; {len(series.pairs)} A/B pairs: {pct(between):+.1f} %",
    )


def _say_changes(rows: Sequence[GateRow], findings: list[Finding]) -> None:
    blunt = [row for row in rows if row.rule == MAIN_RULE and (row.threshold_pct or 0.0) > pct(p.BLUNT)]
    if blunt:
        worst = max(blunt, key=lambda row: row.threshold_pct or 0.0)
        findings.append(
            Finding(
                severity="warn",
                kind="noisy",
                where=worst.profile,
                message=f"{worst.name} moves so much by itself that only a change of "
                f"{worst.smallest_detectable_pct or 0.0:.0f} % or more could be called.",
            )
        )
    findings.extend(
        Finding(
            severity="warn",
            kind="environment-shift",
            where=row.profile,
            message=f"{row.name} is {row.d_pct or 0.0:.1f} % slower than before, and so is the old firmware: "
            "the surroundings changed. Earlier sessions are no longer the bar.",
        )
        for row in rows
        if row.verdict == "environment-shift"
    )


def _named_in_vain(named: Sequence[SessionArtifact]) -> Finding:
    """Who names a baseline is not told that all is well where nothing was compared with it."""
    return Finding(
        severity="fail",
        kind=NAMED_BASELINE,
        message=f"nothing of this session can be compared with {name_of(named[-1])}, which was named as its "
        "baseline.",
    )


def _nothing_to_keep(candidate: SessionArtifact) -> bool:
    """Whether a session was measured, and no later one could be compared with any of its profiles."""
    measured = [rounds for profile in profiles_of(candidate) if (rounds := rounds_of(candidate, profile))]
    return bool(measured) and not any(gateable_phases(rounds) for rounds in measured)


def _say_missing(
    candidate: SessionArtifact,
    bars: dict[str, Sequence[SessionArtifact]],
    rows: Sequence[GateRow],
    findings: list[Finding],
) -> None:
    judged = {row.profile for row in rows if row.rule == MAIN_RULE and row.metric in COMPOSITES}
    for profile in profiles_of(candidate):
        rounds = rounds_of(candidate, profile)
        if profile not in bars and rounds and not gateable_phases(rounds):
            findings.append(
                Finding(
                    severity="warn",
                    kind="not-judged",
                    where=profile,
                    message=f"{profile}: nothing comparable was measured before, and this session has no "
                    "figures to compare later ones with; absolute budgets apply.",
                )
            )
        elif profile not in bars:
            findings.append(
                Finding(
                    kind="no-baseline",
                    where=profile,
                    message=f"{profile}: nothing comparable was measured before; absolute budgets apply.",
                )
            )
        elif profile not in judged and rounds:
            findings.append(
                Finding(
                    severity="warn",
                    kind="not-judged",
                    where=profile,
                    message=f"{profile} has a baseline, but no figures that can be compared with it.",
                )
            )


def _verdict(
    candidate: SessionArtifact,
    findings: list[Finding],
    words: Sequence[str],
    *,
    baseline: Json,
    rows: list[GateRow],
    where: list[Place],
) -> Verdict:
    kind: VerdictWord = next((word for word in WORST_FIRST if word in words), "no-baseline")
    if any(finding.severity == "fail" for finding in findings):
        kind = "failed"
    if candidate.partial:
        kind = "incomplete"
    return Verdict(kind=kind, baseline=baseline, gates=rows, findings=findings, places=where)


def _baseline(choice: Choice, policy: GatePolicy) -> Json:
    """Which sessions were the bar: ``mode``, ``sessions`` (ids, oldest first), ``latest``, ``epoch``."""
    used: dict[int, SessionArtifact] = {}
    for epoch in choice.epochs.values():
        used.update({id(session): session for session in _bar(epoch, policy)})
    longest: list[SessionArtifact] = max(choice.epochs.values(), key=len, default=[])
    ordered = [session for session in longest if id(session) in used]
    ordered += [session for key, session in used.items() if all(key != id(one) for one in ordered)]
    return {
        "mode": policy.baseline,
        "sessions": [name_of(session) for session in ordered],
        "latest": name_of(ordered[-1]) if ordered else None,
        "epoch": name_of(longest[0]) if longest and opens_epoch(longest[0]) else None,
    }


def needs_confirmation(verdict: Verdict) -> list[str]:
    """Profiles that would fail and have not been measured again yet: run confirmation rounds for them."""
    return list(
        dict.fromkeys(
            row.profile
            for row in verdict.gates
            if row.rule != "drift" and row.verdict in ("regressed", "drift") and not row.confirmation
        )
    )


def suspects(verdict: Verdict) -> list[str]:
    """Profiles with a suspect gate that A/B pairs have not decided yet: run pairs for them."""
    return list(
        dict.fromkeys(row.profile for row in verdict.gates if row.suspect and row.confirmation != "pairs")
    )


def may_stop_early(
    candidate_so_far: SessionArtifact,
    history: Sequence[SessionArtifact],
    policy: GatePolicy = DEFAULT_POLICY,
) -> bool:
    """Whether a session may end before its last round: only for sessions that can run A/B pairs.

    True from three complete rounds of every profile on, where every profile is compared with a
    history (not with a single session), no gate is suspect, and nothing else is wrong.
    """
    profiles = profiles_of(candidate_so_far)
    rounds = [len(rounds_of(candidate_so_far, profile)) for profile in profiles]
    if not rounds or min(rounds) < p.EARLY_STOP_ROUNDS:
        return False
    verdict = judge(candidate_so_far, history, policy)
    rows = [row for row in verdict.gates if row.rule == MAIN_RULE and row.metric in COMPOSITES]
    compared = all(
        {row.metric for row in rows if row.profile == profile} == set(COMPOSITES) for profile in profiles
    )
    calm = all(row.verdict in ("unchanged", "improved", "not-gateable") for row in verdict.gates)
    known = all(row.sessions > 1 for row in rows)
    quiet = not any(finding.severity == "fail" for finding in verdict.findings)
    return compared and calm and known and quiet and not suspects(verdict)
