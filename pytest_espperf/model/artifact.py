"""The session artifact: the types behind the JSON that scripts rely on. Data only.

Field names are the JSON keys; units stand in the names. A key that may be absent has a default, so
that a reader of one part (the gate reads ``raw_runs``, ``aggregated`` and ``comparability``) is
never stopped by another. Unknown keys are ignored on reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any, Literal

import msgspec

from pytest_espperf.model.contest import Contest
from pytest_espperf.model.findings import FINDINGS, HELD_BACK, PROVISIONAL, Scope, Severity
from pytest_espperf.model.registry import METRICS, Better, Metric, find_metric
from pytest_espperf.model.verdicts import ACCEPTED, FAILING, MAY_JOIN, VerdictWord

SCHEMA_VERSION = 1
"""Integer version of the artifact. Its history:

0   the original tool's files: no ``schema_version``, no ``comparability``, no ``gate``
1   first version of this package (frozen)
"""

RunRole = Literal["run", "confirm", "ab-baseline", "ab-candidate", "reference"]

Json = dict[str, Any]


class BodySizes(msgspec.Struct, frozen=True, kw_only=True):
    """Lengths of the bodies of right answers, in bytes."""

    least: int
    median: int
    most: int


class ErrorReason(msgspec.Struct, frozen=True, kw_only=True):
    """Reason why requests failed with one kind of error: the first one, on the path that had most of them.

    Attributes:
        kind: key of ``error_kinds``.
        path: the path.
        reason: of the first one, in words; "" where the kind is enough.
        count: errors of this kind on this path.
        requests: all requests of this path.
    """

    kind: str
    path: str
    reason: str = ""
    count: int = 0
    requests: int = 0

    def __str__(self) -> str:
        many = f"{self.count:,} of {self.requests:,}"
        if self.kind.startswith("http_"):
            status = f"{self.kind.removeprefix('http_')}, {self.reason}".rstrip(", ")
            return f"{self.path}: {status} ({many})"
        # The reason of a login says itself what it is one of.
        said = self.reason if self.reason.startswith(f"{self.kind}: ") else f"{self.kind}: {self.reason}"
        return f"{said.rstrip(': ')} ({self.path}, {many})"


class PathReport(msgspec.Struct, frozen=True, kw_only=True):
    """One path's share of a phase. Latencies are of ok requests; None where there was none."""

    requests_total: int = 0
    ok: int = 0
    err: int = 0
    error_rate: float = 0.0
    rps_total: float = 0.0
    rps_ok: float = 0.0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    p95_tail_ms: float | None = None
    mean_ms: float | None = None
    max_ms: float | None = None
    status_counts: dict[str, int] = {}
    error_kinds: dict[str, int] = {}
    histogram: str | None = None
    body_bytes: BodySizes | None = None

    def value(self, metric: str) -> float | None:
        """Return the value of a metric of the registry; None where there is none."""
        found: float | None = getattr(self, metric, None)
        return found


class GeneratorReport(msgspec.Struct, frozen=True, kw_only=True):
    """Signs that the load generator was the limit; see :class:`pytest_espperf.model.samples.GeneratorHealth`.

    ``boards`` is how many boards this computer drove at the same time, at most.
    """

    cpu_share: float = 0.0
    lag_p99_ms: float | None = None
    turnaround_ms: float | None = None
    bound: bool = False
    engine: str = ""
    waited_share: float | None = None
    lost_share: float | None = None
    stopped_s: float = 0.0
    boards: int = 1


class LinkReport(msgspec.Struct, frozen=True, kw_only=True):
    """Connects to the idle board around a phase; see :mod:`pytest_espperf.device.link`.

    Between two phases that follow each other directly one reading is made, and stands behind the first and
    before the second. The second names what it shares: of ``connect_ms`` the first ``shared_connects``, and
    of the other two as many.
    """

    connect_ms: list[float] = []
    retransmitted: int = 0
    failed: int = 0
    shared_connects: int = 0
    shared_retransmitted: int = 0
    shared_failed: int = 0


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """A phase over time, in equal slices of ``slice_s`` seconds; a request belongs to where it ended.

    Latencies are of ok requests; None in a slice without one.
    """

    slice_s: float
    ok: list[int] = []
    err: list[int] = []
    p50_ms: list[float | None] = []
    p95_ms: list[float | None] = []
    max_ms: list[float | None] = []


class PhaseEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Event on the serial console during a phase; ``kind`` as in :mod:`pytest_espperf.device.markers`."""

    at_s: float
    kind: str
    text: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.at_s:.1f} s into the phase: {self.text}"


class PhaseReport(PathReport, frozen=True, kw_only=True):
    """One phase, all paths together; ``body_bytes`` is known of its paths alone.

    ``figures`` has what only some phases have, by the name of its metric: ``connect_ms``, ``upload_mb_s``.
    ``kind`` is what was counted: ``requests``, ``page``, ``websocket`` (round trips) or ``events``, whose
    latencies are the gaps between them.
    """

    clients: int = 0
    duration: float = 0.0
    elapsed: float = 0.0
    rate_rps: float | None = None
    think_time_s: float = 0.0
    stale_retries: int = 0
    stalled_s: float = 0.0
    dropped_starts: int = 0
    never_answered: int = 0
    tail_ok: int = 0
    connects: int = 0
    connect_p50_ms: float | None = None
    ttfb_p50_ms: float | None = None
    service_p50_ms: float | None = None
    service_p95_ms: float | None = None
    service_p99_ms: float | None = None
    cut_short: str = ""
    error_reasons: list[ErrorReason] = []
    generator: GeneratorReport | None = None
    path_metrics: dict[str, PathReport] = {}
    stats_before: Json = {}
    stats_after: Json = {}
    mem_before: Json = {}
    mem_after: Json = {}
    counters: dict[str, int] = {}
    link: LinkReport | None = None
    events: list[PhaseEvent] = []
    timeline: Timeline | None = None
    samples_file: str = ""
    figures: dict[str, float] = {}
    kind: str = "requests"

    @property
    def paced(self) -> bool:
        """Whether a schedule, or the pauses of its clients, set its throughput."""
        return self.rate_rps is not None or self.think_time_s > 0 or self.kind == "events"

    def value(self, metric: str) -> float | None:
        """Return the value of a metric, also of one that only some phases have; None where there is none."""
        known = METRICS.get(metric)
        if known is not None and known.only_some:
            return self.figures.get(metric)
        return PathReport.value(self, metric)


class OwnFigure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of the firmware's own in one session.

    Attributes:
        unit: of its values, "" for none.
        better: which direction is better.
        values: in the order in which they came; at least one.
        source: where they came from: ``console``, ``telemetry``, ``test``, ``file`` or ``boot``.
    """

    unit: str = ""
    better: Better = "lower"
    values: list[float] = []
    source: str = ""

    @property
    def median(self) -> float | None:
        """Median of its values; None where it has none."""
        return median(self.values) if self.values else None

    def metric(self, name: str) -> Metric:
        """Return what a renderer needs to show it under a name."""
        found = find_metric(name, self.unit, self.better)
        assert found is not None
        return found


class RatioBudget(msgspec.Struct, frozen=True, kw_only=True):
    """Budget of a profile's figure as a multiple of another profile's in the same session.

    Attributes:
        profile: whose figure may be at most ``limit`` times that of ``to``; at least, where more is better.
        to: the other profile.
        metric: of the registry.
        limit: the factor.
    """

    profile: str
    to: str
    metric: str
    limit: float


class PhaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """A judged phase: its report and the absolute budgets it broke.

    ``worst_reasons`` are the budgets of any single run that it broke: they fail a session where a replacement
    breaks them again, see :mod:`pytest_espperf.gate.worst`.
    """

    profile: str
    phase: str
    passed: bool = msgspec.field(name="pass")
    fail_reasons: list[str] = []
    worst_reasons: list[str] = []
    report: PhaseReport


class RawRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one profile: its phases in the order they were driven.

    ``role`` is ``run`` for the planned rounds, ``confirm`` for a round added because the profile was
    about to fail, ``ab-baseline`` and ``ab-candidate`` for the two halves of an interleaved pair
    (same ``run_index``) measured with the old and the new firmware, ``reference`` for a round on the
    control board ``board``, beside the planned round of the same ``run_index``. ``firmware`` is its label in
    a session that measures several; ``board`` the one of them that was measured, where there are two.
    """

    profile: str
    run_index: int
    role: RunRole = "run"
    board: str = ""
    firmware: str = ""
    results: list[PhaseResult] = []


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One metric over the runs of a cell. ``best`` and ``worst`` follow the metric's direction."""

    median: float | None = None
    best: float | None = None
    worst: float | None = None
    mean: float | None = None


class PathAggregate(msgspec.Struct, frozen=True, kw_only=True):
    """One path of a cell over its runs; ``kind`` is what was counted, see :class:`PhaseReport`."""

    requests_total: Summary = Summary()
    error_rate: Summary = Summary()
    p50_ms: Summary = Summary()
    p95_ms: Summary = Summary()
    p99_ms: Summary = Summary()
    rps_ok: Summary = Summary()
    kind: str = "requests"


class CellAggregate(msgspec.Struct, frozen=True, kw_only=True):
    """One cell (``profile:phase``) over its runs; ``figures`` has the metrics that only some phases have.

    ``paced``: a schedule or pauses set its throughput, see :attr:`PhaseReport.paced`; ``kind``: what was
    counted, see :class:`PhaseReport`.
    """

    profile: str
    phase: str
    sample_count: int = 0
    pass_rate: float = 0.0
    error_rate: Summary = Summary()
    p50_ms: Summary = Summary()
    p95_ms: Summary = Summary()
    p99_ms: Summary = Summary()
    p95_tail_ms: Summary = Summary()
    rps_ok: Summary = Summary()
    path_metrics: dict[str, PathAggregate] = {}
    figures: dict[str, Summary] = {}
    paced: bool = False
    kind: str = "requests"

    def summary(self, metric: str) -> Summary:
        """Return the summary of a metric, also of one that only some phases have."""
        found = self.figures.get(metric)
        if found is None:
            found = getattr(self, metric, None)
        return found if isinstance(found, Summary) else Summary()


class Comparability(msgspec.Struct, frozen=True, kw_only=True):
    """Facts that must be equal for two sessions to be compared.

    Attributes:
        key: digest of ``fields``: equal keys mean wholly comparable sessions.
        fields: flat facts about the session (board, scheme, engine, runs, ...) plus ``profiles``,
            a mapping of profile name to that profile's own facts. All but ``profiles`` must be
            equal for any comparison; a profile is compared where its own facts are equal.
    """

    key: str = ""
    fields: Json = {}


MAIN_RULE = "noise-floor"
"""``rule`` of a gate that is judged by the noise of its baseline."""


OWN_RULE = "own-figure"
"""``rule`` of a gate of a firmware's own figure."""

FAIL_ON_RULE = "fail-on"
"""``rule`` of a gate that a rule of ``--perf-fail-on`` asks for."""


class GateRow(msgspec.Struct, frozen=True, kw_only=True):
    """One compared figure of a profile, with its verdict.

    ``d_pct`` is the change in percent with slower positive (+10: 10 % slower, whatever the metric's
    direction); None where there was nothing to compare. It is that of the time which an answer takes; of a
    :data:`FAIL_ON_RULE` that of the value, in percent of the one before. ``baseline`` and ``now`` are in the
    metric's unit.
    ``smallest_detectable_pct`` is the smallest slowdown that could have been called, ``reliable_pct`` the
    one that would have been called nine times in ten, ``at_most_pct`` the largest slowdown that is not
    excluded (one-sided, 95 %); ``at_least_pct`` the smallest one, where firmwares are compared in pairs.
    Each is None above 300 %, and where nothing was compared. ``rounds`` counts
    the rounds that were judged. ``suspect`` marks a gate that is worth measuring again; ``confirmation`` is
    how it was: "" not at all, ``rounds`` or ``pairs``. ``looks_slower`` marks a gate whose change stands out
    of the noise without proof: its session is held back from the baseline. ``unit`` and ``better`` are those
    of a firmware's own figure; a metric of the registry has them there, but for the ``unit`` of a throughput
    that counts no requests.
    """

    name: str
    profile: str = ""
    metric: str = ""
    rule: str = MAIN_RULE
    verdict: str = "unchanged"
    d_pct: float | None = None
    threshold_pct: float | None = None
    smallest_detectable_pct: float | None = None
    baseline: float | None = None
    now: float | None = None
    sessions: int = 0
    detail: str = ""
    reliable_pct: float | None = None
    at_most_pct: float | None = None
    at_least_pct: float | None = None
    rounds: int = 0
    suspect: bool = False
    confirmation: str = ""
    looks_slower: bool = False
    unit: str = ""
    better: str = ""

    @property
    def is_own(self) -> bool:
        """Whether it is about a figure of the firmware's own, and so about no profile."""
        return not self.profile and bool(self.better)

    @property
    def described(self) -> Metric | None:
        """Label, unit and direction of its metric; None where it is about none."""
        return find_metric(self.metric, self.unit, self.better)

    @property
    def moved(self) -> str:
        """The change of its figure, ``48.1 -> 78.5 ms``; "" where it is no metric, or has no values."""
        metric = self.described
        if metric is None or self.baseline is None or self.now is None:
            return ""
        return metric.change(self.baseline, self.now)


FIRMWARE_TOLD = "firmware_told"
"""Key of ``device``: whether the board itself told its ``firmware`` version, which no option named."""

DELAYED_ACK = "delayed_ack"
"""Key of ``device``: which paths wait for delayed acknowledgements, as ``asked`` (paths), ``waits_ms``
(path -> milliseconds) and ``measured`` (whether the session's figures contain the wait)."""


class PathChange(msgspec.Struct, frozen=True, kw_only=True):
    """One path of one phase against the median of the baseline's sessions: where time is lost.

    ``d_pct`` is the change in percent with slower positive; values are in the metric's unit.
    """

    profile: str
    phase: str
    path: str
    metric: str
    baseline: float
    now: float
    d_pct: float


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence that a verdict carries: an exceeded budget, an incomparable session, a lost board.

    Attributes:
        severity: ``fail`` fails the session.
        kind: a constant of :mod:`pytest_espperf.model.findings`; files of other versions may have others.
        where: the profile, cell or file that it is about; "" for the session.
        message: the sentence.
    """

    severity: Severity = "info"
    kind: str = ""
    where: str = ""
    message: str = ""

    @property
    def scope(self) -> Scope:
        """Scope of its kind; of a kind that the registry does not have, the board."""
        kind = FINDINGS.get(self.kind)
        return kind.scope if kind is not None else "board"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Verdict of the gate on one session. In JSON ``kind`` is called ``verdict``.

    ``disturbed`` counts the rounds of a profile that are worth measuring again: something stalled them, or
    they broke a budget of any single run.
    """

    kind: VerdictWord = msgspec.field(name="verdict")
    baseline: Json = {}
    gates: list[GateRow] = []
    findings: list[Finding] = []
    places: list[PathChange] = []
    disturbed: dict[str, int] = {}

    @property
    def fails(self) -> bool:
        """Whether this verdict fails a session by itself (without ``--perf-strict``)."""
        return self.kind in FAILING

    @property
    def joins_baseline(self) -> bool:
        """Whether later sessions may be compared with this one, unless a decision changes that.

        An inconclusive session joins where it is provisional; one that looks slower without proof never.
        """
        if self.held_back:
            return False
        provisional = any(finding.kind == PROVISIONAL for finding in self.findings)
        return self.kind in (MAY_JOIN if provisional else ACCEPTED)

    @property
    def held_back(self) -> bool:
        """Whether the session did not fail, but looks slower without proof, or answers something else."""
        return self.kind in MAY_JOIN and any(finding.kind == HELD_BACK for finding in self.findings)


class EndedEarly(msgspec.Struct, frozen=True, kw_only=True):
    """Reason why a profile was not measured in all of its planned runs.

    Attributes:
        after: rounds that were measured.
        planned: rounds that were planned.
        why: ``calm``: a slowdown beyond the tolerance is excluded, and the planned rounds could not have
            called one; ``slower``: each of the rounds is slower than the threshold.
    """

    after: int
    planned: int
    why: Literal["calm", "slower"]


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """Number of connections that the board serves at once, as it was found before the load.

    Attributes:
        connections: that were open at once and answered.
        ended: what one more met: ``unanswered``, ``refused``, ``closed``, ``busy`` (status 503); "" where no
            more were tried, so that the board serves at least as many.
    """

    connections: int = 0
    ended: Literal["", "unanswered", "refused", "closed", "busy"] = ""


class PathAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of a path when it was asked before the load.

    Attributes:
        status: None where no complete answer came.
        body_bytes: length of the body, as it came.
        content_type: without parameters, in lower case; "" where the answer names none.
        encoding: its Content-Encoding, in lower case; "" where it names none.
        trouble: why a request of the load fails on it, in words; "" for a right answer.
    """

    status: int | None = None
    body_bytes: int | None = None
    content_type: str = ""
    encoding: str = ""
    trouble: str = ""


class SessionArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is kept of one session.

    ``boards`` is how many boards the run had, each with a session of its own. ``ended_early`` has an entry
    for each profile that was measured in fewer rounds than planned, by decision. ``capacity`` is None where
    it was not found, or a board closes each connection behind its answer. ``answers`` has, by profile and
    path, what each path answered before the load. ``figures`` has the firmware's own figures, by name.
    ``ratios`` has the budgets of profiles against each other. ``contest`` is there where several firmwares
    were measured against each other: such a session is no baseline.
    ``accepted`` (reason, when, by whom) and ``pinned`` are
    decisions taken later; they are kept beside the artifact, which is never
    rewritten, and filled in by the store.
    """

    schema_version: int = SCHEMA_VERSION
    session_id: str = ""
    timestamp_utc: str = ""
    tag: str = ""
    target: str = ""
    profiles: list[str] = []
    runs_per_profile: int = 0
    overall_pass: bool = False
    hard_stop_reason: str = ""
    thresholds: dict[str, float] = {}
    raw_runs: list[RawRun] = []
    aggregated: dict[str, CellAggregate] = {}
    comparison_to_previous: dict[str, dict[str, float | None]] = {}
    gate: Verdict | None = None
    settings: Json = {}
    comparability: Comparability | None = None
    environment: Json = {}
    device: Json = {}
    boards: int = 1
    ended_early: dict[str, EndedEarly] = {}
    capacity: Capacity | None = None
    answers: dict[str, dict[str, PathAnswer]] = {}
    figures: dict[str, OwnFigure] = {}
    ratios: list[RatioBudget] = []
    contest: Contest | None = None
    partial: bool = False
    accepted: Json | None = None
    pinned: bool = False

    def results(self) -> Iterator[tuple[int, PhaseResult]]:
        """Every measured phase with its run index, in file order."""
        for run in self.raw_runs:
            for result in run.results:
                yield run.run_index, result


def has_answers(session: SessionArtifact) -> bool:
    """Whether any request of a session succeeded; without one it shows nothing of any firmware."""
    return any(result.report.ok for _, result in session.results())
