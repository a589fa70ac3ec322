"""``espperf doctor``: one page on a board, the link to it, and this machine."""

from __future__ import annotations

import argparse
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_espperf.cli.common import FAILED, INTERRUPTED, add_command, print_data, say_aside
from pytest_espperf.config.lookup import add_arguments
from pytest_espperf.config.settings import OPTIONS, Settings
from pytest_espperf.doctor import Check, Examination, examine, render_json, render_page
from pytest_espperf.model.text import inert
from pytest_espperf.plugin.invocation import settings_here

TAKEN = tuple(
    option
    for option in OPTIONS
    if (option.group in {"device", "sim"} and option.dest != "device_ip")
    or option.dest
    in {
        "perf_probe_path",
        "perf_probe_retries",
        "perf_request_timeout",
        "perf_metrics_retries",
        "perf_metrics_retry_delay_ms",
        "perf_burst_clients",
        "perf_long_clients",
        "perf_history",
        "perf_lock_file",
    }
)
"""The options that an examination uses."""


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    doctor = add_command(
        commands,
        "doctor",
        _doctor,
        "examine a board: whether it can be reached, its telemetry, its limits, how noisy it is, and whether "
        "this machine can measure it; one page, in about half a minute. Exit code 1 where a check failed.",
    )
    doctor.add_argument("host", metavar="HOST", help="the board, or 'sim' for the built-in reference device")
    doctor.add_argument("--json", action="store_true", help="the page as one JSON object")
    add_arguments(doctor.add_argument, TAKEN, lambda option: option.flag)
    originals = doctor.add_argument_group("the original tool's names")
    add_arguments(
        originals.add_argument,
        [option for option in TAKEN if option.original],
        lambda option: option.original,
    )


def _doctor(arguments: argparse.Namespace) -> int:
    began = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    checks: list[Check] = []
    settings, interrupted = Settings(), False
    try:
        settings, root = _as_a_session_has_them(arguments)
        with closing(examine(settings, root, say=_say)) as found:
            for check in found:
                checks.append(check)  # noqa: PERF402 - what was found before an interruption counts
    except KeyboardInterrupt:
        interrupted = True
    shown = settings.describe()
    examination = Examination(
        host=arguments.host,
        timestamp_utc=began,
        checks=tuple(checks),
        options={option.dest: shown[option.dest] for option in TAKEN if option.dest in settings.sources},
        interrupted=interrupted,
    )
    print_data(render_json(examination) if arguments.json else inert(render_page(examination)))
    if interrupted:
        return INTERRUPTED
    return FAILED if examination.status == "fail" else 0


def _say(text: str) -> None:
    say_aside(f"[espperf] {text}")


def _as_a_session_has_them(arguments: argparse.Namespace) -> tuple[Settings, Path]:
    """Return the options in force, and the root directory, as pytest finds them.

    Raises:
        UsageError: an option is bad, or pytest does not start here; its message stands above.
    """
    given = {option.dest: getattr(arguments, option.dest) for option in TAKEN}
    named = {dest: value for dest, value in given.items() if value is not None}
    return settings_here({**named, "device_ip": [arguments.host]})
