"""Storage of a shared history behind fsspec: an object store, or an SFTP server."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pytest_espperf.errors import RemoteError
from pytest_espperf.history import names
from pytest_espperf.history.shared.address import HistoryUrl
from pytest_espperf.history.shared.remote_errors import lacks_bucket
from pytest_espperf.history.shared.storage import Contents, Listed, side_by_side

CONNECT_S, READ_S = 5, 20
"""Time limits of a connection and of one answer, where the package has such options."""

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": CONNECT_S,
            "read_timeout": READ_S,
            "retries": {"total_max_attempts": 2},
        },
        # More would ask for the size of each object before its content: two requests in place of one.
        "max_concurrency": 1,
    },
    # sshfs trusts any server by default; () makes it check ~/.ssh/known_hosts.
    "sftp": {"known_hosts": (), "connect_timeout": CONNECT_S, "login_timeout": READ_S},
}
_DIGESTS = ("ETag", "etag", "md5Hash")
_MOMENTS = ("mtime", "LastModified", "last_modified", "updated", "created")
_TALKATIVE = ("adlfs", "azure", "gcsfs", "google", "s3fs")


class FsspecStorage:
    """Storage behind fsspec.

    Raises:
        RemoteError: it cannot be used: no credentials, no such bucket. From it and the methods, moreover,
            any exception.
    """

    def __init__(self, url: HistoryUrl) -> None:
        from fsspec.config import conf  # noqa: PLC0415 - an extra
        from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra

        for name in _TALKATIVE:
            # Without a handler their log, tracebacks of retried requests, goes to the terminal.
            logging.getLogger(name).addHandler(_SILENT_HANDLER)
        self._scheme = url.scheme
        options = dict(_OPTIONS.get(url.scheme.name, {}))
        for name, value in conf.get(url.scheme.name, {}).items():
            # The user's configuration has priority; within a set of options, those that it has.
            known = options.get(name)
            options[name] = (
                {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value
            )
        self._fs: Any
        self._fs, root = url_to_fs(url.text, skip_instance_cache=True, **options)
        self._root = root.rstrip("/")
        if (prepare := _PREPARE.get(url.scheme.name)) is not None:
            prepare(self._fs)

    def listing(self, folder: str) -> Mapping[str, Listed]:
        """List the objects in a folder; empty where there is no folder yet."""
        self._fs.invalidate_cache()
        try:
            infos = self._fs.ls(f"{self._root}/{folder}", detail=True)
        except FileNotFoundError as error:
            if not self._scheme.moves:
                self._check_bucket(error)
            return {}
        listed = {}
        for info in infos:
            path, _, name = info["name"].rstrip("/").rpartition("/")
            # adlfs also lists folders whose names begin with this one's.
            if info.get("type") == "file" and path.rpartition("/")[2] == folder:
                listed[name] = _listed(info)
        return listed

    def read(self, folder: str, wanted: Sequence[str]) -> Contents:
        """Read the contents of objects."""
        paths = [f"{self._root}/{folder}/{name}" for name in wanted]
        found = self._fs.cat(paths, on_error="return") if paths else {}
        return {path.rpartition("/")[2]: data for path, data in found.items()}

    def write(self, folder: str, objects: Mapping[str, bytes]) -> None:
        """Write objects, each of them atomically."""
        target = f"{self._root}/{folder}"
        if not self._scheme.moves:
            self._fs.pipe({f"{target}/{name}": data for name, data in objects.items()})
            return

        def write(name: str) -> None:
            own = f"{target}/{names.TEMP_PREFIX}{secrets.token_hex(6)}{names.TEMP_SUFFIX}"
            self._fs.pipe_file(own, objects[name])
            self._fs.mv(own, f"{target}/{name}")

        self._fs.makedirs(target, exist_ok=True)
        side_by_side(write, list(objects))

    def _check_bucket(self, error: Exception) -> None:
        """Distinguish a missing folder, which the first object in it creates, from a missing bucket.

        Raises:
            RemoteError: the bucket is missing.
        """
        bucket = self._root.partition("/")[0]
        missing = lacks_bucket(error)
        if self._scheme.name == "gs":
            # Its answer is the same for both; an existing bucket can be listed.
            try:
                self._fs.ls(bucket, max_results=1)
            except FileNotFoundError:
                missing = True
            except Exception:  # noqa: BLE001 - only the prefix may be listed: so the bucket exists
                missing = False
        if missing:
            word = "container" if self._scheme.name == "az" else "bucket"
            raise RemoteError(f"there is no {word} {bucket}: create it once, or correct the URL") from error


_SILENT_HANDLER = logging.NullHandler()


def _listed(info: Mapping[str, Any]) -> Listed:
    """Convert the description of a file: each file system has other names for its parts."""
    digest = next((str(info[name]) for name in _DIGESTS if info.get(name)), "")
    moment = next((info[name] for name in _MOMENTS if info.get(name)), 0.0)
    if isinstance(moment, str):
        with contextlib.suppress(ValueError):
            moment = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    if isinstance(moment, datetime):
        moment = moment.timestamp()
    written = float(moment) if isinstance(moment, (int, float)) else 0.0
    return Listed(int(info.get("size") or 0), digest or (str(written) if written else ""), written)


def _prepare_azure(fs: Any) -> None:
    """Shorten the retries: by default the package waits more than 15 s before each of three."""
    with contextlib.suppress(AttributeError):  # of another release: only slower
        policy = fs.service_client._config.retry_policy  # noqa: SLF001 - adlfs has no option for it
        policy.total_retries, policy.initial_backoff = 1, 0.5
        policy.increment_base = policy.random_jitter_range = 0


def _prepare_google(fs: Any) -> None:
    """Check the credentials: without any, gcsfs goes on anonymously and retries a refusal for 30 s.

    Raises:
        Exception: there are no credentials, or they are refused.
    """
    own = fs.credentials
    emulated = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
    if own.credentials is None and own.token is None and not emulated:
        if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            from google import auth  # noqa: PLC0415 - comes with gcsfs

            auth.default()  # raises what is wrong with that file
        raise PermissionError("no credentials were found")
    own.maybe_refresh()


_PREPARE: Mapping[str, Callable[[Any], None]] = {"az": _prepare_azure, "gs": _prepare_google}
