"""The boards of a labgrid environment file: one for each of its targets.

``places`` is what a session uses; ``__main__`` is the one module that imports labgrid, run as a process of
its own for each question.
"""

from __future__ import annotations

from pytest_espperf.lab.places import Lab, LabBoard, load_lab

__all__ = ["Lab", "LabBoard", "load_lab"]
