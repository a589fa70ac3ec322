"""The file of the index: trusted where its checksum is right, replaced whole, never written into.

It holds no truth: delete it at any time. It is a *snapshot*: a whole database file that is built in memory
and takes the old one's place in one rename, and that nobody ever writes into. So a reader sees a consistent
one whatever other processes do; the last of two writers wins, and what its snapshot lacks the next reader
adds; a crash leaves the old snapshot. A checksum of the file in its own header (``user_version``) finds
torn and damaged ones.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import sqlite3
import urllib.parse
import zlib
from pathlib import Path

from pytest_espperf.history import names
from pytest_espperf.model.artifact import SCHEMA_VERSION
from pytest_espperf.system import regular

FORMAT = f"4/{SCHEMA_VERSION}"
"""Layout of the index and the artifact schema it was read with; another one is rebuilt."""

MAX_BYTES = 512 * 1024 * 1024
"""Largest index that is trusted to be one."""

_SCHEMA = """
PRAGMA page_size = 16384;
CREATE TABLE about (format TEXT NOT NULL);
CREATE TABLE session (
    name TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER,
    stamp TEXT, number INTEGER, base_key TEXT, session_id TEXT,
    row BLOB, error TEXT, field TEXT, newer INTEGER
);
CREATE INDEX by_order ON session (stamp, number, name);
CREATE INDEX by_base ON session (base_key, stamp, number, name);
CREATE INDEX by_id ON session (session_id) WHERE row IS NOT NULL;
CREATE INDEX by_error ON session (name) WHERE row IS NULL;
CREATE TABLE detail (name TEXT PRIMARY KEY, detail BLOB);
CREATE TABLE mark (
    name TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER,
    kind TEXT, session TEXT, mark BLOB, error TEXT, field TEXT
);
"""
_CHECKSUM = slice(60, 64)
"""Where SQLite keeps ``user_version``."""


def make_tables(connection: sqlite3.Connection) -> None:
    """The empty tables of an index.

    Raises:
        sqlite3.Error: the database cannot hold them.
    """
    connection.executescript(_SCHEMA)
    connection.execute("INSERT INTO about VALUES (?)", (FORMAT,))


def open_snapshot(folder: Path) -> sqlite3.Connection | None:
    """The index as it lies there; None where there is none that can be trusted."""
    path = folder / names.INDEX
    try:
        data = regular.read_whole(path, MAX_BYTES)
    except (OSError, ValueError):
        return None
    if data[:15] != b"SQLite format 3" or _checksum(data) != int.from_bytes(data[_CHECKSUM], "big"):
        return None
    # Immutable: neither locks nor journals are looked for; whoever refreshes it puts a new file there.
    quoted = urllib.parse.quote(os.fsencode(path.absolute().as_posix()))
    slashes = "//" if quoted.startswith("/") else "///"
    connection = None
    try:
        connection = sqlite3.connect(f"file:{slashes}{quoted}?mode=ro&immutable=1", uri=True)
        # Its tables are ours before anything is asked of them: a view of that name may have no end.
        if _shape(connection) == _own_shape() and _says_format(connection):
            return connection
    except sqlite3.Error:
        pass
    if connection is not None:
        connection.close()
    return None


def _says_format(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT format FROM about").fetchone() == (FORMAT,))


def _shape(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()


@functools.lru_cache(maxsize=1)
def _own_shape() -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        make_tables(memory)
        return _shape(memory)


def write_snapshot(folder: Path, memory: sqlite3.Connection) -> None:
    """Put the rows into the folder for the next one; where that cannot be done, it is not needed."""
    temp = folder / f"{names.TEMP_PREFIX}{os.getpid()}-{secrets.token_hex(6)}{names.TEMP_SUFFIX}"
    if not regular.is_folder(folder):
        return
    with contextlib.suppress(sqlite3.Error, OSError):
        with contextlib.closing(sqlite3.connect(temp)) as target:
            target.execute("PRAGMA journal_mode = OFF")
            target.execute("PRAGMA synchronous = OFF")  # a torn file is found by its checksum
            memory.backup(target)
        with temp.open("r+b") as stream:
            checksum = _checksum(stream.read())
            stream.seek(_CHECKSUM.start)
            stream.write(checksum.to_bytes(4, "big"))
        temp.replace(folder / names.INDEX)
    with contextlib.suppress(OSError):
        temp.unlink()


def _checksum(data: bytes) -> int:
    """CRC-32 of a database file, the place where it is kept taken as zeros."""
    start = zlib.crc32(b"\0\0\0\0", zlib.crc32(data[: _CHECKSUM.start]))
    return zlib.crc32(memoryview(data)[_CHECKSUM.stop :], start)
