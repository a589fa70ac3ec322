"""``espperf import``: sessions of another history."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_espperf.cli.common import add_command, say, say_aside
from pytest_espperf.cli.history import history_of, share
from pytest_espperf.cli.json_lines import print_json
from pytest_espperf.errors import ArtifactError, HistoryError
from pytest_espperf.history import names
from pytest_espperf.history.adopt import Adopted, Adoption, session_files
from pytest_espperf.history.shared.sharing import sharing_at
from pytest_espperf.system import regular


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    adopt = add_command(
        commands,
        "import",
        _import,
        "bring sessions of another history here: files as they are, the original tool's too, with their "
        "summaries and the decisions beside them (accepted, pinned). Each keeps its time and tag; none "
        "becomes the latest; those that are here already are skipped. Raw samples, console logs and reports "
        "stay where they are. Exit code 1 where a file could not be read.",
        history=True,
    )
    adopt.add_argument(
        "files",
        nargs="+",
        metavar="FILE|DIR",
        help="a session, a history folder, or the URL of a shared history",
    )
    adopt.add_argument("--dry-run", action="store_true", help="only print what would be done")
    adopt.add_argument(
        "--json",
        action="store_true",
        help="one JSON object a line and file: file, outcome (imported, present or failed), session_id, "
        "name (of its file here), decisions, error",
    )


def _import(arguments: argparse.Namespace) -> int:
    sharing = history_of(arguments)
    sharing.pull(say_aside, quiet=True)  # what is there already is not imported once more
    store = sharing.store
    if not arguments.dry_run:
        sharing.prepare()
    adoption = Adoption(store, dry_run=arguments.dry_run)
    failed = False
    for path, problem in _session_files(arguments.files):
        outcome: Adopted | Exception
        try:
            outcome = problem or adoption.adopt(path, named=str(path) in arguments.files)
        except ArtifactError as error:
            outcome = error
        failed = failed or isinstance(outcome, Exception)
        _print_outcome(arguments, path, outcome)
    if not arguments.dry_run:
        share(arguments)
    return int(failed)


def _session_files(given: list[str]) -> Iterator[tuple[Path, Exception | None]]:
    """Yield the files that are meant (of a folder or shared history its sessions), or what is wrong.

    Single files come in the order of the history, as those of a folder do.
    """
    for text in sorted(given, key=lambda text: names.sort_key(Path(text).name)):
        source = sharing_at(text, Path(), "FILE|DIR")
        path = source.folder
        try:
            source.pull(say_aside, quiet=True)
            found = session_files(path) if regular.is_folder(path) else [path]
        except (HistoryError, OSError) as error:
            yield path, error
            continue
        if not found:
            yield path, HistoryError(f"{path}: there is no session in it (perf_<time>_<tag>.json)")
        yield from ((file, None) for file in found)


def _print_outcome(arguments: argparse.Namespace, path: Path, outcome: Adopted | Exception) -> None:
    if isinstance(outcome, Exception):
        say_aside(f"not imported: {outcome}")
        if arguments.json:
            print_json({"file": str(path), "outcome": "failed", "error": str(outcome)})
        return
    for error in outcome.refused:
        say_aside(f"decision not imported: {error}")
    if arguments.json:
        print_json(
            {
                "file": str(path),
                "outcome": "imported" if outcome.is_new else "present",
                "session_id": outcome.session_id,
                "name": outcome.name,
                "decisions": outcome.decisions,
            }
        )
    elif not outcome.is_new:
        say(f"skipped {path}: {outcome.session_id} is here already, as {outcome.name}")
    else:
        along = f" ({' and '.join(outcome.decisions)} along)" if outcome.decisions else ""
        say(f"{'would import' if arguments.dry_run else 'imported'} {path} as {outcome.name}{along}")
