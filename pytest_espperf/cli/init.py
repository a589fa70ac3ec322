"""``espperf init``: write a first profile and test for a board."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pytest_espperf.cli.common import FAILED, add_command, checked, say, say_aside
from pytest_espperf.cli.json_lines import print_json
from pytest_espperf.config.additions import TomlValue
from pytest_espperf.config.lookup import add_arguments
from pytest_espperf.config.option import Option
from pytest_espperf.config.profiles import load_profiles, profile_name
from pytest_espperf.config.settings import OPTIONS, Settings
from pytest_espperf.config.telemetry import load_telemetry
from pytest_espperf.errors import UsageError
from pytest_espperf.plugin.invocation import ProjectHere, project_here
from pytest_espperf.session.board import connect
from pytest_espperf.session.first_files import TEST_FILE, FirstFiles, ProjectFiles, plan_files
from pytest_espperf.session.identity import address_of
from pytest_espperf.session.survey import Survey, SurveyedPath, Surveyor
from pytest_espperf.system.homes import expand_user

NAME = "board"
"""Name of the profile where the user gives none."""

TRIES = 3
"""Requests of the health probe."""

SHOWN = 10
"""Paths that were left out of which each has a line."""

TAKEN = tuple(
    option
    for option in OPTIONS
    if (option.group in {"device", "sim"} or option.dest in {"perf_probe_path", "perf_request_timeout"})
    and option.dest not in {"device_ip", "device_lab", "device_reference"}
)
"""The options that say how to reach the board; those given on the command line are written."""


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    init = add_command(
        commands,
        "init",
        _init,
        "write a first profile and test for a board: asks the paths given, or else those of its sitemap.xml "
        "or of the links of its index page, for status, size and time. Adds to files that exist, and changes "
        "nothing in them.",
    )
    init.add_argument("host", metavar="HOST", help="the board, or 'sim' for the built-in reference device")
    init.add_argument(
        "paths", metavar="PATH", nargs="*", default=[], help="a path of the board, as /api/ping"
    )
    init.add_argument(
        "--name",
        type=checked(profile_name),
        default=NAME,
        help=f"name of the profile (default: {NAME})",
    )
    init.add_argument("--dry-run", action="store_true", help="write nothing")
    init.add_argument("--json", action="store_true", help="the answer as one JSON object")
    add_arguments(init.add_argument, TAKEN, lambda option: option.flag)


def _init(arguments: argparse.Namespace) -> int:
    given = {option.dest: getattr(arguments, option.dest) for option in TAKEN}
    named = {dest: value for dest, value in given.items() if value is not None}
    project = project_here({**named, "device_ip": [arguments.host]})
    if len(project.settings.device_ip) != 1:
        raise UsageError(f"HOST: {arguments.host} names several boards: init asks one")
    _refuse_known(arguments.name, project.root)
    survey, has_probe_path = _survey(arguments, project)
    files = None
    if survey.kept:
        paths = [path.path for path in survey.kept]
        keys = _keys(project.settings, arguments.name)
        if not has_probe_path and "perf_probe_path" not in project.settings.sources:
            keys["perf_probe_path"] = min(survey.kept, key=lambda one: (one.size_bytes, one.path)).path
        places = ProjectFiles(project.root, project.ini_file, project.ini_keys, project.test_files)
        files = plan_files(places, arguments.name, paths, keys)
        if not arguments.dry_run:
            for change in files.changes:
                change.write()
    next_command = _next_command(arguments.host, project, files) if files is not None else ""
    if arguments.json:
        print_json(_facts(arguments, project, survey, files, next_command))
    else:
        _print(arguments, project, survey, files, next_command)
    return 0 if files is not None else FAILED


def _refuse_known(name: str, root: Path) -> None:
    """Refuse the name of a profile that the project has.

    Raises:
        UsageError: it has one.
    """
    known = load_profiles(root).get(name)
    if known is not None and known.source != "built-in":
        raise UsageError(f"{known.source} exists: give the new profile another name with --name")


# --- asking the board


def _survey(arguments: argparse.Namespace, project: ProjectHere) -> tuple[Survey, bool]:
    """Ask the board for its paths.

    Returns:
        what was found, and whether the board has the path of the health probe.

    Raises:
        UsageError: its name does not resolve, or a path is none.
        DeviceError: it gives no answer, or another session measures it.
    """
    settings = project.settings
    address = address_of(settings)
    assert address is not None
    with ExitStack() as closing:
        board = connect(
            settings, *address, closing=closing, telemetry=load_telemetry(project.root), source="HOST"
        )
        probe = board.probe(tries=min(TRIES, settings.perf_probe_retries))
        surveyor = Surveyor(board, address[0])
        say_aside(f"[espperf] asking {board.url}, one path after another")
        survey = surveyor.ask_named(arguments.paths) if arguments.paths else surveyor.ask_linked()
        return survey, probe.status < 400


# --- the keys and the next command


def _keys(settings: Settings, name: str) -> dict[str, TomlValue]:
    """Choose the keys of pytest's configuration: the board, how to reach it, and the profile.

    A value of the environment stays there, and a secret is never written.
    """
    keys: dict[str, TomlValue] = {"device_ip": [settings.device]}
    for option in TAKEN:
        if settings.sources.get(option.dest) == option.flag and not option.secret:
            keys[option.dest] = _value(option, settings)
    keys["perf_profiles"] = [name]
    return keys


def _value(option: Option, settings: Settings) -> TomlValue:
    value = getattr(settings, option.dest)
    if option.dest == "device_ca":
        return str(Path(expand_user(value, option.flag)).absolute())
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _next_command(host: str, project: ProjectHere, files: FirstFiles) -> str:
    made = any(change.path == project.root / TEST_FILE for change in files.changes)
    folder, name = TEST_FILE.split("/")
    places = {folder, TEST_FILE, "."}
    searched = not project.test_paths or not places.isdisjoint(map(os.path.normpath, project.test_paths))
    matched = any(fnmatch(name, pattern) for pattern in project.test_files)
    words = ["pytest", *([TEST_FILE] if made and not (searched and matched) else []), "-m", "perf"]
    if "device_ip" in project.ini_keys:
        words += ["--device-ip", host]
    return " ".join(words)


# --- the answer


def _print(
    arguments: argparse.Namespace,
    project: ProjectHere,
    survey: Survey,
    files: FirstFiles | None,
    next_command: str,
) -> None:
    _print_survey(survey)
    if files is None:
        say("no path is left for a profile: nothing is written")
        return
    for change in files.changes:
        verb = ("would write" if change.is_new else "would add to") if arguments.dry_run else None
        verb = verb or ("wrote" if change.is_new else "added to")
        say(f"{verb} {change.path.relative_to(project.root).as_posix()}: {change.what}")
    for kept in files.kept:
        say(f"not changed: {kept}")
    for note in _notes(project.settings, survey.kept):
        say(f"note: {note}")
    say(f"next: {next_command}")


def _print_survey(survey: Survey) -> None:
    width = max((len(one.path) for one in survey.kept), default=4)
    say(f"{survey.source}: {len(survey.kept)} of {len(survey.kept) + len(survey.left_out)}")
    if survey.kept:
        say(f"{'path':<{width}}  status    bytes        ms")
    for one in survey.kept:
        leads = f"  a redirect to {one.leads_to}: the redirect itself is measured" if one.leads_to else ""
        say(f"{one.path:<{width}}  {one.status:>6} {one.size_bytes:>8,} {one.took_ms:>9,.1f}{leads}")
    for left in survey.left_out[:SHOWN]:
        say(f"left out: {left.path}  {left.reason}")
    if len(survey.left_out) > SHOWN:
        say(f"left out: {len(survey.left_out) - SHOWN} more")
    if survey.more:
        say(f"not asked: {survey.more} more links; name the paths that matter as PATH")
    if survey.elsewhere:
        say(f"not asked: {survey.elsewhere} links to other servers")


def _notes(settings: Settings, kept: Sequence[SurveyedPath]) -> list[str]:
    notes = []
    clients = settings.perf_burst_clients
    slow = [one for one in kept if one.took_ms * clients > settings.perf_max_p95_ms]
    if slow:
        worst = max(slow, key=lambda one: one.took_ms)
        notes.append(
            f"{worst.path} took {worst.took_ms:,.0f} ms alone: with {clients} clients at once it may exceed "
            f"the p95 budget of {settings.perf_max_p95_ms:,.0f} ms (--perf-max-p95-ms, --perf-burst-clients)"
        )
    if settings.device_header and settings.sources.get("device_header") == "--device-header":
        notes.append("the values of --device-header are not written: set ESPPERF_DEVICE_HEADER")
    return notes


def _facts(
    arguments: argparse.Namespace,
    project: ProjectHere,
    survey: Survey,
    files: FirstFiles | None,
    next_command: str,
) -> Mapping[str, Any]:
    changes = files.changes if files is not None else ()
    return {
        "host": arguments.host,
        "root": str(project.root),
        "profile": arguments.name,
        "source": survey.source,
        "paths": [asdict(one) for one in survey.kept],
        "left_out": [asdict(one) for one in survey.left_out],
        "more": survey.more,
        "elsewhere": survey.elsewhere,
        "dry_run": arguments.dry_run,
        "files": [
            {"file": str(change.path), "is_new": change.is_new, "what": change.what} for change in changes
        ],
        "not_changed": list(files.kept) if files is not None else [],
        "notes": _notes(project.settings, survey.kept),
        "next": next_command,
    }
