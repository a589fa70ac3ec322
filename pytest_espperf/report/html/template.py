"""The pages' templates and filters: jinja2 escapes whatever a board, a user or a file sent."""

from __future__ import annotations

from typing import Any

import jinja2

from pytest_espperf.report.terminal import printable
from pytest_espperf.report.view import bound_text, signed_pct


def render(name: str, **given: Any) -> str:
    """A page, drawn from a template of the folder ``assets``."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pytest_espperf.report.html", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(pct=signed_pct, number=number, bound=bound_text, printable=printable)
    return environment.get_template(name).render(**given)


def number(value: float | None, digits: int = 2) -> str:
    """``1,234.50``; ``-`` where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"
