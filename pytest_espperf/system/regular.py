"""Opening files that others may have put there: regular ones, and no links unless the user named the file.

A pipe would be waited for without end, a device has no end and may do something when it is opened, and a
link leads out of the folder. What is no regular file is never opened, in so far as that is known before;
what took its place meanwhile is closed unread.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

NO_FILE = "is not a regular file"
LINK = "is a link, which is not followed"

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe that took the file's place is not waited for
    | getattr(os, "O_NOCTTY", 0)
)
_NAME_SURROGATE = 0x20000000
"""Bit of a reparse tag (Windows) that stands for another name: a link, a junction."""


_GROWN_BYTES = 1 << 20


class NotRegularError(OSError):
    """What stands under a name is no regular file, or a link; ``strerror`` says which."""


class TooLargeError(OSError):
    """A file has more bytes than are read; ``strerror`` says how many."""


def is_link(status: os.stat_result) -> bool:
    """Whether a result of ``lstat`` is that of a link, or of a junction (Windows)."""
    if stat.S_ISLNK(status.st_mode):
        return True
    return bool(getattr(status, "st_reparse_tag", 0) & _NAME_SURROGATE)


def exists(path: str | os.PathLike[str]) -> bool:
    """Check whether something has that name, also a link; a name that no file can have is none."""
    return os.path.lexists(path)


def is_file(path: str | os.PathLike[str]) -> bool:
    """Check for a file, by a link or not; a name that no file can have is none."""
    return os.path.isfile(path)  # noqa: PTH113 - the one that raises nothing


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Check for a folder, by a link or not; a name that no file can have is none."""
    return os.path.isdir(path)  # noqa: PTH112 - the one that raises nothing


def read_whole(path: Path, limit: int, *, follow: bool = False) -> bytes:
    """Read a regular file of at most ``limit`` bytes.

    Args:
        path: the file.
        limit: bytes.
        follow: whether it may be a link to one: the user has named it.

    Raises:
        NotRegularError: it is none.
        TooLargeError: it has more bytes.
        OSError: it cannot be read.
        ValueError: no file can have that name.
    """
    handle, size = open_regular(path, follow=follow)
    with os.fdopen(handle, "rb", buffering=0) as stream:
        if size > limit:
            raise TooLargeError(0, f"is larger than {limit:,} bytes ({size:,})", str(path))
        # Not the limit at once: such a buffer is allocated whole, for every small file of a history.
        data = stream.read(size + 1)
        while len(data) <= limit and (more := stream.read(min(limit + 1 - len(data), _GROWN_BYTES))):
            data += more  # it grew meanwhile
    if len(data) > limit:
        raise TooLargeError(0, f"is larger than {limit:,} bytes", str(path))
    return data


def read_end(path: Path, limit: int) -> bytes:
    """Read the last ``limit`` bytes of a regular file.

    Raises:
        OSError: as :func:`read_whole`.
        ValueError: likewise.
    """
    handle, size = open_regular(path)
    with os.fdopen(handle, "rb") as stream:
        stream.seek(max(0, size - limit))
        return stream.read(limit)


def open_regular(path: Path, *, follow: bool = False) -> tuple[int, int]:
    """Open a regular file for reading; return the descriptor and the size.

    Raises:
        OSError: as :func:`read_whole`.
        ValueError: likewise.
    """
    _check(path.stat(follow_symlinks=follow), path)
    handle = os.open(path, _FLAGS | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    try:
        status = os.fstat(handle)
        _check(status, path)
    except BaseException:
        os.close(handle)
        raise
    return handle, status.st_size


def _check(status: os.stat_result, path: Path) -> None:
    if is_link(status):
        raise NotRegularError(0, LINK, str(path))
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError(0, NO_FILE, str(path))
