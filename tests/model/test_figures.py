"""What a board tells of itself: figures by name, a project's own names, counters that moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_espperf.config.telemetry import load_telemetry
from pytest_espperf.device import Telemetry, TelemetryReading, TelemetrySpec, reboot_signs
from pytest_espperf.device.http import HttpAnswer
from pytest_espperf.errors import UsageError
from pytest_espperf.model.figures import (
    at_path,
    find_figure,
    moved_counters,
    number_at,
    watched,
    within_bounds,
)
from pytest_espperf.model.workload import Target

HERE = Target(scheme="http", address="127.0.0.1", port=8080, host_header="127.0.0.1:8080")


def test_a_figure_is_found_at_any_depth_and_by_our_name_first() -> None:
    tree = {"a": {"x": 1, "n": None}, "known": {"x": 2}}
    assert find_figure(tree, "x") == 2
    assert find_figure({"a": [{"x": 1}], "b": {"c": {"x": 3}}}, "x") == 3
    assert find_figure(3, "x") is None
    assert number_at({"x": True}, "x") is None
    assert number_at({"x": "7"}, "x") is None
    assert at_path({"a": {"b": 1}}, "a.b") == 1
    assert at_path({"a": {"b": 1}}, "a.b.c") is None


def test_a_reading_nested_without_end_is_looked_through_as_far_as_it_makes_sense() -> None:
    tree: dict[str, Any] = {"x": 1}
    for _ in range(3000):
        tree = {"a": tree}
    assert find_figure(tree, "x") is None


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ({"ring_full": 0}, {"ring_full": 3}, {"ring_full": 3}),
        ({"ring_full": 9}, {"ring_full": 2}, {"ring_full": 2}),
        ({"ring_full": 9}, {"ring_full": 9}, {}),
        ({"ipc": {"ring_full": 0}}, {"ipc": {"ring_full": 1}}, {"ring_full": 1}),
        ({}, {"ring_full": 5000}, {}),
        ({"ring_full": 0}, {"ring_full": 10**400}, {}),
        ({"ring_full": 1}, {}, {}),
        ({}, {"ring_full": "many"}, {}),
    ],
)
def test_counters_that_moved(before: Any, after: Any, moved: dict[str, int]) -> None:
    assert moved_counters(before, after, TelemetrySpec().counter_names) == moved


class TestTable:
    """``[tool.espperf.telemetry]``."""

    @staticmethod
    def load(tmp_path: Path, text: str) -> TelemetrySpec:
        (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
        return load_telemetry(tmp_path)

    def test_a_board_of_another_kind(self, tmp_path: Path) -> None:
        spec = self.load(
            tmp_path,
            """
            [tool.espperf.telemetry]
            stats = "/metrics.json?all=1"
            memory = "/metrics.json?all=1"
            reset = ""
            counters = ["http.refused", "lost"]
            [tool.espperf.telemetry.keys]
            internal_free = "mem.heap"
            requests_started = "http.count"
            """,
        )
        asked = []
        told = {"mem": {"heap": 5000}, "http": {"count": 7, "refused": 2}, "lost": 1, "own": "kept"}

        def fetch(target: Target, path: str, *, timeout_s: float) -> HttpAnswer:
            asked.append(path)
            return HttpAnswer(200, msgspec.json.encode(told))

        reading = Telemetry(HERE, timeout_s=1, spec=spec, fetch=fetch).read(reset=True)
        assert asked == ["/metrics.json?all=1"], "one path is asked once"
        assert reading.memory["own"] == "kept"
        assert number_at(reading.memory, "internal_free") == 5000
        assert moved_counters({"http.refused": 0, "lost": 0}, reading.stats, spec.counter_names) == {
            "http.refused": 2,
            "lost": 1,
        }
        (sign,) = reboot_signs(TelemetryReading(), reading, answered=8)
        assert "7 requests started" in sign

    def test_no_telemetry_at_all(self, tmp_path: Path) -> None:
        spec = self.load(tmp_path, "[tool.espperf.telemetry]\nstats = ''\nmemory = ''\n")

        def fetch(*_: Any, **__: Any) -> HttpAnswer:
            raise AssertionError("nothing is to be asked")

        telemetry = Telemetry(HERE, timeout_s=1, spec=spec, fetch=fetch)
        assert telemetry.read(reset=True) == TelemetryReading()
        assert telemetry.notes == []

    def test_the_query_that_zeroes_the_counters_joins_another(self, tmp_path: Path) -> None:
        spec = self.load(tmp_path, "[tool.espperf.telemetry]\nstats = '/s?v=2'\nreset = '?zero=1'\n")
        asked = []

        def fetch(target: Target, path: str, *, timeout_s: float) -> HttpAnswer:
            asked.append(path)
            return HttpAnswer(200, b"{}")

        Telemetry(HERE, timeout_s=1, spec=spec, fetch=fetch).read(reset=True)
        assert asked == ["/s?v=2&zero=1", "/debug/memory-stats"]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("telemetry = 3", "must be a table"),
            ("telemetry.stat = '/s'", "unknown key 'stat'"),
            ("telemetry.stats = 's'", "begins with '/'"),
            ("telemetry.keys.internal_fre = 'a'", "unknown key 'internal_fre'"),
            ("telemetry.keys.internal_free = 'a..b'", "no path in JSON"),
            ("telemetry.counters = 'a'", "counters must be a list, not text"),
            ("telemetry.counters = ['a.']", "no path in JSON"),
        ],
    )
    def test_bad_tables_are_said_in_one_sentence(self, tmp_path: Path, text: str, says: str) -> None:
        with pytest.raises(UsageError, match=r"pyproject\.toml") as error:
            self.load(tmp_path, f"[tool.espperf]\n{text}\n")
        assert says in str(error.value)

    def test_once_is_enough(self, tmp_path: Path) -> None:
        (tmp_path / "espperf.toml").write_text("[telemetry]\nstats = '/a'\n", encoding="utf-8")
        with pytest.raises(UsageError, match="described twice"):
            self.load(tmp_path, "[tool.espperf.telemetry]\nstats = '/b'\n")


def test_what_a_board_sends_is_kept_within_bounds() -> None:
    deep: object = 1
    for _ in range(100):
        deep = {"in": deep}
    kept = within_bounds({"big": 2**64, "small": -(2**63), "list": [10**400, True, "x"], "deep": deep})
    assert kept["big"] is None
    assert kept["small"] == -(2**63)
    assert kept["list"] == [None, True, "x"]
    assert len(str(kept["deep"])) < 1000


@pytest.mark.parametrize(
    ("status", "body", "note", "absent"),
    [
        (
            200,
            b'{"t": nan, "heap": 5}',
            "its answer is no JSON (t is nan, which is no number in JSON)",
            False,
        ),
        (200, b'{"t": [1, -inf]}', "its answer is no JSON (it has inf, which is no number in JSON)", False),
        (200, b'{"nano": "nan", "x" 1}', "its answer is no JSON (JSON is malformed", False),
        (200, b"<html>", "its answer is no JSON", False),
        (200, b'{"t": 1e999}', "its answer is no JSON", False),
        (200, b"[]", "its answer is no JSON object", False),
        (404, b"", "status 404", True),
        (503, b"", "status 503", False),
    ],
)
def test_why_there_is_no_telemetry(status: int, body: bytes, note: str, absent: bool) -> None:
    spec = TelemetrySpec(stats="/m", memory="/m")

    def fetch(*_: Any, **__: Any) -> HttpAnswer:
        return HttpAnswer(status, body)

    telemetry = Telemetry(HERE, timeout_s=1, spec=spec, fetch=fetch, retries=0)
    assert telemetry.read() == TelemetryReading()
    assert telemetry.notes[0].startswith(f"no telemetry from /m: {note}")
    assert telemetry.absent == ({"/m"} if absent else set())


@pytest.mark.parametrize("status", [401, 403, 404])
def test_telemetry_that_was_there_and_is_refused_is_not_absent(status: int) -> None:
    """A login that ran out: the path is asked again, and the session has something to say."""
    answers = [HttpAnswer(200, b'{"heap": 5}'), HttpAnswer(status, b""), HttpAnswer(200, b'{"heap": 4}')]
    telemetry = Telemetry(
        HERE,
        timeout_s=1,
        spec=TelemetrySpec(stats="/m", memory="/m"),
        fetch=lambda *_, **__: answers.pop(0),
        retries=0,
    )
    assert [telemetry.read().memory for _ in range(3)] == [{"heap": 5}, {}, {"heap": 4}]
    assert telemetry.absent == set()
    assert telemetry.notes == [f"no telemetry from /m: status {status}"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_no_figure(value: float) -> None:
    assert number_at({"heap": {"x": value}}, "x") is None
    assert watched({"internal_free": value, "psram_free": 3}) == {"psram_free": 3.0}
    assert within_bounds({"a": [value, 1.5]}) == {"a": [None, 1.5]}
    assert moved_counters({"ring_full": 0}, {"ring_full": value}, ["ring_full"]) == {}


@given(
    st.recursive(
        st.none() | st.integers(0, 9) | st.just("text"),
        lambda inner: st.dictionaries(
            st.sampled_from(["internal_free", "ring_full", "known", "heap"]), inner
        ),
        max_leaves=8,
    )
)
def test_all_figures_are_those_that_are_found_one_by_one(tree: Any) -> None:
    names = ("internal_free", "ring_full")
    one_by_one = {name: number_at(tree, name) for name in names}
    found = watched(tree)
    assert {name: found.get(name) for name in names} == one_by_one
