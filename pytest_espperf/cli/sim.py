"""``espperf sim``: the reference device alone."""

from __future__ import annotations

from typing import Any

from pytest_espperf.cli.common import add_command
from pytest_espperf.sim.__main__ import main as start_sim


def add_commands(commands: Any) -> None:
    """Add the command to the command line; :mod:`pytest_espperf.cli.program` hands its words on."""
    add_command(
        commands,
        "sim",
        lambda arguments: start_sim(arguments.rest),
        "start the reference device alone (see espperf sim --help)",
        passes_on=True,
    )
