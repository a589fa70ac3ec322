"""What a board tells of itself: figures by name, a project's own names, counters that moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from pytest_espperf.device import Telemetry, TelemetryReading, TelemetrySpec, reboot_signs
from pytest_espperf.device.http import Answer
from pytest_espperf.errors import UsageError
from pytest_espperf.figures import at_path, find_figure, moved_counters, number_at, within_bounds
from pytest_espperf.telemetry_table import load_telemetry
from pytest_espperf.workload import Target

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

        def fetch(target: Target, path: str, *, timeout_s: float) -> Answer:
            asked.append(path)
            return Answer(200, msgspec.json.encode(told))

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

        def fetch(*_: Any, **__: Any) -> Answer:
            raise AssertionError("nothing is to be asked")

        telemetry = Telemetry(HERE, timeout_s=1, spec=spec, fetch=fetch)
        assert telemetry.read(reset=True) == TelemetryReading()
        assert telemetry.notes == []

    def test_the_query_that_zeroes_the_counters_joins_another(self, tmp_path: Path) -> None:
        spec = self.load(tmp_path, "[tool.espperf.telemetry]\nstats = '/s?v=2'\nreset = '?zero=1'\n")
        asked = []

        def fetch(target: Target, path: str, *, timeout_s: float) -> Answer:
            asked.append(path)
            return Answer(200, b"{}")

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
            ("telemetry.counters = 'a'", "no list of names"),
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
