"""Addresses of a shared history: ``s3://bucket/prefix``, ``file:///mnt/share/history``, ... Pure.

An address never holds a password or a key: it is kept in artifacts, and named in messages.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote


class Scheme(NamedTuple):
    """Scheme of an address.

    Attributes:
        name: as in the packages that implement it.
        packages: those that have to be installed for it; their import names are the same.
        moves: whether files there have to be written under another name and renamed to be atomic. An object
            store shows an object once all of it is there.
        example: an address of this scheme.
        credentials: where its package takes them from; "" where it needs none.
        endpoints: variables of the environment that can name another service than the usual one: the same
            address there is another history.
    """

    name: str
    packages: tuple[str, ...]
    moves: bool
    example: str
    credentials: str = ""
    endpoints: tuple[str, ...] = ()


_S3 = Scheme(
    "s3",
    ("fsspec", "s3fs"),
    moves=False,
    example="s3://BUCKET/PREFIX",
    credentials="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws (AWS_PROFILE)",
    endpoints=("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "FSSPEC_S3_ENDPOINT_URL"),
)
_GS = Scheme(
    "gs",
    ("fsspec", "gcsfs"),
    moves=False,
    example="gs://BUCKET/PREFIX",
    credentials="the key file that GOOGLE_APPLICATION_CREDENTIALS names, or from "
    "'gcloud auth application-default login'",
    endpoints=("FSSPEC_GS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST"),
)
_AZ = Scheme(
    "az",
    ("fsspec", "adlfs"),
    moves=False,
    example="az://CONTAINER/PREFIX",
    credentials="AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME with "
    "AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN or 'az login'",
    endpoints=("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME"),
)
_SFTP = Scheme(
    "sftp",
    ("fsspec", "sshfs"),
    moves=True,
    example="sftp://USER@HOST/FOLDER",
    credentials="~/.ssh and its agent; the server's key must be in ~/.ssh/known_hosts",
)
_FILE = Scheme("file", (), moves=True, example="file:///FOLDER")
_MEMORY = Scheme("memory", ("fsspec",), moves=False, example="memory://NAME")

SCHEMES: Mapping[str, Scheme] = {
    "s3": _S3,
    "s3a": _S3,
    "gs": _GS,
    "gcs": _GS,
    "az": _AZ,
    "abfs": _AZ,
    "abfss": _AZ,
    "sftp": _SFTP,
    "ssh": _SFTP,
    "file": _FILE,
    "memory": _MEMORY,
}
"""``memory`` lives as long as its process: it is for tests."""

_URL = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+)://(.*?)/*\s*", re.DOTALL)
_ONE_SLASH = re.compile(rf"\s*({'|'.join(SCHEMES)}):(?!//)", re.IGNORECASE)
_HOST = re.compile(r"(?:[^:@\s]+@)?(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::[0-9]{1,5})?")
_DRIVE = re.compile(r"/[A-Za-z]:")
_NAME = re.compile(r"[\w.-]+")
_ACCOUNT = re.compile(r"[\w.-]+(@[\w.-]+)?")
_NO_SECRET = re.compile(r"(AccountKey|SharedAccessSignature)=[^;]*;?", re.IGNORECASE)
"""Parts of the text that names a service which may change for the same service."""

_MEANT_OTHERWISE = re.compile(r"[?*#\[\]\x00-\x1f\x7f]|::")


@dataclass(frozen=True)
class HistoryUrl:
    """Address of a shared history.

    Attributes:
        scheme: the kind of storage.
        text: the address, without a slash at its end.
    """

    scheme: Scheme
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def path(self) -> Path:
        """The folder behind a ``file://`` address."""
        host, slash, path = self.text.partition("://")[2].partition("/")
        share = f"//{host}" if host not in {"", "localhost"} else ""  # Windows
        whole = unquote(f"{share}{slash}{path}", errors="surrogateescape")
        return Path(whole[1:] if _DRIVE.match(whole) and sys.platform == "win32" else whole)

    def cache_name(self, environment: Mapping[str, str]) -> str:
        """Make the name of the folder of this machine's copy: equal addresses have equal names.

        Args:
            environment: can name another service than the usual one: the same bucket there is another
                history.
        """
        named = (environment[name] for name in self.scheme.endpoints if environment.get(name))
        service = _NO_SECRET.sub("", next(named, ""))
        digest = hashlib.sha256(f"{self.text}\n{service}".encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self.scheme.name}-{digest[:16]}"


def is_url(text: str) -> bool:
    """Whether ``text`` is meant as an address; a path of Windows, as ``C:/x``, is none."""
    return _URL.fullmatch(text) is not None or _ONE_SLASH.match(text) is not None


def parse_url(text: str) -> HistoryUrl:
    """Parse an address.

    Raises:
        ValueError: it cannot be used. The message does not repeat parts that may be secret.
    """
    match = _URL.fullmatch(text)
    if match is None:
        name = text.partition(":")[0].strip()
        raise ValueError(
            f"behind {name}: there are two slashes in a URL; before the name of a folder write ./"
        )
    name, rest = match[1].lower(), match[2]
    scheme = SCHEMES.get(name)
    if scheme is None:
        raise ValueError(f"{name}:// is no address of a shared history: {_examples()} are")
    host, _, path = rest.partition("/")
    if re.search(r":[^/]*@", rest) or ("@" in host and scheme in (_S3, _GS)):
        raise ValueError(
            "the URL holds a password or a key, which would be kept in artifacts: leave it out, and give it "
            "in the environment or in the service's own configuration (~/.aws, ~/.ssh, ...)"
        )
    if "?" in host or _MEANT_OTHERWISE.search(path):
        raise ValueError(
            f"the URL has a part that is not supported ('?', '*', '#', '[', '::'): write {scheme.example}"
        )
    if not _has_its_parts(scheme, host, path):
        raise ValueError(f"the URL is incomplete or malformed: write {scheme.example}")
    return HistoryUrl(scheme, f"{scheme.name if scheme is not _AZ else name}://{rest}")


def _has_its_parts(scheme: Scheme, host: str, path: str) -> bool:
    if scheme is _FILE:
        # \\server\share of Windows has a host; elsewhere a share is mounted, and has none.
        return bool(path) and (host in {"", "localhost"} or sys.platform == "win32")
    if scheme is _SFTP:
        return bool(path) and _HOST.fullmatch(host) is not None
    return (_ACCOUNT if scheme is _AZ else _NAME).fullmatch(host) is not None


def _examples() -> str:
    return ", ".join(scheme.example for scheme in (_S3, _GS, _AZ, _SFTP, _FILE))
