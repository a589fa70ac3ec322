"""``espperf ab``: old firmware against new, now."""

from __future__ import annotations

import argparse
import math
import sys
from functools import partial
from pathlib import Path
from typing import Any

from pytest_espperf.cli.common import (
    FAILED,
    InPlaceOf,
    add_command,
    checked,
    draw_aside,
    print_lines,
    say,
    say_aside,
)
from pytest_espperf.cli.firmwares import add_firmwares, firmwares_of
from pytest_espperf.cli.json_lines import print_json
from pytest_espperf.config.lookup import add_arguments
from pytest_espperf.config.option import Option
from pytest_espperf.config.parsers import number, percent, whole
from pytest_espperf.config.settings import BY_DEST, OPTIONS, Settings
from pytest_espperf.errors import UsageError
from pytest_espperf.gate import policy
from pytest_espperf.gate.sequential import PairPlan
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.output.exports import Exported, export_session, plan_exports
from pytest_espperf.output.files import parse_path
from pytest_espperf.output.reports import check_installed, write_report
from pytest_espperf.plugin.invocation import settings_here
from pytest_espperf.report import render_terminal
from pytest_espperf.report.contest import WORDS
from pytest_espperf.session.contest import AbContest, ContestPlan, opening_line
from pytest_espperf.session.judging import Judge
from pytest_espperf.session.round_meter import RoundMeter
from pytest_espperf.session.saving import SessionOutcome

NOT_TAKEN = frozenset(
    {
        "device_reference",
        "device_reset_cmd",
        "device_reset_lines",
        "device_resets",
        "perf_ab_baseline_cmd",
        "perf_ab_candidate_cmd",
        "perf_all_rounds",
        "perf_baseline",
        "perf_confirm",
        "perf_confirm_pause_s",
        "perf_figure_limit",
        "perf_file",
        "perf_list_profiles",
        "perf_no_gate",
        "perf_require_baseline",
        "perf_runs",
        "perf_site",
        "perf_tolerance",
    }
)
"""The options that mean nothing where nothing is compared with a history."""

TOLERANCE_PCT = 100 * math.expm1(policy.TOLERANCE_CONTEST)


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    ab = add_command(
        commands,
        "ab",
        _ab,
        "measure old firmware against new, now: interleaved pairs of rounds, until it is certain of every "
        "profile that it is slower, faster or the same. No history is needed: the session is kept, but no "
        "other one is ever compared with it. Exit code 1 where the new firmware is slower or fails, else 0; "
        "with --perf-strict also 1 where that stays open.",
    )
    host = ab.add_argument(
        "host",
        metavar="HOST",
        help="the board, or 'sim' for the built-in reference device; two boards, A,B: they are measured at "
        "the same time, one with each firmware, and swapped half way",
    )
    add_firmwares(ab)
    _add_lengths(ab)
    ab.add_argument("--json", action="store_true", help="one JSON object: session_id, answer, gate, contest")
    ab.add_argument("-v", "--verbose", action="store_true", help="every gate and path as well")
    in_place = partial(ab.add_argument, action=InPlaceOf, other=host)
    for option in OPTIONS:
        if option.dest in {"device_lab", "device_ip"}:
            add_arguments(in_place, [option._replace(kind="value")], _flag)
        elif option.dest not in NOT_TAKEN:
            add_arguments(ab.add_argument, [option], _flag)


def _flag(option: Option) -> str:
    return option.flag


def _add_lengths(ab: argparse.ArgumentParser) -> None:
    lengths = ab.add_argument_group("how long")
    add = lengths.add_argument
    add(
        "--pairs",
        metavar="N",
        type=checked(whole(least=policy.MIN_PAIRS, most=1000)),
        default=16,
        help="pairs after which an answer that is still open stays open (default: %(default)s)",
    )
    add(
        "--minutes",
        metavar="M",
        type=checked(number(above=0, most=100_000)),
        default=0.0,
        help="begin no pair that would end later (default: no limit)",
    )
    add(
        "--tolerance",
        metavar="PCT",
        type=checked(percent(above=0, most=1000)),
        default=TOLERANCE_PCT,
        help="'the same' means that a slowdown beyond it is excluded; the p95 of a closed loop has twice as "
        f"much (default: {TOLERANCE_PCT:g}%%)",
    )


def _ab(arguments: argparse.Namespace) -> int:
    given = vars(arguments)
    named = {option.dest: given[option.dest] for option in OPTIONS if given.get(option.dest) is not None}
    for dest in ("device_ip", "device_lab"):
        if dest in named:
            named[dest] = [named[dest]] if BY_DEST[dest].kind == "list" else named[dest]
    if arguments.host is not None:
        if "device_ip" in named:
            raise UsageError("the board is named by HOST: leave out --device-ip")
        named["device_ip"] = [arguments.host]
    settings, root = settings_here(named)
    old, new = firmwares_of(arguments, settings, root, _say)
    outputs = _Outputs(settings)
    judge = Judge.from_settings(settings)
    plan = ContestPlan(
        PairPlan(most_pairs=arguments.pairs, tolerance=math.log1p(arguments.tolerance / 100)),
        minutes=arguments.minutes,
    )
    show = draw_aside if sys.stderr.isatty() else None
    try:
        with RoundMeter(settings, root, kind="ab", say=_say, show=show, running=arguments.check_url) as meter:
            _say(opening_line(meter, old, new, plan))
            contest = AbContest(meter, old, new, plan, judge.policy)
            try:
                outcome = contest.run()
            except KeyboardInterrupt:
                if show is not None:
                    show("")  # the ^C of the terminal stands there
                if contest.outcome is not None:
                    outputs.write(contest.outcome, meter)
                    _print(arguments, contest.outcome, outputs.done)
                raise
            outputs.write(outcome, meter)
    except KeyboardInterrupt:
        if show is not None:
            show("")
        raise
    _print(arguments, outcome, outputs.done)
    return FAILED if outcome.fails or outcome.save_error or outputs.done.errors else 0


def _say(line: str) -> None:
    say_aside(f"[espperf] {line}")


class _Outputs:
    """Files beside the artifact: a report, exports.

    Args:
        settings: options in force.

    Raises:
        UsageError: one cannot be had; before anything is measured.
    """

    def __init__(self, settings: Settings) -> None:
        self.done = Exported()
        self._report: Path | None = None
        here, source = Path.cwd(), settings.where("perf_report")
        taken = {}
        if settings.perf_report:
            check_installed(source)
            self._report = taken[source] = parse_path(settings.perf_report, here, source)
        self._targets = plan_exports(settings, here, taken)

    def write(self, outcome: SessionOutcome, meter: RoundMeter) -> None:
        """Write all of them; what cannot be written is kept in ``done``."""
        self.done = export_session(outcome.artifact, self._targets)
        if self._report is None:
            return
        try:
            write_report(outcome.artifact, meter.store, self._report)
            self.done.written.append(("report", self._report))
        except UsageError as error:
            self.done.errors.append(("report", str(error)))


def _print(arguments: argparse.Namespace, outcome: SessionOutcome, done: Exported) -> None:
    if arguments.json:
        print_json(_described(outcome.artifact, fails=outcome.fails))
    else:
        print_lines(render_terminal(outcome.artifact, verbosity=int(arguments.verbose)))
    aside = say_aside if arguments.json else say
    if outcome.save_error:
        say_aside(f"NOT SAVED: {outcome.save_error}")
    elif outcome.saved is not None:
        aside(f"saved_json={outcome.saved.json_path}")
        aside(f"saved_md={outcome.saved.markdown_path}")
    for name, path in done.written:
        aside(f"exported {name}: {path}")
    for name, message in done.errors:
        say_aside(f"NOT EXPORTED: {name}: {message}")


def _described(session: SessionArtifact, *, fails: bool) -> dict[str, Any]:
    gate = session.gate
    kind = gate.kind if gate is not None else "incomplete"
    return {
        "session_id": session.session_id,
        "answer": WORDS.get(kind, kind),
        "fails": fails,
        "gate": gate,
        "contest": session.contest,
    }
