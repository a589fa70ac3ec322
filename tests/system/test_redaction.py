from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.history_samples import session

from pytest_espperf.config.lookup import resolve
from pytest_espperf.config.settings import OPTIONS
from pytest_espperf.device import lock
from pytest_espperf.history.load import decode_session, encode_session
from pytest_espperf.system.redaction import REDACTED, SECRET_OPTIONS, hidden, redact, redact_words

SECRET = "s3cr3t-7f1b"

HIDING = [
    f"curl -H 'Authorization: Bearer {SECRET}' https://ci/old.bin",
    f"curl -H 'Authorization: Basic {SECRET}' x",
    f'curl -H "Cookie: sid={SECRET}; other={SECRET}" x',
    f"curl -H 'X-Api-Key: {SECRET}' x",
    f"> authorization: Token {SECRET}",
    f"Bearer {SECRET}",
    f"curl -u bench:{SECRET} x",
    f"curl --user 'bench:{SECRET}' x",
    f"git clone https://bench:{SECRET}@git.example/firmware.git",
    f"git clone https://{SECRET}@git.example/firmware.git",
    f"scp ftp://bench:{SECRET}@host/x .",
    f"AWS_SECRET_ACCESS_KEY={SECRET} aws s3 cp x y",
    f"export WIFI_PASSWORD='{SECRET} {SECRET}'",
    f"flash --token {SECRET} x",
    f"flash --wifi-password={SECRET} x",
    f'flash --api-key "{SECRET}" x',
    f'{{"password": "{SECRET}", "x": 1}}',
    f"GET /x?access_token={SECRET}&y=1",
    f"DefaultEndpointsProtocol=https;AccountName=x;AccountKey={SECRET};EndpointSuffix=y",
    f"sshpass -p {SECRET} ssh bench",
    f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
]
TOKENS = [
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1B2" * 12,
    "glpat-" + "a1B2" * 5,
    "xoxb-" + "1234-" * 5,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w",
    "hf_" + "aBcD" * 8,
]
SHOWN = [
    "esptool.py --port /dev/ttyUSB0 write_flash 0x10000 build/firmware.bin",
    "A fatal error occurred: Failed to connect to ESP32-S3: No serial data received.",
    "tests pass 10, pass_rate 0.97, fail 0",
    "sftp://bench@host/history and s3://bucket/prefix",
    "Hash of data verified. Leaving... Hard resetting via RTS pin...",
    "/home/me/secret/firmware.bin is 912 kB, key image at 0x8000",
    "the token expired",
    "",
]


@pytest.mark.parametrize("text", HIDING)
def test_credentials_are_hidden(text: str) -> None:
    assert SECRET not in redact(text, {})
    assert REDACTED in redact(text, {})
    assert SECRET not in " ".join(redact_words([text]))
    assert redact(redact(text, {}), {}) == redact(text, {})


@pytest.mark.parametrize("token", TOKENS)
def test_well_known_tokens_are_hidden_wherever_they_stand(token: str) -> None:
    assert token not in redact(f"flash {token} 0x10000", {})


@pytest.mark.parametrize("text", SHOWN)
def test_other_text_stays(text: str) -> None:
    assert redact(text, {}) == text


def test_values_of_secret_variables_are_hidden() -> None:
    environment = {"CI_TOKEN": "longer-than-eight", "HOME": "/home/someone", "SHORT_KEY": "abc"}
    text = "longer-than-eight in /home/someone, abc"
    assert redact(text, environment) == f"{REDACTED} in /home/someone, abc"


@pytest.mark.parametrize(
    "words",
    [
        ["--device-header", SECRET],
        [f"--device-header=X: {SECRET}"],
        ["-o", f"device_header=X: {SECRET}"],
        [f"-odevice_header={SECRET}"],
        ["--perf-ab-baseline-cmd", f"flash --pin {SECRET}"],
        [f"--perf-ab-candidate-cmd=flash {SECRET}"],
        ["--override-ini", f"perf_ab_baseline_cmd=flash {SECRET}"],
        ["--token", SECRET],
        ["--token", "--device-header", SECRET],
        [f"--upload-password={SECRET}"],
        [f"https://bench:{SECRET}@host/"],
    ],
)
def test_a_command_line_is_shown_without_secrets(words: list[str]) -> None:
    shown = redact_words(["pytest", *words, "--perf-runs", "3"])
    assert SECRET not in " ".join(shown)
    assert shown[0] == "pytest"
    assert shown[-2:] == ["--perf-runs", "3"]


def test_the_table_and_the_list_of_secret_options_agree() -> None:
    assert {option.dest for option in OPTIONS if option.secret} == set(SECRET_OPTIONS)


def test_settings_hold_no_command_and_tell_whether_two_are_the_same() -> None:
    command = f"flash --pin {SECRET}"
    given: dict[str, Any] = {
        "perf_ab_baseline_cmd": command,
        "perf_ab_candidate_cmd": command,
        "device_firmware": f"built by https://ci:{SECRET}@host/",
    }
    shown = resolve(given, {}, {}).describe()
    assert SECRET not in str(shown)
    assert shown["perf_ab_baseline_cmd"] == shown["perf_ab_candidate_cmd"] == hidden(command)
    assert hidden(command) != hidden(command + " ")
    assert resolve({}, {}, {}).describe()["perf_ab_baseline_cmd"] == ""


def test_what_an_earlier_version_kept_is_not_shown() -> None:
    old = msgspec.structs.replace(
        session(), settings={"perf_ab_baseline_cmd": f"flash {SECRET}", "perf_runs": 3, "perf_tag": "v1.0"}
    )
    data = msgspec.json.encode(old)
    assert SECRET.encode() in data
    read = decode_session(data)
    assert read.settings == {"perf_ab_baseline_cmd": REDACTED, "perf_runs": 3, "perf_tag": "v1.0"}
    assert decode_session(encode_session(read)).settings == read.settings


def test_a_note_of_an_earlier_version_is_shown_without_secrets() -> None:
    holder = lock.Holder(
        pid=1, host="h", started_utc="t", command=f"pytest --device-header 'Authorization: Bearer {SECRET}'"
    )
    assert SECRET not in lock._described(holder)


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_can_be_redacted(before: str, after: str) -> None:
    shown = redact(f"{before} --password={SECRET} {after}", {})
    assert SECRET not in shown
    redact_words([before, after])


def test_no_text_takes_long() -> None:
    """Each repetition is bounded: twice the text takes about twice the time."""

    def took_s(text: str) -> float:
        began = time.process_time()
        redact(text, {})
        return time.process_time() - began

    for piece in (
        "pass",
        "a-",
        "https://",
        "-----BEGIN PRIVATE KEY",
        "eyJ",
        "'",
        "password=",
        "token:=",
        "a.",
    ):
        short, long = piece * (10_000 // len(piece)), piece * (80_000 // len(piece))
        assert took_s(long) < 40 * max(took_s(short), 0.005), piece
