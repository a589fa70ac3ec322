"""Pure renderers of one view of a session: terminal and Markdown."""

from pytest_espperf.report.layout import Line
from pytest_espperf.report.markdown import render_markdown
from pytest_espperf.report.terminal import render_terminal
from pytest_espperf.report.view import View, make_view

__all__ = ["Line", "View", "make_view", "render_markdown", "render_terminal"]
