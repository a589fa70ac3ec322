"""What the commands share that measure several firmwares: ``ab``, ``bisect`` and ``sweep``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pytest_espperf.cli.common import InPlaceOf, checked, draw_aside, say, say_aside
from pytest_espperf.config.lookup import add_arguments
from pytest_espperf.config.option import Option
from pytest_espperf.config.parsers import number, word
from pytest_espperf.config.settings import BY_DEST, OPTIONS, Settings
from pytest_espperf.errors import UsageError
from pytest_espperf.plugin.invocation import settings_here
from pytest_espperf.session.firmwares import RunningCheck
from pytest_espperf.session.placeholders import BOARD, refuse_unknown
from pytest_espperf.session.revisions import BUILD_S
from pytest_espperf.session.saving import SessionOutcome

NEED_A_HISTORY = frozenset(
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

NEED_A_VERDICT = NEED_A_HISTORY | {
    "perf_export",
    "perf_report",
    "perf_strict",
    "perf_fail_on",
    "perf_min_effect",
}
"""Those, and the options that mean nothing where the answer is which firmware, and no verdict."""


def add_build_arguments(command: argparse.ArgumentParser, build_help: str) -> None:
    """Add the options that say how a commit gets on the board."""
    add = command.add_argument_group(
        "firmwares",
        "In commands {dir} is the folder of the build, which they work in; {commit} is the commit's id; "
        "in those that flash, {ip} and {port} are the board's. Commands are never shown. Flashing may take "
        "--perf-ab-timeout-s, and then the board --device-boot-timeout-s to answer. The repository is only "
        "read; builds are kept in the user's cache.",
    ).add_argument
    add("--build-cmd", metavar="CMD", type=checked(word), help=build_help)
    add(
        "--flash-cmd",
        metavar="CMD",
        type=checked(word),
        help="shell command that puts the build on the board",
    )
    add_check_argument(add)
    add(
        "--build-timeout",
        metavar="S",
        type=checked(number(above=0, most=86400)),
        default=BUILD_S,
        help="seconds that a build may take (default: %(default)g)",
    )
    add(
        "--repo",
        metavar="DIR",
        default=".",
        help="a folder in the repository of the firmware (default: here)",
    )


def check_build_commands(build: str, flash: str, more: Collection[str] = ()) -> None:
    """Refuse a placeholder that nobody replaces in the commands that build and flash a commit.

    Args:
        build: command of the user; "" for none.
        flash: likewise.
        more: further placeholders of both.

    Raises:
        UsageError: there is one.
    """
    of_build = (*more, "dir", "commit")
    refuse_unknown(build, "--build-cmd", of_build)
    refuse_unknown(flash, "--flash-cmd", (*of_build, *BOARD))


def add_check_argument(add: Callable[..., object]) -> None:
    """Add the option that has the board say which firmware runs."""
    add(
        "--check-url",
        metavar="PATH[:FIELD]",
        type=checked(check_place),
        help="ask the board after each change which firmware runs: '/ota:running' is a field of a JSON "
        "answer; it must say one thing with each firmware, always the same, and another one with any other. "
        "A board that goes back to the firmware of before is noticed so",
    )


def check_place(text: str) -> str:
    """Parse ``PATH`` or ``PATH:FIELD``: the text, checked for its form."""
    RunningCheck(text)
    return text


def running_check(arguments: argparse.Namespace) -> RunningCheck | None:
    """Make what asks the board which firmware runs; None where that is not wanted.

    Raises:
        UsageError: the path has a placeholder: it is the same with each firmware.
    """
    place = arguments.check_url
    if not place:
        return None
    refuse_unknown(place, "--check-url", (), is_path=True)
    return RunningCheck(place)


def add_round_options(
    command: argparse.ArgumentParser, host: argparse.Action, *, left_out: Collection[str] = NEED_A_VERDICT
) -> None:
    """Add the options of a session that mean something where rounds are measured.

    Args:
        command: of the command line.
        host: its positional argument, which other options stand in place of.
        left_out: names of the options that mean nothing.
    """
    in_place = partial(command.add_argument, action=InPlaceOf, other=host)
    for option in OPTIONS:
        if option.dest in {"device_lab", "device_ip"}:
            add_arguments(in_place, [option._replace(kind="value")], _flag)
        elif option.dest not in left_out:
            add_arguments(command.add_argument, [option], _flag)


def _flag(option: Option) -> str:
    return option.flag


def settings_given(arguments: argparse.Namespace) -> tuple[Settings, Path]:
    """Return the options in force, and the root directory of the project.

    Raises:
        UsageError: an option is bad, or the board is named twice.
    """
    given = vars(arguments)
    named = {option.dest: given[option.dest] for option in OPTIONS if given.get(option.dest) is not None}
    for dest in ("device_ip", "device_lab"):
        if dest in named and BY_DEST[dest].kind == "list" and not isinstance(named[dest], list):
            named[dest] = [named[dest]]
    if arguments.host is not None:
        if "device_ip" in named:
            raise UsageError("the board is named by HOST: leave out --device-ip")
        named["device_ip"] = [arguments.host]
    return settings_here(named)


def settings_of(arguments: argparse.Namespace, command: str) -> tuple[Settings, Path]:
    """Return the same for a command that measures one board.

    Raises:
        UsageError: an option is bad, or not one board is named.
    """
    settings, root = settings_given(arguments)
    if len(settings.device_ip) + len(settings.device_lab) > 1:
        raise UsageError(f"{settings.where('device_ip')}: {command} measures one board")
    return settings, root


def say_begin(line: str) -> None:
    """Print a line beside the answer."""
    say_aside(f"[espperf] {line}")


@contextmanager
def showing() -> Iterator[Callable[[str], None] | None]:
    """Draw the running phase where there is a terminal; its line is cleared behind Ctrl-C."""
    show = draw_aside if sys.stderr.isatty() else None
    try:
        yield show
    except KeyboardInterrupt:
        if show is not None:
            show("")
        raise


def print_saved(outcome: SessionOutcome, *, aside: bool) -> None:
    """Say where the session was saved."""
    out = say_aside if aside else say
    if outcome.save_error:
        say_aside(f"NOT SAVED: {outcome.save_error}")
    elif outcome.saved is not None:
        out(f"saved_json={outcome.saved.json_path}")
