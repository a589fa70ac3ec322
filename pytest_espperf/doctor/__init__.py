"""``espperf doctor``: one page on a board, the link to it, and the machine that measures it.

``findings`` is data, ``judge_*`` and ``page`` are pure; ``talk`` and ``measures`` are what is done to the
board, ``machine`` what is looked up here, ``visit`` the order of it all.
"""

from __future__ import annotations

from pytest_espperf.doctor.findings import Check, Examination
from pytest_espperf.doctor.page import render_json, render_page
from pytest_espperf.doctor.visit import Effort, examine

__all__ = ["Check", "Effort", "Examination", "examine", "render_json", "render_page"]
