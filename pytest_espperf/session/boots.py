"""Timing of boots: the board is reset by a command or by its serial lines, and asked until it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

from pytest_espperf.config.settings import Settings
from pytest_espperf.device.http import HttpAnswer, get
from pytest_espperf.errors import ComputerError, DeviceError, UsageError
from pytest_espperf.session.board import Board
from pytest_espperf.session.firmware import run_command

Ask = Callable[..., HttpAnswer]

BOOT = "boot_ms"
"""Name of the figure."""

POLL_S = 0.015
"""Pause between two attempts: what a boot time is good for."""

TRY_S = 0.25
"""Time limit of an attempt at first. A packet that met no board is sent again after a second only, so that a
new connection finds out sooner ..."""

MOST_TRY_S = 4.0
"""... and at most: it grows, since the first answer of a board may take longer."""

GROWTH = 1.1

SLOWER = 3.0
"""Times that a healthy answer took before the reset, which an attempt waits at least."""

GOES_AWAY_S = 3.0
"""Seconds behind a command in which a board that still answers has to stop answering."""


def time_boots(
    board: Board,
    settings: Settings,
    *,
    within_s: float,
    say: Callable[[str], None],
    ask: Ask = get,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[float]:
    """Reset the board as often as the options say; return the time of each boot, in milliseconds.

    A boot ends with the first healthy answer of the probe path after the board was away. One that answers all
    the time was not reset, or was back before the command ended: then there is no figure, and a warning.

    Args:
        board: locked.
        settings: the options in force.
        within_s: seconds that are left of the session.
        say: takes one line for the user.
        ask: replaced in tests, as are ``clock`` and ``sleep``.
        clock: monotonic seconds.
        sleep: seconds -> None.

    Raises:
        DeviceError: the command fails, or the board does not come back in time.
    """
    ends_s = clock() + within_s
    many = settings.device_resets
    say(f"resetting the board {'once' if many == 1 else f'{many} times'}, to time its boot")
    path = settings.perf_probe_path
    boots: list[float] = []
    asked_s = clock()
    ask(board.target, path, timeout_s=min(settings.device_boot_timeout_s, within_s))
    patience_s = max(TRY_S, SLOWER * (clock() - asked_s))
    for _ in range(many):
        _reset(board, settings, timeout_s=min(settings.device_boot_timeout_s, ends_s - clock()), clock=clock)
        left_s = min(settings.device_boot_timeout_s, ends_s - clock())
        took_s = time_boot(
            lambda try_s: ask(board.target, path, timeout_s=try_s).status,
            path,
            patience_s=patience_s,
            within_s=left_s,
            clock=clock,
            sleep=sleep,
        )
        if took_s is None:
            say(
                f"WARNING: the board answered for {GOES_AWAY_S:.0f} s behind {_option(settings)} as if "
                f"nothing had happened: {BOOT} is not measured"
            )
            return []
        boots.append(round(1e3 * took_s, 3))
    return boots


def check_reset(settings: Settings) -> None:
    """Check that the options say at most once how to reset the board.

    Raises:
        UsageError: they say it twice, or name lines of a console that there is not.
    """
    if settings.device_reset_lines and settings.device_reset_cmd:
        source = settings.where("device_reset_cmd")
        raise UsageError(f"{source}: --device-reset-lines resets the board already: leave one of them out")
    if settings.device_reset_lines and not settings.device_serial:
        source = settings.where("device_reset_lines")
        raise UsageError(f"{source} needs --device-serial: the lines are those of the console's port")


def _option(settings: Settings) -> str:
    return "--device-reset-lines" if settings.device_reset_lines else "--device-reset-cmd"


def _reset(board: Board, settings: Settings, *, timeout_s: float, clock: Callable[[], float]) -> None:
    if settings.device_reset_lines:
        assert board.console is not None  # by resets_board
        board.console.reset()
        return
    with board.console.released() if board.console is not None and _is_port(board) else nullcontext():
        run_command(settings.device_reset_cmd, "that resets the board", timeout_s=timeout_s, clock=clock)


def _is_port(board: Board) -> bool:
    """Whether the console is a port of this computer, which the tool that resets the board may need."""
    return board.console is not None and "://" not in board.console.url


def time_boot(
    ask: Callable[[float], int],
    path: str,
    *,
    patience_s: float,
    within_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    after: str = "it was reset",
) -> float | None:
    """Ask until the board answers after it was away; return the seconds, None where it never was.

    A single time-out may be a lost packet: a board that is silent was away from the second one in a row on.

    Args:
        ask: sends one request, which may take so many seconds; returns the status.
        path: that is asked for.
        patience_s: time limit of the first attempt.
        within_s: seconds for all of it.
        clock: monotonic seconds.
        sleep: seconds -> None.
        after: what the board was away for, in words.

    Raises:
        DeviceError: it does not answer in time.
    """
    began_s = clock()
    was_away, silent, try_s, last, answers = False, 0, patience_s, "", False
    while (not last and not answers) or clock() - began_s < within_s:
        try:
            status = ask(try_s)
        except ComputerError:
            raise
        except DeviceError as error:
            last, answers = str(error), False
            if "no answer within" in last:
                silent += 1
                try_s = max(patience_s, min(MOST_TRY_S, try_s * GROWTH))
            was_away = was_away or silent != 1
        else:
            silent, answers = 0, status < 500
            if status < 500 and was_away:
                return clock() - began_s
            if status >= 500:
                was_away, last = True, f"status {status}"
            elif clock() - began_s > GOES_AWAY_S:
                return None
        sleep(POLL_S)
    if answers:
        return None  # all the time, which was shorter than boards have to go away
    raise DeviceError(
        f"the board gave no healthy answer to {path} for {clock() - began_s:.1f} s after {after}; "
        f"the last try met: {last}"
    )
