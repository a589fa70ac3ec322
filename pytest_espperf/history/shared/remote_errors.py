"""Exceptions of fsspec and the packages behind it, in words for a user. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pytest_espperf.history.shared.address import Scheme
from pytest_espperf.system.redaction import REDACTED, redact

_LONGEST_WORDS = 300
# Azure's packages append request numbers and the answer as XML to their first sentence.
_APPENDED = re.compile(r"\s+(RequestId:|Attempted credentials:).*")
_DENIED = re.compile(
    r"credential|connection string|\bauth(entication|orization)|forbidden|anonymous caller", re.IGNORECASE
)
_DENIED_TYPES = ("DefaultCredentialsError", "HostKeyNotVerifiable", "PermissionDenied", "ProfileNotFound")


def words_of(error: Exception) -> str:
    """Describe an exception in one line, without parts that may be secret."""
    text = _APPENDED.sub("", " ".join(str(error).split()))
    text = redact(text)
    text = re.sub(r"\?[^\s'\"]*=[^\s'\"]*", f"?{REDACTED}", text)
    if len(text) > _LONGEST_WORDS:
        text = f"{text[:_LONGEST_WORDS]}..."
    return f"{text} ({type(error).__name__})" if text else type(error).__name__


def explained(error: Exception, scheme: Scheme) -> str:
    """Describe an exception, and name the source of credentials if it is about those."""
    words = words_of(error)
    if scheme.credentials and any(_is_denial(one) for one in _chain(error)):
        return f"{words}; credentials for {scheme.name}:// come from {scheme.credentials}"
    return words


def lacks_bucket(error: Exception) -> bool:
    """Whether a server of S3 or Azure reports that the bucket or container is missing, not just a folder."""
    return any(
        _code_of(one) == "NoSuchBucket" or getattr(one, "error_code", "") == "ContainerNotFound"
        for one in _chain(error)
    )


def _is_denial(error: BaseException) -> bool:
    if isinstance(error, PermissionError) or type(error).__name__ in _DENIED_TYPES:
        return True
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    return str(status) in {"401", "403"} or _DENIED.search(str(error)) is not None


def _code_of(error: BaseException) -> str:
    """Extract the error code of an answer of S3."""
    answer = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, Mapping) else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
