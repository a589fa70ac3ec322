"""Switching the board between the baseline's and the candidate's firmware, by the user's own commands."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import DeviceError
from pytest_espperf.model.workload import Target
from pytest_espperf.session.placeholders import BOARD, fill, refuse_unknown
from pytest_espperf.system import commands
from pytest_espperf.system.redaction import redact

_LONGEST_WORDS = 300


def can_switch(settings: Settings) -> bool:
    """Whether the options give both commands, which pairs of both firmwares need."""
    return bool(settings.perf_ab_baseline_cmd and settings.perf_ab_candidate_cmd)


def check_placeholders(settings: Settings) -> None:
    """Refuse a placeholder that nobody replaces in the commands that switch.

    Raises:
        UsageError: there is one.
    """
    for dest in ("perf_ab_baseline_cmd", "perf_ab_candidate_cmd"):
        refuse_unknown(getattr(settings, dest), settings.where(dest), BOARD)


class FirmwareSwitch:
    """Puts one firmware or the other on the board.

    A session begins with the candidate's on the board: that is what it measured in its planned runs.

    Attributes:
        available: whether both commands were given.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._commands = {
            "ab-baseline": settings.perf_ab_baseline_cmd,
            "ab-candidate": settings.perf_ab_candidate_cmd,
        }
        self._timeout_s = settings.perf_ab_timeout_s
        self._say = say
        self._clock = clock
        self._there = "ab-candidate"
        self.available = can_switch(settings)

    def must_switch(self, role: str) -> bool:
        """Whether another firmware is on the board than the role needs."""
        return self.available and self._wanted(role) != self._there

    def _wanted(self, role: str) -> str:
        return role if role in self._commands else "ab-candidate"

    def ensure(self, role: str, *, within_s: float = float("inf"), target: Target | None = None) -> None:
        """Switch where the other firmware is on the board; roles but ``ab-baseline`` mean the candidate's.

        Args:
            role: of the phase that comes next.
            within_s: seconds that are left of the session, where those are fewer than a command may take.
            target: the board, for placeholders.

        Raises:
            DeviceError: the command failed or took too long; says how it ended.
        """
        if not self.must_switch(role):
            return
        wanted = self._wanted(role)
        command = fill(self._commands[wanted], target)
        name = wanted.removeprefix("ab-")
        self._say(f"switching to the {name} firmware")
        # Whatever comes of it, the firmware of before is no longer sure to be there.
        self._there = ""
        timeout_s = min(self._timeout_s, within_s)
        run_command(command, f"for the {name} firmware", timeout_s=timeout_s, clock=self._clock)
        self._there = wanted


def run_command(
    command: str,
    about: str,
    *,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    lines: int = 1,
) -> None:
    """Run a shell command of the user's, which must succeed.

    Args:
        command: the command, which is never shown.
        about: what it is for: ``for the baseline firmware``.
        timeout_s: seconds that it may take.
        clock: monotonic seconds.
        folder: that it works in; by default this process's.
        environment: its variables; by default this process's.
        lines: how many of its last lines the message has where it fails.

    Raises:
        DeviceError: it failed or took too long; says how it ended.
    """
    began = clock()
    try:
        done = commands.run(command, timeout_s, folder=folder, environment=environment)
    except subprocess.TimeoutExpired:
        raise DeviceError(f"the command {about} was not done after {timeout_s:.3g} s") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        reason = getattr(error, "strerror", None) or str(error)
        raise DeviceError(f"the command {about} cannot be started: {reason}") from None
    if done.code != 0:
        raise DeviceError(
            f"the command {about} ended with exit code {done.code} after {clock() - began:.1f} s: "
            f"{_last_words(done.text, lines)}"
        )


def _last_words(output: str, lines: int) -> str:
    """Return the last lines of a command's output, as they may be shown, with bars between them."""
    said = [line.strip() for line in output.splitlines() if line.strip()][-lines:]
    if not said:
        return "it printed nothing"
    last = redact(" | ".join(said))
    return last if len(last) <= _LONGEST_WORDS else f"{last[:_LONGEST_WORDS]}..."
