"""pytest-espperf: did this change make the board slower?

The public names are imported on first use, since every pytest run imports this package::

    from pytest_espperf import Verdict, judge, load_session

    verdict: Verdict = judge(load_session(new), [load_session(old) for old in paths])
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"
__all__ = ["Verdict", "__version__", "judge", "load_session"]

TYPE_CHECKING = False  # typing is not imported for it: that takes longer than the rest
if TYPE_CHECKING:
    from pytest_espperf.gate import judge
    from pytest_espperf.history import load_session
    from pytest_espperf.model.artifact import Verdict

_MODULES = {
    "Verdict": "pytest_espperf.model.artifact",
    "judge": "pytest_espperf.gate",
    "load_session": "pytest_espperf.history",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
