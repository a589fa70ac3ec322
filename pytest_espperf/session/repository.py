"""The project's git repository: which commit is measured, and whether anything in it is uncommitted."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from pytest_espperf.system import commands

TIMEOUT_S = 5.0
"""Longest wait for one answer of git."""

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


class _GitError(Exception):
    """An answer that git did not give."""


def describe_repository(root: Path, *, apart: Path | None = None) -> Repository:
    """Describe the repository that a folder is in, as far as git tells; empty where there is none.

    Args:
        root: the folder.
        apart: a folder of our own in it, which is not looked at.
    """
    try:
        head = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
        if head.returncode != 0 and head.stderr.strip():
            return Repository(trouble=_why(head.stderr, root))
        commit = head.stdout.strip() or None
    except _GitError as error:
        return Repository(trouble=f"{NOT_KNOWN}: {error}" if _has_git(root) else "")
    try:
        status = _status(root, apart)
    except _GitError as error:
        return Repository(commit, trouble=f"whether anything is uncommitted is not known: {error}")
    if status.returncode == 0:
        return Repository(commit, dirty=bool(status.stdout.strip()))
    bare = "must be run in a work tree" in status.stderr
    return Repository(commit, trouble="" if bare else _why(status.stderr, root))


def _status(root: Path, apart: Path | None) -> subprocess.CompletedProcess[str]:
    words = ("status", "--porcelain", "--", ":/")
    if apart is not None and apart.is_relative_to(root):
        exclude = f":(exclude,literal){apart.relative_to(root).as_posix()}"
        status = _git(root, *words, exclude)
        if status.returncode == 0:
            return status
    return _git(root, *words)  # the folder may lie behind a link, which git refuses


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git, and return what it answers.

    Raises:
        _GitError: it cannot be started, or does not answer in time.
    """
    # No file system monitor: it would be started, and stay.
    words = ["git", "-c", "core.fsmonitor=false", "-C", str(root), *arguments]
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        with TemporaryFile() as complaints:
            done = commands.run(words, TIMEOUT_S, stderr=complaints, environment=environment)
            complaints.seek(0)
            stderr = complaints.read(commands.KEPT_BYTES).decode("utf-8", "replace")
        return subprocess.CompletedProcess(words, done.code, done.output.decode("utf-8", "replace"), stderr)
    except FileNotFoundError:
        raise _GitError("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise _GitError(f"git did not answer within {TIMEOUT_S:g} s") from None
    except OSError as error:
        raise _GitError(f"git cannot be started ({error.strerror or error})") from None


def _why(stderr: str, root: Path) -> str:
    """Say why there is no answer, "" where the folder is in no repository."""
    refused = _REFUSED.search(stderr)
    if refused is not None:
        return (
            f"{NOT_KNOWN}: git refuses {refused[1]}, which belongs to another user (dubious ownership); "
            f"git config --global --add safe.directory {refused[1]}"
        )
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    line = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[0] if lines else "")
    if "not a git repository" in line and not _has_git(root):
        return ""
    return f"{NOT_KNOWN}: git says {line.partition(': ')[2] or line or 'nothing'!r}"


def _has_git(root: Path) -> bool:
    """Whether a folder looks as if it were in a repository."""
    return any(os.path.lexists(folder / ".git") for folder in (root, *root.parents))
