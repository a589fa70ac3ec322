"""``espperf export``: a session in another tool's format."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Any

from pytest_espperf.cli.common import SESSION_HELP, add_command, print_data, say
from pytest_espperf.cli.history import find_session
from pytest_espperf.config.settings import EXPORT_FORMATS
from pytest_espperf.output.exports import only_renderer, parse_target, write_target
from pytest_espperf.report.exports import EXPORTS

SOURCE = "FORMAT"


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    export = add_command(
        commands, "export", _export, "show or write a session in another tool's format", history=True
    )
    export.add_argument("session", help=SESSION_HELP)
    export.add_argument(
        "format",
        metavar="FORMAT[=PATH]",
        help=f"{EXPORT_FORMATS}; to standard output where there is no PATH",
    )
    export.add_argument("--list", action=_List, nargs=0, help="describe the formats and exit")


class _List(argparse.Action):
    """Print the formats."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        for name, export in EXPORTS.items():
            say(f"{name:<26}{export.help}")
        parser.exit()


def _export(arguments: argparse.Namespace) -> int:
    if "=" in arguments.format:
        target = parse_target(arguments.format, Path.cwd(), SOURCE)
        for path in write_target(find_session(arguments, arguments.session), target):
            say(f"exported {target.format}: {path}")
        return 0
    render = only_renderer(arguments.format, SOURCE)
    text = render(find_session(arguments, arguments.session))
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")  # that is what the formats are in, whatever the code page
    print_data(text)
    return 0
