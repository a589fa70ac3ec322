"""``espperf run``, ``calibrate`` and ``sim``: what measures, or is measured."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from pytest_espperf.cli.common import DEFAULT_HISTORY, add_command, checked, say
from pytest_espperf.config.lookup import add_arguments
from pytest_espperf.config.option import Option
from pytest_espperf.config.parsers import whole
from pytest_espperf.config.settings import OPTIONS
from pytest_espperf.errors import UsageError


def add_commands(commands: Any) -> None:
    """Add them to the command line."""
    run = add_command(
        commands,
        "run",
        _run,
        "measure a board and judge it: the packaged suite through pytest. Takes every option of "
        "'pytest --help', and the original tool's flag names (--runs for --perf-runs, ...).",
        passes_on=True,
    )
    _add_run_arguments(run)
    calibration = add_command(
        commands,
        "calibrate",
        _calibrate,
        "measure the noise of a bench: several sessions of one firmware, what they could have seen, and how "
        "many runs a wanted slowdown takes. Takes what 'espperf run' takes.",
        passes_on=True,
    )
    calibration.add_argument(
        "--sessions",
        type=checked(whole(least=2, most=1000)),
        default=5,
        metavar="N",
        help="default: %(default)s",
    )
    _add_run_arguments(calibration)
    add_command(
        commands,
        "sim",
        lambda arguments: start_sim(arguments.rest),
        "start the reference device alone (see espperf sim --help)",
        passes_on=True,
    )


def start_sim(words: list[str]) -> int:
    """The reference device's own command line; its exit code."""
    from pytest_espperf.sim.__main__ import main as sim_main  # noqa: PLC0415 - the other commands do without

    return sim_main(words)


class _InPlaceOf(argparse.Action):
    """An option that stands in place of a positional argument, which may then be left out.

    ``nargs="?"`` would do, but before Python 3.12 takes nothing that stands after an option.
    """

    def __init__(self, *words: Any, other: argparse.Action, **how: Any) -> None:
        super().__init__(*words, **how)
        self._other = other

    def __call__(self, parser: object, namespace: object, values: object, flag: object = None) -> None:  # noqa: ARG002 - argparse's own
        setattr(namespace, self.dest, values)
        self._other.required = False


def _add_run_arguments(command: argparse.ArgumentParser) -> None:
    host = command.add_argument(
        "host",
        metavar="HOST",
        help="the board, or 'sim' for the built-in reference device; left out with --device-lab",
    )
    in_place = partial(command.add_argument, action=_InPlaceOf, other=host)
    options = [option for option in OPTIONS if option.dest != "device_ip"]
    for option in options:
        add = in_place if option.dest == "device_lab" else command.add_argument
        add_arguments(add, [option], lambda option: option.flag)
    originals = command.add_argument_group("the original tool's names")
    add_arguments(
        originals.add_argument,
        [option for option in options if option.original],
        lambda option: option.original,
    )


def _run(arguments: argparse.Namespace) -> int:
    from pytest_espperf.plugin.invocation import run_suite  # noqa: PLC0415 - the other commands do without

    return run_suite([*_pytest_words(arguments), *_own_words(arguments.rest)])


def _calibrate(arguments: argparse.Namespace) -> int:
    from pytest_espperf.cli.calibrate import describe, run_sessions  # noqa: PLC0415 - only here
    from pytest_espperf.history.shared.sharing import sharing_at  # noqa: PLC0415 - likewise
    from pytest_espperf.plugin.invocation import SUITE  # noqa: PLC0415 - likewise

    sharing = sharing_at(arguments.perf_history or str(DEFAULT_HISTORY), Path.cwd(), "--perf-history")
    sharing.pull(say)  # what comes in during the first session would be taken for a part of it
    words = [
        *_pytest_words(arguments),
        f"--perf-history={sharing.folder if sharing.sync is None else sharing.sync.url}",
        "--perf-all-rounds",
        "--perf-confirm=0",  # what is measured again because it was slow would make the bench look calmer
        *_own_words(arguments.rest),
    ]
    found = run_sessions(
        [*SUITE, "-m", "perf", *words], sharing.folder, arguments.sessions, partial(say, flush=True)
    )
    say("\n".join(["", *describe(found)]))
    return 0


def _own_words(rest: list[str]) -> list[str]:
    """Words for pytest itself; never a second device, which would quietly take the first one's place."""
    if any(word.split("=")[0] == "--device-ip" for word in rest):
        raise UsageError("the board is named by HOST: leave out --device-ip")
    return rest


def _pytest_words(arguments: argparse.Namespace) -> list[str]:
    words = []
    if arguments.host is not None:
        words.append(f"--device-ip={arguments.host}")
    for option in OPTIONS:
        value = getattr(arguments, option.dest, None)
        if option.dest != "device_ip" and value is not None:
            words += _words(option, value)
    return words


def _words(option: Option, value: object) -> list[str]:
    if option.kind == "flag":
        return [option.flag] if value else []
    values = value if isinstance(value, list) else [value]
    return [f"{option.flag}={item}" for item in values]
