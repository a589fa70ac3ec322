"""``espperf watch``: measure a board again and again while its firmware is being changed."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from pytest_espperf.cli.common import (
    add_command,
    checked,
    draw_aside,
    output_is_lost,
    print_spans,
    say_aside,
)
from pytest_espperf.cli.json_lines import print_json
from pytest_espperf.config.lookup import add_arguments
from pytest_espperf.config.parsers import number, whole
from pytest_espperf.config.settings import OPTIONS
from pytest_espperf.model.text import grouped
from pytest_espperf.model.verdicts import VERDICTS, mood_of, short_of
from pytest_espperf.plugin.invocation import settings_here
from pytest_espperf.report import Line
from pytest_espperf.session.watching import (
    BoardAway,
    BoardBack,
    BoardWatch,
    Event,
    MeasuredPass,
    PassChange,
    SpoiledPass,
)

NOT_TAKEN = frozenset(
    {
        "device_ip",
        "device_lab",
        "device_boot_timeout_s",
        "device_reference",
        "device_reset_cmd",
        "device_reset_lines",
        "device_resets",
        "device_serial",
        "device_serial_baud",
        "perf_ab_baseline_cmd",
        "perf_ab_candidate_cmd",
        "perf_ab_timeout_s",
        "perf_all_rounds",
        "perf_confirm",
        "perf_confirm_pause_s",
        "perf_export",
        "perf_figure_limit",
        "perf_file",
        "perf_hard_timeout_s",
        "perf_heartbeat_ms",
        "perf_list_profiles",
        "perf_no_gate",
        "perf_report",
        "perf_save_samples",
        "perf_strict",
        "perf_tag",
    }
)
"""The options that mean nothing where nothing is stored and nothing is confirmed."""


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    watch = add_command(
        commands,
        "watch",
        _watch,
        "measure a board again and again while its firmware is being changed: one line per pass against the "
        "accepted baseline; nothing is stored. A pass is one run of the preset 'quick' unless another preset "
        "is chosen. Ends with Ctrl-C.",
    )
    watch.add_argument("host", metavar="HOST", help="the board, or 'sim' for the built-in reference device")
    watch.add_argument(
        "--every",
        metavar="S",
        type=checked(number(least=0, most=86400)),
        default=0.0,
        help="seconds between the begins of two passes, at least (default: one follows the other)",
    )
    watch.add_argument(
        "--passes",
        metavar="N",
        type=checked(whole(least=1)),
        default=0,
        help="end after so many passes (default: go on until Ctrl-C)",
    )
    watch.add_argument("--json", action="store_true", help="one JSON object per line")
    taken = [option for option in OPTIONS if option.dest not in NOT_TAKEN]
    add_arguments(watch.add_argument, taken, lambda option: option.flag)


def _watch(arguments: argparse.Namespace) -> int:
    given = vars(arguments)
    named = {option.dest: given[option.dest] for option in OPTIONS if given.get(option.dest) is not None}
    show = draw_aside if sys.stderr.isatty() else None
    try:
        settings, root = settings_here({**named, "device_ip": [arguments.host]})
        with BoardWatch(settings, root, say=_say, show=show, every_s=arguments.every) as watch:
            _begin(watch)
            report = _JsonReport() if arguments.json else _Report(arguments.host, watch.settings.perf_preset)
            for event in watch.events(arguments.passes):
                report.add(event)
                if output_is_lost():
                    break
    except KeyboardInterrupt:
        if show is not None:
            show("")  # the ^C of the terminal stands there
    return 0


def _say(line: str) -> None:
    say_aside(f"[espperf] {line}")


def _begin(watch: BoardWatch) -> None:
    _say(f"{watch.board.name}: {', '.join(watch.profiles)}")
    _say(
        f"preset {watch.settings.perf_preset}, one run, about {watch.pass_s:.0f} s a pass; "
        "nothing is stored; Ctrl-C ends it"
    )


class _Report:
    """Prints one line per pass, and beside them what changes once.

    Args:
        host: the board, as it was given.
        preset: of the passes.
    """

    def __init__(self, host: str, preset: str) -> None:
        self._next = f"next: espperf run {host} --perf-preset {preset} records a baseline for these passes"
        self._explained: list[str] = []
        self._spoiled = ""

    def add(self, event: Event) -> None:
        """Print an event."""
        spoiled, self._spoiled = self._spoiled, ""
        if isinstance(event, MeasuredPass):
            self._explain(event)
            _print(_spans_of(event))
        elif isinstance(event, SpoiledPass):
            self._spoiled = event.reason
            if event.reason != spoiled:  # again and again, until the firmware is corrected
                _print([Line(f"not measured: {event.reason}", "bad")])
        elif isinstance(event, BoardAway):
            _print([Line(f"no answer; waiting for the board: {event.reason}", "warn")])
        else:
            _print([Line(f"the board answers again, after {event.after_s:.0f} s", "good")])

    def _explain(self, event: MeasuredPass) -> None:
        """Say with the first pass, and where it changes, what the passes are compared with."""
        many = len(event.compared_with)
        lines = [f"baseline: {many} session{'s' if many > 1 else ''}"] if many else []
        lines += [f"not compared: {reason}" for reason in event.incomparable]
        if any(not change.verdict for change in event.changes):
            lines = [*(lines or ["not compared: no accepted session of this board is here"]), self._next]
        if lines != self._explained:
            self._explained = lines
            for line in lines:
                _say(line)


def _spans_of(event: MeasuredPass) -> list[Line]:
    spans = [_span_of(change) for change in event.changes]
    return [*spans, Line(f"failed: {event.trouble}", "bad")] if event.trouble else spans


def _span_of(change: PassChange) -> Line:
    """Describe a profile: ``python_heavy  +75.1 % regressed (72.3 -> 41.3 req/s)``."""
    metric = change.described
    now = metric.format(change.now)
    if not change.verdict:
        return Line(f"{change.profile} {now}", "plain")
    moved = f"{f'{change.d_pct:+.1f}':>6} %" if change.d_pct is not None else metric.label
    text = f"{change.profile} {moved}"
    kind = VERDICTS.get(change.verdict)
    if kind is not None and not kind.neutral:
        text += f" {short_of(change.verdict)}"
    if kind is not None and (kind.slower or (kind.excludes_slowdown and not kind.neutral)):
        text += f" ({grouped(change.baseline or 0.0, metric.digits)} -> {now})"
    return Line(text, mood_of(change.verdict))


def _print(spans: list[Line]) -> None:
    now = datetime.now(timezone.utc).astimezone().strftime("%H:%M:%S")
    gap = Line("  ", "plain")
    print_spans([Line(now, "plain"), *(part for span in spans for part in (gap, span))])


class _JsonReport:
    """Prints one JSON object per event."""

    def add(self, event: Event) -> None:
        """Print an event."""
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        print_json({"timestamp_utc": now, **_facts_of(event)})
        sys.stdout.flush()


def _facts_of(event: Event) -> dict[str, Any]:
    if isinstance(event, SpoiledPass):
        return {"event": "not-measured", "reason": event.reason}
    if isinstance(event, BoardAway):
        return {"event": "away", "reason": event.reason}
    if isinstance(event, BoardBack):
        return {"event": "back", "after_s": round(event.after_s, 1)}
    return {
        "event": "pass",
        "verdict": event.verdict.kind,
        "trouble": event.trouble,
        "profiles": {change.profile: _facts_of_change(change) for change in event.changes},
        "baseline": list(event.compared_with),
        "incomparable": list(event.incomparable),
    }


def _facts_of_change(change: PassChange) -> dict[str, Any]:
    facts = asdict(change)
    del facts["profile"]
    return facts
