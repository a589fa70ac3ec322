"""The knobs of the reference device: strings, JSON, command line."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_espperf.config.settings import OPTIONS
from pytest_espperf.sim.__main__ import _config, make_parser
from pytest_espperf.sim.catalog import TARGETS
from pytest_espperf.sim.config import (
    FAULT_KINDS,
    NOISE_NAMES,
    Fault,
    SimConfig,
    parse_fault,
    parse_time_scale,
)
from pytest_espperf.sim.images import SLOTS, FirmwareImage
from pytest_espperf.sim.values import (
    error_rate_of,
    parse_assignment,
    parse_error_rate,
    parse_slowdown,
    slowdown_of,
)

times = st.floats(0, 1e9)
faults = st.builds(Fault, st.sampled_from(FAULT_KINDS), times, st.none() | times)
targets = st.sampled_from(TARGETS)
versions = st.text("abcdefgh0123456789.-+=:", max_size=12)
images = st.builds(
    FirmwareImage,
    version=versions,
    slowdown=st.dictionaries(targets, st.floats(0.01, 1000)),
    error_rate=st.dictionaries(targets, st.floats(0, 1)),
    leak_bytes=st.integers(0, 10**9),
    boot_s=st.floats(0, 600),
)
configs = st.builds(
    SimConfig,
    seed=st.integers(-(2**63), 2**63),
    time_scale=st.floats(0.001, 1000),
    noise=st.sampled_from(NOISE_NAMES),
    slowdown=st.dictionaries(targets, st.floats(0.01, 1000)),
    error_rate=st.dictionaries(targets, st.floats(0, 1)),
    leak_bytes=st.integers(0, 10**9),
    faults=st.lists(faults, max_size=4).map(tuple),
    rate_limit=st.booleans(),
    max_connections=st.integers(1, 1000),
    queue_limit=st.integers(1, 1000),
    cooldown_s=st.floats(0, 600),
    fragmentation=st.floats(0, 1),
    boot_info=st.booleans(),
    slots=st.dictionaries(st.sampled_from(SLOTS), images),
    rollback=st.booleans(),
    boot_noise=st.none() | st.floats(0, 1),
)


@given(faults)
def test_a_fault_reads_back_what_it_writes(fault: Fault) -> None:
    assert parse_fault(str(fault)) == fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("hang@3:2", Fault("hang", 3, 2)),
        ("reboot@0.5", Fault("reboot", 0.5)),
        (" huge-body@0 ", Fault("huge-body", 0)),
        ("garbage-length@1e1:1", Fault("garbage-length", 10, 1)),
    ],
)
def test_faults_are_read(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hang", "KIND@SECONDS"),
        ("", "KIND@SECONDS"),
        ("@3", "KIND@SECONDS"),
        ("hang@", "KIND@SECONDS"),
        ("hang@3:", "KIND@SECONDS"),
        ("explode@3", "use one of hang, reboot"),
        ("hang@soon", "must be a number, not 'soon'"),
        ("hang@-1", "within 0"),
        ("hang@nan", "finite"),
        ("hang@3:inf", "finite"),
        ("hang@3:-2", "within 0"),
    ],
)
def test_bad_faults_are_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse_fault(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for parse in (parse_fault, parse_assignment, parse_slowdown, parse_error_rate, parse_time_scale):
        with contextlib.suppress(ValueError):
            parse(text)


def test_assignments_name_a_profile_a_route_or_all() -> None:
    assert parse_slowdown("python_heavy=1.3") == ("python_heavy", 1.3)
    assert parse_slowdown("hello=2") == ("/hello", 2)
    assert parse_error_rate("/api/ping=0.05") == ("/api/ping", 0.05)
    assert parse_error_rate("all=1") == ("all", 1)
    for text, said in (
        ("python_heavy", "NAME=NUMBER"),
        ("nope=1", "no profile or route"),
        ("all=x", "number"),
        ("=1", "no profile or route"),
    ):
        with pytest.raises(ValueError, match=said):
            parse_assignment(text)
    refused = ((parse_slowdown, "all=0"), (parse_error_rate, "all=1.1"), (parse_error_rate, "all=-1"))
    for parse, text in refused:
        with pytest.raises(ValueError, match="within"):
            parse(text)


@given(configs)
def test_json_and_command_line_read_back_what_they_write(config: SimConfig) -> None:
    assert SimConfig().merged(config.to_json()) == config
    assert _config(make_parser().parse_args(config.to_args())) == config


def test_defaults_need_no_arguments() -> None:
    assert SimConfig().to_args() == []
    assert SimConfig().merged({}) == SimConfig()


def test_merging_replaces_each_named_value_as_a_whole() -> None:
    config = SimConfig(slowdown={"all": 2}, faults=(Fault("hang", 1),), seed=7)
    changed = config.merged({"slowdown": ["hello=3"], "noise": "none"})
    assert changed == SimConfig(slowdown={"/hello": 3}, faults=(Fault("hang", 1),), seed=7, noise="none")
    assert config.merged({"slowdown": {}, "fault": []}) == SimConfig(seed=7)
    assert config.merged({"fault": "reset@1"}).faults == (Fault("reset", 1),)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"speed": 1}, "'speed' is no setting: use one of seed, time_scale"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"time_scale": 0}, "time_scale must be within"),
        ({"time_scale": float("nan")}, "time_scale must be within"),
        ({"time_scale": "1"}, "time_scale must be a number"),
        ({"noise": "loud"}, "'loud' is no noise: use one of low, medium, high, none"),
        ({"noise": ["low"]}, "no noise"),
        ({"slowdown": 2}, "slowdown must be a string or a list of strings or an object"),
        ({"slowdown": {"all": "fast"}}, "slowdown of all must be a number"),
        ({"slowdown": ["all=2", "all=3"]}, "given twice"),
        ({"error_rate": {"hello": 2}}, "error_rate of /hello must be within"),
        ({"leak_bytes": -1}, "leak_bytes must be within"),
        ({"fault": [3]}, "fault must be a string or a list of strings"),
        ({"fault": "hang"}, "not a fault"),
        ({"rate_limit": 1}, "rate_limit must be true or false"),
    ],
)
def test_bad_json_values_are_refused_in_one_sentence(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        SimConfig().merged(changes)
    assert "\n" not in str(caught.value)


def test_slowdowns_multiply_and_error_rates_go_by_the_nearest_name() -> None:
    config = SimConfig(
        slowdown={"all": 2, "python_light": 3, "/hello": 5}, error_rate={"all": 0.1, "/hello": 0.0}
    )
    assert slowdown_of(config.slowdown, "/hello") == 30
    assert slowdown_of(config.slowdown, "/deps") == 6
    assert slowdown_of(config.slowdown, "/file") == 2
    assert error_rate_of(config.error_rate, "/hello") == 0
    assert error_rate_of(config.error_rate, "/file") == 0.1
    assert error_rate_of({}, "/file") == 0
    assert slowdown_of(SimConfig(slowdown={"hello": 2}).slowdown, "/hello") == 2
    with pytest.raises(ValueError, match="given twice"):
        SimConfig(error_rate={"hello": 0.1, "/hello": 0.2})


def test_the_option_table_and_the_device_alone_have_the_same_options() -> None:
    text = make_parser().format_help()
    for option in OPTIONS:
        if option.group == "sim":
            assert f"{option.flag} " in text
