"""Secrets in text that is kept or shown: hidden by the option that holds them, and by what they look like.

What is kept whole of an option's value is decided by :data:`SECRET_OPTIONS`. All other text (the words of a
failing command, a command line, the settings) passes :func:`redact`, which knows credentials by their names
and by their form. It finds what is common, and cannot find everything: an option is the safe place.

Imported by every pytest run of a project that has the plugin installed: patterns are compiled when needed.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Mapping, Sequence

REDACTED = "<redacted>"

SECRET_OPTIONS = ("device_header", "device_reset_cmd", "perf_ab_baseline_cmd", "perf_ab_candidate_cmd")
"""Options whose values are never kept: the table of options marks the same ones as secret."""

_ROUNDS = 50_000
"""Rounds of the digest: a guessed password costs whoever tries it some milliseconds each."""

_SHORTEST_VALUE = 8
"""Characters of an environment variable's value from which on it is looked for in text."""

_NAME = (
    r"(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]?id)?|secret[_-]?key"
    r"|private[_-]?key|auth[_-]?key|account[_-]?key|encryption[_-]?key|session[_-]?key|psk|credentials?"
    r"|authorization|client[_-]?secret|shared[_-]?access[_-]?signature|signature|sig|sas|bearer|pin[_-]?code)"
)
_QUOTED = r"\"(?:[^\"\\\n]|\\.){0,4096}\"|'[^'\n]{0,4096}'"
_VALUE = rf"(?:{_QUOTED}|[^\s'\"&;|,)}}\]]+)"
_BLANKS = r"[ \t]{0,4}"
_BASE64 = r"[A-Za-z0-9._~+/=-]"
# Whole words, or parts of one between dashes, dots and underscores: AWS_SECRET_ACCESS_KEY, --wifi-password.
_NAMED = (
    r"(?<![A-Za-z0-9_.-])(?P<name>-{0,2}(?:[A-Za-z0-9]{1,32}[_.-]){0,6}" + _NAME + r"(?:[_-]?[0-9]{1,4})?)"
)
_CREDENTIAL_OPTION = r"--?(?:[A-Za-z0-9]{1,32}-){0,6}(?:" + _NAME + "|key)"
_HEADER = (
    r"(?<![a-z0-9-])(?P<name>(?:proxy-)?authorization|(?:set-)?cookie2?"
    r"|x-[a-z0-9-]{0,32}(?:key|token|auth|secret|signature)[a-z0-9-]{0,16})"
)
_TOKENS = (
    r"(?:AKIA|ASIA|AROA|AIDA)[0-9A-Z]{16}",
    r"gh[pousr]_[A-Za-z0-9]{16,255}",
    r"github_pat_[A-Za-z0-9_]{20,255}",
    r"gl(?:pat|ptt|dt|rt|cbt|soat|agent|oas)-[A-Za-z0-9_-]{16,255}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,255}",
    r"sk[-_](?:live_|test_|ant-|proj-)?[A-Za-z0-9_-]{20,255}",
    r"AIza[A-Za-z0-9_-]{30,40}",
    r"ya29\.[A-Za-z0-9_-]{20,512}",
    r"(?:npm|hf|dop_v1|dckr_pat|pypi)[_-][A-Za-z0-9_-]{20,512}",
    r"eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,4096}(?:\.[A-Za-z0-9_-]{0,4096})?",
)


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Remove from a text what looks like a credential.

    Hidden are: the values of secret variables of the environment; user and password in a URL; the values of
    headers that authenticate; what follows a name such as ``password``, ``--token`` or
    ``AWS_SECRET_ACCESS_KEY``; well-known forms of tokens; private keys.

    Args:
        text: any text; more than one line may be.
        environment: as ``os.environ``, which it is by default.
    """
    for value in _secret_values(os.environ if environment is None else environment):
        text = text.replace(value, REDACTED)
    for pattern, shown in _patterns():
        text = pattern.sub(shown, text)
    return text


def redact_words(words: Sequence[str]) -> list[str]:
    """Remove the values of secret options, and what looks like a credential, from a command line."""
    shown: list[str] = []
    secret_next = False
    for word in words:
        match = _option_pattern().search(word)
        # --device-header X, --device-header=X, -o device_header=X, ...: whatever names it hides its value.
        name = word if match is None else word[: match.end()]
        if secret_next:
            shown.append(REDACTED)
        else:
            shown.append(redact(name))
        if secret_next and not word.startswith("-"):
            secret_next = False
        else:
            named = match is not None or _credential_option().fullmatch(word) is not None
            secret_next = named and name == word
    return shown


def hidden(text: str) -> str:
    """Reduce a secret to a digest, which shows whether two are the same; "" for none."""
    return f"<redacted, digest {_digest(text)}>" if text else ""


def settings_without_secrets(settings: Mapping[str, object]) -> dict[str, object]:
    """Redact the settings of an artifact: earlier versions kept some secrets in them."""
    shown = dict(settings)
    for name, value in settings.items():
        if isinstance(value, str) and value:
            kept = name in SECRET_OPTIONS and not value.startswith("<redacted")
            shown[name] = REDACTED if kept else redact(value, {})
    return shown


@functools.lru_cache(maxsize=8)
def _digest(text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.pbkdf2_hmac("sha256", data, b"pytest-espperf", _ROUNDS)[:4].hex()


@functools.lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Compile the patterns and their replacements; every repetition is bounded, so that time is linear."""
    kept = r"\g<name>\g<is>" + REDACTED
    key = r"(?P<name>-----BEGIN [A-Z ]{0,32}PRIVATE KEY)(?P<is>-----)[A-Za-z0-9+/=\s\\:,-]{1,8192}"
    scheme = r"(?P<name>basic|digest|token)(?P<is>\s{1,4})(?=[A-Za-z+/_.-]{0,64}[0-9=])"
    user = r"(?P<name>-u|--user|--proxy-user)(?P<is>=|[ \t]{0,4})['\"]?[^\s:'\"]{1,256}"
    forms = (
        (key, kept),
        # User and password in a URL; a user alone only where it is likely to be a token.
        (r"(?P<name>[a-z][a-z0-9+.-]{0,31})(?P<is>://)[^\s/'\"@:]{0,256}:[^\s/'\"]{0,1024}@", f"{kept}@"),
        (r"(?P<name>https?)(?P<is>://)[^\s/'\"@:]{1,1024}@", f"{kept}@"),
        (rf"{_HEADER}(?P<is>[\"']?{_BLANKS}:{_BLANKS})[^'\"\r\n]{{1,4096}}", kept),
        (rf"\b(?P<name>bearer|negotiate)(?P<is>\s{{1,4}}){_BASE64}{{4,4096}}", kept),
        (rf"\b{scheme}{_BASE64}{{8,4096}}", kept),
        (rf"{_NAMED}(?P<is>[\"']?{_BLANKS}(?::=|=|:){_BLANKS}){_VALUE}", kept),
        (rf"(?<![^\s'\"=])(?P<name>{_CREDENTIAL_OPTION})(?P<is>[ \t]{{1,4}})(?!-){_VALUE}", kept),
        (rf"(?<!\S){user}:[^\s'\"]{{1,1024}}", kept),
        (rf"\b(?P<name>sshpass)(?P<is>\s{{1,4}}-p\s{{0,4}}){_VALUE}", kept),
    )
    found = [(re.compile(form, re.IGNORECASE), shown) for form, shown in forms]
    return (*found, (re.compile(rf"(?<![A-Za-z0-9_-])(?:{'|'.join(_TOKENS)})"), REDACTED))


@functools.lru_cache(maxsize=1)
def _option_pattern() -> re.Pattern[str]:
    names = "|".join(name.replace("_", "[-_]") for name in SECRET_OPTIONS)
    return re.compile(rf"(?:{names})", re.IGNORECASE)


@functools.lru_cache(maxsize=1)
def _credential_option() -> re.Pattern[str]:
    return re.compile(_CREDENTIAL_OPTION, re.IGNORECASE)


_KEEPS_SECRETS = (
    r"(?!GOOGLE_APPLICATION_CREDENTIALS$|.*_FILE$).*"
    r"(KEY|SECRET|TOKEN|PASSW|PASSPHRASE|CREDENTIAL|CONNECTION_STRING|SAS)"
)
"""Names of variables that hold secrets; GOOGLE_APPLICATION_CREDENTIALS is the path of a file."""


def _secret_values(environment: Mapping[str, str]) -> list[str]:
    """List the values of secret variables, the longest first: one may contain another."""
    values = {
        value
        for name, value in environment.items()
        if len(value) >= _SHORTEST_VALUE and re.match(_KEEPS_SECRETS, name, re.IGNORECASE)
    }
    return sorted(values, key=len, reverse=True)
