"""What a session leaves beside its artifact: a report, exports, JUnit properties, a GitHub job's page."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _pytest.junitxml import xml_key  # the one way to a JUnit log

from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import EspperfError
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import Finding, SessionArtifact, Verdict
from pytest_espperf.model.findings import NOT_SENT, NOT_WRITTEN
from pytest_espperf.model.text import inert, printable
from pytest_espperf.output import exports
from pytest_espperf.output.exports import Exported, ExportTarget, plan_exports
from pytest_espperf.output.files import parse_folder, parse_path
from pytest_espperf.output.reports import check_installed, link, write_report
from pytest_espperf.output.reports import write_overview as write_overview_page
from pytest_espperf.output.site import update_site
from pytest_espperf.plugin import embedded
from pytest_espperf.plugin.terminal import write_line
from pytest_espperf.report.boards import Ended
from pytest_espperf.report.exports import properties
from pytest_espperf.report.github import annotation_lines
from pytest_espperf.session.saving import SessionOutcome

TARGETS: pytest.StashKey[dict[str, list[ExportTarget]]] = pytest.StashKey()
REPORTS: pytest.StashKey[dict[str, Path]] = pytest.StashKey()
DONE: pytest.StashKey[dict[str, Exported]] = pytest.StashKey()
"""All by board."""

SITE: pytest.StashKey[Path] = pytest.StashKey()
"""Folder of the static site."""

OVERVIEW: pytest.StashKey[Path] = pytest.StashKey()
"""The report over several boards."""

OF_ALL = "report of all boards"
OF_SITE = "site"
NO_BOARD = ""
"""Under what :data:`DONE` has the outputs of a run over several boards, which are no single one's."""


def plan(config: pytest.Config, settings: Settings, boards: Sequence[str]) -> None:
    """Check, before anything is measured, that all of it can be had.

    Of several boards each has files of its own, ``report-NAME.html``; ``report.html`` is over all of them.

    Raises:
        UsageError: it cannot; names the option.
    """
    here = config.invocation_params.dir
    log = config.getoption("xmlpath", None)
    taken = {"--junitxml": here / log} if log else {}
    if (metrics := embedded.metric_path(config)) is not None:
        taken["--metric-path"] = metrics
    if settings.perf_report:
        source = settings.where("perf_report")
        check_installed(source)
        taken[source] = path = parse_path(settings.perf_report, here, source)
        config.stash[REPORTS] = {board: _of_board(path, board) for board in boards}
        if len(boards) > 1:
            config.stash[OVERVIEW] = path
    if settings.perf_site:
        source = settings.where("perf_site")
        check_installed(source)
        config.stash[SITE] = parse_folder(settings.perf_site, here, source)
    targets = plan_exports(settings, here, taken)
    config.stash[TARGETS] = {
        board: [replace(target, path=_of_board(target.path, board)) for target in targets] for board in boards
    }
    embedded.open_feed(config)


def _of_board(path: Path, board: str) -> Path:
    return path.with_name(f"{path.stem}-{board}{path.suffix}") if board else path


def write(config: pytest.Config, board: str, artifact: SessionArtifact, store: HistoryStore) -> None:
    """Write all of it; what cannot be written is kept for :func:`unsaved` and :func:`show`."""
    done = exports.export_session(artifact, config.stash[TARGETS][board])
    config.stash.setdefault(DONE, {})[board] = done
    report = config.stash.get(REPORTS, {}).get(board)
    if report is not None:
        try:
            write_report(artifact, store, report)
            done.written.append(("report", report))
        except EspperfError as error:
            done.errors.append(("report", str(error)))
    if (failed := exports.append_step_summary(artifact, os.environ)) != "":
        done.notes.append(failed)
    log = config.stash.get(xml_key, None)
    if log is not None:
        for name, value in properties(artifact):
            log.add_global_property(printable(f"{board}:{name}" if board else name), printable(value))


def write_overview(config: pytest.Config, outcomes: Mapping[str, SessionOutcome]) -> str:
    """Write the report over several boards, where one is wanted; "" or, in words, why that failed."""
    path = config.stash.get(OVERVIEW, None)
    if path is None or not outcomes:
        return ""
    done = config.stash.setdefault(DONE, {}).setdefault(NO_BOARD, Exported())
    try:
        write_overview_page(
            {board: _ended(config, board, outcome) for board, outcome in outcomes.items()}, path
        )
    except EspperfError as error:
        done.errors.append((OF_ALL, str(error)))
        return str(error)
    done.written.append((OF_ALL, path))
    return ""


def write_site(config: pytest.Config, store: HistoryStore) -> str:
    """Bring the static site up to date, where one is wanted; "" or, in words, why that failed."""
    folder = config.stash.get(SITE, None)
    if folder is None:
        return ""
    done = config.stash.setdefault(DONE, {}).setdefault(NO_BOARD, Exported())
    try:
        done.written.append((OF_SITE, update_site(folder, store)))
    except EspperfError as error:
        done.errors.append((OF_SITE, str(error)))
        return str(error)
    return ""


def _ended(config: pytest.Config, board: str, outcome: SessionOutcome) -> Ended:
    """Collect what the report over several boards shows of one."""
    page, done = config.stash[OVERVIEW], config.stash[DONE].get(board)
    report = next((path for name, path in done.written if name == "report"), None) if done else None
    summary = outcome.saved.markdown_path if outcome.saved is not None else None
    missing = unsaved(config, board, outcome)
    lost = [
        Finding(severity="fail", kind=NOT_WRITTEN, where=name, message=message) for name, message in missing
    ]
    if outcome.sent is not None and not outcome.sent.arrived:
        lost.append(Finding(severity="warn", kind=NOT_SENT, message=outcome.sent.text))
    return Ended(
        session=outcome.artifact,
        fails=outcome.fails or bool(missing),
        report=link(page, report) if report is not None else "",
        summary=summary.name if summary is not None else "",
        summary_link=link(page, summary) if summary is not None else "",
        folder=str(outcome.saved.json_path.parent) if outcome.saved is not None else "",
        lost=tuple(lost),
    )


def unsaved(config: pytest.Config, board: str, outcome: SessionOutcome) -> list[tuple[str, str]]:
    """Return what could not be written of a session, by name: the artifacts, the report, exports."""
    lost = [("artifacts", outcome.save_error)] if outcome.save_error else []
    done = config.stash.get(DONE, {}).get(board)
    return lost + [(f"export {name}", message) for name, message in (done.errors if done else [])]


def show(
    reporter: pytest.TerminalReporter, config: pytest.Config, board: str, outcome: SessionOutcome
) -> None:
    """Show the files beside the artifact; on GitHub, the annotations of the session."""
    _show_done(reporter, config, board)
    annotate(reporter, config, board, outcome)


def show_overview(reporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the report over several boards; on GitHub, an annotation where it could not be written."""
    done = _show_done(reporter, config, NO_BOARD)
    if done is not None and done.errors and _on_github():
        _annotate(reporter, annotation_lines(SessionArtifact(), done.errors))


def _show_done(reporter: pytest.TerminalReporter, config: pytest.Config, board: str) -> Exported | None:
    done = config.stash.get(DONE, {}).get(board)
    if done is not None:
        for name, path in done.written:
            write_line(reporter, f"exported {name}: {path}")
        for name, message in done.errors:
            write_line(reporter, f"NOT EXPORTED: {name}: {message}", red=True)
        for message in done.notes:
            write_line(reporter, f"WARNING: {message}", yellow=True)
    return done


def annotate(
    reporter: pytest.TerminalReporter, config: pytest.Config, board: str, outcome: SessionOutcome
) -> None:
    """Write the annotations of the session, on GitHub only."""
    if _on_github():
        _annotate(reporter, annotation_lines(outcome.artifact, unsaved(config, board, outcome), board))


def annotate_run(reporter: pytest.TerminalReporter, findings: Sequence[Finding]) -> None:
    """Write the annotations of what several boards have in common, on GitHub only."""
    if findings and _on_github():
        common = Verdict(kind="unchanged", findings=list(findings))
        _annotate(reporter, annotation_lines(SessionArtifact(gate=common)))


def _annotate(reporter: pytest.TerminalReporter, lines: Iterable[str]) -> None:
    """Write commands for GitHub's runner, whose texts are escaped."""
    for line in lines:
        reporter.write_line(line)


def plain_report(report: pytest.TestReport) -> None:
    """Make the text of a failure or a skip in a report plain: pytest prints it as it is."""
    report.longrepr = _plain(report.longrepr)


def _plain(value: Any) -> Any:
    """Texts of pytest's representations of exceptions, which are data classes that hold each other."""
    if isinstance(value, str):
        return inert(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            object.__setattr__(value, field.name, _plain(getattr(value, field.name)))  # frozen or not
    return value


def _on_github() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"
