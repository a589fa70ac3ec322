"""Exports of a session: those that ``--perf-export`` and ``espperf export`` name, rendered and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import UsageError
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.text import nearest
from pytest_espperf.output.files import file_identity, parse_path, write_file
from pytest_espperf.report.exports import EXPORTS, Renderer
from pytest_espperf.report.github import step_summary


@dataclass(frozen=True)
class ExportTarget:
    """Export format and its file; a format of two files makes two names of ``path``."""

    format: str
    path: Path

    def files(self) -> list[tuple[Path, Renderer]]:
        """List each file with its renderer."""
        return [
            (self.path.with_name(f"{self.path.stem}{behind}{self.path.suffix}"), renderer)
            for behind, renderer in EXPORTS[self.format].renderers.items()
        ]


@dataclass
class Exported:
    """Results of a session's exports.

    Attributes:
        written: format and file.
        errors: format, and why a file of it is missing.
        notes: what else could not be written, as the summary of a CI job.
    """

    written: list[tuple[str, Path]] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_format(name: str, source: str) -> str:
    """Check the name of a format.

    Raises:
        UsageError: it is none; names the known ones and the nearest.
    """
    if name not in EXPORTS:
        raise UsageError(
            f"{source}: {name!r} is no format{nearest(name, EXPORTS)} (known: {', '.join(EXPORTS)})"
        )
    return name


def parse_target(text: str, here: Path, source: str) -> ExportTarget:
    """Parse ``FORMAT=PATH``, split at the first ``=``.

    Args:
        text: the value of the option.
        here: what a relative PATH is relative to.
        source: where the text came from, for messages.

    Raises:
        UsageError: an unknown format, no PATH, or one that no file can have.
    """
    name, _, given = text.partition("=")
    check_format(name.strip(), source)
    if not given.strip():
        raise UsageError(f"{source}: {name.strip()} has no path: write {name.strip()}=PATH")
    return ExportTarget(name.strip(), parse_path(given.strip(), here, source))


def plan_exports(
    settings: Settings, here: Path, taken: Mapping[str, Path] | None = None
) -> list[ExportTarget]:
    """Parse the exports that the options ask for.

    Args:
        settings: the options in force.
        here: what a relative PATH is relative to.
        taken: files that will be written by other options, by their name in a message.

    Raises:
        UsageError: see :func:`parse_target`; or two of them would write the same file.
    """
    source = settings.where("perf_export")
    targets = [parse_target(text, here, source) for text in settings.perf_export]
    owners = {file_identity(path): name for name, path in (taken or {}).items()}
    for target in targets:
        for path, _ in target.files():
            identity = file_identity(path)
            if identity in owners:
                raise UsageError(f"{source}: {owners[identity]} and {target.format} would both write {path}")
            owners[identity] = target.format
    return targets


def export_session(session: SessionArtifact, targets: list[ExportTarget]) -> Exported:
    """Render and write each export; failures are in the result, never raised."""
    done = Exported()
    for target in targets:
        try:
            done.written += [(target.format, path) for path in write_target(session, target)]
        except UsageError as error:
            done.errors.append((target.format, str(error)))
    return done


def write_target(session: SessionArtifact, target: ExportTarget) -> list[Path]:
    """Render and write one export; returns its files.

    Raises:
        UsageError: a file cannot be written, which is named with the reason.
    """
    for path, renderer in target.files():
        write_file(path, renderer(session).encode("utf-8", "replace"))
    return [path for path, _ in target.files()]


def append_step_summary(session: SessionArtifact, environment: Mapping[str, str]) -> str:
    """Append the report to the summary of a GitHub job, where there is one.

    Returns:
        "" or why that failed.
    """
    name = environment.get("GITHUB_STEP_SUMMARY")
    if not name:
        return ""
    try:
        path = Path(name)
        used = path.stat().st_size if path.exists() else 0
        with path.open("ab") as file:
            file.write(step_summary(session, used).encode("utf-8", "replace"))
    except (OSError, ValueError) as error:
        return f"the job's summary {name} cannot be written: {getattr(error, 'strerror', None) or error}"
    return ""


def only_renderer(name: str, source: str) -> Renderer:
    """Find the renderer of a format of a single file.

    Raises:
        UsageError: an unknown format, or one of several files.
    """
    renderers = list(EXPORTS[check_format(name, source)].renderers.values())
    if len(renderers) > 1:
        raise UsageError(f"{source}: {name} makes {len(renderers)} files: write {name}=PATH")
    return renderers[0]
