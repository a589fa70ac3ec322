"""Comparison of what paths answer with the baseline: status, body size, content type and coding. Pure.

A board that answers something else is not compared with what it was: a login page that a redirect leads to
is no faster version of the page behind it. Such a profile is *inconclusive* until the session is accepted,
and the session is held back from the baseline.

Sizes vary by nature (times, counters, lists), and so they are compared with all that the baseline's sessions
saw: the median body must have less than half of the bytes of the smallest one, or more than twice those of
the largest one, and differ from it by more than 32 bytes (the digits of a few counters, or a date). A body
that is empty now and never was is another one whatever it had. A class of statuses must have 10 points more
or less of the answers than in any session of the baseline; statuses of a board that is merely busy do not
count. Content type and coding are compared without parameters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from pytest_espperf.gate.series import results_of
from pytest_espperf.model.artifact import BodySizes, Finding, SessionArtifact
from pytest_espperf.model.findings import REDIRECTS

MIX_POINTS = 10.0
"""Percent of the answers."""

SIZE_FACTOR = 2.0
SIZE_BYTES = 32

_BUSY = frozenset({"429", "503", "504"})
_NONE = "none"
_NAMED = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class _Facts:
    """Facts about the answers of one path in one session; None where one is not known."""

    statuses: Counter[str]
    sizes: BodySizes | None = None
    content_type: str | None = None
    encoding: str | None = None

    @property
    def usual_status(self) -> str:
        """The most frequent status."""
        return self.statuses.most_common(1)[0][0]

    def share(self, kind: str) -> float:
        """Percent of the answers whose status is of a class."""
        found = sum(count for status, count in self.statuses.items() if status[0] == kind)
        return 100.0 * found / self.statuses.total()


def changed_answers(
    candidate: SessionArtifact, baselines: Mapping[str, Sequence[SessionArtifact]]
) -> dict[str, list[str]]:
    """Describe by profile what is answered otherwise than in the baseline; without profiles that are alike.

    Args:
        candidate: the session that is judged.
        baselines: profile -> the sessions of its baseline.
    """
    found = {}
    for profile, sessions in baselines.items():
        now = _facts(candidate, profile)
        past = [_facts(session, profile) for session in sessions]
        changes = []
        for path, facts in now.items():
            before = [one[path] for one in past if path in one]
            words = [word for word in _changes(facts, before) if word] if before else []
            if words:
                changes.append(f"{path}: {', '.join(words)}")
        if changes:
            found[profile] = changes
    return found


def redirect_findings(candidate: SessionArtifact) -> Iterator[Finding]:
    """Warn of profiles that measured redirects alone: a user means the page behind them."""
    for profile, answers in candidate.answers.items():
        if answers and all(one.status in _REDIRECTS for one in answers.values()):
            named = ", ".join(f"{path}: {one.status}" for path, one in list(answers.items())[:_NAMED])
            more = f" and {len(answers) - _NAMED} more" if len(answers) > _NAMED else ""
            yield Finding(
                severity="warn",
                kind=REDIRECTS,
                where=profile,
                message=f"{profile}: every path answers with a redirect ({named}{more}), which requests do "
                "not follow: what was measured is the redirect, and not the page behind it.",
            )


def _facts(session: SessionArtifact, profile: str) -> dict[str, _Facts]:
    """Gather the facts of each path of a profile, from the load and, where it has none, from before it."""
    statuses: dict[str, Counter[str]] = {}
    sizes: dict[str, list[BodySizes]] = {}
    for result in results_of(session):
        if result.profile != profile:
            continue
        for path, report in result.report.path_metrics.items():
            counts = {status: n for status, n in report.status_counts.items() if status not in _BUSY}
            statuses.setdefault(path, Counter()).update(counts)
            if report.body_bytes is not None:
                sizes.setdefault(path, []).append(report.body_bytes)
    asked = {
        path: answer
        for path, answer in session.answers.get(profile, {}).items()
        if not answer.trouble and answer.status is not None
    }
    found = {}
    for path in dict.fromkeys([*statuses, *asked]):
        answer = asked.get(path)
        seen = sizes.get(path, [])
        if not seen and answer is not None and answer.body_bytes is not None:
            seen = [BodySizes(least=answer.body_bytes, median=answer.body_bytes, most=answer.body_bytes)]
        found[path] = _Facts(
            statuses=statuses.get(path, Counter()),
            sizes=_all_of(seen) if seen else None,
            content_type=answer.content_type if answer is not None else None,
            encoding=answer.encoding.replace("identity", "") if answer is not None else None,
        )
    return found


def _all_of(sizes: Sequence[BodySizes]) -> BodySizes:
    return BodySizes(
        least=min(one.least for one in sizes),
        median=round(median(one.median for one in sizes)),
        most=max(one.most for one in sizes),
    )


def _changes(now: _Facts, past: Sequence[_Facts]) -> Iterator[str]:
    """Compare each fact, as ``from -> to``; "" where it is the same or not known."""
    yield _status_change(now, [one for one in past if one.statuses])
    yield _size_change(now.sizes, [one.sizes for one in past if one.sizes is not None])
    yield _word_change(now.content_type, [one.content_type for one in past])
    yield _word_change(now.encoding, [one.encoding for one in past], "Content-Encoding ")


def _status_change(now: _Facts, past: Sequence[_Facts]) -> str:
    if not now.statuses or not past:
        return ""
    before = past[-1].usual_status
    if now.usual_status[0] not in {one.usual_status[0] for one in past}:
        return f"status {before} -> {now.usual_status}"
    kinds = {status[0] for one in (now, *past) for status in one.statuses}
    for kind in sorted(kinds):
        shares = [one.share(kind) for one in past]
        share = now.share(kind)
        if share > max(shares) + MIX_POINTS or share < min(shares) - MIX_POINTS:
            return f"{kind}xx in {median(shares):.0f} % -> {share:.0f} % of the answers"
    return ""


def _size_change(now: BodySizes | None, past: Sequence[BodySizes]) -> str:
    if now is None or not past:
        return ""
    size, seen = now.median, _all_of(past)
    smaller = size * SIZE_FACTOR < seen.least and seen.least - size > SIZE_BYTES
    larger = size > seen.most * SIZE_FACTOR and size - seen.most > SIZE_BYTES
    emptied = size == 0 and seen.least > 0
    return f"{seen.median:,} -> {size:,} bytes" if smaller or larger or emptied else ""


def _word_change(now: str | None, past: Sequence[str | None], name: str = "") -> str:
    known = [word for word in past if word is not None]
    if now is None or not known or now in known:
        return ""
    return f"{name}{known[-1] or _NONE} -> {now or _NONE}"
