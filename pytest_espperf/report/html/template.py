"""The pages' templates and filters: whatever a board, a user or a file sent is printable and escaped."""

from __future__ import annotations

from typing import Any

import jinja2

from pytest_espperf.report.view import bound_text, signed_pct
from pytest_espperf.text import grouped, printable


def render(name: str, **given: Any) -> str:
    """A page, drawn from a template of the folder ``assets``."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pytest_espperf.report.html", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(pct=signed_pct, number=number, bound=bound_text)
    return environment.get_template(name).render(**given)


def _plain(value: Any) -> Any:
    """What an expression of a template shows; markup of ours is a ``Markup``, and no ``str`` itself."""
    return printable(value) if type(value) is str else value


def number(value: float | None, digits: int = 2) -> str:
    """``1,234.50``; ``-`` where there is none."""
    return "-" if value is None else grouped(value, digits)
