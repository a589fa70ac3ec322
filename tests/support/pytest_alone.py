"""pytest without the plugins that only happen to be installed.

To import those takes longer than all that a session of parts of a second does, and a test is to see the same
pytest on every machine.
"""

from __future__ import annotations

import importlib.util

WANTED = ("timeout", *(["xdist"] if importlib.util.find_spec("xdist") else []), "espperf")
"""By the names of their entry points, as the plugins ask for each other."""

ENVIRONMENT = {
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_ADDOPTS": " ".join(f"-p {name}" for name in (*WANTED, "support.unwatched")),
}
"""Of a pytest in a process of its own, whose load does not watch itself: see :mod:`support.unwatched`."""

INSIDE = ("-p", "no:unraisableexception")
"""Options of a pytest within another, which looks after such exceptions: to find them, each would collect the
garbage of both, several times over."""
