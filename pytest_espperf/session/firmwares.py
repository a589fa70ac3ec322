"""What puts a firmware on a board: a command that flashes it, or a switch to the slot in which it lies.

Commands are the user's own; :mod:`pytest_espperf.session.placeholders` replaces words in them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

from pytest_espperf.device.http import HttpAnswer, send
from pytest_espperf.errors import DeviceError
from pytest_espperf.model.contest import FirmwareFacts
from pytest_espperf.model.figures import named_value
from pytest_espperf.model.text import clip
from pytest_espperf.model.workload import Target
from pytest_espperf.session.firmware import run_command
from pytest_espperf.session.placeholders import fill
from pytest_espperf.system.redaction import redact

SWITCH_TRY_S = 10.0
"""Seconds that a request which switches the slot may take."""

_SHOWN = 200
_MOST_SAID = 60


class Firmware(Protocol):
    """A firmware, and the way in which it gets on a board."""

    @property
    def facts(self) -> FirmwareFacts:
        """What the artifact says of it; its ``label`` is what messages call it."""

    def prepare(self) -> None:
        """Make it ready, as by a build; called before the first :meth:`put`, and perhaps again.

        Raises:
            BuildError: it cannot be built.
        """

    def put(self, target: Target, within_s: float) -> None:
        """Put it on the board; whether the board answers afterwards is for the caller to see.

        Args:
            target: the board.
            within_s: seconds that it may take.

        Raises:
            DeviceError: that failed, or took too long.
        """


class CommandFirmware:
    """A firmware that a command puts on the board.

    Args:
        label: what messages call it: ``old``.
        command: of the user; never shown.
        timeout_s: seconds that it may take.
        slot: for ``{slot}``; "" for none.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        label: str,
        command: str,
        *,
        timeout_s: float,
        slot: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.facts = FirmwareFacts(label=label, how="slot" if slot else "command", slot=slot)
        self._command = command
        self._timeout_s = timeout_s
        self._clock = clock

    def prepare(self) -> None:
        """Do nothing: the command does all of it."""

    def put(self, target: Target, within_s: float) -> None:
        """Run the command.

        Raises:
            DeviceError: it failed or took too long; says how it ended.
        """
        slot = {"slot": self.facts.slot} if self.facts.slot else {}
        run_command(
            fill(self._command, target, **slot),
            f"for the {self.facts.label} firmware",
            timeout_s=min(self._timeout_s, within_s),
            clock=self._clock,
        )


class SlotFirmware:
    """A firmware in a slot of the board, to which a request to the board switches.

    Args:
        label: what messages call it: ``old``.
        slot: its name on the board.
        path: of the request (POST) that switches; ``{slot}`` in it is the slot.
        post: sends the request; replaced in tests.
    """

    def __init__(self, label: str, slot: str, path: str, *, post: Callable[..., HttpAnswer] = send) -> None:
        self.facts = FirmwareFacts(label=label, how="slot", slot=slot)
        self._path = path.replace("{slot}", quote(slot, safe=""))
        self._post = post

    def prepare(self) -> None:
        """Do nothing: it lies on the board."""

    def put(self, target: Target, within_s: float) -> None:
        """Ask the board to switch; it may end the connection without an answer, since it reboots.

        Raises:
            DeviceError: it refuses, or cannot be reached.
        """
        timeout_s = min(SWITCH_TRY_S, within_s)
        where = f"POST {self._path}"
        try:
            answer = self._post(target, "POST", self._path, timeout_s=timeout_s)
        except DeviceError as error:
            if _went_away(str(error)):
                return
            raise DeviceError(f"{where}, for the {self.facts.label} firmware: {error}") from None
        if not 200 <= answer.status < 300:
            said = redact(clip(answer.body.decode("utf-8", "replace").strip(), _SHOWN))
            raise DeviceError(
                f"{where}, for the {self.facts.label} firmware, answers {answer.status}"
                f"{f': {said}' if said else ''}"
            )


class RunningCheck:
    """Asks a board which firmware runs, so that a switch without effect is noticed.

    A board may refuse a firmware, or go back to the one before when it does not boot: then one firmware would
    be measured twice, and found the same.

    Args:
        where: ``PATH``, or ``PATH:FIELD`` with the (dotted) field of a JSON answer; what it says must be one
            thing with each firmware, and another one with each other.
        ask: sends the request; replaced in tests.

    Raises:
        ValueError: no path.
    """

    def __init__(self, where: str, *, ask: Callable[..., HttpAnswer] = send) -> None:
        path, colon, name = where.rpartition(":")
        self.path, self.name = (path, name) if colon and path else (where, "")
        if not self.path.startswith("/"):
            raise ValueError(f"{where!r} is neither PATH nor PATH:FIELD, as /ota:running")
        if colon and path and not name.strip():
            raise ValueError(f"{where!r} has no field behind the colon: name one, or leave the colon out")
        self._ask = ask
        self._said: dict[str, str] = {}

    def check(self, target: Target, label: str, timeout_s: float) -> str:
        """Ask, after a firmware was put on the board; return what it said, for a reader.

        Raises:
            DeviceError: the board does not say, or names what another firmware is, or something new.
        """
        said = self._read(target, label, timeout_s)
        known = self._said.get(label, said)
        if known != said:
            raise DeviceError(
                f"{self._place} said {_brief(known)} with the {label} firmware, and says {_brief(said)} now"
            )
        for other, theirs in self._said.items():
            if other != label and theirs == said:
                raise DeviceError(
                    f"{self._place} says {_brief(said)} with the {label} firmware as with the {other} one: "
                    "the board did not switch, or went back"
                )
        self._said[label] = said  # not before: what another firmware says is not what this one is
        return redact(clip(said, _MOST_SAID))

    def _read(self, target: Target, label: str, timeout_s: float) -> str:
        try:
            answer = self._ask(target, "GET", self.path, timeout_s=timeout_s)
        except DeviceError as error:
            raise DeviceError(f"{self.path}, with the {label} firmware: {error}") from None
        if answer.status != 200:
            raise DeviceError(f"{self.path}, with the {label} firmware, answers {answer.status}")
        if not self.name:
            return answer.body.decode("utf-8", "replace").strip()
        try:
            facts = json.loads(answer.body)
        except ValueError:
            raise DeviceError(
                f"{self.path}, with the {label} firmware, answers no JSON with a field {self.name}: "
                f"{_brief(answer.body.decode('utf-8', 'replace').strip())}"
            ) from None
        found = named_value(facts, self.name) if isinstance(facts, dict) else None
        if found is None:
            raise DeviceError(
                f"{self.path}, with the {label} firmware, has no field {self.name}{_known_fields(facts)}"
            )
        return str(found)

    @property
    def _place(self) -> str:
        return f"{self.path}:{self.name}" if self.name else self.path


def _known_fields(facts: object) -> str:
    """Name the fields of an answer that lacks the one asked for."""
    names = ", ".join(map(str, facts)) if isinstance(facts, dict) else ""
    return f"; its fields: {clip(redact(names), _MOST_SAID)}" if names else ""


def _brief(said: str) -> str:
    return repr(redact(clip(said, 40)))


def _went_away(met: str) -> bool:
    """Whether a request reached the board, and the connection ended before the answer, as at a reboot."""
    return met.startswith(("RemoteProtocolError", "ReadError"))
