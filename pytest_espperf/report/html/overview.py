"""The page over all boards of a run: small, without charts; each board's own report is linked."""

from __future__ import annotations

from pytest_espperf.report.boards import Overview
from pytest_espperf.report.html.template import render
from pytest_espperf.report.view import finding_text


def render_overview(overview: Overview) -> str:
    """The page as one HTML document that asks for nothing and runs nothing."""
    return render("boards.html.jinja", overview=overview, text=finding_text)
