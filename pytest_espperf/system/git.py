"""Asking git: bounded in time and memory, in plain English, without starting anything that stays."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryFile

from pytest_espperf.system import commands

TIMEOUT_S = 5.0
"""Longest wait for one answer of git."""

_PLACES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
)


class GitError(Exception):
    """An answer that git did not give."""


def environment_elsewhere() -> dict[str, str]:
    """Return this process's variables without those that name a repository, as git sets them for a hook."""
    return {name: value for name, value in os.environ.items() if name not in _PLACES}


def git(
    root: Path,
    *arguments: str,
    timeout_s: float | None = None,
    keep: int = commands.KEPT_BYTES,
    elsewhere: bool = False,
    stdin: bytes = b"",
) -> subprocess.CompletedProcess[str]:
    """Run git, and return what it answers.

    Args:
        root: the folder that it works in.
        arguments: its words.
        timeout_s: seconds that it may take; by default :data:`TIMEOUT_S`.
        keep: bytes of the answer that are kept: its end.
        elsewhere: whether the folder alone says which repository it is, whatever the environment names.
        stdin: what it may read.

    Raises:
        GitError: it cannot be started, or does not answer in time.
    """
    # No file system monitor: it would be started, and stay.
    within_s = TIMEOUT_S if timeout_s is None else timeout_s
    words = ["git", "-c", "core.fsmonitor=false", "-C", str(root), *arguments]
    variables = environment_elsewhere() if elsewhere else dict(os.environ)
    environment = {**variables, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        with TemporaryFile() as complaints, TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            done = commands.run(
                words, within_s, keep=keep, stderr=complaints, environment=environment, stdin=given
            )
            complaints.seek(0)
            stderr = complaints.read(commands.KEPT_BYTES).decode("utf-8", "replace")
        return subprocess.CompletedProcess(words, done.code, done.output.decode("utf-8", "replace"), stderr)
    except FileNotFoundError:
        raise GitError("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"git did not answer within {within_s:g} s") from None
    except OSError as error:
        raise GitError(f"git cannot be started ({error.strerror or error})") from None


def complaint(stderr: str) -> str:
    """Return the line of git's complaints that says what is wrong, without its prefix; "" for none."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    line = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[0] if lines else "")
    return line.partition(": ")[2] or line
