"""``espperf sweep``: which value of a knob is the best."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_espperf.cli.common import FAILED, add_command, checked, print_lines
from pytest_espperf.cli.json_lines import print_json
from pytest_espperf.cli.rounds import (
    add_build_arguments,
    add_round_options,
    check_build_commands,
    print_saved,
    running_check,
    say_begin,
    settings_of,
    showing,
)
from pytest_espperf.config.parsers import whole, word
from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import UsageError
from pytest_espperf.gate.ranking import LEAST_ROUNDS
from pytest_espperf.gate.series import COMPOSITES
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.report import Line
from pytest_espperf.report.contest import candidate_table, duration
from pytest_espperf.session.firmwares import CommandFirmware, Firmware
from pytest_espperf.session.placeholders import BOARD, refuse_unknown
from pytest_espperf.session.revisions import Revisions
from pytest_espperf.session.round_meter import RoundMeter
from pytest_espperf.session.sweeping import ROUNDS, Sweep, check_commands, load_s_of, parse_knob


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    sweep = add_command(
        commands,
        "sweep",
        _sweep,
        "find the best value of a knob: builds and flashes a firmware for each value, measures all of them "
        "in interleaved rounds, and says which is best and which cannot be distinguished, corrected for "
        "their number. The sources are those of a commit; without --build-cmd the board is only configured.",
    )
    sweep.add_argument(
        "knob", metavar="KNOB=A,B,C", type=checked(parse_knob), help="a name and its values: WORKERS=4,6,8"
    )
    host = sweep.add_argument(
        "host", metavar="HOST", help="the board, or 'sim' for the built-in reference device"
    )
    add_build_arguments(
        sweep,
        "shell command that builds a value, in a folder of its own; {knob} is the name, {value} the value: "
        "'make {knob}={value}'",
    )
    sweep.add_argument(
        "--at", metavar="REV", type=checked(word), help="the commit that is built (default: HEAD)"
    )
    sweep.add_argument(
        "--rounds",
        metavar="N",
        type=checked(whole(least=LEAST_ROUNDS, most=1000)),
        default=ROUNDS,
        help="rounds of each value (default: %(default)s)",
    )
    sweep.add_argument(
        "--gate",
        choices=COMPOSITES,
        help="the figure that decides (default: rps_ok; p95_ms where a schedule paces the requests)",
    )
    sweep.add_argument("--json", action="store_true", help="one JSON object: session_id, answer, contest")
    add_round_options(sweep, host)


def _sweep(arguments: argparse.Namespace) -> int:
    knob = arguments.knob
    check_commands(knob, arguments.build_cmd or "", arguments.flash_cmd or "")
    _check_placeholders(arguments)
    running = running_check(arguments)
    settings, root = settings_of(arguments, "sweep")
    firmwares = _firmwares(arguments, settings)
    with (
        showing() as show,
        RoundMeter(settings, root, kind="sweep", say=say_begin, show=show, running=running) as meter,
    ):
        about = duration(load_s_of(meter, knob, arguments.rounds))
        say_begin(
            f"{meter.boards[0].name}: {arguments.rounds} rounds of {knob.name}={', '.join(knob.values)}; "
            f"about {about}, and builds, switches and boots besides"
        )
        outcome = Sweep(meter, knob, firmwares, rounds=arguments.rounds, metric=arguments.gate or "").run()
    session = outcome.artifact
    if arguments.json:
        print_json({"session_id": session.session_id, "contest": session.contest})
    else:
        print_lines(_lines(session))
    print_saved(outcome, aside=arguments.json)
    return FAILED if outcome.fails or outcome.save_error else 0


def _check_placeholders(arguments: argparse.Namespace) -> None:
    """Refuse a placeholder that nobody replaces: those of a build are known only where there is one.

    Raises:
        UsageError: there is one.
    """
    own = ("knob", "KNOB", "value")
    if arguments.build_cmd:
        check_build_commands(arguments.build_cmd, arguments.flash_cmd, own)
    else:
        if arguments.at:
            raise UsageError("--at names the commit that is built, and --build-cmd is missing")
        refuse_unknown(arguments.flash_cmd, "--flash-cmd", (*own, *BOARD))


def _firmwares(arguments: argparse.Namespace, settings: Settings) -> dict[str, Firmware]:
    """Make the firmware of each value: built from a commit, or the same one, configured by the command."""
    knob, flash = arguments.knob, arguments.flash_cmd
    flash_s = settings.perf_ab_timeout_s
    labels = {value: f"{knob.name}={value}" for value in knob.values}
    if not arguments.build_cmd:
        return {
            value: CommandFirmware(label, knob.fill(flash, value), timeout_s=flash_s)
            for value, label in labels.items()
        }
    revisions = Revisions(
        Path(arguments.repo).absolute(),
        build=arguments.build_cmd,
        flash=flash,
        build_s=arguments.build_timeout,
        flash_s=flash_s,
        say=say_begin,
    )
    revision = revisions.revision(arguments.at or "HEAD", "--at" if arguments.at else "--at, by default")
    revisions.warn_of_uncommitted()
    return {
        value: revisions.firmware(
            revision, label, build=knob.fill(arguments.build_cmd, value), flash=knob.fill(flash, value)
        )
        for value, label in labels.items()
    }


def _lines(session: SessionArtifact) -> list[Line]:
    contest = session.contest
    assert contest is not None
    head = Line(
        f"{contest.word.upper()}: {contest.answer}", "good" if session.overall_pass else "warn", bold=True
    )
    return [head, Line(""), *candidate_table(contest)] if contest.candidates else [head]
