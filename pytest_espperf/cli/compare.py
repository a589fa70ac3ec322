"""``espperf compare``: two sessions side by side."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from pytest_espperf.cli.common import SESSION_HELP, add_command, print_lines
from pytest_espperf.cli.history import find_session
from pytest_espperf.cli.json_lines import print_json
from pytest_espperf.cli.times import add_utc, time_writer
from pytest_espperf.config.settings import BY_DEST
from pytest_espperf.errors import UsageError
from pytest_espperf.gate import parse_fail_on
from pytest_espperf.gate.comparison import compare
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.comparison import Comparison
from pytest_espperf.model.gates import divided
from pytest_espperf.model.registry import METRICS, REQUEST_RATE, Metric, find_metric
from pytest_espperf.report.comparison import comparison_sentence, render_comparison


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    compare = add_command(
        commands,
        "compare",
        _compare,
        "compare session B with session A: a sentence about what is slower, then the medians of every "
        "profile, phase and path that changed by more than the noise, the worst first, slower positive. The "
        "noise is what B's gates let pass, or else A's; without gates it follows from how the runs differ. "
        "Exit code 0, or 1 where a rule of --fail-on is broken.",
        history=True,
    )
    compare.add_argument("a", metavar="A", help=f"session to compare with: {SESSION_HELP}")
    compare.add_argument("b", metavar="B", help=f"session to describe: {SESSION_HELP}")
    compare.add_argument(
        "--fail-on",
        action="append",
        default=[],
        metavar=BY_DEST["perf_fail_on"].metavar,
        help="what a figure of B may be worse by, in percent of A's median (of error_rate: percentage "
        "points), as --perf-fail-on: p95_ms:10%%,rps_ok:5%%; repeatable, adds up; refused where the "
        "two are not comparable",
    )
    compare.add_argument(
        "--all", action="store_true", dest="everything", help="rows within the noise as well"
    )
    add_utc(compare)
    compare.add_argument(
        "--json",
        action="store_true",
        help="one JSON object: a, b {session_id, timestamp_utc, tag, target, verdict}, comparable, "
        "incomparable (in words), differences [{field, a, b}], summary (the sentence), profiles [{profile, "
        "verdict, metric, a, b, slower_pct, noise_pct, errors, unit}], cells [{cell, path, a, b, slower, "
        "noise, beyond_noise, unit}] (metric -> median, percent; unit: of the throughput), only_a, only_b, "
        "rules [{name, rule, broken, detail}], passed",
    )


def _compare(arguments: argparse.Namespace) -> int:
    rules = _rules(arguments.fail_on)
    comparison = compare(find_session(arguments, arguments.a), find_session(arguments, arguments.b), rules)
    if arguments.json:
        print_json(_described(comparison))
    else:
        print_lines(
            render_comparison(comparison, everything=arguments.everything, when=time_writer(arguments))
        )
    return 1 if comparison.broken else 0


def _rules(texts: list[str]) -> list[tuple[str, float]]:
    try:
        return [rule for text in texts for rule in parse_fail_on(text)]
    except ValueError as error:
        raise UsageError(f"--fail-on: {error}") from None


def _described(comparison: Comparison) -> dict[str, Any]:
    """Make the object that is printed; its changes are those of the table, see :func:`divided`."""

    def shown(metric: Metric | None, slower_pct: float | None) -> float | None:
        return None if slower_pct is None else divided(metric, slower_pct)

    return {
        "a": _session(comparison.a),
        "b": _session(comparison.b),
        "comparable": comparison.comparable,
        "incomparable": comparison.why_not(),
        "differences": comparison.differences,
        "summary": comparison_sentence(comparison),
        "profiles": [
            replace(
                one,
                slower_pct=shown(METRICS.get(one.metric), one.slower_pct),
                unit=one.unit or REQUEST_RATE,
            )
            for one in comparison.profiles
        ],
        "cells": [
            replace(one, slower={name: shown(METRICS[name], value) for name, value in one.slower.items()})
            for one in comparison.cells
        ],
        "figures": [
            replace(one, slower_pct=shown(find_metric(one.metric, one.unit, one.better), one.slower_pct))
            for one in comparison.figures
        ],
        "only_a": comparison.only_a,
        "only_b": comparison.only_b,
        "rules": comparison.rules,
        "passed": not comparison.broken,
    }


def _session(session: SessionArtifact) -> dict[str, Any]:
    return {
        "session_id": session.session_id,
        "timestamp_utc": session.timestamp_utc,
        "tag": session.tag,
        "target": session.target,
        "verdict": session.gate.kind if session.gate is not None else None,
    }
