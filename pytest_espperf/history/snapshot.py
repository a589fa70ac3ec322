"""The file of the index: a checksum, then one entry for each file of the history, as msgpack.

It can be rebuilt from the sessions: delete it at any time. It is a *snapshot*: it replaces the old one in one
rename and is never written into. So a reader sees a consistent one whatever other processes do; the last of
two writers wins, and the next reader adds what its snapshot lacks; a crash leaves the old snapshot. It is not
synced: the checksum finds torn and damaged ones, which are rebuilt.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import zlib
from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path

import msgspec

from pytest_espperf.history import names
from pytest_espperf.model.artifact import SCHEMA_VERSION
from pytest_espperf.system import regular

FORMAT = f"9/{SCHEMA_VERSION}"
"""Layout of the index and the artifact schema it was read with; another one is rebuilt.

1 to 4 were databases of SQLite (:data:`pytest_espperf.history.names.OLD_INDEX`).
"""

MAX_BYTES = 512 * 1024 * 1024
"""Largest index that is trusted to be one."""

_CHECKSUM_BYTES = 4

FileState = tuple[str, int, int, int]
"""A file's name, size in bytes, modification time in ns, and inode: equal ones hold the same content."""


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Content of one file of the folder: a session, a decision, or why it is neither.

    Rows and details are kept encoded: few of them are needed to choose a baseline.

    Attributes:
        file: the file as it was when it was read.
        stamp, number: of a session, its place in the history.
        session_id, base_key: of a session, as in its row.
        row: of a session, a :class:`SessionRow` without details and later decisions.
        details: of a session, see :func:`pytest_espperf.history.index.with_details`.
        mark: of a decision, a :class:`pytest_espperf.history.marks.Mark`.
        error: why the file cannot be used; None where it can.
        field: where the error is, "" for the file as a whole.
        newer: whether a later version of this package wrote the file.
    """

    file: FileState
    stamp: str = ""
    number: int = 0
    session_id: str = ""
    base_key: str = ""
    row: bytes = b""
    details: bytes = b""
    mark: bytes = b""
    error: str | None = None
    field: str = ""
    newer: bool = False

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.file[0]


class _Snapshot(msgspec.Struct, array_like=True):
    format: str
    entries: list[Entry]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Snapshot).decode


def read_snapshot(folder: Path) -> list[Entry]:
    """Read the index of a folder; empty where there is none, or none that can be trusted."""
    try:
        data = memoryview(regular.read_whole(folder / names.INDEX, MAX_BYTES))
        checksum, content = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
        if checksum != _checksum(content):
            return []
        snapshot = _decode(content)
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError, MemoryError):
        return []
    return snapshot.entries if snapshot.format == FORMAT else []


def write_snapshot(folder: Path, entries: Iterable[Entry]) -> None:
    """Write the entries for the next reader; where that fails, the files are only read again."""
    if not regular.is_folder(folder):
        return
    # By name, which is nearly the order of the history: so readers sort them in a fraction of the time.
    content = _encode(_Snapshot(FORMAT, sorted(entries, key=attrgetter("file"))))
    temp = folder / f"{names.TEMP_PREFIX}{os.getpid()}-{secrets.token_hex(6)}{names.TEMP_SUFFIX}"
    with contextlib.suppress(OSError):
        with temp.open("xb") as stream:
            stream.write(_checksum(content))
            stream.write(content)
        temp.replace(folder / names.INDEX)
        (folder / names.OLD_INDEX).unlink()
    with contextlib.suppress(OSError):
        temp.unlink()


def _checksum(content: bytes | memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "big")
