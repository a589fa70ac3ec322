from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_espperf.config.lookup import resolve
from pytest_espperf.config.parsers import header, number, whole
from pytest_espperf.config.settings import BY_DEST, OPTIONS, Settings
from pytest_espperf.errors import UsageError
from pytest_espperf.model.address import split_host


def test_order_is_command_line_environment_ini_default() -> None:
    everywhere: tuple[Any, ...] = (
        {"perf_runs": "1"},
        {"ESPPERF_PERF_RUNS": "2"},
        {"perf_runs": "3"},
    )
    assert resolve(*everywhere).perf_runs == 1
    assert resolve({}, *everywhere[1:]).perf_runs == 2
    assert resolve({}, {}, everywhere[2]).perf_runs == 3
    assert resolve({}, {}, {}).perf_runs is None


@pytest.mark.parametrize(
    ("command_line", "environment", "ini", "source"),
    [
        ({"perf_runs": "0"}, {}, {}, "--perf-runs"),
        ({}, {"ESPPERF_PERF_RUNS": "x"}, {}, "environment variable ESPPERF_PERF_RUNS"),
        ({}, {}, {"perf_runs": "-3"}, "perf_runs in /p/pytest.ini"),
        ({"perf_burst_duration": "-1"}, {}, {}, "--perf-burst-duration"),
        ({"perf_burst_duration": "nan"}, {}, {}, "--perf-burst-duration"),
        ({"perf_heartbeat_ms": "inf"}, {}, {}, "--perf-heartbeat-ms"),
        ({"device_port": "70000"}, {}, {}, "--device-port"),
        ({"device_ip": "http://1.2.3.4/"}, {}, {}, "--device-ip"),
        ({"device_ip": "user:pw@1.2.3.4"}, {}, {}, "--device-ip"),
        ({"perf_preset": "quik"}, {}, {}, "did you mean 'quick'"),
        ({"perf_profiles": [","]}, {}, {}, "--perf-profiles"),
        ({}, {"ESPPERF_RUNS": "3"}, {}, "did you mean 'ESPPERF_PERF_RUNS'"),
    ],
)
def test_a_bad_value_names_its_source(
    command_line: dict[str, Any], environment: dict[str, str], ini: dict[str, str], source: str
) -> None:
    with pytest.raises(UsageError, match=source) as caught:
        resolve(command_line, environment, ini, "/p/pytest.ini")
    assert "\n" not in str(caught.value)


def test_lists_add_up_and_keep_their_order() -> None:
    settings = resolve({"perf_profiles": ["a,b", "c", "a"]}, {}, {})
    assert settings.perf_profiles == ("a", "b", "c")
    assert settings.where("perf_profiles") == "--perf-profiles"


def test_a_later_scalar_wins_as_everywhere_in_pytest() -> None:
    assert resolve({"perf_runs": "7"}, {"ESPPERF_PERF_RUNS": "x"}, {}).perf_runs == 7


def test_a_header_that_cannot_be_sent_is_refused_without_its_value() -> None:
    with pytest.raises(
        UsageError, match=r"--device-header: .* header X-A has a character outside ASCII"
    ) as error:
        resolve({"device_header": ["X-A: s3cr\u00e9t"]}, {}, {})
    assert "s3cr" not in str(error.value)


def test_header_values_are_redacted_and_never_in_a_message() -> None:
    settings = resolve({"device_header": ["Authorization: Bearer s3cr3t", "X-A: b, c"]}, {}, {})
    assert settings.device_header == (("Authorization", "Bearer s3cr3t"), ("X-A", "b, c"))
    assert settings.describe()["device_header"] == ["Authorization: <redacted>", "X-A: <redacted>"]
    with pytest.raises(UsageError) as caught:
        resolve({"device_header": ["Bearer s3cr3t"]}, {}, {})
    assert "s3cr3t" not in str(caught.value)


def test_every_option_has_the_names_of_the_contract() -> None:
    for option in OPTIONS:
        assert option.flag.startswith(("--device-", "--perf-", "--sim-"))
        assert option.env == "ESPPERF_" + option.dest.upper()
    assert BY_DEST["perf_runs"].original == "--runs"
    assert len({option.original for option in OPTIONS if option.original}) == sum(
        bool(option.original) for option in OPTIONS
    )


def test_flags_from_ini_and_environment() -> None:
    assert resolve({}, {"ESPPERF_PERF_STRICT": "yes"}, {}).perf_strict is True
    assert resolve({}, {"ESPPERF_PERF_STRICT": "no"}, {"perf_strict": "true"}).perf_strict is False
    with pytest.raises(UsageError, match="neither yes nor no"):
        resolve({}, {"ESPPERF_PERF_STRICT": "maybe"}, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.168.0.135", ("192.168.0.135", None)),
        ("192.168.0.135:81", ("192.168.0.135", 81)),
        ("board.local", ("board.local", None)),
        ("sim", ("sim", None)),
        ("[::1]:8080", ("::1", 8080)),
        ("[fe80::1%eth0]", ("fe80::1%eth0", None)),
        ("fe80::1", ("fe80::1", None)),
    ],
)
def test_split_host(text: str, expected: tuple[str, int | None]) -> None:
    assert split_host(text) == expected


@pytest.mark.parametrize("text", ["", "a b", "host:0", "host:99999", "host:x", "a/b", "[::1", "::1]:80"])
def test_split_host_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        split_host(text)


def test_a_board_identity_that_cannot_be_written_is_a_usage_error() -> None:
    """Its bytes were not in the locale's encoding: the command line has lone surrogates for them."""
    name = b"k\xfcche".decode("utf-8", "surrogateescape")
    with pytest.raises(UsageError, match=r"'k[?]che' has bytes .* not in the encoding of this locale"):
        resolve({"device_id": name}, {}, {})
    assert resolve({"device_id": "k\u00fcche"}, {}, {}).device_id == "k\u00fcche"


@given(st.text())
def test_parsers_end_in_a_value_or_one_sentence(text: str) -> None:
    for parse in (number(least=0), whole(least=1), header, split_host):
        try:
            parse(text)
        except ValueError as error:
            assert str(error)  # noqa: PT017 - the message is what is tested


def test_describe_is_complete() -> None:
    assert set(Settings().describe()) == {option.dest for option in OPTIONS}
