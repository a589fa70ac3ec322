"""A place of a shared history that fsspec speaks with: a service for objects, or a server of SFTP."""

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
from pytest_espperf.history.shared.place import Contents, Listed
from pytest_espperf.history.shared.refusals import lacks_bucket
from pytest_espperf.history.shared.side_by_side import side_by_side

CONNECT_S, READ_S = 5, 20
"""What a connection and one answer may take, where the package lets us say so."""

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
    # sshfs trusts any server unless it is told to look into ~/.ssh/known_hosts, which () means.
    "sftp": {"known_hosts": (), "connect_timeout": CONNECT_S, "login_timeout": READ_S},
}
_DIGESTS = ("ETag", "etag", "md5Hash")
_MOMENTS = ("mtime", "LastModified", "last_modified", "updated", "created")
_TALKATIVE = ("adlfs", "azure", "gcsfs", "google", "s3fs")


class Service:
    """Whatever fsspec speaks with.

    Raises:
        RemoteError: it cannot be used: no credentials, no such bucket. From it and the methods, moreover,
            any exception.
    """

    def __init__(self, url: HistoryUrl) -> None:
        from fsspec.config import conf  # noqa: PLC0415 - an extra
        from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra

        for name in _TALKATIVE:
            # What is said to nobody goes to the terminal: whole tracebacks of what is tried again.
            logging.getLogger(name).addHandler(_NOBODY)
        self._scheme = url.scheme
        options = dict(_OPTIONS.get(url.scheme.name, {}))
        for name, value in conf.get(url.scheme.name, {}).items():
            # What the user has configured holds; of a set of options, those that he names.
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
        """The objects in a folder; none where it is not there yet."""
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
            # adlfs lists folders along whose names only begin like this one's.
            if info.get("type") == "file" and path.rpartition("/")[2] == folder:
                listed[name] = _listed(info)
        return listed

    def read(self, folder: str, wanted: Sequence[str]) -> Contents:
        """The content of objects."""
        paths = [f"{self._root}/{folder}/{name}" for name in wanted]
        found = self._fs.cat(paths, on_error="return") if paths else {}
        return {path.rpartition("/")[2]: data for path, data in found.items()}

    def write(self, folder: str, objects: Mapping[str, bytes]) -> None:
        """Write objects, each whole or not at all."""
        place = f"{self._root}/{folder}"
        if not self._scheme.moves:
            self._fs.pipe({f"{place}/{name}": data for name, data in objects.items()})
            return

        def write(name: str) -> None:
            own = f"{place}/{names.TEMP_PREFIX}{secrets.token_hex(6)}{names.TEMP_SUFFIX}"
            self._fs.pipe_file(own, objects[name])
            self._fs.mv(own, f"{place}/{name}")

        self._fs.makedirs(place, exist_ok=True)
        side_by_side(write, list(objects))

    def _check_bucket(self, error: Exception) -> None:
        """Whether only a folder is missing, which the first object in it makes, or all around it.

        Raises:
            RemoteError: the bucket is missing.
        """
        bucket = self._root.partition("/")[0]
        missing = lacks_bucket(error)
        if self._scheme.name == "gs":
            # Its answer is the same for both: of a bucket that is there, the first object can be asked for.
            try:
                self._fs.ls(bucket, max_results=1)
            except FileNotFoundError:
                missing = True
            except Exception:  # noqa: BLE001 - one may list no more than the prefix: so there is a bucket
                missing = False
        if missing:
            word = "container" if self._scheme.name == "az" else "bucket"
            raise RemoteError(f"there is no {word} {bucket}: make it once, or correct the URL") from error


_NOBODY = logging.NullHandler()


def _listed(info: Mapping[str, Any]) -> Listed:
    """What a file system says of a file: each has other names for it."""
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
    """Let a refusal be heard in time: its package waits for more than 15 s before it asks again, thrice."""
    with contextlib.suppress(AttributeError):  # of another release: only slower
        policy = fs.service_client._config.retry_policy  # noqa: SLF001 - adlfs hands no options on
        policy.total_retries, policy.initial_backoff = 1, 0.5
        policy.increment_base = policy.random_jitter_range = 0


def _prepare_google(fs: Any) -> None:
    """Let a refusal be heard: without credentials gcsfs goes on as nobody, and after one it asks for 30 s.

    Raises:
        Exception: there are no credentials, or they do not hold.
    """
    own = fs.credentials
    emulated = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
    if own.credentials is None and own.token is None and not emulated:
        if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            from google import auth  # noqa: PLC0415 - comes with gcsfs

            auth.default()  # says what is wrong with that file
        raise PermissionError("no credentials were found")
    own.maybe_refresh()


_PREPARE: Mapping[str, Callable[[Any], None]] = {"az": _prepare_azure, "gs": _prepare_google}
