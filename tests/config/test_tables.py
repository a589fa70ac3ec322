"""A project's own tables: whatever stands in them, a message is one sentence that says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.config.telemetry import load_telemetry
from pytest_espperf.errors import UsageError

SECRET = "s3cr3t"


def request(text: str) -> str:
    return f'[profiles.x]\npaths = [{{path = "/", {text}}}]'


def profile(text: str) -> str:
    return f'[profiles.x]\npaths = ["/"]\n{text}'


WRONG_PROFILES = {
    "profiles.x = 3": "[profiles.x]: it must be a table, not a whole number",
    "profiles.x = 1979-05-27": "[profiles.x]: it must be a table, not a date",
    "[profiles.x]\npaths = 3": "[profiles.x]: paths must be a list, not a whole number",
    "[profiles.x]\npaths = [3]": "[profiles.x] paths[0]: it must be a table, not a whole number",
    "[profiles.x]\npaths = [{weight = 1}]": "[profiles.x] paths[0]: it has no path",
    "[profiles.x]\npaths = [{path = 5}]": "paths[0]: path must be text, not a whole number",
    profile("limits.ratio = 5"): "[profiles.x] limits.ratio: it must be a table, not a whole number",
    profile("limits.ratio = {p95_ms = 1.2}"): "limits.ratio: it has no to",
    profile('limits.ratio = {to = "python_light"}'): "limits.ratio: it has no budget: give one of rps_ok",
    profile('limits.ratio = {to = "python_ligth", p95_ms = 2}'): "did you mean 'python_light'?",
    profile('limits.ratio = {to = "x", p95_ms = 2}'): "limits.ratio: 'x' is the profile itself",
    profile('limits.ratio = {to = "python_light", p95 = 2}'): "unknown key 'p95'; did you mean 'p95_ms'?",
    profile('limits.ratio = {to = "python_light", p95_ms = 0}'): "p95_ms",
    profile('limits.ratio = [{to = "python_light", p95_ms = 2}, 3]'): "limits.ratio[1]: it must be a table",
    profile("limits.max_p95 = 5"): "unknown key 'max_p95'; did you mean 'max_p95_ms'?",
    request("weight = 1.5"): "weight must be a whole number, not a fraction",
    request("weight = [1]"): "weight must be a whole number, not a list",
    request("weight = 1001"): "weight: 1001 must be at most 1000",
    request("status = {}"): "status must be a whole number or a list, not a table",
    request('status = [200, "x"]'): "status[1] must be a whole number, not text",
    request("status = []"): "status: [] is no HTTP status, nor a list of them",
    request("size = nan"): "size must be a whole number, not a number",
    request("contains = 5"): "contains must be text, not a whole number",
    request('"we`ight" = 2'): "unknown key 'we`ight'; did you mean 'weight'?",
    profile(f'headers = "A: {SECRET}"'): "[profiles.x]: headers must be a table, not text",
    profile(f'headers = {{A = ["{SECRET}"]}}'): "[profiles.x] headers: the value of 'A' must be text",
    profile("limits = {max_p95_ms = nan}"): "[profiles.x] limits: max_p95_ms: nan must be at least 0",
    profile("limits = {max_p95_ms = inf}"): "[profiles.x] limits: max_p95_ms: inf must be at most",
    profile("phases = {burst = 3}"): "[profiles.x] phases.burst: it must be a table, not a whole number",
    profile("phases = {burst = {duration_s = inf}}"): "phases.burst: duration_s: inf must be at most 86400",
    profile(f"phases = {{burst = {{rate = 1{'0' * 400}}}}}"): "phases.burst: rate: number out of range",
    f"[profiles.x]\npaths = [{'9' * 5000}]": "espperf.toml: ",
    "profiles = " + "[" * 50_000: "espperf.toml: its values are nested too deeply",
    f"profiles.x = {'{a=' * 90}1{'}' * 90}": "unknown key 'a' (known: headers, limits, paths, ",
}


@pytest.mark.parametrize("text", WRONG_PROFILES, ids=lambda text: text[-40:])
def test_a_wrong_profile_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "espperf.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_profiles(tmp_path)
    said = str(caught.value)
    assert said.startswith(str(tmp_path / "espperf.toml"))
    assert WRONG_PROFILES[text] in said
    assert "\n" not in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("telemetry = []", "[telemetry]: it must be a table, not a list"),
        ("telemetry.stats = 5", "stats must be text, not a whole number"),
        ("telemetry.memory = true", "memory must be text, not a boolean"),
        ("telemetry.keys = 5", "keys must be a table, not a whole number"),
        ("telemetry.keys.internal_free = 5", "[telemetry] keys: internal_free must be text"),
        ("telemetry.counters = [3]", "counters[0] must be text, not a whole number"),
        ("telemetry.counters = ['']", "counters: '' is no path in JSON"),
        ("telemetry.gauges = 5", "gauges must be a table, not a whole number"),
        ("telemetry.gauges.a = 5", "[telemetry] gauges.a: it must be a table, not a whole number"),
        ("telemetry.gauges.a = ''", "[telemetry] gauges.a: path: '' is no path in JSON"),
        ("telemetry.gauges.a = {unit = 'ms'}", "[telemetry] gauges.a: it has no path"),
        ("telemetry.gauges.a = {path = 'x', units = 'ms'}", "unknown key 'units'; did you mean 'unit'?"),
        ("telemetry.gauges.a = {path = 'x', better = 'up'}", "gauges.a: better"),
        ("telemetry.gauges.p95_ms = 'x'", "'p95_ms' is a metric of every session"),
        ("telemetry.gauges.'a b' = 'x'", "'a b' is no name of a figure"),
    ],
)
def test_a_wrong_telemetry_table_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "espperf.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_telemetry(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "espperf.toml"))
    assert says in str(caught.value)


def test_numbers_may_be_written_as_text(tmp_path: Path) -> None:
    (tmp_path / "espperf.toml").write_text(request('weight = "2", contains = "null"'), encoding="utf-8")
    (found,) = load_profiles(tmp_path)["x"].requests
    assert (found.weight, found.contains) == (2, b"null")
