"""The options that say how two firmwares get on a board."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from pytest_espperf.cli.common import checked
from pytest_espperf.cli.rounds import add_check_argument, check_build_commands
from pytest_espperf.config.parsers import url_path, word
from pytest_espperf.config.settings import BY_DEST, Settings
from pytest_espperf.errors import UsageError
from pytest_espperf.session.firmwares import (
    CommandFirmware,
    Firmware,
    SlotFirmware,
)
from pytest_espperf.session.placeholders import BOARD, names_in, refuse_unknown
from pytest_espperf.session.revisions import Revisions

WAYS = (
    "--old-cmd with --new-cmd, or --switch-url or --switch-cmd with --old-slot and --new-slot, or --old and "
    "--new with --build-cmd and --flash-cmd"
)

_COMMANDS = ("perf_ab_baseline_cmd", "perf_ab_candidate_cmd")


def add_firmwares(command: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    firmwares = command.add_argument_group(
        "firmwares",
        "In commands {ip} and {port} are the board's, {slot} is the slot's name, {commit} the commit and "
        "{dir} the folder of its build. Commands are never shown; each may take --perf-ab-timeout-s, and the "
        "board --device-boot-timeout-s to answer behind it.",
    )
    add = firmwares.add_argument
    for flag, dest, which in (
        ("--old-cmd", "perf_ab_baseline_cmd", "old"),
        ("--new-cmd", "perf_ab_candidate_cmd", "new"),
    ):
        add(
            flag,
            dest=dest,
            metavar="CMD",
            type=checked(word),
            help=f"shell command that puts the {which} firmware on the board (or {BY_DEST[dest].flag} of the "
            "project's options)",
        )
    add(
        "--old",
        metavar="REV",
        type=checked(word),
        help="commit of the old firmware: whatever git takes for one",
    )
    add("--new", metavar="REV", type=checked(word), help="commit of the new firmware (default: HEAD)")
    for flag, about in (
        ("--build-cmd", "shell command that builds a commit, in a folder with it: {dir}"),
        ("--flash-cmd", "shell command that puts the build in {dir} on the board"),
        ("--switch-cmd", "shell command that starts the firmware in the slot {slot}"),
    ):
        add(flag, metavar="CMD", type=checked(word), help=about)
    add(
        "--switch-url",
        metavar="PATH",
        type=checked(url_path),
        help="path on the board that does, by POST: '/ota/switch?slot={slot}'",
    )
    add_check_argument(add)
    add("--old-slot", metavar="SLOT", type=checked(word), help="name of the slot with the old firmware")
    add("--new-slot", metavar="SLOT", type=checked(word), help="name of the slot with the new firmware")


def firmwares_of(
    arguments: argparse.Namespace, settings: Settings, root: Path, say: Callable[[str], None]
) -> tuple[Firmware, Firmware]:
    """Make both firmwares from the options that say how they get on the board.

    Raises:
        UsageError: the options name no way, several, or half of one.
    """
    slots = [arguments.switch_cmd, arguments.switch_url, arguments.old_slot, arguments.new_slot]
    commands = [dest for dest in _COMMANDS if getattr(arguments, dest) is not None]
    commits = any((arguments.old, arguments.new, arguments.build_cmd, arguments.flash_cmd))
    if bool(commands) + commits + any(slots) > 1:
        raise UsageError(
            f"the options say in several ways how firmwares get on the board: give one of {WAYS}"
        )
    if any(slots):
        return _slots(arguments, settings)
    if commits:
        return _revisions(arguments, settings, root, say)
    old, new = settings.perf_ab_baseline_cmd, settings.perf_ab_candidate_cmd
    if not old and not new:
        raise UsageError(f"nothing says how the firmwares get on the board: give {WAYS}")
    if not old or not new:
        given, missing = ("--old-cmd", "--new-cmd") if old else ("--new-cmd", "--old-cmd")
        raise UsageError(f"{given} needs {missing} as well: each puts one firmware on the board")
    if old.split() == new.split():
        raise UsageError("--old-cmd and --new-cmd are one command: one firmware would be measured twice")
    for dest, flag, command in zip(_COMMANDS, ("--old-cmd", "--new-cmd"), (old, new), strict=True):
        source = flag if getattr(arguments, dest) is not None else settings.where(dest)
        refuse_unknown(command, source, BOARD)
        _refuse_one_target(command, source, settings)
    timeout_s = settings.perf_ab_timeout_s
    return CommandFirmware("old", old, timeout_s=timeout_s), CommandFirmware("new", new, timeout_s=timeout_s)


def _slots(arguments: argparse.Namespace, settings: Settings) -> tuple[Firmware, Firmware]:
    if not arguments.old_slot or not arguments.new_slot:
        raise UsageError("slots are switched between --old-slot and --new-slot: give both")
    if arguments.old_slot == arguments.new_slot:
        raise UsageError(
            f"--old-slot and --new-slot are both {arguments.old_slot!r}: one firmware would be measured twice"
        )
    if bool(arguments.switch_cmd) == bool(arguments.switch_url):
        raise UsageError("either --switch-url or --switch-cmd says how the board changes to a slot: give one")
    switch = arguments.switch_cmd or arguments.switch_url
    flag = "--switch-cmd" if arguments.switch_cmd else "--switch-url"
    known = ("slot", *BOARD) if arguments.switch_cmd else ("slot",)
    refuse_unknown(switch, flag, known, is_path=not arguments.switch_cmd)
    if "slot" not in names_in(switch):
        raise UsageError(f"{flag}: {{slot}} is missing in it, so that it cannot say which slot")
    if arguments.switch_cmd:
        _refuse_one_target(switch, flag, settings)
    named = (("old", arguments.old_slot), ("new", arguments.new_slot))
    if arguments.switch_url:
        old, new = (SlotFirmware(label, slot, switch) for label, slot in named)
        return old, new
    first, second = (
        CommandFirmware(label, switch, timeout_s=settings.perf_ab_timeout_s, slot=slot)
        for label, slot in named
    )
    return first, second


def _revisions(
    arguments: argparse.Namespace, settings: Settings, root: Path, say: Callable[[str], None]
) -> tuple[Firmware, Firmware]:
    if not arguments.old or not arguments.flash_cmd:
        missing = "--old" if not arguments.old else "--flash-cmd"
        raise UsageError(
            f"commits are built and flashed by --old, --build-cmd and --flash-cmd: {missing} is missing"
        )
    check_build_commands(arguments.build_cmd or "", arguments.flash_cmd)
    _refuse_one_target(arguments.flash_cmd, "--flash-cmd", settings)
    revisions = Revisions(
        root,
        build=arguments.build_cmd or "",
        flash=arguments.flash_cmd,
        flash_s=settings.perf_ab_timeout_s,
        say=say,
    )
    old = revisions.revision(arguments.old, "--old")
    new = revisions.revision(arguments.new or "HEAD", "--new" if arguments.new else "--new, by default")
    if old.commit == new.commit:
        raise UsageError(
            f"--old and --new are the same commit, {old.short}: one firmware would be measured twice"
        )
    revisions.warn_of_uncommitted()
    return revisions.firmware(old, "old"), revisions.firmware(new, "new")


def _refuse_one_target(command: str, source: str, settings: Settings) -> None:
    """Refuse a command that would change the same one of two boards each time.

    Raises:
        UsageError: it does not say which board.
    """
    if len(settings.device_ip) > 1 and not names_in(command) & set(BOARD):
        raise UsageError(
            f"{source}: it has neither {{ip}} nor {{port}}, so that it changes the same board each time, "
            f"and {settings.where('device_ip')} names {len(settings.device_ip)}"
        )
