"""What a session leaves beside its artifact: a report, exports, JUnit properties, a GitHub job's page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_espperf.errors import EspperfError
from pytest_espperf.options import Settings
from pytest_espperf.state import PerfState

if TYPE_CHECKING:
    # Only where a board is measured.
    from pytest_espperf.artifact import SessionArtifact
    from pytest_espperf.exporting import Exported, ExportTarget
    from pytest_espperf.history import HistoryStore

TARGETS: pytest.StashKey[list[ExportTarget]] = pytest.StashKey()
REPORT: pytest.StashKey[Path] = pytest.StashKey()
DONE: pytest.StashKey[Exported] = pytest.StashKey()


def plan(config: pytest.Config, settings: Settings) -> None:
    """Check, before anything is measured, that all of it can be had.

    Raises:
        UsageError: it cannot; names the option.
    """
    from pytest_espperf.exporting import parse_path, plan_exports  # noqa: PLC0415 - see above

    here = config.invocation_params.dir
    log = config.getoption("xmlpath", None)
    taken = {"--junitxml": here / log} if log else {}
    if settings.perf_report:
        from pytest_espperf.reporting import check_installed  # noqa: PLC0415 - see above

        source = settings.where("perf_report")
        check_installed(source)
        taken[source] = config.stash[REPORT] = parse_path(settings.perf_report, here, source)
    config.stash[TARGETS] = plan_exports(settings, here, taken)


def write(config: pytest.Config, artifact: SessionArtifact, store: HistoryStore) -> None:
    """Write all of it; what cannot be written is kept for :func:`unsaved` and :func:`show`."""
    from _pytest.junitxml import xml_key  # noqa: PLC0415 - only after a session; pytest has no public way

    from pytest_espperf import exporting  # noqa: PLC0415 - see above
    from pytest_espperf.report.exports import properties  # noqa: PLC0415 - see above

    done = config.stash[DONE] = exporting.export_session(artifact, config.stash.get(TARGETS, []))
    report = config.stash.get(REPORT, None)
    if report is not None:
        from pytest_espperf.reporting import write_report  # noqa: PLC0415 - plotly

        try:
            write_report(artifact, store, report)
            done.written.append(("report", report))
        except EspperfError as error:
            done.errors.append(("report", str(error)))
    if (failed := exporting.append_step_summary(artifact, os.environ)) != "":
        done.notes.append(failed)
    log = config.stash.get(xml_key, None)
    if log is not None:
        for name, value in properties(artifact):
            log.add_global_property(name, value)


def unsaved(state: PerfState) -> list[tuple[str, str]]:
    """What could not be written of a session, by name: the artifacts, the report, exports."""
    assert state.outcome is not None
    lost = [("artifacts", state.outcome.save_error)] if state.outcome.save_error else []
    done = state.config.stash.get(DONE, None)
    return lost + [(f"export {name}", message) for name, message in (done.errors if done else [])]


def show(reporter: pytest.TerminalReporter, state: PerfState) -> None:
    """The files beside the artifact; on GitHub, the annotations of the run."""
    done = state.config.stash.get(DONE, None)
    if done is not None:
        for name, path in done.written:
            reporter.write_line(f"exported {name}: {path}")
        for name, message in done.errors:
            reporter.write_line(f"NOT EXPORTED: {name}: {message}", red=True)
        for message in done.notes:
            reporter.write_line(f"WARNING: {message}", yellow=True)
    if _on_github():
        from pytest_espperf.report.github import annotation_lines  # noqa: PLC0415 - only there

        assert state.outcome is not None
        for line in annotation_lines(state.outcome.artifact, unsaved(state)):
            reporter.write_line(line)


def inert(text: str) -> str:
    """The text itself; in a GitHub job, with nothing in it that its runner would obey."""
    if not _on_github():
        return text
    from pytest_espperf.report import github  # noqa: PLC0415 - only there

    return github.inert(text)


def _on_github() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"
