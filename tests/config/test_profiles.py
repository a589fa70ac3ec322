from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_espperf.config.lookup import resolve
from pytest_espperf.config.profiles import BUILT_IN, load_profiles
from pytest_espperf.config.telemetry import load_telemetry
from pytest_espperf.errors import UsageError
from pytest_espperf.model.workload import Gauge, RatioSpec
from pytest_espperf.session.plan import SessionPlan, describe_profiles, make_plan

SHOP = """
[profiles.shop]
paths = ["/cart", {path = "/item?id=1", weight = 3, status = [200, 304], size = 12, contains = "ok"}]
headers = {Accept = "application/json"}
limits = {max_p95_ms = 50}
[profiles.shop.phases.burst]
clients = 4
duration_s = 2
[profiles.shop.phases.steady]
rate = 40
duration_s = 5
"""


def plan(root: Path, **command_line: Any) -> SessionPlan:
    return make_plan(resolve(command_line, {}, {}), load_profiles(root))


def test_balanced_is_the_default_schedule(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert made.runs == 6
    seconds = {p.name: [(f.name, f.clients, f.duration_s) for f in p.phases] for p in made.profiles}
    assert seconds == {
        "c_static_only": [("burst", 12, 3), ("long", 8, 4)],
        "python_light": [("burst", 12, 4), ("long", 8, 8)],
        "python_heavy": [("burst", 12, 8), ("long", 8, 15)],
    }


def test_run_major_order(tmp_path: Path) -> None:
    made = plan(tmp_path, perf_profiles=["python_light,python_heavy"], perf_runs="2")
    order = [(planned.run, planned.profile.name, planned.phase.name) for planned in made.phases()]
    assert order == [
        (run, profile, phase)
        for run in (1, 2)
        for profile in ("python_light", "python_heavy")
        for phase in ("burst", "long")
    ]


def test_explicit_options_win_over_the_preset_and_the_profile(tmp_path: Path) -> None:
    (tmp_path / "espperf.toml").write_text(SHOP)
    made = plan(
        tmp_path,
        perf_profiles=["shop"],
        perf_preset="classic",
        perf_burst_duration="1",
        perf_burst_clients="2",
    )
    assert made.runs == 3
    burst, steady = made.profiles[0].phases
    assert (burst.duration_s, burst.clients) == (1, 2)
    assert (steady.duration_s, steady.clients, steady.rate_rps) == (5, 8, 40)


def test_aliases_of_the_original() -> None:
    assert BUILT_IN["static"] == ("/file", "/template")
    assert len(BUILT_IN["mixed"]) == 6
    assert len(BUILT_IN["api"]) == 5


def test_a_projects_own_profile(tmp_path: Path) -> None:
    (tmp_path / "espperf.toml").write_text(SHOP)
    shop = load_profiles(tmp_path)["shop"]
    assert [request.path for request in shop.requests] == ["/cart", "/item?id=1"]
    assert shop.requests[1].statuses == frozenset({200, 304})
    assert shop.requests[1].contains == b"ok"
    assert shop.limits == {"max_p95_ms": 50}
    assert shop.headers == (("Accept", "application/json"),)


def test_pyproject_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.espperf.profiles.one]\npaths = ["/"]\n')
    assert load_profiles(tmp_path)["one"].requests[0].path == "/"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[profiles.x]\npath = ["/"]', "unknown key 'path'; did you mean 'paths'"),
        ("[profiles.x]\n", "paths must be a list"),
        ("[profiles.x]\npaths = []", "paths must be a list"),
        ('[profiles.x]\npaths = ["a"]', "begins with '/'"),
        ('[profiles.x]\npaths = ["/a", "/a"]', "listed twice"),
        ('[profiles.x]\npaths = [{path = "/", wieght = 2}]', "did you mean 'weight'"),
        ('[profiles.x]\npaths = [{path = "/", weight = 0}]', "weight: 0 must be at least 1"),
        (
            '[profiles.x]\npaths = [{path = "/", weight = true}]',
            "weight must be a whole number, not a boolean",
        ),
        ('[profiles.x]\npaths = [{path = "/", status = 99}]', "no HTTP status"),
        ('[profiles.x]\npaths = [{path = "/", sha256 = "abc"}]', "64 hexadecimal"),
        ('[profiles.x]\npaths = ["/"]\nlimits = {max_p95 = 3}', "did you mean 'max_p95_ms'"),
        ('[profiles.x]\npaths = ["/"]\nheaders = {A = 1}', "must be text"),
        ('[profiles.x]\npaths = ["/"]\nheaders = {"A b" = "1"}', "Name: value"),
        ('[profiles.x]\npaths = ["/"]\n[profiles.x.phases]', "phases is empty"),
        ('[profiles.x]\npaths = ["/"]\n[profiles.x.phases.burst]\nclient = 1', "did you mean 'clients'"),
        ('[profiles.x]\npaths = ["/"]\n[profiles.x.phases.burst]\nduration_s = -1', "must be above 0"),
        ('[profile.x]\npaths = ["/"]', "did you mean 'profiles'"),
        ("profiles = 3", "must be a table of profiles"),
        ("[profiles.x\n", "espperf.toml"),
    ],
)
def test_bad_toml_is_one_sentence_with_file_and_table(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "espperf.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_profiles(tmp_path)
    assert says in str(caught.value)
    assert "espperf.toml" in str(caught.value)


def test_a_profile_in_both_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.espperf.profiles.one]\npaths = ["/"]\n')
    (tmp_path / "espperf.toml").write_text('[profiles.one]\npaths = ["/"]\n')
    with pytest.raises(UsageError, match="defined twice"):
        load_profiles(tmp_path)


def test_an_unknown_profile_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'python_heavy'"):
        plan(tmp_path, perf_profiles=["python_hevy"])


def test_the_list_shows_every_profile(tmp_path: Path) -> None:
    (tmp_path / "espperf.toml").write_text(SHOP)
    shown = describe_profiles(resolve({}, {}, {}), tmp_path)
    assert all(name in shown for name in (*BUILT_IN, "shop", "/item?id=1", "at 40/s"))


def test_ratios_against_other_profiles(tmp_path: Path) -> None:
    (tmp_path / "espperf.toml").write_text(
        """
        [profiles.one]
        paths = ["/"]
        limits = {max_p95_ms = 100, ratio = {to = "c_static_only", p95_ms = 1.2, rps_ok = "0.8"}}
        [profiles.two]
        paths = ["/"]
        limits = {ratio = [{to = "one", p95_ms = 2}, {to = "python_light", connect_ms = 3}]}
        """,
        encoding="utf-8",
    )
    known = load_profiles(tmp_path)
    assert known["one"].ratios == (RatioSpec("c_static_only", {"rps_ok": 0.8, "p95_ms": 1.2}),)
    assert known["one"].limits == {"max_p95_ms": 100}
    assert known["two"].ratios == (
        RatioSpec("one", {"p95_ms": 2.0}),
        RatioSpec("python_light", {"connect_ms": 3.0}),
    )


def test_gauges_are_paths_or_tables(tmp_path: Path) -> None:
    (tmp_path / "espperf.toml").write_text(
        """
        [telemetry.gauges]
        queue_peak = "server.ipc_pending_peak"
        free = {path = "heap.free", unit = "bytes", better = "higher"}
        """,
        encoding="utf-8",
    )
    assert load_telemetry(tmp_path).gauges == (
        Gauge("queue_peak", "server.ipc_pending_peak"),
        Gauge("free", "heap.free", unit="bytes", better="higher"),
    )
