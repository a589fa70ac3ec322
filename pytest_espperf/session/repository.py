"""The project's git repository: which commit is measured, and whether anything in it is uncommitted."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytest_espperf.system.git import GitError, complaint, git

NOT_KNOWN = "the commit could not be read"
_REFUSED = re.compile(r"(?:dubious ownership|unsafe repository)\D*?'([^']+)'")


@dataclass(frozen=True)
class Repository:
    """The state of a folder's repository, as git describes it.

    Attributes:
        commit: None where there is no repository, none yet, or it cannot be read.
        dirty: whether anything is uncommitted; None where that is not known.
        trouble: why something is not known that should be, in one sentence with what to do; else "".
    """

    commit: str | None = None
    dirty: bool | None = None
    trouble: str = ""


def describe_repository(root: Path, *, apart: Path | None = None) -> Repository:
    """Describe the repository that a folder is in, as far as git tells; empty where there is none.

    Args:
        root: the folder.
        apart: a folder of our own in it, which is not looked at.
    """
    try:
        head = git(root, "rev-parse", "--verify", "--quiet", "HEAD")
        if head.returncode != 0 and head.stderr.strip():
            return Repository(trouble=_why(head.stderr, root))
        commit = head.stdout.strip() or None
    except GitError as error:
        return Repository(trouble=f"{NOT_KNOWN}: {error}" if _has_git(root) else "")
    try:
        status = _status(root, apart)
    except GitError as error:
        return Repository(commit, trouble=f"whether anything is uncommitted is not known: {error}")
    if status.returncode == 0:
        return Repository(commit, dirty=bool(status.stdout.strip()))
    bare = "must be run in a work tree" in status.stderr
    return Repository(commit, trouble="" if bare else _why(status.stderr, root))


def _status(root: Path, apart: Path | None) -> subprocess.CompletedProcess[str]:
    words = ("status", "--porcelain", "--", ":/")
    if apart is not None and apart.is_relative_to(root):
        exclude = f":(exclude,literal){apart.relative_to(root).as_posix()}"
        status = git(root, *words, exclude)
        if status.returncode == 0:
            return status
    return git(root, *words)  # the folder may lie behind a link, which git refuses


def _why(stderr: str, root: Path) -> str:
    """Say why there is no answer, "" where the folder is in no repository."""
    refused = _REFUSED.search(stderr)
    if refused is not None:
        return (
            f"{NOT_KNOWN}: git refuses {refused[1]}, which belongs to another user (dubious ownership); "
            f"git config --global --add safe.directory {refused[1]}"
        )
    said = complaint(stderr)
    if "not a git repository" in said and not _has_git(root):
        return ""
    return f"{NOT_KNOWN}: git says {said or 'nothing'!r}"


def _has_git(root: Path) -> bool:
    """Whether a folder looks as if it were in a repository."""
    return any(os.path.lexists(folder / ".git") for folder in (root, *root.parents))
