"""Times of sessions, as commands print them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial

from pytest_espperf.report.clock import readable_time


def add_utc(command: argparse.ArgumentParser) -> None:
    """Add the option for times in UTC to a command."""
    command.add_argument("--utc", action="store_true", help="times in UTC; default: those of this computer")


def time_writer(arguments: argparse.Namespace) -> Callable[[str], str]:
    """Make the function that writes a session's time for a reader, in the zone that was asked for."""
    zone = timezone.utc if arguments.utc else None
    return partial(readable_time, now=datetime.now(timezone.utc), zone=zone)
