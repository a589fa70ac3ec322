"""What an examination finds: data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pytest_espperf.system.redaction import REDACTED

Status = Literal["ok", "note", "warn", "fail"]
Area = Literal["board", "link", "limits", "noise", "machine"]

STATUSES: tuple[Status, ...] = ("ok", "note", "warn", "fail")
"""From the mildest to the worst."""

AREAS: tuple[Area, ...] = ("board", "link", "limits", "noise", "machine")
"""In the order of the page."""

LEAST_SECRET = 4
"""Characters of a header's value from which on it is looked for in what is shown."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        area: the part of the page it belongs to.
        name: of the check, short.
        status: ``ok``; ``note`` (worth knowing); ``warn`` (spoils measurements); ``fail`` (prevents them).
        figure: what was found, with its unit.
        advice: where the status is not ``ok``, one sentence of what to do.
        values: the numbers behind the figure, as JSON; units stand in the names.
    """

    area: Area
    name: str
    status: Status
    figure: str
    advice: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Examination:
    """All of it.

    Attributes:
        host: the board as it was asked for.
        timestamp_utc: when it began.
        options: the options that were given and have a part in it, secrets redacted.
        interrupted: whether it was ended early.
    """

    host: str
    timestamp_utc: str
    checks: tuple[Check, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def status(self) -> Status:
        """The worst of all checks."""
        return max((check.status for check in self.checks), key=STATUSES.index, default="ok")

    def count(self, status: Status) -> int:
        """How many checks have that status."""
        return sum(check.status == status for check in self.checks)


def without_secrets(check: Check, secrets: Sequence[str]) -> Check:
    """Remove values of headers from a check, should a board or an error message have repeated one."""

    def hidden(value: Any) -> Any:
        if isinstance(value, str):
            for secret in secrets:
                value = value.replace(secret, REDACTED) if len(secret) >= LEAST_SECRET else value
        elif isinstance(value, Mapping):
            return {name: hidden(one) for name, one in value.items()}
        elif isinstance(value, (list, tuple)):
            return [hidden(one) for one in value]
        return value

    return replace(
        check, figure=hidden(check.figure), advice=hidden(check.advice), values=hidden(check.values)
    )
