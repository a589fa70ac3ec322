"""Summaries of samples. Pure.

Percentiles are linearly interpolated between order statistics (type 7 of Hyndman and Fan, 1996,
numpy's default), exact, from all samples.
"""

from __future__ import annotations

import base64
import contextlib
import math
import statistics
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec
from hdrh.histogram import HdrHistogram

from pytest_espperf.model.artifact import (
    BodySizes,
    CellAggregate,
    ErrorReason,
    GeneratorReport,
    PathAggregate,
    PathReport,
    PhaseReport,
    RawRun,
    Summary,
    Timeline,
)
from pytest_espperf.model.computer import local_kinds
from pytest_espperf.model.registry import METRICS, Metric, kind_of_path
from pytest_espperf.model.samples import GeneratorHealth, Outcome, PathSeen, PhaseSamples

HISTOGRAM_MAX_US = 600_000_000
HISTOGRAM_DIGITS = 3
HISTOGRAM_HEAD_BYTES = 8
"""Cookie and length in front of the packed part (HdrHistogram's V2 format)."""

MAX_HISTOGRAM_BYTES = 1 << 20
"""Of an unpacked histogram; one with a value in each of its counts has 300 KB."""

MAX_SLICES = 60
MIN_SLICE_S = 0.25
"""A timeline's slices are as many as fit, up to 60."""

MB = 1e6
"""Bytes of a megabyte, as links are measured."""

LARGE_BYTES = 64 * 1024
"""Length of a body from which on the rate of its transfer says something: shorter ones are latency."""

STALL_S = 1.0
"""A time without a single answer counts as a stall from here on ..."""

STALL_FACTOR = 3.0
"""... and from so many times what is usual for the board."""


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Linearly interpolated percentile of values in ascending order.

    Args:
        ordered: at least one value, ascending.
        fraction: 0..1.

    Raises:
        ValueError: there is no value.
    """
    if not ordered:
        raise ValueError("no value has no percentile")
    rank = (len(ordered) - 1) * fraction
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    # This form never leaves [ordered[below], ordered[above]], whatever the rounding.
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def make_histogram(seconds: Iterable[float]) -> str:
    """Encode latencies as a compressed HdrHistogram (base64, V2), in microseconds, 3 significant digits."""
    histogram = HdrHistogram(1, HISTOGRAM_MAX_US, HISTOGRAM_DIGITS)
    for micros, count in Counter(min(HISTOGRAM_MAX_US, max(1, round(s * 1e6))) for s in seconds).items():
        histogram.record_value(micros, count)
    encoded: bytes = histogram.encode()
    # Each refers to the other, and together they hold 0.1 MB: phases keep the garbage collector from that.
    histogram.encoder = None
    return encoded.decode("ascii")


@dataclass
class _Bucket:
    """Samples of one path, or of all, while they are gathered."""

    latencies: array[float]
    tail: array[float]
    statuses: Counter[str]
    errors: Counter[str]
    ok: int = 0
    err: int = 0

    def take(self, outcome: Outcome, latency_s: float, *, in_tail: bool) -> None:
        """Count a sample, with its latency where it is ok."""
        if outcome.status is not None:
            self.statuses[str(outcome.status)] += 1
        if outcome.error is not None:
            self.err += 1
            self.errors[outcome.error] += 1
            return
        self.ok += 1
        self.latencies.append(latency_s)
        if in_tail:
            self.tail.append(latency_s)


def _bucket() -> _Bucket:
    return _Bucket(array("d"), array("d"), Counter(), Counter())


def _figures(bucket: _Bucket, elapsed_s: float) -> dict[str, Any]:
    total = bucket.ok + bucket.err
    ordered = sorted(bucket.latencies)

    def at(fraction: float) -> float | None:
        return percentile(ordered, fraction) * 1e3 if ordered else None

    return {
        "requests_total": total,
        "ok": bucket.ok,
        "err": bucket.err,
        "error_rate": 100.0 * bucket.err / total if total else 0.0,
        "rps_total": total / elapsed_s if elapsed_s > 0 else 0.0,
        "rps_ok": bucket.ok / elapsed_s if elapsed_s > 0 else 0.0,
        "p50_ms": at(0.50),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
        "p95_tail_ms": percentile(sorted(bucket.tail), 0.95) * 1e3 if bucket.tail else None,
        "mean_ms": statistics.fmean(ordered) * 1e3 if ordered else None,
        "max_ms": ordered[-1] * 1e3 if ordered else None,
        "status_counts": dict(sorted(bucket.statuses.items())),
        "error_kinds": dict(sorted(bucket.errors.items())),
        "histogram": make_histogram(ordered) if ordered else None,
    }


def summarise(samples: PhaseSamples) -> PhaseReport:
    """One phase's report. Latencies are response times (from the intended start) of ok requests.

    In a closed loop the intended and the actual start are the same. ``p95_tail_ms`` is the p95 of the
    requests that ended in the last quarter of the phase. A failed request has no latency: time lost
    to an outage shows in ``stalled_s``, see :func:`stalled_seconds`.
    """
    elapsed = samples.elapsed_s
    tail_from = elapsed * 0.75
    lasted = elapsed  # rates of a warm closed loop end with its last start; an outage may go on
    every = _bucket()
    by_path = [_bucket() for _ in samples.paths]
    open_loop = len(samples.lag_s) > 0
    service: array[float] = array("d")
    waits: array[float] = array("d")
    answers = [Answered(*warm) for warm in samples.warm_answers]
    for index in range(len(samples)):
        outcome = samples.outcomes[samples.outcome[index]]
        took = samples.service_s[index]
        end = samples.start_s[index] + took
        latency = took + samples.lag_s[index] if open_loop else took
        ok = outcome.error is None
        lasted = max(lasted, end)
        if _is_answered(outcome, samples.ttfb_s[index]):
            answers.append(Answered(end, took, samples.path[index]))
        if ok and open_loop:
            service.append(took)
        if ok and not samples.reuse:
            # The lag of an open loop has the opening of the connection in it.
            waits.append(latency if open_loop else latency + samples.opening_s[index])
        for bucket in (every, by_path[samples.path[index]]):
            bucket.take(outcome, latency, in_tail=end >= tail_from)
    if 0 < samples.never_answered < samples.clients:
        # What is awaited for clients that get nothing is no outage.
        lasted = max(min(lasted, samples.duration_s), max((one.end_s for one in answers), default=0.0))
    first_bytes = sorted(value for value in samples.ttfb_s if not math.isnan(value))
    connects = sorted(samples.connect_s)
    service_ms = sorted(service)
    generator = samples.generator
    return PhaseReport(
        **_figures(every, elapsed),
        clients=samples.clients,
        duration=samples.duration_s,
        elapsed=elapsed,
        rate_rps=samples.rate_rps,
        think_time_s=samples.think_time_s,
        stale_retries=samples.stale_retries,
        stalled_s=_without_stops(stalled_seconds(sorted(answers), lasted, samples.think_time_s), generator),
        dropped_starts=samples.dropped_starts,
        never_answered=samples.never_answered,
        tail_ok=len(every.tail),
        connects=len(connects),
        connect_p50_ms=percentile(connects, 0.5) * 1e3 if connects else None,
        ttfb_p50_ms=percentile(first_bytes, 0.5) * 1e3 if first_bytes else None,
        service_p50_ms=percentile(service_ms, 0.50) * 1e3 if service_ms else None,
        service_p95_ms=percentile(service_ms, 0.95) * 1e3 if service_ms else None,
        service_p99_ms=percentile(service_ms, 0.99) * 1e3 if service_ms else None,
        cut_short=samples.cut_short,
        kind=samples.kind,
        error_reasons=_reasons(samples, every, by_path),
        timeline=make_timeline(samples),
        generator=GeneratorReport(
            cpu_share=generator.cpu_share,
            lag_p99_ms=generator.lag_p99_ms,
            turnaround_ms=generator.turnaround_ms,
            bound=generator.bound or bool(local_kinds(every.errors)),
            engine=generator.engine,
            waited_share=generator.waited_share,
            lost_share=generator.lost_share,
            stopped_s=generator.stopped_s,
        )
        if generator
        else None,
        path_metrics=_path_reports(samples, by_path, elapsed) | _parts(samples.parts, elapsed),
        figures=samples.figures | transfer_rates(samples) | _connection_figures(samples, waits),
    )


def _path_reports(
    samples: PhaseSamples, by_path: Sequence[_Bucket], elapsed_s: float
) -> dict[str, PathReport]:
    return {
        path: PathReport(**_figures(bucket, elapsed_s), body_bytes=_sizes(samples, index))
        for index, (path, bucket) in enumerate(zip(samples.paths, by_path, strict=True))
    }


def _parts(parts: PhaseSamples | None, elapsed_s: float) -> dict[str, PathReport]:
    """Report the assets of a page, over the same time as the pages."""
    if parts is None:
        return {}
    by_path = [_bucket() for _ in parts.paths]
    for index in range(len(parts)):
        took = parts.service_s[index]
        in_tail = parts.start_s[index] + took >= elapsed_s * 0.75
        by_path[parts.path[index]].take(parts.outcomes[parts.outcome[index]], took, in_tail=in_tail)
    return _path_reports(parts, by_path, elapsed_s)


def _connection_figures(samples: PhaseSamples, waits: Iterable[float]) -> dict[str, float]:
    """Compute the figures of a phase whose connections serve one request each.

    ``connect_ms`` is TCP alone, ``handshake_ms`` TLS alone (the plain names are medians), ``wait_p50_ms``
    what a user waits: both, and the request. ``resumed_share`` is the share of handshakes that took up an
    earlier session, in percent.
    """
    if samples.reuse:
        return {}
    handshakes = samples.handshake_s
    connects = (
        [whole - tls for whole, tls in zip(samples.connect_s, handshakes, strict=True)]
        if handshakes
        else samples.connect_s
    )
    figures = {}
    for name, values in (("connect", connects), ("handshake", handshakes)):
        if ordered := sorted(values):
            figures[f"{name}_ms"] = percentile(ordered, 0.5) * 1e3
            figures[f"{name}_p95_ms"] = percentile(ordered, 0.95) * 1e3
            figures[f"{name}_p99_ms"] = percentile(ordered, 0.99) * 1e3
    if handshakes:
        figures["resumed_share"] = 100.0 * samples.resumed / len(handshakes)
    if ordered := sorted(waits):
        figures["wait_p50_ms"] = percentile(ordered, 0.5) * 1e3
        figures["wait_p95_ms"] = percentile(ordered, 0.95) * 1e3
    return figures


def _is_answered(outcome: Outcome, ttfb_s: float) -> bool:
    """Whether a request got an answer of any kind: one that cannot be read is one, half of one is not."""
    if outcome.status is not None:
        return True
    return outcome.error is not None and not math.isnan(ttfb_s) and "Timeout" not in outcome.error


def _reasons(samples: PhaseSamples, every: _Bucket, by_path: Sequence[_Bucket]) -> list[ErrorReason]:
    """Choose the first reason of each kind of error, the most frequent kind first."""
    found = []
    for kind, _ in every.errors.most_common():
        path = max(range(len(by_path)), key=lambda index: by_path[index].errors[kind])
        bucket = by_path[path]
        found.append(
            ErrorReason(
                kind=kind,
                path=samples.paths[path],
                reason=samples.reasons.get((kind, path), ""),
                count=bucket.errors[kind],
                requests=bucket.ok + bucket.err,
            )
        )
    return found


def transfer_rates(samples: PhaseSamples) -> dict[str, float]:
    """Compute the rates of large bodies in MB/s (10^6 bytes): ``upload_mb_s``, ``download_mb_s``.

    The bytes of the ok requests of the paths with such bodies, divided by the sum of their service times:
    what one client gets while it waits, whatever share such requests have in the load. It contains the time
    of the board to take the body in and to answer, as the user's watch does. An answer's length is the mean
    of the right answers of its path; a body counts as sent where the status is 2xx.
    """
    if samples.parts is not None:  # of pages: the time of one is that of many bodies
        return {}
    sent_bytes = [float(size) if size >= LARGE_BYTES else 0.0 for size in samples.sent_bytes]
    came_bytes = [_mean_size(seen) for seen in samples.seen]
    sent = came = sending_s = coming_s = 0.0
    if not any(sent_bytes) and not any(came_bytes):
        return {}
    for path, number, took_s in zip(samples.path, samples.outcome, samples.service_s, strict=True):
        outcome = samples.outcomes[number]
        if outcome.error is not None:
            continue
        if sent_bytes and sent_bytes[path] and 200 <= (outcome.status or 0) < 300:
            sent += sent_bytes[path]
            sending_s += took_s
        if came_bytes and came_bytes[path]:
            came += came_bytes[path]
            coming_s += took_s
    rates = {"upload_mb_s": (sent, sending_s), "download_mb_s": (came, coming_s)}
    return {name: size / MB / took_s for name, (size, took_s) in rates.items() if took_s > 0}


def _mean_size(seen: PathSeen) -> float:
    """Return the mean length of a path's right answers; 0 where that is not large."""
    count = sum(seen.sizes.values())
    mean = sum(size * many for size, many in seen.sizes.items()) / count if count else 0.0
    return mean if mean >= LARGE_BYTES else 0.0


def _sizes(samples: PhaseSamples, path: int) -> BodySizes | None:
    sizes = samples.seen[path].sizes if samples.seen else {}
    if not sizes:
        return None
    half = sum(sizes.values()) / 2
    ordered = sorted(sizes)
    passed = accumulate(sizes[size] for size in ordered)
    median = next(size for size, count in zip(ordered, passed, strict=True) if count >= half)
    return BodySizes(least=ordered[0], median=median, most=ordered[-1])


def make_timeline(samples: PhaseSamples) -> Timeline | None:
    """Cut the phase into slices of time; None without any sample. Latencies as in :func:`summarise`."""
    ends = [start + took for start, took in zip(samples.start_s, samples.service_s, strict=True)]
    lasted = max(ends, default=0.0)
    if lasted <= 0:
        return None
    count = min(MAX_SLICES, max(1, int(lasted / MIN_SLICE_S)))
    latencies: list[list[float]] = [[] for _ in range(count)]
    errors = [0] * count
    open_loop = len(samples.lag_s) > 0
    for index, end in enumerate(ends):
        place = min(count - 1, int(end / lasted * count))
        if samples.outcomes[samples.outcome[index]].error is not None:
            errors[place] += 1
        else:
            lag = samples.lag_s[index] if open_loop else 0.0
            latencies[place].append(samples.service_s[index] + lag)
    for slice_latencies in latencies:
        slice_latencies.sort()

    def at(fraction: float) -> list[float | None]:
        return [round(percentile(one, fraction) * 1e3, 3) if one else None for one in latencies]

    return Timeline(
        slice_s=lasted / count,
        ok=[len(one) for one in latencies],
        err=errors,
        p50_ms=at(0.50),
        p95_ms=at(0.95),
        max_ms=at(1.0),
    )


CURVE = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.75, 99.9, 99.95, 99.99, 99.999)


def percentile_curve(histograms: Iterable[str]) -> list[tuple[float, float]]:
    """Several histograms (as :func:`make_histogram` makes them) together: ``(percentile, milliseconds)``.

    It ends at the percentile that one value lies above; what cannot be decoded, or is larger than a histogram
    of a phase can be, is left out.
    """
    whole = HdrHistogram(1, HISTOGRAM_MAX_US, HISTOGRAM_DIGITS)
    for text in histograms:
        with contextlib.suppress(Exception):  # hdrh raises what its parts do: zlib, struct, ctypes, its own
            if _is_small(text):
                whole.add(HdrHistogram.decode(text))
    total = whole.get_total_count()
    if not total:
        return []
    last = 100.0 * (1 - 1 / total)
    wanted = [*(value for value in CURVE if value < last), last]
    return [(value, whole.get_value_at_percentile(value) / 1e3) for value in wanted]


def _is_small(encoded: str) -> bool:
    """Whether a histogram unpacks to no more than ``MAX_HISTOGRAM_BYTES``; a few bytes can ask for gigabytes.

    Raises:
        ValueError: it is no base64 (binascii.Error).
        zlib.error: it is not packed.
    """
    packed = base64.b64decode(encoded)[HISTOGRAM_HEAD_BYTES:]
    unpacked = zlib.decompressobj().decompress(packed, MAX_HISTOGRAM_BYTES + 1)
    return len(unpacked) <= MAX_HISTOGRAM_BYTES


class Answered(NamedTuple):
    """An answer of any kind: when it ended, how long it took (both in seconds), and its path's index."""

    end_s: float
    took_s: float
    path: int = 0


def stalled_seconds(answers: Sequence[Answered], lasted_s: float, think_time_s: float = 0.0) -> float:
    """Seconds in which nothing was answered, not even badly: the sum of too long gaps between answers.

    A gap is too long from a second on and from three times what is usual before an answer of the same path:
    a slow board is not stalled while it renders. Usual is the gap that half of the time before such answers
    lies in, so that clients which are answered all at once do not hide it, or the path's median service time
    where that is less: so that an outage does not make itself usual. Clients that pause ask for nothing
    meanwhile, so that their pause is usual as well.

    Args:
        answers: in the order of their ends.
        lasted_s: from the phase's start to the end of its last request, failed ones included.
        think_time_s: the clients' pause.
    """
    if not answers:
        return lasted_s
    gaps: dict[int, list[float]] = {}
    took: dict[int, list[float]] = {}
    before_s = 0.0
    for one in answers:
        gaps.setdefault(one.path, []).append(one.end_s - before_s)
        took.setdefault(one.path, []).append(one.took_s)
        before_s = one.end_s
    usual = {
        path: min(_middle_of_time(gaps[path]), statistics.median(took[path]) + think_time_s) for path in gaps
    }
    last = lasted_s - before_s  # nobody knows what it was that did not come
    rated = [(gap, usual[path]) for path, of_path in gaps.items() for gap in of_path]
    rated.append((last, max(usual.values())))
    return sum(gap for gap, typical in rated if gap >= max(STALL_S, STALL_FACTOR * typical))


def _middle_of_time(gaps: Sequence[float]) -> float:
    """Return the gap that the middle of their sum lies in, from the shortest to the longest."""
    ordered = sorted(gaps)
    half = sum(ordered) / 2
    return next(gap for gap, passed in zip(ordered, accumulate(ordered), strict=True) if passed >= half)


def _without_stops(stalled_s: float, generator: GeneratorHealth | None) -> float:
    """Stalled seconds without those in which the generator stood still and could take no answer."""
    if generator is None or not generator.stopped_s:
        return stalled_s
    left_s = stalled_s - generator.stopped_s
    return left_s if left_s >= STALL_S else 0.0


def summary(values: Iterable[float | None], metric: Metric) -> Summary:
    """Median, best, worst and mean of the runs that have the figure; all None where none has."""
    present = [value for value in values if value is not None]
    if not present:
        return Summary()
    return Summary(
        median=statistics.median(present),
        best=metric.best(present),
        worst=metric.worst(present),
        mean=statistics.fmean(present),
    )


def _summaries(kind: type[msgspec.Struct], reports: Sequence[PathReport]) -> dict[str, Summary]:
    names = [name for name in kind.__struct_fields__ if name in METRICS]
    return {name: summary((getattr(report, name) for report in reports), METRICS[name]) for name in names}


def aggregate(raw_runs: Iterable[RawRun]) -> dict[str, CellAggregate]:
    """Every cell (``profile:phase``) over the planned runs, confirmation runs left out."""
    cells: dict[tuple[str, str], list[tuple[bool, PhaseReport]]] = {}
    for run in raw_runs:
        if run.role == "run":
            for result in run.results:
                cells.setdefault((result.profile, result.phase), []).append((result.passed, result.report))
    aggregated = {}
    for (profile, phase), measured in cells.items():
        reports = [report for _, report in measured]
        paths = dict.fromkeys(path for report in reports for path in report.path_metrics)
        aggregated[f"{profile}:{phase}"] = CellAggregate(
            profile=profile,
            phase=phase,
            sample_count=len(measured),
            pass_rate=sum(passed for passed, _ in measured) / len(measured),
            **_summaries(CellAggregate, reports),
            figures={
                name: summary((report.figures.get(name) for report in reports), METRICS[name])
                for name in METRICS
                if any(name in report.figures for report in reports)
            },
            path_metrics={
                path: PathAggregate(
                    **_summaries(
                        PathAggregate, [r.path_metrics[path] for r in reports if path in r.path_metrics]
                    ),
                    kind=kind_of_path(reports[0].kind, place),
                )
                for place, path in enumerate(paths)
            },
            paced=any(report.paced for report in reports),
            kind=reports[0].kind,
        )
    return aggregated
