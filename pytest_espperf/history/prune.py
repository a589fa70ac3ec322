"""Choice of the sessions that can be removed from a history, a pure function of the rows, and their removal.

The newest sessions stay, those with a decision (accepted, pinned), that of ``latest.json``, and
whatever a later session would be judged against: of every comparability group each profile's newest sessions
that are history, as many as the gate is given, the drift guard's first ones among them, from the start of
the current epoch on. So a verdict is the same before and after. In doubt a session stays.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from pytest_espperf.errors import ArtifactError, HistoryError
from pytest_espperf.history import files, marks, names
from pytest_espperf.history.load import load_listed
from pytest_espperf.history.rows import SessionRow
from pytest_espperf.system import regular

_ProfileKey = tuple[str, str]


@dataclass
class PruneChoice:
    """Sessions that may go, oldest first, and why the others stay.

    Attributes:
        stay: file name -> ``newest``, ``latest``, ``accepted``, ``pinned``, ``baseline`` or ``young``.
    """

    go: list[SessionRow] = field(default_factory=list)
    stay: dict[str, str] = field(default_factory=dict)


def choose(
    rows: Sequence[SessionRow],
    *,
    keep: int,
    baseline: int,
    latest: str = "",
    young_from: str = "",
    young_to: str = "~",
) -> PruneChoice:
    """Choose the sessions of a whole history that may go.

    Args:
        rows: all of its sessions, oldest first.
        keep: so many of the newest stay.
        baseline: how many sessions of each profile a session is judged against at most.
        latest: id of the session in ``latest.json``.
        young_from: stamp (``20260131T235959Z``) from which on sessions are too young to go, "" for none.
        young_to: stamp up to which a session's date is believed.
    """
    newest = {row.name for row in rows[max(len(rows) - keep, 0) :]}
    needed = _needed(rows, baseline)
    choice = PruneChoice()
    for row in rows:
        reasons = (
            ("newest", row.name in newest),
            ("latest", bool(latest) and row.session_id == latest),
            ("accepted", row.accepted is not None),
            ("pinned", row.pinned),
            ("baseline", row.name in needed),
            ("young", bool(young_from) and young_from <= row.stamp <= young_to),
        )
        why = next((reason for reason, holds in reasons if holds), None)
        if why is None:
            choice.go.append(row)
        else:
            choice.stay[row.name] = why
    return choice


def _needed(rows: Sequence[SessionRow], baseline: int) -> set[str]:
    """Collect the sessions that a later one could be judged against or compared with."""
    newest_first = [row for row in reversed(rows) if row.completed]
    needed: set[str] = {row.name for row in newest_first[:1]}
    groups: dict[str, list[SessionRow]] = defaultdict(list)
    for row in newest_first:
        if row.base_key:
            groups[row.base_key].append(row)
    for group in groups.values():
        needed.add(group[0].name)
        needed |= _needed_of_group(group, baseline)
    return needed


def _needed_of_group(newest_first: Sequence[SessionRow], baseline: int) -> set[str]:
    """Collect the same of sessions that agree in all but their profiles.

    A profile with more sessions than the gate is given shows it another one for each that goes: then the
    epoch is no reason to let one go.
    """
    counts: Counter[_ProfileKey] = Counter()
    for row in newest_first:
        if row.in_history:
            counts.update(row.profiles.items())
    seen: Counter[_ProfileKey] = Counter()
    openers: list[set[_ProfileKey]] = []
    needed = set()
    for row in newest_first:
        keys = set(row.profiles.items())
        if not row.in_history:
            continue
        in_reach = any(seen[key] < baseline for key in keys)
        whole = all(counts[key] <= baseline for key in keys)
        before_epoch = whole and any(keys <= opener for opener in openers)
        if in_reach and not before_epoch:
            needed.add(row.name)
        if row.in_history:
            seen.update(keys)
        if row.opens_epoch:
            openers.append(keys)
    return needed


@dataclass(frozen=True)
class Leaving:
    """Session that is to go, with its files.

    Attributes:
        files: all that goes with it, its own file last.
        samples: the folder of its raw samples, None where it has none.
        size_bytes: of the files together.
    """

    row: SessionRow
    files: tuple[Path, ...]
    samples: Path | None
    size_bytes: int


def plan(folder: Path, choice: PruneChoice) -> list[Leaving]:
    """List what would go with the sessions of a choice, oldest first.

    Its copies go with a session: what is left of them would be the session. One with a file that is a link or
    is gone stays, and so does one with a decision beside it that does not count because it cannot be read.

    Args:
        folder: of the history.
        choice: made of all of its sessions.
    """
    found = (_files_of(folder, row) for row in choice.go)
    return [leaving for leaving in found if leaving is not None]


def remove(folder: Path, leaving: Leaving) -> bool:
    """Remove a session; its own file goes last, so that a session cut short in going is still one.

    Returns:
        False where it was decided about meanwhile, or where it cannot be read: nothing is removed.

    Raises:
        HistoryError: a file cannot be removed.
    """
    if _is_decided(folder, leaving.row) or not _is_readable(folder / leaving.row.name):
        return False
    *others, own = leaving.files
    for path in others:
        files.remove(path)
    if leaving.samples is not None:
        with contextlib.suppress(OSError):  # what else lies in it is not ours
            leaving.samples.rmdir()
    files.remove(own)
    return True


def _files_of(folder: Path, row: SessionRow) -> Leaving | None:
    """List the known files of a session, its copies before its own; None if one is a link or gone."""
    own = folder / row.name
    copies = [folder / name for name in row.copies]
    if any(_size(path) is None for path in (own, *copies)) or _is_decided(folder, row):
        return None
    beside: list[Path] = []
    for path in (*copies, own):
        beside += [path.with_suffix(".md"), path.with_suffix(".html")]
        beside += [folder / names.mark_name(kind, path.stem) for kind in marks.KINDS]
    beside += copies
    samples = None
    if row.session_id and row.session_id == names.clean_tag(row.session_id):
        beside.append(folder / f"serial_{row.session_id}.log")
        samples = folder / f"samples_{row.session_id}"
        if _is_folder(samples):
            beside += _samples_in(samples)
        else:
            samples = None
    sizes = {path: size for path in (*beside, own) if (size := _size(path)) is not None}
    return Leaving(row, tuple(sizes), samples, sum(sizes.values()))


def _is_readable(path: Path) -> bool:
    """Whether a file is a session through and through: what cannot be read is not ours to remove."""
    try:
        load_listed(path)
    except ArtifactError:
        return False
    return True


def _is_decided(folder: Path, row: SessionRow) -> bool:
    """Whether a decision about a session lies beside it; one that cannot be read was meant as one."""
    for name, kind in product((row.name, *row.copies), marks.KINDS):
        path = folder / names.mark_name(kind, name.removesuffix(".json"))
        try:
            if marks.read_mark(path).session_id == row.session_id:
                return True
        except ArtifactError:
            if regular.exists(path):
                return True
    return False


def _samples_in(folder: Path) -> list[Path]:
    try:
        listing = files.list_names(folder)
    except HistoryError:
        return []
    return sorted(folder / name for name in listing if name.endswith(".csv.gz") or names.is_temp_name(name))


def _size(path: Path) -> int | None:
    """Get the bytes of a regular file; None for anything else, a link included."""
    status = _status(path)
    return status.st_size if status is not None and stat.S_ISREG(status.st_mode) else None


def _is_folder(path: Path) -> bool:
    status = _status(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _status(path: Path) -> os.stat_result | None:
    """Get the status of ``path`` itself; None for nothing, a link or (on Windows) a junction."""
    try:
        status = path.lstat()
    except (OSError, ValueError):
        return None
    return None if regular.is_link(status) else status
