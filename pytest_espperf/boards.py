"""The boards of one run: one, as most have it, or several, each with a session of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_espperf.errors import UsageError
from pytest_espperf.options import Settings

if TYPE_CHECKING:
    from pytest_espperf.lab import LabBoard

ONE_ONLY = (
    "device_id",
    "device_serial",
    "device_reference",
    "perf_lock_file",
    "perf_ab_baseline_cmd",
    "perf_ab_candidate_cmd",
)
"""Options that mean one board."""


@dataclass(frozen=True)
class NamedBoard:
    """One board of a run.

    Attributes:
        name: what its tests, files and messages call it; "" for the only one.
        settings: the options in force for it, with it as the only device.
        place: where a lab has it; its address is asked for when it is needed.
    """

    name: str
    settings: Settings
    place: LabBoard | None = None


def named_boards(settings: Settings, root: Path) -> list[NamedBoard]:
    """The boards that a run was given; one without a name where it was given none or one.

    Raises:
        UsageError: an option that means one board was given for several, two have the same name, or the
            lab's file cannot be used.
    """
    if settings.device_lab:
        return _of_lab(settings, root)
    if len(settings.device_ip) <= 1:
        return [NamedBoard("", settings)]
    _refuse_one_only(settings, "device_ip", len(settings.device_ip))
    boards = [NamedBoard(_clean(host), settings.but(device_ip=(host,))) for host in settings.device_ip]
    names = [board.name for board in boards]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UsageError(f"{settings.where('device_ip')} names the board {twice} twice")
    return boards


def _of_lab(settings: Settings, root: Path) -> list[NamedBoard]:
    from pytest_espperf.lab import load_lab  # noqa: PLC0415 - an extra

    source = settings.where("device_lab")
    if settings.device_ip:
        raise UsageError(f"{source} and {settings.where('device_ip')} both name boards: give one of them")
    lab = load_lab(root / Path(settings.device_lab).expanduser(), source)
    _refuse_one_only(settings, "device_lab", len(lab.boards))
    return [NamedBoard(place.name, settings.but(device_id=place.name), place) for place in lab.boards]


def _refuse_one_only(settings: Settings, several: str, count: int) -> None:
    for dest in ONE_ONLY:
        if getattr(settings, dest):
            raise UsageError(
                f"{settings.where(dest)} means one board, and {settings.where(several)} names "
                f"{count}: measure that one by itself"
            )


def _clean(host: str) -> str:
    """Fit for a test's id and a file's name, on each platform."""
    return re.sub(r"[^0-9A-Za-z._-]+", "-", host).strip("-") or "board"
