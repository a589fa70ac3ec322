"""``espperf ab``: old firmware against new, now."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from pytest_espperf.cli.common import (
    FAILED,
    add_command,
    checked,
    print_lines,
    say,
    say_aside,
)
from pytest_espperf.cli.firmwares import add_firmwares, firmwares_of
from pytest_espperf.cli.json_lines import print_json
from pytest_espperf.cli.rounds import (
    NEED_A_HISTORY,
    add_round_options,
    running_check,
    say_begin,
    settings_given,
    showing,
)
from pytest_espperf.config.parsers import number, percent, whole
from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import UsageError
from pytest_espperf.gate import policy
from pytest_espperf.gate.sequential import PairPlan
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.output.exports import Exported, export_session, plan_exports
from pytest_espperf.output.files import parse_path
from pytest_espperf.output.reports import check_installed, write_report
from pytest_espperf.report import render_terminal
from pytest_espperf.report.contest import WORDS
from pytest_espperf.session.contest import AbContest, ContestPlan, opening_line
from pytest_espperf.session.judging import Judge
from pytest_espperf.session.round_meter import RoundMeter
from pytest_espperf.session.saving import SessionOutcome

MOST_TOLERANCE_PCT = 100.0
"""The largest slowdown that can be called the same: a firmware that takes twice as long is not."""

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
    add_round_options(ab, host, left_out=NEED_A_HISTORY)


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
        type=checked(percent(above=0, most=MOST_TOLERANCE_PCT)),
        default=TOLERANCE_PCT,
        help="'the same' means that a slowdown beyond it is excluded; the p95 of a closed loop has "
        f"{policy.TOLERANCE_TAIL_FACTOR_CONTEST:g} times as much (default: {TOLERANCE_PCT:g}%%)",
    )


def _ab(arguments: argparse.Namespace) -> int:
    settings, root = settings_given(arguments)
    outputs = _Outputs(settings)
    running = running_check(arguments)
    old, new = firmwares_of(arguments, settings, root, say_begin)
    judge = Judge.from_settings(settings)
    plan = ContestPlan(
        PairPlan(most_pairs=arguments.pairs, tolerance=math.log1p(arguments.tolerance / 100)),
        minutes=arguments.minutes,
    )
    with (
        showing() as show,
        RoundMeter(settings, root, kind="ab", say=say_begin, show=show, running=running) as meter,
    ):
        contest = AbContest(meter, old, new, plan, judge.policy)
        contest.prepare()
        say_begin(opening_line(meter, old, new, plan))
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
    _print(arguments, outcome, outputs.done)
    return FAILED if outcome.fails or outcome.save_error or outputs.done.errors else 0


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
