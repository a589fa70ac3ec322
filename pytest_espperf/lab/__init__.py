"""The boards of a labgrid environment file: one for each of its targets.

``places`` is what a session uses; ``asking`` starts labgrid's processes; ``__main__`` is such a one, and the
one module that imports labgrid.
"""

from __future__ import annotations

from pytest_espperf.lab.places import Lab, LabBoard, load_lab

__all__ = ["Lab", "LabBoard", "load_lab"]
