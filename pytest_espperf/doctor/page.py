"""One page of text, 80 columns wide, or JSON. Pure."""

from __future__ import annotations

import json
from typing import Any

from pytest_espperf.doctor.findings import AREAS, Area, Check, Examination, Status
from pytest_espperf.model.text import json_printable
from pytest_espperf.report.layout import wrapped

_TITLES: dict[Area, str] = {
    "board": "the board",
    "link": "the link to it",
    "limits": "its limits",
    "noise": "a short load on one path",
    "machine": "this machine",
}
_COUNTED: tuple[tuple[Status, str, str], ...] = (
    ("fail", "failure", "failures"),
    ("warn", "warning", "warnings"),
    ("note", "note", "notes"),
)
_NAME = 15
_INDENT = 2 + 6 + _NAME


def render_page(found: Examination) -> str:
    """Render the page; control characters that a board sent are escaped."""
    lines = [*_wrapped(f"espperf doctor {found.host}"), f"{found.timestamp_utc}  {_verdict(found)}"]
    if found.options:
        given = ", ".join(f"{name}={_shown(value)}" for name, value in found.options.items())
        lines += _wrapped(f"options: {given}", 2)
    for area in AREAS:
        checks = [check for check in found.checks if check.area == area]
        if checks:
            lines += ["", _TITLES[area]]
            lines += [line for check in checks for line in _check(check)]
    lines.append("")
    lines += _wrapped(
        "So short a load does not show what a session detects here; this measures it: "
        f"espperf calibrate {found.host}",
    )
    return "\n".join(lines) + "\n"


def render_json(found: Examination) -> str:
    """Render the page as one JSON object, ASCII alone; units stand in the names."""
    document = json.dumps(
        {
            "host": found.host,
            "timestamp_utc": found.timestamp_utc,
            "status": found.status,
            "interrupted": found.interrupted,
            "options": dict(found.options),
            "checks": [
                {
                    "area": check.area,
                    "name": check.name,
                    "status": check.status,
                    "figure": check.figure,
                    "advice": check.advice,
                    "values": dict(check.values),
                }
                for check in found.checks
            ],
        },
        indent=2,
    )
    return json_printable(document)


def _verdict(found: Examination) -> str:
    """``WARN: 2 warnings, 1 note``: what is counted is what is there so far."""
    counted = [
        f"{number} {word if number == 1 else plural}"
        for status, word, plural in _COUNTED
        if (number := found.count(status))
    ]
    if found.interrupted:
        return f"INTERRUPTED: {', '.join(counted) or 'nothing to do'} so far"
    word = found.status if found.status in {"fail", "warn"} else "ok"
    return f"{word.upper()}: {', '.join(counted) or 'nothing to do'}"


def _check(check: Check) -> list[str]:
    head = f"  {check.status:<6}{check.name:<{_NAME}}"
    lines = _wrapped(check.figure, _INDENT)
    lines[0] = head + lines[0][len(head) :]
    if check.advice:
        lines += _wrapped(f"-> {check.advice}", _INDENT, hanging=3)
    return lines


def _wrapped(text: str, indent: int = 0, hanging: int = 0) -> list[str]:
    """Break a text into lines, a board's words too; a line of blanks for an empty one."""
    lines = wrapped(text, indent=indent, hanging=hanging, break_words=True)
    return lines or [" " * indent]


def _shown(value: Any) -> str:
    return ", ".join(str(one) for one in value) if isinstance(value, list) else str(value)
