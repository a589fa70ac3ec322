"""``espperf``: run sessions, look at the history, decide about it, take it elsewhere."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from pytest_espperf import __version__
from pytest_espperf.cli import (
    compare,
    completion,
    doctor,
    export,
    judge,
    listing,
    prune,
    report,
    run,
    sessions,
    transfer,
)
from pytest_espperf.cli.common import USAGE_ERROR, Parser
from pytest_espperf.errors import EspperfError
from pytest_espperf.streams import open_closed_streams


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (``run``: pytest's, usage errors: 4)."""
    words = list(sys.argv[1:] if argv is None else argv)
    open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a code page without the sign that a board sent
    parser = make_parser()
    if words[:1] == ["sim"]:
        return run.start_sim(words[1:])
    try:
        arguments, rest = parser.parse_known_args(words)
        if rest and not arguments.passes_on:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        arguments.rest = rest
        code: int = arguments.do(arguments)
        sys.stdout.flush()
    except EspperfError as error:
        print(f"espperf: {error}", file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(prog="espperf", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for room in (run, doctor, listing, sessions, report, compare, judge, prune, transfer, export, completion):
        room.add_commands(commands)
    return parser
