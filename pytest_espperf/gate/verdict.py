"""The whole judgement, from one candidate and its history to one verdict."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.answers import changed_answers, redirect_findings
from pytest_espperf.gate.baseline import (
    BaselineChoice,
    baseline_of,
    choose,
    depth_of,
    name_of,
    profiles_of,
    rounds_by_profile,
)
from pytest_espperf.gate.capacity import capacity_findings
from pytest_espperf.gate.delayed_ack import RULE as DELAYED_ACK_RULE
from pytest_espperf.gate.delayed_ack import delayed_ack_findings, delayed_ack_rows
from pytest_espperf.gate.drift import Drift, drifts, is_slide
from pytest_espperf.gate.findings import (
    answer_findings,
    change_findings,
    disturbed_findings,
    early_findings,
    has_comparable_figures,
    lost_reference_findings,
    named_baseline_finding,
    not_judged_findings,
    reference_findings,
    standing_findings,
)
from pytest_espperf.gate.generator import link_findings
from pytest_espperf.gate.health import health_findings
from pytest_espperf.gate.noise import Noise, alpha_of, composites_factor, noises
from pytest_espperf.gate.own import (
    OwnSeries,
    count_noisy,
    figure_budget_findings,
    figure_rule_findings,
    own_findings,
    own_plain_rows,
    own_rows,
    own_series,
)
from pytest_espperf.gate.pairs import pairs_result
from pytest_espperf.gate.places import places
from pytest_espperf.gate.policy import DEFAULT_POLICY, GatePolicy
from pytest_espperf.gate.ratios import ratio_findings
from pytest_espperf.gate.rows import error_row, gate_row, is_composite, pct, plain_rows, printed, tail_row
from pytest_espperf.gate.series import (
    COMPOSITES,
    GATES,
    ProfileRounds,
    Series,
    build_all,
    natural,
    rounds_of,
)
from pytest_espperf.gate.stats import t_quantile
from pytest_espperf.gate.stops import stopped_rounds, without_stops
from pytest_espperf.gate.telemetry import telemetry_findings
from pytest_espperf.gate.worst import unresolved_worst, worst_findings
from pytest_espperf.model.artifact import (
    MAIN_RULE,
    OWN_RULE,
    Finding,
    GateRow,
    Json,
    PathChange,
    SessionArtifact,
    Verdict,
)
from pytest_espperf.model.findings import ANSWERS, GATE_OFF, NOT_JUDGED
from pytest_espperf.model.gates import TAIL, with_units
from pytest_espperf.model.standing import Standing
from pytest_espperf.model.verdicts import FAILING, NOT_GATEABLE, NOT_SLOWER, session_word

SETTLED_RULES = ("drift", DELAYED_ACK_RULE, OWN_RULE)
"""Rules whose answers more rounds of this session cannot change."""


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
    health = health_findings(candidate, policy)
    repeated = any(run.role == "confirm" for run in candidate.raw_runs)
    stopped = {} if repeated else stopped_rounds(candidate.raw_runs)
    candidate, history = without_stops(candidate), [without_stops(session) for session in history]
    choice = choose(candidate, history, policy)
    findings = [
        *health,
        *figure_budget_findings(candidate),
        *figure_rule_findings(candidate, policy),
        *ratio_findings(candidate),
        *worst_findings(candidate),
        *choice.findings,
        *lost_reference_findings(candidate),
    ]
    again = unresolved_worst(candidate)
    baselines = {profile: baseline_of(epoch, policy) for profile, epoch in choice.epochs.items() if epoch}
    findings += link_findings(candidate, max(baselines.values(), key=len, default=[]))
    findings += delayed_ack_findings(candidate, baselines)
    starving = list(capacity_findings(candidate, max(baselines.values(), key=len, default=[])))
    findings += starving
    findings += telemetry_findings(candidate, baselines)
    findings += redirect_findings(candidate)
    where = places(candidate, baselines)
    if not policy.enabled:
        findings.append(
            Finding(kind=GATE_OFF, message="the comparison with earlier sessions was switched off.")
        )
        words = ["inconclusive" if baselines or starving else "no-baseline"]
        verdict = _verdict(
            candidate, findings, words, baseline=_baseline(choice, policy), rows=[], where=where
        )
        return msgspec.structs.replace(verdict, disturbed=again)
    profiles = rounds_by_profile(candidate, choice, policy)
    longest = max(baselines.values(), key=len, default=[])
    own = own_series(candidate, longest)
    composite_rows, environment = _composite_rows(candidate, profiles, own, policy)
    rows = [
        *composite_rows,
        *(
            row
            for profile, baseline in baselines.items()
            if (row := error_row(candidate, profile, baseline)) is not None
        ),
        *(
            row
            for profile, baseline in baselines.items()
            for row in plain_rows(candidate, profile, baseline[-1], policy)
        ),
        *own_plain_rows(candidate, longest, policy),
        *delayed_ack_rows(candidate, baselines),
    ]
    changed = changed_answers(candidate, baselines)
    rows = [_of_other_answers(row) if row.profile in changed else row for row in rows]
    findings += [
        *environment,
        *own_findings(candidate, longest, profiles),
        *answer_findings(changed),
        *change_findings(rows, changed),
        *not_judged_findings(candidate, baselines, rows),
        *disturbed_findings(candidate, profiles),
        *early_findings(candidate),
    ]
    if policy.baseline == "fixed" and history and not baselines and candidate.raw_runs:
        findings.append(named_baseline_finding(history))
    # A smaller file is no faster firmware: own figures can fail a session, and say no more of it.
    words = [row.verdict for row in rows if not row.is_own or row.verdict in FAILING]
    if any(finding.kind == NOT_JUDGED for finding in findings) and (
        baselines or not has_comparable_figures(candidate)
    ):
        words.append("inconclusive")  # green must not stand for a profile that was not seen
    if starving:
        words.append("inconclusive")  # nor for clients that got nothing
    if changed:
        words.append("inconclusive")
    verdict = _verdict(candidate, findings, words, baseline=_baseline(choice, policy), rows=rows, where=where)
    return msgspec.structs.replace(
        verdict,
        findings=[
            *verdict.findings,
            *standing_findings(candidate, verdict, gives_way=choice.gives_way, changed=bool(changed)),
        ],
        disturbed={
            one.profile: count
            for one in profiles
            if (
                count := max(
                    one.disturbed.count + len(stopped.get(one.profile, ())), again.get(one.profile, 0)
                )
            )
            and not rounds_of(candidate, one.profile, ("confirm",))
        },
    )


def _of_other_answers(row: GateRow) -> GateRow:
    """Mark a gate that compared other answers: neither faster nor as fast as before means anything then."""
    if row.rule != MAIN_RULE or row.verdict not in NOT_SLOWER:
        return row
    return msgspec.structs.replace(
        row, verdict="inconclusive", detail=f"{row.verdict}, but its answers are others than in the baseline"
    )


def _composite_rows(
    candidate: SessionArtifact,
    profiles: Sequence[ProfileRounds],
    own: Sequence[OwnSeries],
    policy: GatePolicy,
) -> tuple[list[GateRow], list[Finding]]:
    """Judge all figures of profiles and sessions, and describe what a control board showed."""
    main = build_all(candidate, profiles, GATES, depth_of(policy))
    tail = build_all(candidate, profiles, (TAIL,), depth_of(policy))
    factor = composites_factor(main)
    boards = max(1, candidate.boards)
    # Own figures count as one more profile: what all gates share stays the same.
    alpha = alpha_of(main) / boards
    own_alpha = alpha / (len({one.profile for one in main}) + 1) if count_noisy(own) else 0.0
    alpha -= own_alpha
    noise = noises(main, alpha=alpha, factor=factor)
    tail_noise = noises(tail, alpha=p.ALPHA_TAIL / boards, factor=factor)
    rows = [gate_row(one, noise[one.name], policy) for one in main]
    rows = _of_procedure(rows, main, noises(main, alpha=alpha, factor=factor, planned=True))
    rows = _shifted(rows, main, noise)
    rows = [_slid(row, one, noise[one.name]) for row, one in zip(rows, main, strict=True)]
    rows += own_rows(own, policy, own_alpha)
    rows += [tail_row(candidate, one, tail_noise[one.name], policy) for one in tail]
    if policy.baseline != "fixed":
        # A control board may age, too: a slow slide is looked for in what was measured.
        measured = [one.as_measured() for one in main if one.metric in COMPOSITES]
        drifted = drifts(measured, boards)
        rows += [
            row
            for one in measured
            if (row := _drift_row(one, noise[one.name], drifted.get(one.name))) is not None
        ]
    return rows, list(reference_findings(candidate, main))


def _of_procedure(
    rows: Sequence[GateRow], series: Sequence[Series], planned: dict[str, Noise]
) -> list[GateRow]:
    """Give a gate that ended early the slowdown that the planned rounds would have noticed.

    A slowdown of that size would not have ended early: what the whole procedure notices is what counts.
    """
    return [
        msgspec.structs.replace(row, reliable_pct=printed(pct(planned[one.name].reliable)))
        if one.ended == "calm"
        else row
        for row, one in zip(rows, series, strict=True)
    ]


def _shifted(rows: list[GateRow], series: list[Series], noise: dict[str, Noise]) -> list[GateRow]:
    """Mark a shift of the whole environment, where A/B pairs cleared every suspect.

    One test of one statistic: the median over all gates of d in standard errors, at the full alpha.
    Without it a shift that no single gate proves would be `unchanged`, and slide into the baseline.
    """
    cleared = [row for row in rows if row.confirmation == "pairs"]
    every = [one for one in series if one.metric in COMPOSITES]
    if not (cleared and every) or any(row.verdict not in ("unchanged", "environment-shift") for row in rows):
        return rows
    common = median(
        (median(one.every) - noise[one.name].history.centre) / noise[one.name].sigma for one in every
    )
    df = min(noise[one.name].error.df for one in every)
    moved = median(row.d_pct or 0.0 for row in rows if is_composite(row))
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
    """Make a row for a gate that has drifted; A/B pairs against the old firmware can clear it."""
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


def _verdict(
    candidate: SessionArtifact,
    findings: list[Finding],
    words: Sequence[str],
    *,
    baseline: Json,
    rows: list[GateRow],
    where: list[PathChange],
) -> Verdict:
    kind = session_word(words)
    if any(finding.severity == "fail" for finding in findings):
        kind = "failed"
    if candidate.partial:
        kind = "incomplete"
    gates = with_units(rows, candidate)
    return Verdict(kind=kind, baseline=baseline, gates=gates, findings=findings, places=where)


def _baseline(choice: BaselineChoice, policy: GatePolicy) -> Json:
    """Describe the baseline: ``mode``, ``sessions`` (ids, oldest first), ``latest``, ``epoch``."""
    used: dict[int, SessionArtifact] = {}
    for epoch in choice.epochs.values():
        used.update({id(session): session for session in baseline_of(epoch, policy)})
    longest: list[SessionArtifact] = max(choice.epochs.values(), key=len, default=[])
    ordered = [session for session in longest if id(session) in used]
    ordered += [session for key, session in used.items() if all(key != id(one) for one in ordered)]
    return {
        "mode": policy.baseline,
        "sessions": [name_of(session) for session in ordered],
        "latest": name_of(ordered[-1]) if ordered else None,
        "epoch": name_of(longest[0]) if longest and Standing.of(longest[0]).opens_epoch else None,
    }


def measure_again(verdict: Verdict, policy: GatePolicy = DEFAULT_POLICY) -> dict[str, int]:
    """Choose the profiles to measure again before the verdict stands, once, and in how many rounds.

    A profile without a clear answer (slower, or not shown within the tolerance) gets the policy's
    confirmation runs; one that is clear, but in which rounds were disturbed, or broke a budget of any
    single run, as many as did.
    """
    wanted = {profile: min(count, policy.confirm_rounds) for profile, count in verdict.disturbed.items()}
    wanted |= dict.fromkeys(unclear_profiles(verdict), policy.confirm_rounds)
    proven = {row.profile for row in verdict.gates if row.verdict in FAILING and row.confirmation}
    return {profile: count for profile, count in wanted.items() if count and profile not in proven}


def unclear_profiles(verdict: Verdict) -> list[str]:
    """List the profiles that are slower, or not shown within the tolerance, and were not measured again yet.

    Of a profile whose answers changed more rounds could only show that it is slower all the same.
    """
    changed = {finding.where for finding in verdict.findings if finding.kind == ANSWERS}
    return list(
        dict.fromkeys(
            row.profile
            for row in verdict.gates
            if row.profile
            and not row.confirmation
            and row.rule not in SETTLED_RULES
            and (row.verdict in FAILING or (row.verdict == "inconclusive" and row.profile not in changed))
        )
    )


def suspects(verdict: Verdict) -> list[str]:
    """Profiles with a suspect or unclear gate that A/B pairs have not decided yet: run pairs for them."""
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
    rows = [row for row in verdict.gates if is_composite(row)]
    compared = all(
        {row.metric for row in rows if row.profile == profile} == set(COMPOSITES) for profile in profiles
    )
    calm = all(row.verdict in {*NOT_SLOWER, NOT_GATEABLE} for row in verdict.gates)
    known = all(row.sessions > 1 for row in rows)
    quiet = not any(finding.severity == "fail" for finding in verdict.findings)
    return compared and calm and known and quiet and not suspects(verdict)
