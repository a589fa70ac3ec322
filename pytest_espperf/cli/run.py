"""``espperf run``: measure a board and judge it."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from pytest_espperf.cli.common import USAGE_ERROR, InPlaceOf, add_command, say_aside
from pytest_espperf.config.lookup import add_arguments
from pytest_espperf.config.option import Option
from pytest_espperf.config.settings import OPTIONS
from pytest_espperf.errors import UsageError
from pytest_espperf.plugin.invocation import run_suite

_OWN = ("--perf-", "--device-", "--sim-")


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    run = add_command(
        commands,
        "run",
        _run,
        "measure a board and judge it: the packaged suite through pytest. Takes every option of "
        "'pytest --help', and the original tool's flag names (--runs for --perf-runs, ...).",
        passes_on=True,
    )
    add_run_arguments(run)


def add_run_arguments(command: argparse.ArgumentParser) -> None:
    """Add HOST and every option of a session, and the original tool's names for them."""
    host = command.add_argument(
        "host",
        metavar="HOST",
        help="the board, or 'sim' for the built-in reference device; left out with --device-lab",
    )
    in_place = partial(command.add_argument, action=InPlaceOf, other=host)
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
    rest = own_words(arguments.rest)
    code = run_suite([*pytest_words(arguments), *rest])
    if code == USAGE_ERROR:
        for sentence in misspelt(rest):
            say_aside(sentence)
    return code


def misspelt(words: Iterable[str]) -> Iterator[str]:
    """Name the options among words for pytest that look like options of this plugin, with what was meant.

    Other plugins may have options with the same beginning: this is for words that pytest refused.
    """
    known = [option.flag for option in OPTIONS]
    for word in words:
        name = word.partition("=")[0]
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.8) if name.startswith(_OWN) else []
        if close and name not in known:
            yield f"{name} is no option; did you mean {close[0]}?"


def own_words(rest: list[str]) -> list[str]:
    """Return the words for pytest itself.

    Raises:
        UsageError: one names a second device, which would silently replace the first one.
    """
    if any(word.split("=")[0] == "--device-ip" for word in rest):
        raise UsageError("the board is named by HOST: leave out --device-ip")
    return rest


def pytest_words(arguments: argparse.Namespace) -> list[str]:
    """Return the options that were given as words for pytest."""
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
