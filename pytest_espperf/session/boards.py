"""The boards of one run: one, as most have it, or several, each with a session of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_espperf import device
from pytest_espperf.config.settings import SIM, Settings
from pytest_espperf.errors import BoardBusyError, EspperfError, UsageError
from pytest_espperf.model.address import split_host
from pytest_espperf.session.board import facts_unreached
from pytest_espperf.session.identity import asked_for
from pytest_espperf.system.homes import expand_user

if TYPE_CHECKING:
    from pytest_espperf.lab import LabBoard

ONE_ONLY = (
    "device_id",
    "device_serial",
    "device_reference",
    "device_reset_cmd",
    "perf_lock_file",
    "perf_ab_baseline_cmd",
    "perf_ab_candidate_cmd",
)
"""Options that mean one board."""

NAME_LENGTH = 60
"""Characters of a board's name in a file's, at most, without a mark."""


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
    """Return the boards that a run was given; one without a name where it was given none or one.

    Raises:
        UsageError: an option that means one board was given for several, two are one or would go by one
            name, or the lab's file cannot be used.
    """
    if settings.device_lab:
        return _of_lab(settings, root)
    if len(settings.device_ip) <= 1:
        return [NamedBoard("", settings)]
    _refuse_one_only(settings, "device_ip", len(settings.device_ip))
    names = _short_names(
        settings.where("device_ip"), [_written(host, settings) for host in settings.device_ip]
    )
    return [
        NamedBoard(name, settings.but(device_ip=(host,)))
        for name, host in zip(names, settings.device_ip, strict=True)
    ]


def _of_lab(settings: Settings, root: Path) -> list[NamedBoard]:
    from pytest_espperf.lab import load_lab  # noqa: PLC0415 - an extra

    source = settings.where("device_lab")
    if settings.device_ip:
        raise UsageError(f"{source} and {settings.where('device_ip')} both name boards: give one of them")
    lab = load_lab(root / expand_user(settings.device_lab, source), source)
    _refuse_one_only(settings, "device_lab", len(lab.boards))
    names = _short_names(f"{source}: {lab.path}", [(board.name, board.name) for board in lab.boards])
    return [
        NamedBoard(name, settings.but(device_id=place.name), place)
        for name, place in zip(names, lab.boards, strict=True)
    ]


def _refuse_one_only(settings: Settings, several: str, count: int) -> None:
    for dest in ONE_ONLY:
        if getattr(settings, dest):
            raise UsageError(
                f"{settings.where(dest)} means one board, and {settings.where(several)} names "
                f"{count}: measure that one by itself"
            )


def _written(host: str, settings: Settings) -> tuple[str, str]:
    """Return a board as it was given, and in the one way to write it."""
    name, port = split_host(host)
    return host, f"{name.casefold()}:{port or settings.device_port}"


def _short_names(source: str, boards: Sequence[tuple[str, str]]) -> list[str]:
    """Name each board; refuse two that are one, or would share a name on some file system."""
    seen: dict[str, str] = {}
    names = []
    for given, written in boards:
        name = short_name(given)
        for key in {written, name.casefold()}:
            if key in seen:
                raise UsageError(
                    f"{source}: {seen[key]} and {given} are one board, or would both be called {name} in "
                    "tests and files: measure one of them by itself"
                )
            seen[key] = given
        names.append(name)
    return names


def refuse_one_twice(boards: Iterable[Settings]) -> None:
    """Refuse two names of one address, before anything is measured.

    A name that does not resolve is passed over: it fails the session of its own board.

    Args:
        boards: of each board of a run the options in force for it.

    Raises:
        UsageError: two boards are one.
    """
    seen: dict[tuple[str, int], str] = {}
    for settings in boards:
        asked = asked_for(settings)
        if asked is None or asked[0] == SIM:
            continue
        try:
            address = device.resolve_target(*asked).address
        except UsageError:
            continue
        name = facts_unreached(settings).identity
        first = seen.setdefault((address, asked[1]), name)
        if first != name:
            raise UsageError(f"{settings.where('device_ip')}: {one_board(first, name)}")


def refuse_sim_beside(settings: Settings) -> None:
    """Refuse the reference device as one board of a pair: it is like no real board.

    Raises:
        UsageError: it is.
    """
    if len(settings.device_ip) > 1 and any(host.strip().casefold() == SIM for host in settings.device_ip):
        raise UsageError(
            f"{settings.where('device_ip')}: {SIM} is the built-in reference device, which is like no board: "
            "measure it by itself, or start two with 'espperf sim' and give their addresses"
        )


def one_board(first: str, second: str) -> str:
    """Say that two names of a run mean one board."""
    return f"{first} and {second} are one board, and each is measured once: leave one of them out"


def why_unreached(error: EspperfError, settings: Settings, others: Mapping[str, Settings]) -> str:
    """Say why a board was not reached; ``others`` are those of the same run, by the id of their session."""
    busy = error.session if isinstance(error, BoardBusyError) else ""
    if busy not in others or others[busy] is settings:
        return str(error)
    return one_board(facts_unreached(others[busy]).identity, facts_unreached(settings).identity)


def short_name(text: str) -> str:
    """Return a board's name in a test's id and a file's name, on each platform.

    A colon becomes a dash. Whatever else had to give way leaves a mark, so that names that look alike
    stay apart; it depends on the one name alone, and so stays the same in any company.
    """
    wanted = text.replace(":", "-")
    safe = re.sub(r"[^0-9A-Za-z._-]+", "-", wanted).strip("-.")[:NAME_LENGTH]
    if safe == wanted:
        return safe
    mark = hashlib.sha256(text.encode()).hexdigest()[:6]
    return f"{safe or 'board'}-{mark}"
