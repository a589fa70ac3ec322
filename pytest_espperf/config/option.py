"""One row of the option table. Imported by every pytest run: keep it light."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from pytest_espperf.config.parsers import bool_word

ENV_PREFIX = "ESPPERF_"


class Option(NamedTuple):
    """One row of the table.

    Attributes:
        dest: attribute of :class:`Settings`, also the ini key (``perf_runs``).
        default: the value where none is given.
        help: one line.
        parse: text -> value; raises ValueError with what is wrong.
        metavar: placeholder of the value in the help.
        kind: ``value``; ``flag`` (takes none); ``list`` (repeatable, values add up).
        separator: between the values of a ``list`` in one text; "" where one text is one value.
        original: flag of the original tool with the same meaning, "" if it has none.
        secret: its value is never kept or shown: only the name of a header, or a digest of a text.
        once: of a ``list``, whether it is an error to give a value twice; else it counts once.
    """

    dest: str
    default: Any
    help: str
    parse: Callable[[str], Any]
    metavar: str
    kind: Literal["value", "flag", "list"]
    separator: str
    original: str
    secret: bool
    once: bool

    @property
    def flag(self) -> str:
        """``--perf-runs``."""
        return "--" + self.dest.replace("_", "-")

    @property
    def env(self) -> str:
        """``ESPPERF_PERF_RUNS``."""
        return ENV_PREFIX + self.dest.upper()

    @property
    def group(self) -> str:
        """``device``, ``perf`` or ``sim``."""
        return self.dest.partition("_")[0]


def option(
    default: Any,
    help: str,  # noqa: A002 - argparse's word for it
    *,
    parse: Callable[[str], Any] = str,
    metavar: str = "",
    separator: str | None = None,
    original: str = "",
    secret: bool = False,
    once: bool = False,
) -> Any:
    """Make a row without its name; :data:`OPTIONS` gives it the name of its attribute."""
    kind: Literal["value", "flag", "list"] = "value" if separator is None else "list"
    if parse is bool_word:
        kind = "flag"
    return Option("", default, help, parse, metavar, kind, separator or "", original, secret, once)
