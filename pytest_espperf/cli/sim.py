"""``espperf sim``: the reference device alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_espperf.cli.common import Parser, add_command
from pytest_espperf.sim.__main__ import main, make_parser


def add_commands(commands: Any) -> None:
    """Add the command to the command line; :mod:`pytest_espperf.cli.program` hands its words on."""
    add_command(
        commands,
        "sim",
        lambda arguments: start_sim(arguments.rest),
        "start the reference device alone (see espperf sim --help)",
        passes_on=True,
    )


def start_sim(words: Sequence[str]) -> int:
    """Run the device with these options until it is stopped; a bad one ends it as that of any command.

    Raises:
        SystemExit: with code 4 and one sentence, for a bad option.
    """
    return main(words, parser=make_parser("espperf sim", Parser))
