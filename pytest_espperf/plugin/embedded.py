"""pytest-embedded beside us: where it was given a ``--metric-path``, our medians go there, too.

They go through its own ``log_metric``, called past pytest: it is a fixture, and medians are known once no
test is left that could ask for it; in a controller of pytest-xdist there is none at all. Called, it clears
the file, so that is done as the session begins, and what it gives is kept until the end.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_espperf.plugin.items import embedded_plugin
from pytest_espperf.plugin.state import state_of
from pytest_espperf.plugin.terminal import write_line
from pytest_espperf.report.exports.openmetrics import families


@dataclass
class Feed:
    """The way into the file.

    Attributes:
        path: the file of ``--metric-path``.
        log: ``log(key, value, **labels)`` appends a line to it; None where it could not be had.
        failed: why nothing is written, or not all.
    """

    path: Path
    log: Callable[..., None] | None = None
    failed: str = ""


FEED: pytest.StashKey[Feed] = pytest.StashKey()


def metric_path(config: pytest.Config) -> Path | None:
    """Return the file of ``--metric-path``; None where pytest-embedded is not loaded, or writes none."""
    given = config.getoption("metric_path", None)
    return config.invocation_params.dir / given if given and embedded_plugin(config) is not None else None


def open_feed(config: pytest.Config) -> None:
    """Have ``log_metric`` clear the file, as it does at the beginning of a session, and keep it."""
    path = metric_path(config)
    if path is None:
        return
    feed = config.stash[FEED] = Feed(path)
    try:
        feed.log = inspect.unwrap(embedded_plugin(config).log_metric)(str(path))
    except Exception as error:  # noqa: BLE001 - a failure of another plugin is a warning, and fails no session
        feed.failed = _reason(error)


def write(config: pytest.Config) -> None:
    """Log what became of each session, once they are judged; nothing where no board was measured."""
    feed = config.stash.get(FEED, None)
    outcomes = state_of(config).outcomes
    if feed is None or feed.log is None or not outcomes:
        return
    # A reader wants the samples of one name side by side, whichever board they are of.
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for outcome in outcomes.values():
        for family in families(outcome.artifact, paths=False):
            samples.setdefault(family.name, []).extend(family.samples)
    try:
        for name, found in samples.items():
            for labels, value in found:
                feed.log(name, value, **labels)
    except Exception as error:  # noqa: BLE001 - see above
        feed.failed = _reason(error)


@contextmanager
def kept(config: pytest.Config) -> Iterator[None]:
    """Keep what tests have logged: confirmation runs set up ``log_metric`` anew, which clears the file."""
    feed = config.stash.get(FEED, None)
    if feed is None or feed.log is None:
        yield
        return
    before = _content(feed.path)
    try:
        yield
    finally:
        after = _content(feed.path)
        if not after.startswith(before):
            try:
                feed.path.write_bytes(before + after)
            except OSError as error:
                feed.failed = _reason(error)


def show(reporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show where the medians are, or why there are none."""
    feed = config.stash.get(FEED, None)
    if feed is None or not state_of(config).outcomes:
        return
    if feed.failed:
        write_line(
            reporter, f"WARNING: --metric-path: {feed.path} cannot be written: {feed.failed}", yellow=True
        )
    else:
        write_line(reporter, f"exported log_metric: {feed.path}")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
